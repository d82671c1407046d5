/* What debuggers live on: the trap flag, DR0-DR7 with breakpoints on
 * instructions, data and ports, the resume flag, the shadow of a load of SS, and
 * the T bit of a TSS. */
#include "harness.h"

        .set    TF, 0x100
        .set    RF, 0x10000
        .set    CR4_DE, 8

        /* R/W and LEN of a breakpoint, as DR7 holds them from bit 16 on. */
        .set    EXECUTE, 0
        .set    WRITE, 1
        .set    PORT, 2
        .set    ACCESS, 3
        .set    LEN2, 4
        .set    LEN4, 12
        .set    DR7_FIXED, 0x400
        .set    DR7_GD, 0x2000

        .set    B0, 1
        .set    B1, 2
        .set    B3, 8
        .set    BD, 0x2000
        .set    BS, 0x4000
        .set    BT, 0x8000

        .set    TASK, SPARE

/* Enables one breakpoint. Keeps all registers but EAX. */
        .macro  arm number, address, kind
        movl    $\address, %eax
        movl    %eax, %dr\number
        movl    $DR7_FIXED|(1 << (2 * \number))|((\kind) << (16 + 4 * \number)), %eax
        movl    %eax, %dr7
        .endm

        .macro  disarm
        movl    $DR7_FIXED, %eax
        movl    %eax, %dr7
        .endm

/* Compares DR6 with what is set beside its fixed ones, and clears it. */
        .macro  check_dr6 text, bits
        movl    %dr6, %eax
        check   "\text", %eax, $0xffff0ff0|\bits
        xorl    %eax, %eax
        movl    %eax, %dr6
        .endm

        .macro  check_rf text, expected
        qemu_differs 97f
        movl    trap_eflags, %eax
        andl    $RF, %eax
        check   "\text", %eax, $\expected
97:
        .endm

/* Goes to `label` with `flags` on top of the present ones. */
        .macro  iret_to label, flags
        pushfl
        orl     $\flags, (%esp)
        pushl   $KERNEL_CS
        pushl   $\label
        iret
        .endm

/* Instructions that must meet no breakpoint, then the one that must end in the trap. */
        .macro  traps_after text, bits, instruction:vararg
        will_trap
        \instruction
1:      nop
        trapped "\text", DB, NO_ERROR, 1b
        check_dr6 "... DR6", \bits
        .endm

        .text
        .globl  checks
checks:
        xorl    %eax, %eax
        movl    %eax, %dr6
        call    registers
        call    on_instructions
        call    resume_flag
        call    on_data
        call    lengths
        call    by_strings
        call    on_ports
        call    several
        call    single_step
        call    stack_segment
        call    task_trap
        disarm
        ret

registers:
        movl    $0xffffffff, %eax
        movl    %eax, %dr6
        qemu_differs 1f
        movl    %dr6, %eax
        check   "DR6: bits that stay", %eax, $0xffffefff
1:      xorl    %eax, %eax
        movl    %eax, %dr6
        movl    %dr6, %eax
        check   "DR6: bits that are one", %eax, $0xffff0ff0
        movl    $0x1234, %eax
        movl    %eax, %dr3
        xorl    %ebx, %ebx
        movl    %dr3, %ebx
        check   "DR3 holds what is written", %ebx, $0x1234
        xorl    %ebx, %ebx
        .byte   0x0f, 0x21, 0xe3        /* mov %dr4, %ebx */
        check   "DR4 is DR6", %ebx, $0xffff0ff0
        movl    $CR4_DE, %eax
        movl    %eax, %cr4
        expect  "DR4 with CR4.DE", UD, NO_ERROR, .byte 0x0f, 0x21, 0xe3
        expect  "DR5 with CR4.DE", UD, NO_ERROR, .byte 0x0f, 0x23, 0xe8
        xorl    %eax, %eax
        movl    %eax, %cr4
        qemu_differs 1f
        movl    $DR7_FIXED|DR7_GD, %eax
        movl    %eax, %dr7
        expect  "general detect", DB, NO_ERROR, movl %dr0, %ebx
        check_rf "... a fault, so RF is set", RF
        movl    %dr7, %eax
        check   "... and is off in the handler", %eax, $DR7_FIXED
        check_dr6 "... DR6.BD", BD
1:      ret

on_instructions:
        arm     0, at_breakpoint, EXECUTE
        movl    $1, %ebx
        will_trap
        incl    %ebx
at_breakpoint:
        incl    %ebx
        incl    %ebx
        trapped "an instruction breakpoint", DB, NO_ERROR, at_breakpoint
        check   "... before the instruction", %ebx, $2
        check_dr6 "... DR6.B0", B0
        check_rf "... and RF is not set by itself", 0
        /* In a loop that is warm. */
        disarm
        movl    $2000, %ecx
1:      decl    %ecx
in_the_loop:
        incl    %ebx
        jecxz   2f
        jmp     1b
2:      arm     3, in_the_loop, EXECUTE
        movl    $1000, %ecx
        will_trap
        jmp     1b
        trapped "a breakpoint in a loop that ran before", DB, NO_ERROR, in_the_loop
        check   "... in its first round", %ecx, $999
        check_dr6 "... DR6.B3", B3
        disarm
        ret

resume_flag:
        expect  "a fault", UD, NO_ERROR, ud2
        check_rf "... sets RF in the image", RF
        arm     1, resumed, EXECUTE
        xorl    %ebx, %ebx
        will_trap
        iret_to resumed, RF
resumed:
        incl    %ebx
        jmp     resumed
        trapped "RF lets one instruction pass the breakpoint", DB, NO_ERROR, resumed
        check   "... and no more", %ebx, $1
        check_dr6 "... DR6.B1", B1
        disarm
        arm     1, resumed2, EXECUTE
        will_trap
        iret_to resumed2, RF
resumed2:
        ud2
        trapped "a fault under RF", UD, NO_ERROR, resumed2
        check_rf "... keeps it in the image", RF
        disarm
        pushfl
        popl    %eax
        andl    $RF, %eax
        check   "RF is not kept", %eax, $0
        ret

on_data:
        arm     0, cell, WRITE|LEN4
        movl    cell, %ebx
        traps_after "a store to watched data", B0, movl %eax, cell
        movl    $0x55, cell2
        movl    cell, %ebx
        traps_after "read, modify, write", B0, incl cell
        traps_after "one byte of four", B0, movb $1, cell+3
        arm     0, cell, ACCESS|LEN4
        traps_after "a load of watched data", B0, movl cell, %ebx
        traps_after "a load that overlaps from below", B0, movl cell-3, %ebx
        movl    cell-4, %ebx
        movl    cell+4, %ebx
        will_trap
        movl    $cell+20, %esp
        pushal
1:      nop
        trapped "PUSHA over watched data", DB, NO_ERROR, 1b
        check_dr6 "... DR6", B0
        disarm
        movl    $0x7ff8, cell
        arm     0, cell, ACCESS|LEN4
        expect  "an instruction that faults meets no breakpoint", GP, 0x7ff8, movw cell, %fs
        check_dr6 "... DR6", 0
        disarm
        ret

lengths:
        arm     0, cell+1, WRITE|LEN4
        traps_after "the low bits of the address do not count", B0, movb $1, cell
        movb    $1, cell+4
        arm     2, cell+2, WRITE|LEN2
        movb    $1, cell+1
        movb    $1, cell+4
        traps_after "a word: its second byte", 4, movb $1, cell+3
        traps_after "a word: a doubleword over it", 4, movl $1, cell
        arm     2, cell+1, WRITE
        movb    $1, cell
        movw    $1, cell+2
        traps_after "a byte", 4, movb $1, cell+1
        traps_after "a byte: a word over it", 4, movw $1, cell
        disarm
        movl    $2, cell
        ret

by_strings:
        arm     0, cell, WRITE|LEN4
        cld
        movl    $cell-8, %edi
        movl    $5, %ecx
        xorl    %eax, %eax
        will_trap
2:      rep stosl
        trapped "REP STOS: after the iteration", DB, NO_ERROR, 2b
        check   "... ECX", %ecx, $2
        check_rf "... RF, as there is more to come", RF
        check_dr6 "... DR6", B0
        movl    $cell-8, %edi
        movl    $3, %ecx
        xorl    %eax, %eax
        traps_after "REP STOS: after the last iteration", B0, rep stosl
        check   "... ECX", %ecx, $0
        arm     0, cell, ACCESS|LEN4
        movl    $cell-8, %esi
        movl    $copy, %edi
        movl    $5, %ecx
        will_trap
2:      rep movsl
        trapped "REP MOVS: the source", DB, NO_ERROR, 2b
        check   "... ECX", %ecx, $2
        check_dr6 "... DR6", B0
        movl    $cell-8, %edi
        movl    $5, %ecx
        movl    $1, %eax
        will_trap
2:      repne scasl
        trapped "REPNE SCAS", DB, NO_ERROR, 2b
        check   "... ECX", %ecx, $2
        check_dr6 "... DR6", B0
        disarm
        ret

on_ports:
        movl    $CR4_DE, %eax
        movl    %eax, %cr4
        arm     0, 0x80, PORT
        traps_after "OUT to a watched port", B0, outb %al, $0x80
        traps_after "IN from a watched port", B0, inb $0x80, %al
        traps_after "a word that ends there", B0, inw $0x7f, %ax
        outb    %al, $0x81
        movl    %eax, 0x80
        xorl    %eax, %eax
        movl    %eax, %cr4
        outb    %al, $0x80
        check_dr6 "no port, no CR4.DE: no breakpoint", 0
        disarm
        ret

several:
        movl    $cell, %eax
        movl    %eax, %dr0
        movl    %eax, %dr1
        movl    %eax, %dr3
        /* L0 and G1 write, 3 not enabled; LE and GE. */
        movl    $DR7_FIXED|0x309|(WRITE|LEN4)<<16|(WRITE)<<20|(WRITE)<<28, %eax
        movl    %eax, %dr7
        will_trap
        movl    %eax, cell
1:      nop
        trapped "two breakpoints at once", DB, NO_ERROR, 1b
        movl    %dr6, %eax
        andl    $3, %eax
        check   "... B0 and B1", %eax, $3
        xorl    %eax, %eax
        movl    %eax, %dr6
        arm     0, cell, WRITE|LEN4
        movl    $after_store, %eax
        movl    %eax, %dr1
        movl    $DR7_FIXED|5|(WRITE|LEN4)<<16, %eax
        movl    %eax, %dr7
        will_trap
        movl    %eax, cell
after_store:
        incl    %ebx
        trapped "a data breakpoint comes first", DB, NO_ERROR, after_store
        check_dr6 "... B0", B0
        disarm
        ret

/* Sets TF by IRET and runs to `label` plus one instruction. */
        .macro  step_from label
        iret_to \label, TF
        .endm

single_step:
        xorl    %ebx, %ebx
        will_trap
        pushfl
        orl     $TF, (%esp)
        popfl
        incl    %ebx
1:      incl    %ebx
        trapped "POPF that sets TF: the next instruction traps", DB, NO_ERROR, 1b
        check   "... after it has run", %ebx, $1
        check_dr6 "... DR6.BS", BS
        xorl    %ebx, %ebx
        will_trap
        step_from 1f
1:      incl    %ebx
2:      incl    %ebx
        trapped "IRET that sets TF: the next instruction traps", DB, NO_ERROR, 2b
        check   "... after it has run", %ebx, $1
        check_dr6 "... DR6.BS", BS
        will_trap
        pushl   $2
        step_from 1f
1:      popfl
2:      nop
        trapped "POPF that clears TF traps", DB, NO_ERROR, 2b
        check_dr6 "... DR6.BS", BS
        will_trap
        step_from 1f
1:      int     $0x50
        trapped "INT n under TF", 0x50, NO_ERROR, 1b+2
        check_dr6 "... no trap", 0
        movl    trap_eflags, %eax
        andl    $TF, %eax
        check   "... TF in the image", %eax, $TF
        will_trap
        step_from 1f
1:      ud2
        trapped "a fault under TF", UD, NO_ERROR, 1b
        check_dr6 "... no trap", 0
        will_trap
        step_from 1f
1:      into
2:      nop
        trapped "INTO without overflow under TF", DB, NO_ERROR, 2b
        check_dr6 "... DR6.BS", BS
        movl    $3, %ecx
        movl    $copy, %edi
        will_trap
        step_from 1f
1:      rep stosb
        trapped "REP under TF: each iteration", DB, NO_ERROR, 1b
        check   "... ECX", %ecx, $2
        check_dr6 "... DR6.BS", BS
        will_trap
        step_from 1f
1:      hlt
2:      nop
        trapped "HLT under TF", DB, NO_ERROR, 2b
        check_dr6 "... DR6.BS", BS
        /* A call and what it calls, under TF all the way. */
        gate    DB, count_steps, INTERRUPT_GATE
        movl    $0, steps
        pushfl
        orl     $TF, (%esp)
        popfl
        call    1f
        nop
        pushfl
        andl    $~TF, (%esp)
        popfl
        ungate  DB
        check   "CALL, NOP, RET, NOP and what ends it: seven traps", steps, $7
        xorl    %eax, %eax
        movl    %eax, %dr6
        ret
1:      nop
        ret

count_steps:
        incl    steps
        iret

stack_segment:
        movl    %ss, %edx
        xorl    %ebx, %ebx
        will_trap
        step_from 1f
1:      movl    %edx, %ss
        incl    %ebx
2:      incl    %ebx
        trapped "MOV SS under TF: the trap follows the next instruction", DB, NO_ERROR, 2b
        check   "... which has run", %ebx, $1
        check_dr6 "... DR6.BS", BS
        pushl   %edx
        movl    %esp, %esi
        will_trap
        step_from 1f
1:      popl    %ss
        incl    %ebx
2:      incl    %ebx
        trapped "POP SS under TF", DB, NO_ERROR, 2b
        check_dr6 "... DR6.BS", BS
        addl    $4, %esp
        movw    %ss, cell
        arm     0, cell, ACCESS|LEN4
        will_trap
        movw    cell, %ss
        incl    %ebx
2:      incl    %ebx
        trapped "MOV SS from watched data: after the next instruction", DB, NO_ERROR, 2b
        check_dr6 "... DR6.B0", B0
        disarm
        will_trap
        step_from 1f
1:      movl    %edx, %ss
        ud2
        trapped "MOV SS, then a fault, under TF", UD, NO_ERROR, 1b+2
        check_dr6 "... no trap", 0
        qemu_differs 1f
        arm     1, shadowed, EXECUTE
        movl    %ss, %edx
        movl    %edx, %ss
shadowed:
        nop
        disarm
        check_dr6 "MOV SS, then an instruction breakpoint: none", 0
1:      ret

task_trap:
        descriptor_at TASK, task, 0x67, 0x89, 0
        movl    $DR7_FIXED|0x55|(WRITE<<16), %eax
        movl    %eax, %dr7
        will_trap
        ljmp    $TASK, $0
in_task:
        hlt
        trapped "JMP to a TSS with T set", DB, NO_ERROR, in_task
        check_dr6 "... DR6.BT", BT
        movl    %dr7, %eax
        check   "... and local breakpoints are off", %eax, $DR7_FIXED|WRITE<<16
        andb    $~2, gdt + TSS + 5
        movl    $TSS, %eax
        ltr     %ax
        clts
        /* The same by an interrupt, which the task returns from. */
        descriptor_at TASK, task, 0x67, 0x89, 0
        gate    0x50, 0, TASK_GATE, TASK
        movl    $in_task2, task + TSS_EIP
        will_trap
        int     $0x50
in_task2:
        hlt
        trapped "INT to a TSS with T set", DB, NO_ERROR, in_task2
        check_dr6 "... DR6.BT", BT
        descriptor_at TSS, tss, 0x67, 0x89, 0
        movl    $TSS, %eax
        ltr     %ax
        descriptor_at TASK, task, 0x67, 0x89, 0
        gate    UD, 0, TASK_GATE, TASK
        movl    $in_task3, task + TSS_EIP
        will_trap
        ud2
in_task3:
        hlt
        trapped "an exception to a TSS with T set", DB, NO_ERROR, in_task3
        check_dr6 "... DR6.BT", BT
        ungate  UD
        descriptor_at TSS, tss, 0x67, 0x89, 0
        movl    $TSS, %eax
        ltr     %ax
        pushl   $2
        popfl
        clts
        ret

        .data
        .balign 16
        .skip   128
cell:   .long   0
cell2:  .long   0
        .skip   32
copy:   .skip   64
steps:  .long   0
        .balign 8
task:   .long   0, task_stack_top, KERNEL_DS, 0, 0, 0, 0, 0
        .long   in_task, 2, 0, 0, 0, 0, task_stack_top, 0, 0, 0
        .long   KERNEL_DS, KERNEL_CS, KERNEL_DS, KERNEL_DS, 0, 0, 0
        .word   1, 0x68

        .bss
        .skip   4096
task_stack_top:

        .section .note.GNU-stack, "", @progbits
