/* Virtual-8086 mode: the ways in and out, what IOPL and the I/O permission map
 * allow, virtual interrupts by CR4.VME with the redirection map, and for ring 3
 * of protected mode by CR4.PVI. */
#include "harness.h"

        .set    IF, 0x200
        .set    TF, 0x100
        .set    NT, 0x4000
        .set    IOPL3, 0x3000
        .set    VM, 0x20000
        .set    VIF, 0x80000
        .set    VIP, 0x100000
        .set    CR4_VME, 1
        .set    CR4_PVI, 2

        .set    V86_TSS, SPARE
        .set    SEGMENT, 0x2000         /* of the 16-bit code, copied to 20000h */
        .set    STACK, 0xff00
        .set    IO_MAP, 104 + 32
        .set    PORTS, 0x400            /* that the map covers */
        .set    TSS_LIMIT, IO_MAP + PORTS / 8

/* Enters virtual-8086 mode at a label in .v86, with the general registers as
 * they are. */
        .macro  enter_v86 entry, flags
        pushl   $0x1111
        pushl   $0x2222
        pushl   $SEGMENT
        pushl   $SEGMENT
        pushl   $SEGMENT
        pushl   $STACK
        pushl   $VM|2|(\flags)
        pushl   $SEGMENT
        pushl   $\entry-v86_start
        iret
        .endm

/* Runs instructions in virtual-8086 mode, the last of which must trap. */
        .macro  refused text, flags, vector, error, instruction:vararg
        will_trap
        enter_v86 98f, \flags
        .pushsection .v86, "ax"
        .code16
98:     \instruction
        hlt
        .code32
        .popsection
        trapped "\text", \vector, "\error", 98b-v86_start
        .endm

/* Runs instructions that must not trap; HLT, which must, ends them. */
        .macro  allowed text, flags, instruction
        will_trap
        enter_v86 97f, \flags
        .pushsection .v86, "ax"
        .code16
97:     \instruction
98:     hlt
        .code32
        .popsection
        trapped "\text", GP, 0, 98b-v86_start
        .endm

/* The same where what comes before the refused instruction is separated by the
 * first comma that follows `flags`: #GP(0). */
        .macro  refused_after text, flags, before, instruction:vararg
        will_trap
        enter_v86 97f, \flags
        .pushsection .v86, "ax"
        .code16
97:     \before
98:     \instruction
        hlt
        .code32
        .popsection
        trapped "\text", GP, 0, 98b-v86_start
        .endm

/* The flags of interest in the image the last trap pushed. */
        .macro  check_flags text, mask, expected
        movl    trap_eflags, %eax
        andl    $\mask, %eax
        check   "\text", %eax, $\expected
        .endm

        .macro  set_cr4 bits
        movl    $\bits, %eax
        movl    %eax, %cr4
        .endm

        .section .v86, "ax"
v86_start:

        .text
        .globl  checks
checks:
        movl    $tss, %esi
        movl    $v86_tss, %edi
        movl    $26, %ecx
        rep movsl
        movw    $IO_MAP, v86_tss + TSS_IO_MAP
        movb    $0xff, v86_tss + TSS_LIMIT
        descriptor_at V86_TSS, v86_tss, TSS_LIMIT, 0x89, 0
        movl    $V86_TSS, %eax
        ltr     %ax
        movl    $v86_start, %esi
        movl    $SEGMENT << 4, %edi
        movl    $0x4000, %ecx
        rep movsb
        call    in_and_out
        call    by_iopl
        call    ports
        qemu_differs 1f
        call    virtual_interrupts
        call    redirected
        call    protected_mode
        set_cr4 0
1:      ret

in_and_out:
        refused "HLT: a fault at its offset", 0, GP, 0, hlt
        check_flags "... VM in the image", VM, VM
        check   "... CS", trap_cs, $SEGMENT
        check   "... SS", trap_ss, $SEGMENT
        check   "... ESP", trap_esp, $STACK
        movl    trap_frame, %ebx
        check   "... ES", 20(%ebx), $SEGMENT
        check   "... DS", 24(%ebx), $SEGMENT
        check   "... FS", 28(%ebx), $0x2222
        check   "... GS", 32(%ebx), $0x1111
        movl    %fs, %eax
        check   "the handler finds FS null", %eax, $0
        movl    $KERNEL_DS, %eax
        movl    %eax, %fs
        movl    %eax, %gs
        allowed "registers", 0, "movw %fs, %ax; movw %gs, %bx; movw %cs, %cx"
        andl    $0xffff, %ebx
        check   "... GS", %ebx, $0x1111
        allowed "32-bit IRET leaves VM alone", IOPL3, "pushl $2; pushw $0; pushw %cs; pushw $0; pushw $77f-v86_start; iretl; 77:"
        check_flags "... and IOPL", VM|IOPL3, VM|IOPL3
        allowed "IRET with NT is an IRET", IOPL3|NT, "pushw $2; pushw %cs; pushw $77f-v86_start; iretw; 77:"
        allowed "POPF sets IF, not IOPL", IOPL3, "pushw $IF|2; popfw"
        check_flags "...", IF|IOPL3, IF|IOPL3
        qemu_differs 1f
        refused "an offset beyond 64 KiB", 0, GP, 0, .byte 0x67, 0x8b, 0x05, 0, 0, 1, 0
1:
        refused "LGDT", IOPL3, GP, 0, lgdtw 0
        refused "MOV from CR0", IOPL3, GP, 0, movl %cr0, %eax
        refused "CLTS", IOPL3, GP, 0, clts
        refused "SLDT", IOPL3, UD, NO_ERROR, sldt %ax
        refused "LAR", IOPL3, UD, NO_ERROR, lar %ax, %bx
        refused "ARPL", IOPL3, UD, NO_ERROR, arpl %ax, %bx
        allowed "SGDT, SMSW", 0, "sgdt 0xf000; smsw %ax"
        refused "UD2", 0, UD, NO_ERROR, ud2
        /* IRET to virtual-8086 mode with an EIP it cannot have. */
        qemu_differs 2f
        will_trap
        pushl   $0
        pushl   $0
        pushl   $0
        pushl   $0
        pushl   $SEGMENT
        pushl   $STACK
        pushl   $VM|2
        pushl   $SEGMENT
        pushl   $0x10000
1:      iret
        trapped "IRET to an EIP of 10000h", GP, 0, 1b
2:
        /* A gate that leads to ring 3 cannot be entered from there. */
        gate    0x51, 1b, INTERRUPT_GATE|DPL3, USER_CS
        refused "a gate to ring 3", IOPL3, GP, USER_CS&~3, int $0x51
        ungate  0x51
        ret

by_iopl:
        refused "CLI, IOPL 0", 0, GP, 0, cli
        refused "STI, IOPL 0", 0, GP, 0, sti
        refused "PUSHF, IOPL 0", 0, GP, 0, pushfw
        refused "PUSHFD, IOPL 0", 0, GP, 0, pushfl
        refused "POPF, IOPL 0", 0, GP, 0, popfw
        refused "IRET, IOPL 0", 0, GP, 0, iretw
        refused "INT n, IOPL 0", 0, GP, 0, int $RING3_DONE
        refused "INT n, IOPL 2", 0x2000, GP, 0, int $RING3_DONE
        allowed "CLI, IOPL 3", IOPL3|IF, "cli"
        check_flags "... IF", IF, 0
        allowed "STI, IOPL 3", IOPL3, "sti; nop"
        check_flags "... IF", IF, IF
        allowed "PUSHFD, IOPL 3", IOPL3, "pushfl; popl %eax"
        check   "... VM and RF not in the image", %eax, $IOPL3|2
        gate    BP, breakpoint, INTERRUPT_GATE|DPL3
        will_trap
        enter_v86 1f, 0
        .pushsection .v86, "ax"
        .code16
1:      int3
2:      hlt
        .code32
        .popsection
breakpoint:
        movl    (%esp), %eax
        popl    %ecx
        pushl   %ecx
        ud2
        trapped "INT3 asks for no IOPL", UD, NO_ERROR, breakpoint+5
        check   "... its EIP", %eax, $2b-v86_start
        ungate  BP
        will_trap
        enter_v86 1f, IOPL3
        .pushsection .v86, "ax"
        .code16
1:      int     $RING3_DONE
2:      hlt
        .code32
        .popsection
        trapped "INT n, IOPL 3", RING3_DONE, NO_ERROR, 2b-v86_start
        ret

        .macro  forbid port
        orb     $1 << (\port & 7), v86_tss + IO_MAP + \port / 8
        .endm
        .macro  permit port
        andb    $~(1 << (\port & 7)), v86_tss + IO_MAP + \port / 8
        .endm

ports:
        allowed "a port the map permits", 0, "inb $0x80, %al"
        forbid  0x82
        refused "one it does not", 0, GP, 0, inb $0x82, %al
        refused "... whatever IOPL", IOPL3, GP, 0, inb $0x82, %al
        allowed "a word before it", 0, "inw $0x80, %ax"
        refused "a word over it", 0, GP, 0, inw $0x81, %ax
        refused "a doubleword over it", 0, GP, 0, outl %eax, $0x80
        forbid  0x88
        permit  0x82
        refused "a doubleword over two bytes of the map", 0, GP, 0, inl $0x85, %eax
        permit  0x88
        allowed "... when both permit it", 0, "inl $0x85, %eax"
        refused_after "a port past the map", 0, "movw $PORTS, %dx", inb %dx, %al
        will_trap
        enter_v86 1f, 0
        .pushsection .v86, "ax"
        .code16
1:      movw    $PORTS - 1, %dx
        inb     %dx, %al
2:      inw     %dx, %ax
        .code32
        .popsection
        trapped "the last port is there, a word over the end is not", GP, 0, 2b-v86_start
        /* Without the byte of ones behind it the last byte of the map is not usable. */
        descriptor_at V86_TSS, v86_tss, TSS_LIMIT-1, 0x89, 0
        movl    $V86_TSS, %eax
        ltr     %ax
        will_trap
        enter_v86 1f, 0
        .pushsection .v86, "ax"
        .code16
1:      movw    $PORTS - 9, %dx
        inb     %dx, %al
        movw    $PORTS - 1, %dx
2:      inb     %dx, %al
        .code32
        .popsection
        trapped "two bytes of the map are read", GP, 0, 2b-v86_start
        descriptor_at V86_TSS, v86_tss, TSS_LIMIT, 0x89, 0
        movl    $V86_TSS, %eax
        ltr     %ax
        ret

virtual_interrupts:
        set_cr4 CR4_VME
        allowed "VME: CLI", VIF|IF, "cli"
        check_flags "... clears VIF alone", VIF|IF, IF
        allowed "STI", 0, "sti"
        check_flags "... sets VIF alone", VIF|IF, VIF
        refused "STI while VIP is set", VIP, GP, 0, sti
        allowed "CLI while VIP is set", VIP|VIF, "cli"
        check_flags "...", VIF|VIP, VIP
        allowed "PUSHF", VIF, "pushfw; popw %ax"
        andl    $0xffff, %eax
        check   "... IF is VIF, IOPL is 3", %eax, $IF|IOPL3|2
        allowed "PUSHF", IF, "pushfw; popw %ax"
        andl    $0xffff, %eax
        check   "... whatever IF is", %eax, $IOPL3|2
        allowed "POPF", 0, "pushw $IF|IOPL3|0xd7; popfw"
        check_flags "... sets VIF, not IF or IOPL", VIF|IF|IOPL3|0xd7, VIF|0xd7
        allowed "POPF", VIF|IF, "pushw $2; popfw"
        check_flags "... clears VIF", VIF|IF, IF
        refused_after "POPF sets VIF while VIP is set", VIP, "pushw $IF|2", popfw
        allowed "POPF clears VIF while VIP is set", VIP|VIF, "pushw $2; popfw"
        refused_after "POPF sets TF", 0, "pushw $TF|2", popfw
        refused "POPFD", 0, GP, 0, popfl
        refused "PUSHFD", 0, GP, 0, pushfl
        refused "IRETD", 0, GP, 0, iretl
        allowed "IRET", 0, "pushw $IF|IOPL3|2; pushw %cs; pushw $77f-v86_start; iretw; 77:"
        check_flags "... sets VIF, not IF or IOPL", VIF|IF|IOPL3, VIF
        refused_after "IRET sets VIF while VIP is set", VIP, "pushw $IF|2; pushw %cs; pushw $0", iretw
        allowed "IOPL 3: CLI", IOPL3|IF|VIF, "cli"
        check_flags "... clears IF alone", IF|VIF, VIF
        ret

redirected:
        /* Vector 60h in the program's own table. */
        movl    $SEGMENT << 16|(redirected_handler-v86_start), 0x60 * 4
        orb     $0xff, v86_tss + IO_MAP - 32 + 0x40 / 8
        refused "INT n not redirected, IOPL 0", 0, GP, 0, int $RING3_DONE
        will_trap
        enter_v86 1f, VIF|IF
        .pushsection .v86, "ax"
        .code16
1:      int     $0x60
2:      nop
redirected_handler:
        popw    %ax
        popw    %bx
        popw    %cx
3:      hlt
        .code32
        .popsection
        trapped "INT n redirected", GP, 0, 3b-v86_start
        andl    $0xffff, %eax
        andl    $0xffff, %ecx
        check   "... IP", %eax, $2b-v86_start
        check   "... FLAGS: IF is VIF, IOPL is 3", %ecx, $IF|IOPL3|2
        check_flags "... VIF is clear behind it, IF is not", VIF|IF, IF
        will_trap
        enter_v86 1b, IOPL3|IF
        trapped "INT n redirected, IOPL 3", GP, 0, 3b-v86_start
        andl    $0xffff, %ecx
        check   "... FLAGS", %ecx, $IF|IOPL3|2
        check_flags "... IF is clear behind it", IF, 0
        set_cr4 0
        will_trap
        enter_v86 1b, IOPL3
        trapped "without VME it goes to the IDT", GP, 0x60*8+2, 1b-v86_start
        ret

/* Runs one instruction in ring 3 with the flags. */
        .macro  ring3 flags, entry
        pushl   $USER_DS
        popl    %ds
        pushl   $USER_DS
        popl    %es
        pushl   $USER_DS
        pushl   $user_stack_top
        pushl   $2|(\flags)
        pushl   $USER_CS
        pushl   $\entry
        iret
        .endm

protected_mode:
        will_trap
        ring3   0, 1f
1:      cli
        trapped "ring 3 without PVI: CLI", GP, 0, 1b
        set_cr4 CR4_PVI
        will_trap
        ring3   VIF|IF, 1f
1:      cli
        int     $RING3_DONE
        trapped "PVI: CLI", RING3_DONE, NO_ERROR, 1b+3
        check_flags "... clears VIF alone", VIF|IF, IF
        will_trap
        ring3   0, 1f
1:      sti
        int     $RING3_DONE
        trapped "PVI: STI", RING3_DONE, NO_ERROR, 1b+3
        check_flags "... sets VIF alone", VIF|IF, VIF
        will_trap
        ring3   VIP, 1f
1:      sti
        trapped "PVI: STI while VIP is set", GP, 0, 1b
        will_trap
        ring3   VIF, 1f
1:      pushfl
        popl    %eax
        pushl   $IF|2
        popfl
        int     $RING3_DONE
        trapped "PVI: PUSHF and POPF are as ever", RING3_DONE, NO_ERROR, 1b+10
        check   "... VIF is in its own place", %eax, $VIF|2
        check_flags "...", VIF|IF, VIF
        will_trap
        ring3   IOPL3|IF|VIF, 1f
1:      cli
        int     $RING3_DONE
        trapped "PVI, IOPL 3: CLI", RING3_DONE, NO_ERROR, 1b+3
        check_flags "... clears IF alone", IF|VIF, VIF
        set_cr4 CR4_VME
        will_trap
        ring3   0, 1f
1:      cli
        trapped "VME is nothing to protected mode", GP, 0, 1b
        set_cr4 CR4_PVI
        refused "PVI is nothing to virtual-8086 mode", 0, GP, 0, cli
        ret

        .bss
        .balign 16
v86_tss: .skip  TSS_LIMIT + 8

        .section .note.GNU-stack, "", @progbits
