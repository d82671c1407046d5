/* SYSENTER and SYSEXIT: their registers, the segments they load without
 * looking at any descriptor, the flags they clear, and what they refuse. */
#include "harness.h"

        .set    IF, 0x200
        .set    IOPL3, 0x3000
        .set    MSR_CS, 0x174
        .set    MSR_ESP, 0x175
        .set    MSR_EIP, 0x176
        .set    CALLS, 3000

        /* A second set of four descriptors, in the order SYSENTER wants. */
        .set    OTHER_CS, SPARE
        .set    OTHER_USER_CS, SPARE + 16 + 3
        .set    OTHER_USER_DS, SPARE + 24 + 3

        .macro  set_msr msr, value
        movl    $\msr, %ecx
        movl    $\value, %eax
        xorl    %edx, %edx
        wrmsr
        .endm

        .text
        .globl  checks
checks:
        movl    $1, %eax
        cpuid
        btl     $11, %edx
        setc    %al
        movzbl  %al, %eax
        check   "CPUID announces SYSENTER", %eax, $1
        call    registers
        call    entry
        call    many_calls
        call    no_descriptors
        call    refused
        ret

registers:
        set_msr MSR_CS, KERNEL_CS
        set_msr MSR_ESP, entry_stack_top
        set_msr MSR_EIP, entry_point
        movl    $MSR_ESP, %ecx
        rdmsr
        check   "an MSR reads as written", %eax, $entry_stack_top
        check   "... its high half", %edx, $0
        movl    $MSR_EIP, %ecx
        rdmsr
        check   "... another", %eax, $entry_point
        movl    $MSR_CS, %ecx
        rdmsr
        check   "... and the selector", %eax, $KERNEL_CS
        ret

/* Ring 0, by SYSENTER. Notes what it finds, and returns to EDX with ESP = ECX. */
entry_point:
        movl    %esp, %ss:seen_esp      /* DS is whatever ring 3 had */
        pushfl
        popl    %ss:seen_eflags
        movl    %cs, %ebx
        movl    %ebx, %ss:seen_cs
        movl    %ss, %ebx
        movl    %ebx, %ss:seen_ss
        movl    %ds, %ebx
        movl    %ebx, %ss:seen_ds
        addl    $1000, %eax
        sysexit

entry:
        movl    $0x5555, %ebp
        will_trap
        pushl   $USER_DS
        pushl   $user_stack_top
        pushl   $IOPL3 | IF | 0x8d7
        pushl   $USER_CS
        pushl   $1f
        iret
1:      movl    %esp, %ecx
        movl    $2f, %edx
        movl    $7, %eax
        sysenter
        ud2
2:      movl    %cs, %ebx
        movl    %ss, %esi
        movl    %esp, %edi
        pushfl
        popl    %ecx
        cli
        int     $RING3_DONE
3:      trapped "SYSENTER and SYSEXIT", RING3_DONE, NO_ERROR, 3b
        check   "ring 0: ESP is the MSR's", seen_esp, $entry_stack_top
        check   "ring 0: CS", seen_cs, $KERNEL_CS
        check   "ring 0: SS is the next descriptor's", seen_ss, $KERNEL_DS
        check   "ring 0: DS is as ring 3 left it", seen_ds, $0
        check   "ring 0: IF is clear, the rest as it was", seen_eflags, $IOPL3+0x8d7
        check   "EAX came through", %eax, $1007
        check   "EBP too", %ebp, $0x5555
        check   "ring 3: CS is the MSR's + 16, RPL 3", %ebx, $USER_CS
        check   "ring 3: SS is the MSR's + 24, RPL 3", %esi, $USER_DS
        check   "ring 3: ESP is ECX", %edi, $user_stack_top
        ret

many_calls:
        will_trap
        enter_ring3 1f
1:      movl    $CALLS, %edi
        xorl    %eax, %eax
        movl    $USER_DS, %ebx
        movl    %ebx, %ds
2:      movl    %esp, %ecx
        movl    $3f, %edx
        sysenter
3:      decl    %edi
        jnz     2b
        int     $RING3_DONE
4:      trapped "many calls in a row", RING3_DONE, NO_ERROR, 4b
        check   "... each was made", %eax, $1000*CALLS
        check   "ring 0: DS of ring 3, as it was", seen_ds, $USER_DS
        ret

/* The selectors come from the MSR, but base, limit and rights do not come from
 * the GDT: here it has nothing at those places. */
no_descriptors:
        set_msr MSR_CS, OTHER_CS
        set_msr MSR_EIP, other_entry
        will_trap
        enter_ring3 1f
1:      movl    $2f, %edx
        movl    %esp, %ecx
        sysenter
2:      movl    %cs, %ebx
        movl    %ss, %esi
        pushl   $0x1234                 /* the stack works */
        popl    %edi
        int     $RING3_DONE
3:      trapped "no descriptor is read", RING3_DONE, NO_ERROR, 3b
        check   "ring 0: CS", seen_cs, $OTHER_CS
        check   "ring 0: SS", seen_ss, $OTHER_CS+8
        check   "ring 3: CS", %ebx, $OTHER_USER_CS
        check   "ring 3: SS", %esi, $OTHER_USER_DS
        check   "ring 3: its stack works", %edi, $0x1234
        ret

other_entry:
        movl    %cs, %eax
        movl    %eax, %ss:seen_cs
        pushl   %ss
        popl    %eax
        movl    %eax, %ss:seen_ss
        sysexit

refused:
        set_msr MSR_CS, 0
        expect  "ring 0: SYSENTER with CS 0", GP, 0, sysenter
        expect  "ring 0: SYSEXIT with CS 0", GP, 0, sysexit
        will_trap
        enter_ring3 1f
1:      sysenter
        trapped "ring 3: SYSENTER with CS 0", GP, 0, 1b
        qemu_differs 2f         /* it looks at all 16 bits, not at the upper 14 */
        set_msr MSR_CS, 3
        will_trap
        enter_ring3 1f
1:      sysenter
        trapped "ring 3: SYSENTER with CS 3, which is null too", GP, 0, 1b
2:      set_msr MSR_CS, KERNEL_CS
        will_trap
        enter_ring3 1f
1:      sysexit
        trapped "ring 3: SYSEXIT", GP, 0, 1b
        ret

        .bss
        .balign 4
seen_esp: .skip 4
seen_eflags: .skip 4
seen_cs: .skip  4
seen_ss: .skip  4
seen_ds: .skip  4
        .skip   4096
entry_stack_top:

        .section .note.GNU-stack, "", @progbits
