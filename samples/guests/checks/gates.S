/* Ways between rings: interrupt gates, IRET in its forms, call gates with and
 * without parameters, an inner ring other than 0, 16-bit gates, EFLAGS by
 * privilege, and the I/O permission map. */
#include "harness.h"

        .set    IF, 0x200
        .set    NT, 0x4000
        .set    IOPL3, 0x3000
        .set    TSS_ESP1, 12
        .set    TSS_SS1, 16

        .set    GATE0, SPARE            /* call gates: for ring 0 only */
        .set    GATE3, SPARE + 8        /* ... for ring 3, with two parameters */
        .set    GATE_RING1, SPARE + 16  /* ... to ring 1 */
        .set    ABSENT_GATE, SPARE + 24
        .set    NULL_GATE, SPARE + 32
        .set    GATE16, SPARE + 40      /* ... of the 80286 */
        .set    RING1_CS, SPARE + 48
        .set    RING1_DS, SPARE + 56
        .set    ABSENT_CS, SPARE + 64
        .set    WIDE_TSS, SPARE + 72
        .set    HANDLER16_CS, SPARE + 80 /* 16-bit gates hold 16-bit offsets: these */
        .set    TARGET16_CS, SPARE + 88  /* ... have their bases at the code */
        .set    FAR, 0x5a               /* the offset a gate makes the CPU ignore */

        .macro  call_gate selector, target, code, parameters, access
        movl    $\target, %eax
        movl    %eax, gdt + ((\selector) & ~7)
        movw    $\code, gdt + ((\selector) & ~7) + 2
        movl    %eax, gdt + ((\selector) & ~7) + 4
        movw    $((\access) << 8) | (\parameters), gdt + ((\selector) & ~7) + 4
        .endm

        .text
        .globl  checks
checks:
        descriptor RING1_CS, 0, 0xfffff, 0xba, 12
        descriptor RING1_DS, 0, 0xfffff, 0xb2, 12
        descriptor ABSENT_CS, 0, 0xfffff, 0x7a, 12
        call_gate GATE0, same_ring, KERNEL_CS, 0, CALL_GATE
        call_gate GATE3, with_parameters, KERNEL_CS, 2, CALL_GATE|DPL3
        call_gate GATE_RING1, in_ring1, RING1_CS+1, 0, CALL_GATE|DPL3
        call_gate ABSENT_GATE, same_ring, KERNEL_CS, 0, CALL_GATE&~0x80|DPL3
        call_gate NULL_GATE, same_ring, 0, 0, CALL_GATE|DPL3
        descriptor_at HANDLER16_CS, handler16, 0xfffff, 0x9a, 12
        descriptor_at TARGET16_CS, same_ring16, 0xfffff, 0x9a, 12
        call_gate GATE16, 0, TARGET16_CS, 0, CALL_GATE_16
        call    interrupt_frames
        call    iret_checks
        call    iret_outward
        call    flags_by_ring
        call    call_gates
        call    returns_outward
        call    io_map
        ret

/* What a gate pushes and clears. Handlers note ESP and EFLAGS as they begin. */
note_handler:
        movl    %esp, handler_esp
        pushfl
        popl    handler_eflags
        iret

interrupt_frames:
        gate    0x50, note_handler, TRAP_GATE
        movl    %esp, %ebx
        pushl   $NT | 0x8d7             /* NT, OF, SF, ZF, AF, PF, CF */
        popfl
        int     $0x50
        pushfl
        popl    %ecx
        subl    handler_esp, %ebx
        check   "same ring: three words are pushed", %ebx, $12
        check   "NT is clear in the handler, the rest as it was", handler_eflags, $0x8d7
        check   "... and set again behind IRET", %ecx, $NT+0x8d7
        pushl   $2
        popfl

        gate    0x51, note_handler, INTERRUPT_GATE|DPL3
        will_trap
        enter_ring3 1f
1:      int     $0x51
        movl    %esp, %edx
        int     $RING3_DONE
2:      trapped "ring 3 calls a handler in ring 0", RING3_DONE, NO_ERROR, 2b
        check   "five words on the stack that the TSS names", handler_esp, $ring0_stack_top-20
        check   "... and ESP is ring 3's again", %edx, $user_stack_top

        gate    0x52, 0, INTERRUPT_GATE_16, HANDLER16_CS
        movl    %esp, %ebx
        int     $0x52                   /* the handler jumps here, not knowing all of EIP */
frame16:
        subl    handler_esp, %ebx
        check   "a 16-bit gate pushes three halves", %ebx, $6
        movl    $frame16, %eax
        xorl    frame_words, %eax
        movzwl  %ax, %eax
        check   "... IP", %eax, $0
        movzwl  frame_words + 2, %eax
        check   "... CS", %eax, $KERNEL_CS
        ret

handler16:
        movl    %esp, handler_esp
        popw    frame_words
        popw    frame_words + 2
        popw    frame_words + 4
        ljmp    $KERNEL_CS, $frame16

/* IRET within ring 0, and frames it must refuse. */
        .macro  refused text, vector, error, cs, eip, ss
        will_trap
        pushl   $\ss
        pushl   $user_stack_top
        pushl   $2
        pushl   $\cs
        pushl   $\eip
1:      iret
        trapped "\text", \vector, "\error", 1b
        .endm

iret_checks:
        pushl   $IOPL3 | IF | 0x44
        pushl   $KERNEL_CS
        pushl   $1f
        iret
1:      cli
        pushfl
        popl    %eax
        check   "IRET in ring 0 sets IOPL and the rest", %eax, $IOPL3+0x46
        pushl   $2
        popfl
        refused "IRET to CS null", GP, 0, 0, checks, USER_DS
        refused "IRET to CS of data", GP, KERNEL_DS, KERNEL_DS, checks, USER_DS
        refused "IRET to CS not present", NP, ABSENT_CS&~3, ABSENT_CS+3, checks, USER_DS
        refused "IRET to ring 3 with a stack of ring 0", GP, KERNEL_DS, USER_CS, checks, KERNEL_DS
        refused "IRET to ring 3 with SS null", GP, 0, USER_CS, checks, 0
        refused "IRET with RPL 3 to code of ring 0", GP, KERNEL_CS, KERNEL_CS+3, checks, USER_DS
        will_trap
        enter_ring3 1f
1:      pushl   $2
        pushl   $KERNEL_CS
        pushl   $checks
2:      iret
        trapped "ring 3: IRET to ring 0", GP, KERNEL_CS, 2b
        will_trap
        enter_ring3 1f
1:      pushl   $2
        pushl   $USER_CS
        pushl   $3f
        iret
        nop
3:      int     $RING3_DONE
2:      trapped "ring 3: IRET to ring 3", RING3_DONE, NO_ERROR, 2b
        ret

/* Enters ring 3 with these flags, and with DS and ES of ring 0. */
        .macro  enter_ring3_with eflags, entry
        pushl   $USER_DS
        pushl   $user_stack_top
        pushl   $\eflags
        pushl   $USER_CS
        pushl   $\entry
        iret
        .endm

/* Going outward, segment registers that ring 3 may not have become null. */
iret_outward:
        movl    $KERNEL_DS, %eax
        movl    %eax, %fs
        movl    $USER_DS, %eax
        movl    %eax, %gs
        will_trap
        enter_ring3_with 2, 1f
1:      movl    %ds, %eax
        movl    %es, %ebx
        movl    %fs, %ecx
        movl    %gs, %edx
        movl    %ss, %esi
        movl    %cs, %edi
        int     $RING3_DONE
2:      trapped "into ring 3 and back", RING3_DONE, NO_ERROR, 2b
        check   "IRET outward makes DS of ring 0 null", %eax, $0
        check   "... ES", %ebx, $0
        check   "... FS", %ecx, $0
        check   "... but not GS, which ring 3 may have", %edx, $USER_DS
        check   "SS is as popped", %esi, $USER_DS
        check   "CS is as popped", %edi, $USER_CS
        ret

/* EFLAGS in ring 3: IOPL never changes, IF only if CPL <= IOPL. */
flags_by_ring:
        will_trap
        enter_ring3_with 2, 1f
1:      pushl   $IF | IOPL3 | 0xd7
        popfl
        pushfl
        popl    %ebx
        pushl   $IF | IOPL3 | 2
        pushl   $USER_CS
        pushl   $2f
        iret
2:      pushfl
        popl    %ecx
        int     $RING3_DONE
3:      trapped "ring 3, IOPL 0", RING3_DONE, NO_ERROR, 3b
        check   "... POPF changes neither IF nor IOPL", %ebx, $0xd7
        check   "... nor does IRET", %ecx, $2
        will_trap
        enter_ring3_with IOPL3|2, 1f
1:      pushl   $IF | 2
        popfl
        pushfl
        popl    %ebx
        cli
        pushfl
        popl    %ecx
        sti
        pushfl
        popl    %edx
        cli
        inb     $0x61, %al
        int     $RING3_DONE
3:      trapped "ring 3, IOPL 3: CLI, STI and IN are allowed", RING3_DONE, NO_ERROR, 3b
        check   "... POPF changes IF but not IOPL", %ebx, $IF+IOPL3+2
        check   "... CLI clears IF", %ecx, $IOPL3+2
        check   "... STI sets it", %edx, $IF+IOPL3+2
        ret

/* Call gates. */
same_ring:
        movl    %esp, handler_esp
        lret

same_ring16:                    /* entered with a 16-bit return address */
        movl    %esp, handler_esp
        popw    frame_words
        popw    frame_words + 2
        ljmp    $KERNEL_CS, $from_gate16

with_parameters:
        movl    %esp, handler_esp
        movl    (%esp), %edi
        movl    4(%esp), %esi
        movl    8(%esp), %ebp
        movl    12(%esp), %eax
        movl    16(%esp), %ebx
        movl    20(%esp), %ecx
        lret    $8

in_ring1:
        movl    %esp, handler_esp
        movl    %cs, %eax
        movl    %ss, %ebx
        movl    (%esp), %esi
        movl    8(%esp), %edi
        lret

call_gates:
        movl    %esp, %ebx
        lcall   $GATE0, $FAR
        subl    handler_esp, %ebx
        check   "a gate within ring 0 pushes two words", %ebx, $8
        will_trap
        ljmp    $GATE3, $FAR
        trapped_quietly
        check   "... and can be jumped through", handler_esp, trap_resume_esp
        movl    %esp, %ebx
        lcall   $GATE16, $FAR
from_gate16:
        subl    handler_esp, %ebx
        check   "a 16-bit gate pushes two halves", %ebx, $4

        will_trap
        enter_ring3 1f
1:      pushl   $0x111
        pushl   $0x222
        lcall   $GATE3 + 3, $FAR
2:      int     $RING3_DONE
3:      trapped "ring 3 through a gate to ring 0", RING3_DONE, NO_ERROR, 3b
        check   "... on the stack that the TSS names", handler_esp, $ring0_stack_top-24
        check   "... the return address", %edi, $2b
        check   "... CS", %esi, $USER_CS
        check   "... the parameters, the last pushed", %ebp, $0x222
        check   "... and the first", %eax, $0x111
        check   "... ESP", %ebx, $user_stack_top-8
        check   "... SS", %ecx, $USER_DS
        check   "RETF n releases both stacks", trap_esp, $user_stack_top

        movl    $ring1_stack_top, tss + TSS_ESP1
        movl    $RING1_DS + 1, tss + TSS_SS1
        will_trap
        enter_ring3 1f
1:      lcall   $GATE_RING1 + 3, $FAR
2:      int     $RING3_DONE
3:      trapped "ring 3 through a gate to ring 1", RING3_DONE, NO_ERROR, 3b
        check   "... CS", %eax, $RING1_CS+1
        check   "... SS", %ebx, $RING1_DS+1
        check   "... ESP", handler_esp, $ring1_stack_top-16
        check   "... the return address", %esi, $2b
        check   "... the outer ESP", %edi, $user_stack_top

        will_trap
        enter_ring3 1f
1:      lcall   $GATE0, $FAR
        trapped "ring 3: a gate for ring 0", GP, GATE0, 1b
        will_trap
        enter_ring3 1f
1:      ljmp    $GATE3 + 3, $FAR
        trapped "ring 3: a jump inward through a gate", GP, KERNEL_CS, 1b
        expect  "a gate not present", NP, ABSENT_GATE, lcall $ABSENT_GATE, $FAR
        expect  "a gate to null", GP, 0, lcall $NULL_GATE, $FAR
        ret

/* Far returns outward. */
returns_outward:
        movl    $KERNEL_DS, %eax
        movl    %eax, %fs
        will_trap
        pushl   $USER_DS
        pushl   $user_stack_top - 64
        pushl   $0x777                  /* a parameter, released by RETF 4 */
        pushl   $USER_CS
        pushl   $1f
        lret    $4
1:      movl    %esp, %eax
        movl    %fs, %ebx
        int     $RING3_DONE
2:      trapped "RETF outward", RING3_DONE, NO_ERROR, 2b
        check   "... releases its parameters on the outer stack too", %eax, $user_stack_top-60
        check   "... and makes FS null", %ebx, $0
        will_trap
        pushl   $KERNEL_DS
        pushl   $user_stack_top
        pushl   $USER_CS
        pushl   $1f
1:      lret
        trapped "RETF outward with a stack of ring 0", GP, KERNEL_DS, 1b
        will_trap
        enter_ring3 2f
2:      pushl   $KERNEL_CS
        pushl   $checks
1:      lret
        trapped "ring 3: RETF inward", GP, KERNEL_CS, 1b
        ret

/* The I/O permission map of a TSS: port 80h allowed, 81h not. */
io_map:
        descriptor_at WIDE_TSS, wide_tss, 0x68+32, 0x89, 0
        movl    $WIDE_TSS, %eax
        ltr     %ax
        movl    $0xffffffff, wide_tss + 0x68 + 0x10
        andl    $~1, wide_tss + 0x68 + 0x10
        will_trap
        enter_ring3 1f
1:      inb     $0x80, %al
        int     $RING3_DONE
2:      trapped "ring 3: a port that the map allows", RING3_DONE, NO_ERROR, 2b
        will_trap
        enter_ring3 1f
1:      inb     $0x81, %al
        trapped "ring 3: one that it does not", GP, 0, 1b
        will_trap
        enter_ring3 1f
1:      inw     $0x80, %ax
        trapped "ring 3: two ports, one of them not allowed", GP, 0, 1b
        will_trap
        enter_ring3 1f
1:      movw    $0x800, %dx
2:      inb     %dx, %al
        trapped "ring 3: a port past the map's end", GP, 0, 2b
        ret

        .data
        .balign 8
wide_tss:
        .long   0, ring0_stack_top, KERNEL_DS
        .fill   22, 4, 0
        .word   0, 0x68
        .fill   32, 1, 0
        .byte   0xff                    /* the byte that ends a map */

        .bss
        .balign 4
handler_esp: .skip 4
handler_eflags: .skip 4
frame_words: .skip 8
        .skip   4096
ring1_stack_top:

        .section .note.GNU-stack, "", @progbits
