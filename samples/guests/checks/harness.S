/* The machine set up plainly, and the judgement of expectations. See harness.h. */
#include "harness.h"

        .set    MAGIC, 0x1badb002
        .set    STATUS_PASS, 0x10
        .set    STATUS_LAST, 0x7f

        .section .multiboot, "ax"
        .balign 4
        .long   MAGIC, 0, -MAGIC

        .text
        .globl  _start
_start:
        cli
        cld
        movl    $stack_top, %esp
        call    console_init
        call    detect_qemu
        descriptor_at TSS, tss, 0x67, 0x89, 0
        lgdt    gdt_pointer
        ljmp    $KERNEL_CS, $1f
1:      call    load_segments
        movl    $TSS, %eax
        ltr     %ax
        xorl    %ecx, %ecx
2:      pushl   %ecx
        call    reset_gate
        incl    %ecx
        cmpl    $256, %ecx
        jb      2b
        lidt    idt_pointer
        call    checks
        movl    $text_pass, %esi
        call    print_text
        movl    check_number, %eax
        call    print_number
        movl    $text_checks, %esi
        call    print_text
        movl    $STATUS_PASS, %eax
        jmp     finish

detect_qemu:
        movl    $0x40000000, %eax       /* the leaf where hypervisors sign */
        cpuid
        cmpl    $0x54474354, %ebx       /* TCGT of TCGTCGTCGTCG */
        sete    on_qemu
        ret

/* Ends the machine with status AL. */
finish: outb    %al, $EXIT_PORT
1:      cli
        hlt
        jmp     1b

        .globl  load_segments
load_segments:
        pushl   $KERNEL_DS
        popl    %ds
        pushl   $KERNEL_DS
        popl    %es
        movl    $KERNEL_DS, %eax
        movl    %eax, %fs
        movl    %eax, %gs
        popl    %edx
        movl    %eax, %ss
        jmp     *%edx

/* ---- Expectations. Each removes its arguments and keeps every register. ---- */

        .globl  check_equal
check_equal:                    /* (text, actual, expected) */
        pushal
        call    next_check
        movl    40(%esp), %eax
        movl    44(%esp), %ebx
        cmpl    %ebx, %eax
        jne     1f
        movl    36(%esp), %esi
        call    print_ok
        popal
        ret     $12
1:      movl    $text_value, %edi
        movl    36(%esp), %esi
        jmp     fail

        .globl  check_trap
check_trap:                     /* (text, vector, error, eip) */
        pushal
        call    next_check
        movl    36(%esp), %esi
        movl    trap_vector, %eax
        movl    40(%esp), %ebx
        movl    $text_vector, %edi
        cmpl    %ebx, %eax
        jne     fail
        movl    trap_error, %eax
        movl    44(%esp), %ebx
        movl    $text_error, %edi
        cmpl    %ebx, %eax
        jne     fail
        movl    trap_eip, %eax
        movl    48(%esp), %ebx
        movl    $text_eip, %edi
        cmpl    %ebx, %eax
        jne     fail
        call    print_ok
        movl    $0, trap_resume
        popal
        ret     $16

/* Numbers run 1, 2, 3 ... but leave out 10h, which as a status means success. */
next_check:
        incl    check_number
        cmpl    $STATUS_PASS, check_number
        je      next_check
        ret

/* ESI: text, EDI: what differs, EAX: found, EBX: expected. */
fail:
        pushl   %ebx
        pushl   %eax
        pushl   %esi
        movl    $text_fail, %esi
        call    print_text
        movl    check_number, %eax
        call    print_number
        movl    $text_colon, %esi
        call    print_text
        popl    %esi
        call    print_text
        movl    %edi, %esi
        call    print_text
        popl    %eax
        call    print_hex
        movl    $text_expected, %esi
        call    print_text
        popl    %eax
        call    print_hex
        movl    $text_end, %esi
        call    print_text
        movl    check_number, %eax
        cmpl    $STATUS_LAST, %eax
        jbe     finish
        movl    $STATUS_LAST, %eax
        jmp     finish

/* ---- Traps ---- */

        .set    vector, 0
        .balign 16
stubs:
        .rept   256
        pushl   $vector
        jmp     trap
        .balign 16
        .set    vector, vector + 1
        .endr

/* Notes what happened and goes on where the guest asked to. */
trap:
        pushal
        movl    $KERNEL_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        cld
        leal    36(%esp), %ebx
        movl    %ss:-4(%ebx), %ecx
        movl    %ecx, trap_vector
        movl    $NO_ERROR, trap_error
        cmpl    $32, %ecx
        jae     1f
        btl     %ecx, vectors_with_error
        jnc     1f
        movl    %ss:(%ebx), %eax
        movl    %eax, trap_error
        addl    $4, %ebx
1:      movl    %ebx, trap_frame
        movl    %ss:(%ebx), %eax
        movl    %eax, trap_eip
        movl    %ss:4(%ebx), %eax
        movl    %eax, trap_cs
        movl    %ss:8(%ebx), %eax
        movl    %eax, trap_eflags
        movl    %ss:12(%ebx), %eax
        movl    %eax, trap_esp
        movl    %ss:16(%ebx), %eax
        movl    %eax, trap_ss
        movl    %cr2, %eax
        movl    %eax, trap_cr2
        cmpl    $0, trap_resume
        je      unexpected
        popal
        pushl   $KERNEL_DS
        popl    %ss
        movl    trap_resume_esp, %esp
        jmp     *trap_resume

unexpected:
        call    next_check
        movl    $text_unexpected, %esi
        movl    $text_at, %edi
        movl    trap_eip, %eax
        movl    trap_vector, %ebx
        jmp     fail

/* ---- Tables ---- */

        .globl  reset_gate
reset_gate:                     /* (vector) */
        pushal
        movl    36(%esp), %ecx
        movl    %ecx, %eax
        shll    $4, %eax
        addl    $stubs, %eax
        movl    $INTERRUPT_GATE, %edx
        cmpl    $RING3_DONE, %ecx
        jne     1f
        orl     $DPL3, %edx
1:      pushl   $KERNEL_CS
        pushl   %edx
        pushl   %eax
        pushl   %ecx
        call    set_gate
        popal
        ret     $4

        .globl  set_gate
set_gate:                       /* (vector, handler, kind, selector) */
        pushal
        movl    36(%esp), %edi
        movl    40(%esp), %eax
        movl    44(%esp), %edx
        movl    48(%esp), %ecx
        movw    %ax, idt(, %edi, 8)
        movw    %cx, idt + 2(, %edi, 8)
        shll    $8, %edx
        movw    %dx, %ax
        movl    %eax, idt + 4(, %edi, 8)
        popal
        ret     $16

        .globl  set_descriptor
set_descriptor:                 /* (selector, base, access, flags, limit) */
        pushal
        movl    36(%esp), %edi
        andl    $~7, %edi
        movl    40(%esp), %eax
        movl    52(%esp), %edx
        movw    %dx, gdt(%edi)
        movw    %ax, gdt + 2(%edi)
        shrl    $16, %eax
        movb    %al, gdt + 4(%edi)
        movb    %ah, gdt + 7(%edi)
        movb    44(%esp), %al
        movb    %al, gdt + 5(%edi)
        movb    48(%esp), %al
        shlb    $4, %al
        shrl    $16, %edx
        orb     %dl, %al
        movb    %al, gdt + 6(%edi)
        popal
        ret     $20

/* ---- Paging ---- */

/* Builds the tables that harness.h names; leaves CR3 set and paging off. */
        .globl  identity_map
identity_map:
        pushal
        movl    $DIRECTORY, %edi
        xorl    %eax, %eax
        movl    $1024, %ecx
        rep stosl
        movl    $TABLE0, %edi
        movl    $P | RW | US, %eax
        movl    $2048, %ecx
1:      stosl
        addl    $PAGE, %eax
        loop    1b
        movl    $TABLE0 | P | RW | US, DIRECTORY
        movl    $TABLE1 | P | RW | US, DIRECTORY + 4
        movl    $DIRECTORY, %eax
        movl    %eax, %cr3
        popal
        ret

/* ---- Text on COM1 ---- */

console_init:
        movw    $COM1 + 3, %dx
        movb    $0x80, %al      /* divisor latch: 115,200 baud */
        outb    %al, %dx
        movw    $COM1, %dx
        movb    $1, %al
        outb    %al, %dx
        incl    %edx
        xorl    %eax, %eax
        outb    %al, %dx
        movw    $COM1 + 3, %dx
        movb    $3, %al         /* 8 data bits, no parity, 1 stop bit */
        outb    %al, %dx
        movw    $COM1 + 1, %dx
        xorl    %eax, %eax      /* no interrupts */
        outb    %al, %dx
        ret

print_char:                     /* AL */
        pushl   %edx
        pushl   %eax
        movw    $COM1 + 5, %dx
1:      inb     %dx, %al
        testb   $0x20, %al
        jz      1b
        popl    %eax
        movw    $COM1, %dx
        outb    %al, %dx
        popl    %edx
        ret

print_text:                     /* ESI */
1:      lodsb
        testb   %al, %al
        jz      2f
        call    print_char
        jmp     1b
2:      ret

print_number:                   /* EAX, decimal */
        movl    $10, %ecx
        xorl    %edx, %edx
        divl    %ecx
        pushl   %edx
        testl   %eax, %eax
        jz      1f
        call    print_number
1:      popl    %eax
        addb    $'0', %al
        jmp     print_char

print_hex:                      /* EAX, eight digits */
        movl    $8, %ecx
1:      roll    $4, %eax
        pushl   %eax
        andl    $15, %eax
        movb    hex_digits(%eax), %al
        call    print_char
        popl    %eax
        loop    1b
        ret

print_ok:                       /* ESI: text */
        pushl   %esi
        movl    $text_ok, %esi
        call    print_text
        movl    check_number, %eax
        call    print_number
        movb    $' ', %al
        call    print_char
        popl    %esi
        call    print_text
        movl    $text_end, %esi
        jmp     print_text

        .section .rodata
hex_digits:     .ascii "0123456789abcdef"
text_ok:        .asciz "ok "
text_fail:      .asciz "FAIL "
text_colon:     .asciz ": "
text_value:     .asciz ": value "
text_vector:    .asciz ": vector "
text_error:     .asciz ": error code "
text_eip:       .asciz ": EIP "
text_expected:  .asciz ", expected "
text_unexpected: .asciz "a trap nobody expected"
text_at:        .asciz ": (its EIP, then its vector) "
text_pass:      .asciz "pass: "
text_checks:    .asciz " checks\r\n"
text_end:       .asciz "\r\n"
vectors_with_error: .long 0x00027d00

        .data
        .balign 8
        .globl  gdt, gdt_pointer, idt_pointer
gdt:    .quad   0
        .quad   0x00cf9a000000ffff
        .quad   0x00cf92000000ffff
        .quad   0x00cffa000000ffff
        .quad   0x00cff2000000ffff
        .fill   27, 8, 0
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt
idt_pointer:
        .word   256 * 8 - 1
        .long   idt

        .balign 4
        .globl  tss
tss:    .long   0, ring0_stack_top, KERNEL_DS
        .fill   22, 4, 0
        .word   0, 0x68         /* no I/O permission map */

        .bss
        .balign 8
        .globl  idt
idt:    .skip   256 * 8
        .globl  on_qemu, check_number, trap_vector, trap_error, trap_eip, trap_cs, trap_eflags
        .globl  trap_esp, trap_ss, trap_cr2, trap_frame, trap_resume, trap_resume_esp
on_qemu:        .skip 4         /* whether this is QEMU's TCG */
check_number:   .skip 4
trap_vector:    .skip 4         /* the last trap, or NO_TRAP */
trap_error:     .skip 4         /* its error code, or NO_ERROR */
trap_eip:       .skip 4
trap_cs:        .skip 4
trap_eflags:    .skip 4
trap_esp:       .skip 4         /* of the interrupted ring, if another */
trap_ss:        .skip 4
trap_cr2:       .skip 4
trap_frame:     .skip 4         /* where on the stack EIP was saved */
trap_resume:    .skip 4         /* where to go on, or 0: the trap is a failure */
trap_resume_esp: .skip 4

        .globl  stack_top, ring0_stack_top, user_stack_top
        .balign 4096
        .skip   16384
stack_top:
        .skip   4096
ring0_stack_top:
        .skip   4096
user_stack_top:

        .section .note.GNU-stack, "", @progbits
