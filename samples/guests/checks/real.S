/* Real mode, and the ways out of it and back: segments, the interrupt table,
 * faults without error codes, 32-bit operands, protected mode and unreal mode,
 * and a timer interrupt.
 *
 * A flat image that belongs at 7C00h and is entered there, CS:IP = 0:7C00h. It
 * is a boot disk as well: where only the first sector is in memory it asks the
 * BIOS for the rest. It uses no other service, and judges itself as the other
 * check guests do. */

        .set    COM1, 0x3f8
        .set    EXIT_PORT, 0xf4
        .set    STATUS_PASS, 0x10
        .set    PIC1, 0x20
        .set    PIT, 0x40
        .set    IMAGE_MARK, 0x31474e52
        .set    STACK_TOP, 0x7c00
        .set    SCRATCH, 0x2000         /* a segment for the checks: 64 KiB at 20000h */
        .set    DE, 0                   /* vectors */
        .set    UD, 6
        .set    IRQ0, 8
        .set    GP, 13
        .set    CALLED, 0x60
        .set    CF, 1
        .set    SECTORS, 16             /* as many as may be there, and more */
        .set    IF, 0x200

        /* check "text", 32-bit register or constant, the same */
        .macro  check text, actual, expected
        pushfl
        pushl   \expected
        pushl   \actual
        pushl   $.Ltext\@
        calll   check_equal
        popfl
        .pushsection .data
.Ltext\@: .asciz "\text"
        .popsection
        .endm

        .macro  vector number, handler
        movw    $\handler, %cs:\number * 4
        movw    $0, %cs:\number * 4 + 2
        .endm

        .code16
        .section .boot, "ax"
        .globl  _start
_start:
        cli
        cld
        ljmp    $0, $1f
1:      xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $STACK_TOP, %esp
        cmpl    $IMAGE_MARK, mark
        je      checks
        movw    $0x0200 + SECTORS, %ax
        movw    $0x7e00, %bx
        movw    $2, %cx
        movb    $0, %dh
        int     $0x13
        jnc     checks
        movb    $1, %al
        outb    %al, $EXIT_PORT
        hlt
        .org    510
        .word   0xaa55

        .text
checks:
        cli
        cld
        movw    $COM1 + 3, %dx
        movb    $3, %al                 /* 8 data bits, no parity, 1 stop bit */
        outb    %al, %dx
        movl    $0x40000000, %eax       /* is this QEMU's TCG? */
        cpuid
        cmpl    $0x54474354, %ebx
        sete    on_qemu
        calll   segments
        calll   transfers
        calll   interrupts
        calll   faults
        calll   wide
        calll   strings
        calll   protected
        calll   unreal
        calll   table
        calll   timer
        movl    $text_pass, %esi
        calll   print_text
        movb    $STATUS_PASS, %al
        jmp     finish

segments:
        movw    $SCRATCH, %ax
        movw    %ax, %fs
        movw    $SCRATCH + 1, %ax
        movw    %ax, %gs
        movl    $0x11223344, %fs:0x20
        movl    %gs:0x10, %eax
        check   "a segment begins 16 bytes after the one before", %eax, $0x11223344
        movw    $0xffff, %bx
        movb    $0x77, %fs:0xfffe
        movzbl  %fs:-1(%bx), %eax
        check   "offsets wrap at 64 KiB", %eax, $0x77
        movw    $8, %bx
        movw    $0x18, %si
        movl    %fs:(%bx, %si), %eax
        check   "BX + SI", %eax, $0x11223344
        movw    $0x10, %bp
        movw    $0x10, %di
        movl    %fs:(%bp, %di), %eax
        check   "BP + DI", %eax, $0x11223344
        movw    $0x4000, %ax
        movw    %ax, %ss
        movw    $0x0, %sp
        pushw   $0x1234
        movw    %sp, %cx
        movw    $0x0, %ax
        movw    %ax, %ss
        movl    $STACK_TOP - 4, %esp
        movzwl  %cx, %ecx
        check   "SP wraps at 0", %ecx, $0xfffe
        inb     $0x92, %al              /* A20 */
        orb     $2, %al
        andb    $0xfe, %al
        outb    %al, $0x92
        movw    $0xffff, %ax
        movw    %ax, %gs
        movl    $0x600d, %gs:0x210      /* 100200h */
        movl    0x200, %ebx
        movl    $0xbad, 0x200
        movl    %gs:0x210, %eax
        movl    %ebx, 0x200
        check   "FFFF:0210 is above 1 MiB", %eax, $0x600d
        retl

transfers:
        movl    %esp, %ebx
        callw   1f
1:      popw    %ax
        movzwl  %ax, %eax
        check   "a near call pushes IP", %eax, $1b
        lcallw  $0x10, $far_target - 0x100
        check   "a far call: CS", %ecx, $0x10
        check   "... and back", %edx, $0x4321
        ljmpw   *far_pointer
far_landing:
        movw    %cs, %ax
        movzwl  %ax, %eax
        check   "a far jump through memory: CS", %eax, $0x20
        ljmpw   $0, $3f
3:      movw    $0xffff, %cx
        xorl    %eax, %eax
4:      incl    %eax
        loop    4b
        check   "LOOP counts in CX", %eax, $0xffff
        enterw  $8, $0
        leavew
        movl    %esp, %eax
        check   "the stack is as it was", %eax, %ebx
        retl

far_target:
        movw    %cs, %cx
        movzwl  %cx, %ecx
        movl    $0x4321, %edx
        lretw

interrupts:
        vector  CALLED, note_handler
        movl    %esp, %ebx
        pushw   $IF | CF | 2
        popfw
        int     $CALLED
1:      pushfw
        cli
        popw    %cx
        movzwl  note_flags, %eax
        check   "INT clears IF in the handler", %eax, $CF+2
        movzwl  note_ip, %eax
        check   "... saves IP", %eax, $1b
        movzwl  note_saved_flags, %eax
        check   "... saves FLAGS", %eax, $IF+CF+2
        movzwl  %cx, %ecx
        check   "IRET brings them back", %ecx, $IF+CF+2
        movl    %esp, %eax
        check   "... and SP", %eax, %ebx
        retl

        /* Notes the frame it was given. */
note_handler:
        pushfw
        popw    %cs:note_flags
        andw    $IF | CF | 2, %cs:note_flags
        pushw   %bp
        movw    %sp, %bp
        pushl   %eax
        movw    2(%bp), %ax
        movw    %ax, %cs:note_ip
        movw    4(%bp), %ax
        movw    %ax, %cs:note_cs
        movw    6(%bp), %ax
        movw    %ax, %cs:note_saved_flags
        incl    %cs:note_count
        popl    %eax
        popw    %bp
        iretw

        /* The same for a fault, and goes on at `resume`. */
fault_handler:
        pushw   %bp
        movw    %sp, %bp
        pushl   %eax
        movw    2(%bp), %ax
        movw    %ax, %cs:note_ip
        movw    %cs:resume, %ax
        movw    %ax, 2(%bp)
        incl    %cs:note_count
        popl    %eax
        popw    %bp
        iretw

        .macro  expect text, number, instruction:vararg
        vector  \number, fault_handler
        movw    $.Lresume\@, resume
        movl    $0, note_count
.Lhere\@: \instruction
.Lresume\@:
        pushl   %eax
        movzwl  note_ip, %eax
        imull   note_count, %eax
        check   "\text", %eax, $.Lhere\@
        popl    %eax
        .endm

faults:
        xorl    %ecx, %ecx
        movl    $5, %eax
        xorl    %edx, %edx
        expect  "a divide error saves its own IP", DE, divl %ecx
        expect  "UD2", UD, ud2
        expect  "LLDT is not for real mode", UD, lldt %ax
        expect  "nor is ARPL", UD, .byte 0x63, 0xc0
        cmpb    $0, on_qemu             /* QEMU checks no limits */
        jne     1f
        movl    $0x10000, %ebx
        expect  "a word at offset FFFFh", GP, movw 0xffff, %ax
        expect  "an offset past 64 KiB", GP, movb (%ebx), %al
1:      retl

/* Operand and address sizes of 32 bits. */
wide:
        movl    $0x12345678, %eax
        movl    %eax, scratch
        movl    $scratch - 8, %ebx
        movl    $2, %ecx
        movl    (%ebx, %ecx, 4), %eax
        check   "a 32-bit address with scale", %eax, $0x12345678
        movl    $0xffff0002, %ecx
        xorl    %edx, %edx
1:      incl    %edx
        addr32 loop 2f
2:      cmpl    $0xffff0001, %ecx
        sete    %al
        movzbl  %al, %eax
        check   "LOOP counts in ECX with an address prefix", %eax, $1
        movl    $0x8000, %eax
        cwde
        check   "CWDE", %eax, $0xffff8000
        movl    $0x11118000, %eax
        cbtw
        check   "CBW leaves the high half", %eax, $0x11110000
        movl    %esp, %ebx
        pushal
        popal
        pusha
        popa
        movl    %esp, %eax
        check   "PUSHA and POPA in both sizes", %eax, %ebx
        retl

strings:
        movw    $SCRATCH, %ax
        movw    %ax, %es
        movl    $0xaaaa0000 + text_pass, %esi
        movl    $0xbbbb0100, %edi
        movl    $0xcccc0004, %ecx
        rep movsb
        check   "REP MOVSB counts in CX", %ecx, $0xcccc0000
        check   "... moves SI", %esi, $0xaaaa0000+text_pass+4
        check   "... and DI", %edi, $0xbbbb0104
        movl    %es:0x100, %eax
        check   "... and the bytes", %eax, $0x73736170
        movw    $0xfffe, %di
        movl    $4, %ecx
        movb    $0x5a, %al
        rep stosb
        movzwl  %es:0, %eax
        check   "REP STOSB wraps in its segment", %eax, $0x5a5a
        xorw    %ax, %ax
        movw    %ax, %es
        retl

        .macro  set_pe
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        .endm

        .macro  clear_pe
        movl    %cr0, %eax
        andb    $0xfe, %al
        movl    %eax, %cr0
        .endm

/* Protected mode and back. */
protected:
        lgdtw   gdt_pointer
        set_pe
        movw    %cs, %bx                /* still the real-mode segments */
        movl    $0x1234, %ecx
        movl    $0x5678, scratch
        ljmpl   $0x08, $in_protected
        .code32
in_protected:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %ss
        movl    scratch, %edx
        pushl   $0x9abc
        popl    %esi
        movl    $0xcafe, 0x200000
        movl    0x200000, %edi
        ljmp    $0x18, $1f
        .code16
1:      movl    $0x20, %eax             /* 64 KiB again, before leaving */
        movw    %ax, %ds
        movw    %ax, %ss
        clear_pe
        ljmpw   $0, $2f
2:      xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movzwl  %bx, %ebx
        check   "PE set: CS stays until a far jump", %ebx, $0
        check   "... registers too", %ecx, $0x1234
        check   "protected mode reads what real mode wrote", %edx, $0x5678
        check   "... has a stack", %esi, $0x9abc
        check   "... and memory above 1 MiB", %edi, $0xcafe
        movl    scratch, %eax
        check   "and back in real mode", %eax, $0x5678
        retl

/* "Unreal" mode: limits loaded in protected mode outlive it. */
unreal:
        set_pe
        movw    $0x10, %bx
        movw    %bx, %fs
        clear_pe
        movl    $0x200000, %ebx
        addr32 movl %fs:(%ebx), %eax
        check   "unreal mode: 4 GiB through FS", %eax, $0xcafe
        addl    $0x10000, %ebx
        movl    $0xbeef, %fs:(%ebx)
        movl    %fs:(%ebx), %eax
        check   "... written as well", %eax, $0xbeef
        movw    $0x10, %ax
        movw    %ax, %fs
        subl    $0x100, %ebx
        movl    %fs:(%ebx), %eax
        check   "... a new base leaves the limit", %eax, $0xbeef
        retl

/* The interrupt table elsewhere. */
table:
        xorw    %si, %si
        movw    $SCRATCH, %ax
        movw    %ax, %es
        xorw    %di, %di
        movw    $256, %cx
        rep movsl
        movl    $other_handler, %es:CALLED * 4
        movw    %si, %es                /* 400h: anything */
        lidtw   moved_idt
        xorl    %edx, %edx
        int     $CALLED
        lidtw   usual_idt
        check   "LIDT moves the interrupt table", %edx, $0x07e4
        movl    $0, note_count
        int     $CALLED
        movl    note_count, %eax
        check   "... and back", %eax, $1
        xorw    %ax, %ax
        movw    %ax, %es
        retl

other_handler:
        movl    $0x07e4, %edx
        iretw

        .macro  out port, value
        movb    $\value, %al
        outb    %al, $\port
        .endm

/* A timer interrupt, with the vectors that a PC begins with. */
timer:
        out     PIC1, 0x11
        out     PIC1+1, IRQ0
        out     PIC1+1, 4
        out     PIC1+1, 1
        out     PIC1+1, 0xfe
        vector  IRQ0, timer_handler
        movl    $0, note_count
        out     PIT+3, 0x30
        out     PIT, 0xff
        out     PIT, 0x03
        sti
        hlt
1:      cli
        movl    note_count, %eax
        check   "HLT is ended by the timer", %eax, $1
        retl

timer_handler:
        pushw   %ax
        incl    %cs:note_count
        out     PIC1, 0x20
        popw    %ax
        iretw

/* ---- Judgement and text, as in harness.S, in 16 bits ---- */

check_equal:                    /* (text, actual, expected), keeps every register */
        pushal
        movl    %esp, %ebp
        incl    check_number
        cmpl    $STATUS_PASS, check_number
        jne     1f
        incl    check_number
1:      movl    40(%bp), %eax
        cmpl    44(%bp), %eax
        jne     2f
        movl    $text_ok, %esi
        calll   print_text
        movl    check_number, %eax
        calll   print_number
        movb    $' ', %al
        calll   print_char
        movl    36(%bp), %esi
        calll   print_text
        movl    $text_end, %esi
        calll   print_text
        popal
        retl    $12
2:      movl    $text_fail, %esi
        calll   print_text
        movl    check_number, %eax
        calll   print_number
        movl    $text_colon, %esi
        calll   print_text
        movl    36(%bp), %esi
        calll   print_text
        movl    $text_value, %esi
        calll   print_text
        movl    40(%bp), %eax
        calll   print_hex
        movl    $text_end, %esi
        calll   print_text
        movl    check_number, %eax
finish: outb    %al, $EXIT_PORT
1:      cli
        hlt
        jmp     1b

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
        retl

print_text:                     /* ESI */
1:      lodsb
        testb   %al, %al
        jz      2f
        calll   print_char
        jmp     1b
2:      retl

print_number:                   /* EAX, decimal */
        movl    $10, %ecx
        xorl    %edx, %edx
        divl    %ecx
        pushl   %edx
        testl   %eax, %eax
        jz      1f
        calll   print_number
1:      popl    %eax
        addb    $'0', %al
        jmp     print_char

print_hex:                      /* EAX, eight digits */
        movw    $8, %cx
1:      roll    $4, %eax
        pushl   %eax
        andl    $15, %eax
        movb    hex_digits(%eax), %al
        calll   print_char
        popl    %eax
        loop    1b
        retl

        .data
hex_digits: .ascii "0123456789abcdef"
text_pass: .asciz "pass\r\n"
text_ok: .asciz "ok "
text_fail: .asciz "FAIL "
text_colon: .asciz ": "
text_value: .asciz ": value "
text_end: .asciz "\r\n"
        .balign 8
gdt:    .quad   0
        .quad   0x00cf9a000000ffff      /* 08h: 32-bit code */
        .quad   0x00cf92000000ffff      /* 10h: data, 4 GiB */
        .quad   0x00009a000000ffff      /* 18h: 16-bit code, 64 KiB */
        .quad   0x000092000000ffff      /* 20h: data, 64 KiB */
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt
usual_idt:
        .word   0x3ff
        .long   0
moved_idt:
        .word   0x3ff
        .long   SCRATCH * 16
far_pointer:
        .word   far_landing - 0x200, 0x20
on_qemu: .byte  0
        .balign 4
check_number: .long 0
note_count: .long 0
note_flags: .word 0
note_ip: .word  0
note_cs: .word  0
note_saved_flags: .word 0
resume: .word   0
        .balign 4
scratch: .long  0
mark:   .long   IMAGE_MARK
image_end:
        .section .note.GNU-stack, "", @progbits
