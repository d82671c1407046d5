/* Hardware task switches: through a task gate by INT and by an exception, by
 * CALL and by JMP, and back by IRET. A kernel meets them where a double fault
 * must find a stack that works. */
#include "harness.h"

        .set    NT, 0x4000
        .set    CR0_TS, 8
        .set    BUSY, 2

        .set    TASK, SPARE             /* the other task's TSS */
        .set    GATE, SPARE + 8         /* a task gate to it */
        .set    USER_TASK, SPARE + 16   /* a task in ring 3 */
        .set    SMALL_TSS, SPARE + 24   /* a TSS that is too short */
        .set    ABSENT_TSS, SPARE + 32
        .set    BACK_LINK, 0

        /* Fields of a TSS, for the checks. */
        .set    TSS_EAX, 40
        .set    TSS_ECX, 44
        .set    TSS_EBX, 52
        .set    TSS_EBP, 60

        .macro  task_is_busy selector
        movzbl  gdt + \selector + 5, %eax
        shrl    $1, %eax
        andl    $1, %eax
        .endm

        .text
        .globl  checks
checks:
        descriptor_at TASK, task, 0x67, 0x89, 0
        descriptor_at USER_TASK, user_task, 0x67, 0x89, 0
        descriptor_at SMALL_TSS, task, 0x60, 0x89, 0
        descriptor_at ABSENT_TSS, task, 0x67, 0x09, 0
        movl    $TASK << 16, gdt + GATE
        movl    $TASK_GATE << 8, gdt + GATE + 4
        call    by_interrupt
        call    by_exception
        call    by_call
        call    by_jump
        call    ring3_task
        call    refused
        ret

/* Puts the task at the start of EAX's code, with registers that can be known. */
set_task:
        movl    %eax, task + TSS_EIP
        movl    $2, task + TSS_EFLAGS
        movl    $task_stack_top, task + TSS_ESP
        movl    $0xaaaa, task + TSS_EAX
        movl    $0xcccc, task + TSS_ECX
        movl    $0xbbbb, task + TSS_EBX
        movl    $KERNEL_CS, task + TSS_CS
        movl    $KERNEL_DS, task + TSS_SS
        movl    $KERNEL_DS, task + TSS_DS
        movl    $KERNEL_DS, task + TSS_ES
        ret

/* Notes what it finds, and returns; called again, it goes on behind IRET. */
noting_task:
        movl    %eax, seen_eax
        movl    %ecx, seen_ecx
        movl    %esp, seen_esp
        pushfl
        popl    seen_eflags
        str     %ax
        movzwl  %ax, %eax
        movl    %eax, seen_tr
        movl    %cr0, %eax
        andl    $CR0_TS, %eax
        movl    %eax, seen_ts
        movzwl  task + BACK_LINK, %eax
        movl    %eax, seen_link
        task_is_busy TSS
        movl    %eax, seen_old_busy
        task_is_busy TASK
        movl    %eax, seen_new_busy
        movl    $0xdddd, %ebx
        iret
        movl    $0x1ee7, seen_eax
        iret

by_interrupt:
        gate    0x50, 0, TASK_GATE, TASK
        movl    $noting_task, %eax
        call    set_task
        clts
        movl    $0x1111, %eax
        movl    $0x2222, %ebx
        movl    $0x3333, %ebp
        stc
        int     $0x50
1:      setc    carry
        check   "INT through a task gate and back: EAX is ours", %eax, $0x1111
        check   "... EBX", %ebx, $0x2222
        movzbl  carry, %eax
        check   "... CF", %eax, $1
        check   "the task had its own EAX", seen_eax, $0xaaaa
        check   "... ECX", seen_ecx, $0xcccc
        check   "... its stack, with nothing pushed", seen_esp, $task_stack_top
        check   "... NT set", seen_eflags, $NT+2
        check   "... TR", seen_tr, $TASK
        check   "... CR0.TS set", seen_ts, $CR0_TS
        check   "... the back link", seen_link, $TSS
        check   "both were busy meanwhile: the old", seen_old_busy, $1
        check   "... and the new", seen_new_busy, $1
        check   "our EIP was saved in our TSS", tss+TSS_EIP, $1b
        check   "... and EBP", tss+TSS_EBP, $0x3333
        check   "the task's EBX was saved in its TSS", task+TSS_EBX, $0xdddd
        movl    task + TSS_EFLAGS, %eax
        check   "... its EFLAGS, NT clear", %eax, $2
        task_is_busy TASK
        check   "the task is no longer busy", %eax, $0
        task_is_busy TSS
        check   "ours is", %eax, $1
        str     %ax
        movzwl  %ax, %eax
        check   "TR is ours", %eax, $TSS
        pushfl
        popl    %eax
        andl    $NT, %eax
        check   "NT is clear", %eax, $0
        movl    $0, task + TSS_EFLAGS
        int     $0x50
        check   "the second time it goes on behind its IRET", seen_eax, $0x1ee7
        clts
        ret

/* An exception's error code goes onto the new task's stack. */
fault_task:
        popl    seen_eax
        movl    %esp, seen_esp
        pushl   tss + TSS_EIP
        popl    seen_ecx
        pushl   fault_resume
        popl    tss + TSS_EIP
        iret

by_exception:
        gate    GP, 0, TASK_GATE, TASK
        movl    $fault_task, %eax
        call    set_task
        movl    $recovered, fault_resume
        movl    $TASK, %eax
1:      movl    %eax, %fs               /* not a data segment */
recovered:
        ungate  GP
        check   "#GP through a task gate: the error code is on its stack", seen_eax, $TASK
        check   "... and nothing else", seen_esp, $task_stack_top
        check   "... EIP in the old TSS", seen_ecx, $1b

/* A double fault: #GP cannot be delivered, and its task returns elsewhere. */
        gate    DF, 0, TASK_GATE, TASK
        movl    $fault_task, %eax
        call    set_task
        movl    $recovered2, fault_resume
        andb    $0x7f, idt + GP * 8 + 5
        movl    $TASK, %eax
1:      movl    %eax, %fs
recovered2:
        orb     $0x80, idt + GP * 8 + 5
        ungate  DF
        check   "a double fault through a task gate: error code 0", seen_eax, $0
        check   "... EIP in the old TSS", seen_ecx, $1b
        clts
        ret

by_call:
        movl    $noting_task, %eax
        call    set_task
        lcall   $TASK, $0
        check   "CALL of a TSS: NT set", seen_eflags, $NT+2
        check   "... the back link", seen_link, $TSS
        movl    $noting_task, %eax
        call    set_task
        movl    $0, seen_link
        lcall   $GATE, $0
        check   "CALL of a task gate", seen_link, $TSS
        clts
        ret

jumping_task:
        pushfl
        popl    seen_eflags
        task_is_busy TSS
        movl    %eax, seen_old_busy
        ljmp    $TSS, $0

by_jump:
        movl    $jumping_task, %eax
        call    set_task
        ljmp    $TASK, $0
        check   "JMP to a TSS: NT clear", seen_eflags, $2
        check   "... and the old task not busy", seen_old_busy, $0
        task_is_busy TASK
        check   "... nor the new one when it jumps back", %eax, $0
        clts
        ret

/* A task may be in ring 3; it comes back by an interrupt, on the stack of ring
 * 0 that its own TSS names. */
ring3_task:
        will_trap
        ljmp    $USER_TASK, $0
in_ring3:
        int     $RING3_DONE
1:      trapped "a task in ring 3", RING3_DONE, NO_ERROR, 1b
        check   "... CS", trap_cs, $USER_CS
        check   "... SS", trap_ss, $USER_DS
        check   "... ESP", trap_esp, $user_stack_top
        check   "... the stack of ring 0 from its TSS", trap_frame, $task_stack_top-20
        movl    $1f, tss + TSS_EIP
        ljmp    $TSS, $0
1:      clts
        ret

        .macro  nested_iret text, error
        pushl   $NT | 2
        popfl
        expect  "\text", TS, \error, iret
        .endm

/* What a switch refuses, while the old task is still the current one. */
refused:
        expect  "a switch to the busy task itself", GP, TSS, ljmp $TSS, $0
        expect  "a TSS that is too short", TS, SMALL_TSS, ljmp $SMALL_TSS, $0
        expect  "a TSS not present", NP, ABSENT_TSS, ljmp $ABSENT_TSS, $0
        movl    $0, tss + BACK_LINK
        nested_iret "IRET with NT and a back link to nothing", 0
        movl    $KERNEL_DS, tss + BACK_LINK
        nested_iret "IRET with NT and a back link to data", KERNEL_DS
        movl    $TASK, tss + BACK_LINK
        nested_iret "IRET with NT to a task that is not busy", TASK
        ret

        .data
        .balign 8
task:   .fill   25, 4, 0
        .word   0, 0x68
user_task:
        .long   0, task_stack_top, KERNEL_DS, 0, 0, 0, 0, 0
        .long   in_ring3, 2, 0, 0, 0, 0, user_stack_top, 0, 0, 0
        .long   USER_DS, USER_CS, USER_DS, USER_DS, 0, 0, 0
        .word   0, 0x68

        .bss
        .balign 4
seen_eax: .skip 4
seen_ecx: .skip 4
seen_esp: .skip 4
seen_eflags: .skip 4
seen_tr: .skip  4
seen_ts: .skip  4
seen_link: .skip 4
seen_old_busy: .skip 4
seen_new_busy: .skip 4
carry:  .skip   4
fault_resume: .skip 4
        .skip   4096
task_stack_top:

        .section .note.GNU-stack, "", @progbits
