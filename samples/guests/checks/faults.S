/* Each exception: its vector, its error code, the EIP saved with it, and that
 * the registers are as if the instruction had never begun. */
#include "harness.h"

        .set    EFLAGS_TF, 0x100
        .set    CR0_EM, 4
        .set    CR0_TS, 8
        .set    CR0_NE, 32
        .set    IDT_ERROR, 2    /* the error code names an IDT entry */
        .set    EXTERNAL, 1     /* ... that the program did not ask for */

        .set    SMALL, SPARE            /* data, 16 bytes */
        .set    ABSENT, SPARE + 8       /* data, not present */
        .set    READ_ONLY, SPARE + 16
        .set    STACK, SPARE + 24       /* a small stack */
        .set    ABSENT_CODE, SPARE + 32
        .set    NO_ENTRY, 0x7f8         /* past the end of the GDT */

        .text
        .globl  checks
checks:
        descriptor_at SMALL, words, 15, 0x92, 4
        descriptor_at ABSENT, words, 15, 0x12, 4
        descriptor_at READ_ONLY, words, 15, 0x90, 4
        descriptor_at STACK, small_stack, 255, 0x92, 4
        descriptor ABSENT_CODE, 0, 0xfffff, 0x1a, 12
        call    divide
        call    debug
        call    software
        call    undefined
        call    coprocessor
        call    selectors
        call    accesses
        call    system
        call    privilege
        call    nested
        ret

/* #DE: registers keep their values, whichever way the division fails. */
divide:
        movl    $7, %eax
        movl    $9, %edx
        xorl    %ecx, %ecx
        expect  "DIV by zero", DE, NO_ERROR, divl %ecx
        check   "DIV by zero keeps EAX", %eax, $7
        check   "DIV by zero keeps EDX", %edx, $9
        movl    $3, %ecx
        expect  "DIV whose quotient does not fit", DE, NO_ERROR, divl %ecx
        movl    $0x80000000, %eax
        movl    $-1, %edx
        movl    $-1, %ecx
        expect  "IDIV of the least number by -1", DE, NO_ERROR, idivl %ecx
        movl    $0x8000, %eax
        movl    $1, %ecx
        expect  "DIV of 16 bits by 8 that does not fit", DE, NO_ERROR, divb %cl
        movl    $0x1234, %eax
        expect  "AAM with base zero", DE, NO_ERROR, aam $0
        check   "AAM with base zero keeps AX", %eax, $0x1234
        ret

/* Single steps: the trap comes after the instruction, and says BS in DR6. */
debug:
        xorl    %eax, %eax
        movl    %eax, %dr6
        will_trap
        pushl   $EFLAGS_TF | 2
        popfl
1:      incl    %eax
2:      incl    %eax
        trapped "single step comes one instruction after POPF", DB, NO_ERROR, 2b
        check   "one instruction was run", %eax, $1
        movl    %dr6, %eax
        andl    $0x4000, %eax
        check   "DR6.BS is set", %eax, $0x4000
        xorl    %eax, %eax
        movl    %eax, %dr6
        movl    $words, %edi
        movl    $5, %ecx
        will_trap
        pushl   $EFLAGS_TF | 2
        popfl
3:      rep     stosb
        trapped "a REP instruction is stepped by iteration", DB, NO_ERROR, 3b
        ret

software:
        will_trap
        int3
1:
        trapped "INT3 saves the EIP behind it", BP, NO_ERROR, 1b
        will_trap
        .byte   0xcd, 3
1:
        trapped "INT 3 in two bytes as well", BP, NO_ERROR, 1b
        will_trap
        int     $0x77
1:
        trapped "INT n", 0x77, NO_ERROR, 1b
        movb    $0x7f, %al
        incb    %al
        will_trap
        into
1:
        trapped "INTO with OF set", OF, NO_ERROR, 1b
        xorl    %eax, %eax
        into
        check   "INTO with OF clear does nothing", $0, $0
        movl    $3, words
        movl    $9, words + 4
        movl    $10, %eax
        expect  "BOUND above", BR, NO_ERROR, boundl %eax, words
        movl    $2, %eax
        expect  "BOUND below", BR, NO_ERROR, boundl %eax, words
        movl    $9, %eax
        boundl  %eax, words
        check   "BOUND at the upper bound does nothing", %eax, $9
        ret

undefined:
        expect  "UD2", UD, NO_ERROR, ud2
        qemu_differs 1f
        expect  "LOCK before an instruction that has none", UD, NO_ERROR, .byte 0xf0, 0x89, 0xc0
1:      expect  "LOCK with a register destination", UD, NO_ERROR, .byte 0xf0, 0x01, 0xc0
        expect  "LEA of a register", UD, NO_ERROR, .byte 0x8d, 0xc0
        expect  "MOV to CS", UD, NO_ERROR, .byte 0x8e, 0xc8
        expect  "a group's undefined member", UD, NO_ERROR, .byte 0xff, 0xf8
        expect  "LES of a register", UD, NO_ERROR, .byte 0xc4, 0xc0
        expect  "an instruction of 16 bytes", GP, 0, .byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
        ret

coprocessor:
        fninit
        movl    %cr0, %ebx
        movl    %ebx, %eax
        orl     $CR0_TS, %eax
        movl    %eax, %cr0
        expect  "x87 with CR0.TS", NM, NO_ERROR, fld1
        movl    %ebx, %eax
        orl     $CR0_EM, %eax
        movl    %eax, %cr0
        expect  "x87 with CR0.EM", NM, NO_ERROR, fld1
        movl    %ebx, %eax
        andl    $~(CR0_EM | CR0_TS), %eax
        orl     $CR0_NE, %eax
        movl    %eax, %cr0
        fninit
        movl    $0x37b, words   /* divide by zero unmasked */
        fldcw   words
        fld1
        fldz
        fdivrp
        expect  "an x87 error waits for the next x87 instruction", MF, NO_ERROR, fwait
        fninit
        movl    %ebx, %cr0
        ret

/* Loading segment registers. */
selectors:
        movl    $NO_ENTRY, %eax
        expect  "DS past the GDT", GP, NO_ENTRY, movl %eax, %ds
        movl    $NO_ENTRY + 3, %eax
        expect  "the error code leaves out RPL", GP, NO_ENTRY, movl %eax, %es
        movl    $ABSENT, %eax
        expect  "DS not present", NP, ABSENT, movl %eax, %ds
        expect  "SS not present", SS, ABSENT, movl %eax, %ss
        xorl    %eax, %eax
        expect  "SS null", GP, 0, movl %eax, %ss
        movl    $KERNEL_DS + 3, %eax
        expect  "SS whose RPL is not CPL", GP, KERNEL_DS, movl %eax, %ss
        movl    $USER_DS, %eax
        expect  "SS whose DPL is not CPL", GP, USER_DS&~3, movl %eax, %ss
        movl    $READ_ONLY, %eax
        expect  "SS read-only", GP, READ_ONLY, movl %eax, %ss
        movl    $KERNEL_CS, %eax
        expect  "SS a code segment", GP, KERNEL_CS, movl %eax, %ss
        movl    $TSS, %eax
        expect  "DS a system segment", GP, TSS, movl %eax, %ds
        expect  "far jump to data", GP, KERNEL_DS, ljmp $KERNEL_DS, $checks
        expect  "far jump to null", GP, 0, ljmp $0, $checks
        expect  "far jump to a segment not present", NP, ABSENT_CODE, ljmp $ABSENT_CODE, $checks
        expect  "far call to an inner ring's RPL 3", GP, KERNEL_CS, lcall $KERNEL_CS + 3, $checks
        movl    $KERNEL_DS, %eax
        expect  "LTR of a data segment", GP, KERNEL_DS, ltr %ax
        movl    $TSS, %eax
        expect  "LTR of a busy TSS", GP, TSS, ltr %ax
        movl    $KERNEL_DS, %eax
        expect  "LLDT of a data segment", GP, KERNEL_DS, lldt %ax
        pushl   $NO_ENTRY
        expect  "POP DS past the GDT", GP, NO_ENTRY, popl %ds
        movl    %esp, %ecx
        addl    $4, %esp
        movl    trap_frame, %eax
        addl    $12, %eax
        check   "a POP that faults leaves ESP", %eax, %ecx
        ret

/* Using them. QEMU checks neither limits nor rights of data accesses. */
accesses:
        qemu_differs 9f
        movl    $SMALL, %eax
        movl    %eax, %fs
        movl    %fs:12, %ebx
        check   "the last four bytes of a segment can be read", %ebx, words+12
        expect  "four bytes, one past the limit", GP, 0, movl %fs:13, %ebx
        expect  "a write past the limit", GP, 0, movb %al, %fs:16
        expect  "an offset that wraps", GP, 0, movw %fs:0xffffffff, %ax
        movl    $READ_ONLY, %eax
        movl    %eax, %gs
        movl    %gs:0, %ebx
        expect  "a write to a read-only segment", GP, 0, movl %ebx, %gs:0
        expect  "a write to the code segment", GP, 0, movl %ebx, %cs:words
        xorl    %eax, %eax
        movl    %eax, %gs
        expect  "a read through a null selector", GP, 0, movl %gs:words, %ebx
        movl    $STACK, %eax
        will_trap
        movl    %eax, %ss
        movl    $128, %esp
        movl    $253, %ebp
1:      movl    (%ebp), %eax
        trapped "an access by EBP past the stack's limit", SS, 0, 1b
        will_trap
        movl    %eax, %ss
        movl    $128, %esp
2:      movl    125(%esp), %eax
        trapped "an access by ESP past the stack's limit", SS, 0, 2b
        call    load_segments
9:      ret

/* System registers refuse what they do not know; QEMU's CR0 takes anything,
 * and to its RDMSR and WRMSR every register exists. */
system:
        qemu_differs 9f
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        andl    $~1, %eax
        expect  "CR0.PG without PE", GP, 0, movl %eax, %cr0
        movl    %cr0, %eax
        orl     $0x20000000, %eax
        andl    $~0x40000000, %eax
        expect  "CR0.NW without CD", GP, 0, movl %eax, %cr0
        movl    $0x80000000, %eax
        expect  "a reserved bit of CR4", GP, 0, movl %eax, %cr4
        expect  "CR1", UD, NO_ERROR, .byte 0x0f, 0x22, 0xc8
        movl    $0x12345678, %ecx
        expect  "RDMSR of no such register", GP, 0, rdmsr
        expect  "WRMSR of no such register", GP, 0, wrmsr
9:      ret

/* What ring 3 may not do. */
        .macro  forbidden text, error, instruction:vararg
        .pushsection .text.ring3, "ax"
.Lring3\@: \instruction
        .popsection
        will_trap
        enter_ring3 .Lring3\@
        trapped "\text", GP, "\error", .Lring3\@
        .endm

privilege:
        forbidden "ring 3: HLT", 0, hlt
        forbidden "ring 3: CLI", 0, cli
        forbidden "ring 3: STI", 0, sti
        forbidden "ring 3: IN", 0, inb $0x80, %al
        forbidden "ring 3: OUT", 0, outb %al, $0x80
        forbidden "ring 3: MOV from CR0", 0, movl %cr0, %eax
        forbidden "ring 3: MOV to CR3", 0, movl %eax, %cr3
        forbidden "ring 3: MOV from DR7", 0, movl %dr7, %eax
        forbidden "ring 3: LGDT", 0, lgdt gdt_pointer
        forbidden "ring 3: LIDT", 0, lidt idt_pointer
        forbidden "ring 3: LMSW", 0, lmsw %ax
        forbidden "ring 3: CLTS", 0, clts
        forbidden "ring 3: INVLPG", 0, invlpg words
        forbidden "ring 3: INVD", 0, invd
        forbidden "ring 3: WBINVD", 0, wbinvd
        forbidden "ring 3: RDMSR", 0, rdmsr
        forbidden "ring 3: LTR", 0, ltr %ax
        forbidden "ring 3: INT through a gate of ring 0", 0x77*8+IDT_ERROR, int $0x77
        forbidden "ring 3: far call to ring 0", KERNEL_CS, lcall $KERNEL_CS, $checks
        movl    $KERNEL_DS, %eax
        forbidden "ring 3: DS of ring 0", KERNEL_DS, movl %eax, %ds
        check   "the stack of ring 0 comes from the TSS", trap_frame, $ring0_stack_top-20
        check   "ring 3's stack pointer was saved", trap_esp, $user_stack_top
        check   "ring 3's stack segment was saved", trap_ss, $USER_DS
        check   "ring 3's code segment was saved", trap_cs, $USER_CS
        ret

/* A fault while another is delivered. */
nested:
        movl    idt + 0x77 * 8 + 4, %ebx
        andb    $0x7f, idt + 0x77 * 8 + 5
        expect  "INT n, gate not present", NP, 0x77*8+IDT_ERROR, int $0x77
        movl    %ebx, idt + 0x77 * 8 + 4

        movb    $0x92, idt + 0x77 * 8 + 5
        expect  "INT n, not a gate", GP, 0x77*8+IDT_ERROR, int $0x77
        movl    %ebx, idt + 0x77 * 8 + 4

        movw    $KERNEL_DS, idt + 0x77 * 8 + 2
        expect  "INT n, gate to data", GP, KERNEL_DS, int $0x77
        movw    $0, idt + 0x77 * 8 + 2
        expect  "INT n, gate to null", GP, 0, int $0x77
        movw    $KERNEL_CS, idt + 0x77 * 8 + 2

        andb    $0x7f, idt + UD * 8 + 5
        qemu_differs 1f         /* it forgets the EXT bit */
        expect  "#UD, gate not present: #NP, external", NP, UD*8+IDT_ERROR+EXTERNAL, ud2
1:      orb     $0x80, idt + UD * 8 + 5

        andb    $0x7f, idt + GP * 8 + 5
        movl    $NO_ENTRY, %eax
        expect  "#GP, gate not present: double fault", DF, 0, movl %eax, %ds
        orb     $0x80, idt + GP * 8 + 5

        andb    $0x7f, idt + DE * 8 + 5
        xorl    %ecx, %ecx
        expect  "#DE, gate not present: double fault", DF, 0, divl %ecx
        orb     $0x80, idt + DE * 8 + 5

        movw    $0x20 * 8 - 1, short_idt
        lidt    short_idt
        expect  "INT n past the IDT", GP, 0x77*8+IDT_ERROR, int $0x77
        lidt    idt_pointer

/* A bad ring-0 stack in the TSS. No handler in ring 0 could be reached, so the
 * one for #TS runs in ring 3, mends the TSS and comes back by an interrupt. */
        gate    TS, ts_handler, INTERRUPT_GATE, USER_CS
        movl    $0, tss + TSS_SS0
        call    interrupt_from_ring3
        check   "from ring 3, SS0 null: #TS, no selector", ts_error, $0
        check   "... at the INT", ts_eip, $ring3_interrupt
        movl    $USER_DS, tss + TSS_SS0
        call    interrupt_from_ring3
        check   "from ring 3, SS0 of ring 3: #TS", ts_error, $USER_DS&~3
        movl    $NO_ENTRY, tss + TSS_SS0
        call    interrupt_from_ring3
        check   "from ring 3, SS0 past the GDT: #TS", ts_error, $NO_ENTRY
        ungate  TS
        ret

interrupt_from_ring3:
        movl    $-1, ts_error
        will_trap
        enter_ring3 ring3_interrupt
ring3_interrupt:
        int     $RING3_DONE
        trapped "ring 3's #TS handler comes back", RING3_DONE, NO_ERROR, ts_mended
        ret

ts_handler:
        popl    ts_error
        popl    ts_eip
        movl    $KERNEL_DS, tss + TSS_SS0
        int     $RING3_DONE
ts_mended:

        .bss
ts_error: .skip 4
ts_eip: .skip   4

        .data
        .balign 16
words:  .long   1, 2, 3, 4
short_idt:
        .word   0
        .long   idt

        .bss
        .balign 16
small_stack:
        .skip   256

        .section .note.GNU-stack, "", @progbits
