/* Code that changes: by every kind of store, before, behind and under the
 * instruction that stores, hot and cold, through other addresses.
 *
 * `template` functions are `mov $imm, %eax; ret`: six bytes, the immediate
 * at 1. A function is called often before it is changed where that might have
 * it translated or linked meanwhile. */
#include "harness.h"

        .set    HOT, 5000               /* calls that make code warm */
        .set    ALIAS, 0x40000000       /* where a second mapping appears */
        .set    ALIAS_TABLE, FREE_FRAMES
        .set    OTHER_DIRECTORY, FREE_FRAMES + PAGE
        .set    OTHER_TABLE, FREE_FRAMES + 2 * PAGE
        .set    FRAME_A, FREE_FRAMES + 4 * PAGE
        .set    FRAME_B, FREE_FRAMES + 5 * PAGE
        .set    MOV_EAX, 0xb8           /* opcodes */
        .set    RET, 0xc3

        .macro  template name, value
        .globl  \name
\name:  movl    $\value, %eax
        ret
        .endm

        .text
        .globl  checks
checks:
        call    same_block
        call    hot_code
        call    kinds_of_store
        call    generated
        call    links
        call    straddling
        call    shared_page
        call    paged
        ret

/* Stores into the block that is running. */
same_block:
        movl    $42, 1f + 1
1:      movl    $0, %eax
        check   "the next instruction", %eax, $42

        movb    $0x43, 2f               /* inc %eax becomes inc %ebx */
        xorl    %eax, %eax
        xorl    %ebx, %ebx
        nop
2:      incl    %eax
        check   "an instruction further on is replaced", %ebx, $1
        check   "... and not run", %eax, $0

        xorl    %edx, %edx
        movl    $1000, %ecx
3:      addl    $0, %edx                /* in its short form: 83 c2 ib */
        incb    3b + 2
        andb    $0x3f, 3b + 2
        loop    3b
        check   "a loop that changes its own immediate", %edx, $31020

        movb    $0x90, 4f               /* no longer a way out of the loop */
        movb    $0x90, 4f + 1
        xorl    %eax, %eax
        movl    $3, %ecx
5:      incl    %eax
4:      jmp     6f
        loop    5b
6:      check   "a jump made of no effect", %eax, $3

        movl    $7f + 1, %edi
        movl    $0x11223344, %eax
        stosl
7:      movl    $0, %ebx
        check   "STOS into the next instruction", %ebx, $0x11223344

        movl    %esp, %ebx
        movl    $8f + 5, %esp
        pushl   $0x55667788
8:      movl    $0, %ecx
        movl    %ebx, %esp
        check   "PUSH into the next instruction", %ecx, $0x55667788

        movl    $patch, %esi
        movl    $9f, %edi
        movl    $patch_end - patch, %ecx
        rep movsb
9:      movl    $1, %eax
        movl    $2, %ebx
        check   "REP MOVS over the following code: the first", %eax, $0xaaaa
        check   "REP MOVS over the following code: the second", %ebx, $0xbbbb
        ret

patch:  movl    $0xaaaa, %eax
        movl    $0xbbbb, %ebx
patch_end:

/* Calls EBP HOT times, and sums the results in EBX. */
call_often:
        xorl    %ebx, %ebx
        movl    $HOT, %edi
1:      call    *%ebp
        addl    %eax, %ebx
        decl    %edi
        jnz     1b
        ret

/* Code that has run many times. */
hot_code:
        movl    $subject, %ebp
        call    call_often
        check   "a function as written", %ebx, $HOT
        movl    $2, subject + 1
        call    call_often
        check   "changed after many calls", %ebx, $2*HOT
        movl    $3, subject + 1
        call    *%ebp
        check   "changed again, first call", %eax, $3
        movl    $1, subject + 1
        call    *%ebp
        check   "changed back", %eax, $1

        xorl    %ebx, %ebx
        movl    $HOT, %edi
1:      movl    %edi, subject + 1
        call    subject
        addl    %eax, %ebx
        decl    %edi
        jnz     1b
        check   "changed before each of many calls", %ebx, $HOT*(HOT+1)/2

        movl    $HOT, %edi
2:      movb    $0xcc, breakpoint       /* INT3, as a debugger would */
        will_trap
        call    breakpoint
        trapped_quietly
        cmpl    $BP, trap_vector
        jne     3f
        movb    $0x90, breakpoint
        call    breakpoint
        decl    %edi
        jnz     2b
3:      check   "a breakpoint set and taken away many times", %edi, $0
        ret

        .balign 64
template subject, 1
breakpoint:
        nop
        ret

/* Every kind of instruction that stores can change code. Each changes the
 * immediate of `victim` from 1000h to 1001h after it has become warm. */
        .macro  store
        movl    $0x1000, victim + 1
        movl    $victim, %ebp
        call    call_often
        movl    $victim + 1, %edi
        movl    $0x1001, %edx
        movl    $0x1000, %eax
        .endm

        .macro  stored text
        call    victim
        check   "\text", %eax, $0x1001
        .endm

kinds_of_store:
        store
        incl    (%edi)
        stored  "INC"
        store
        orb     $1, (%edi)
        stored  "OR of a byte"
        store
        movw    %dx, (%edi)
        stored  "MOV of 16 bits"
        store
        btsl    $0, (%edi)
        stored  "BTS"
        store
        xchgl   %edx, (%edi)
        stored  "XCHG"
        store
        lock    cmpxchgl %edx, (%edi)
        stored  "CMPXCHG"
        store
        movl    $1, %edx
        lock    xaddl %edx, (%edi)
        stored  "XADD"
        store
        stc
        setc    (%edi)
        stored  "SETcc"
        store
        movl    $3, (%edi)
        subl    $0x2003, (%edi)
        negl    (%edi)
        addl    $-0xfff, (%edi)
        stored  "SUB, NEG and ADD"
        store
        movl    %edx, %eax
        movl    $6, %ecx
        movl    $generated_victim, %esi
        movl    $victim, %edi
        rep movsb
        stored  "REP MOVSB of the whole function"
        store
        movl    $2, %ecx
        movl    $generated_victim, %esi
        movl    $victim, %edi
        rep movsl
        stored  "REP MOVSL of the whole function"
        store
        movl    %esp, %ebx
        leal    4(%edi), %esp
        pushl   %edx
        movl    %ebx, %esp
        stored  "PUSH"
        store
        pushl   %edx
        popl    (%edi)
        stored  "POP to memory"
        store
        fninit
        fildl   number
        fistpl  (%edi)
        stored  "FISTP"
        store
        movw    %ds, (%edi)             /* 10h */
        addw    $0xff1, (%edi)
        stored  "MOV from DS, and ADD of 16 bits"
        ret

        .balign 64
template victim, 0x1000
        nop
        nop
        .balign 4
generated_victim:
        movl    $0x1001, %eax
        ret
        nop
        nop
number: .long   0x1001

/* Functions written at run time. */
generated:
        movl    $64, %ecx
        xorl    %ebx, %ebx
1:      movb    $MOV_EAX, buffer
        movl    %ecx, buffer + 1
        movb    $RET, buffer + 5
        call    buffer
        addl    %eax, %ebx
        call    buffer
        addl    %eax, %ebx
        loop    1b
        check   "64 functions written one over the other", %ebx, $64*65

        movl    $buffer, %edi           /* one byte further each time */
        movl    $50, %ecx
        xorl    %ebx, %ebx
2:      movb    $MOV_EAX, (%edi)
        movl    %ecx, 1(%edi)
        movb    $RET, 5(%edi)
        call    *%edi
        addl    %eax, %ebx
        incl    %edi
        loop    2b
        check   "functions that overlap", %ebx, $50*51/2

        call    overlapped
        check   "an instruction", %eax, $0xc340c031
        call    overlapped + 1
        check   "the code hidden in its immediate", %eax, $1
        incb    overlapped + 3          /* inc %eax becomes inc %ecx */
        movl    $4, %ecx
        call    overlapped + 1
        check   "a change seen from within", %ecx, $5
        call    overlapped
        check   "... and from the front", %eax, $0xc341c031
        ret

template overlapped, 0xc340c031

/* Direct jumps and calls redirected while they are hot. */
links:
        xorl    %ebx, %ebx
        movl    $HOT, %edi
1:      call    site
        addl    %eax, %ebx
        decl    %edi
        jnz     1b
        check   "a call to the first target", %ebx, $HOT
        movl    $second_target - (site_call + 5), site_call + 1
        call    site
        check   "the call redirected", %eax, $2
        movl    $first_target - (site_call + 5), site_call + 1
        movl    $10, first_target + 1
        call    site
        check   "directed back to a target that has changed", %eax, $10

        movl    $HOT, %edi
        xorl    %ebx, %ebx
2:      testl   $1, %edi
        jz      3f
        movl    $first_target - (site_call + 5), site_call + 1
        jmp     4f
3:      movl    $second_target - (site_call + 5), site_call + 1
4:      call    site
        addl    %eax, %ebx
        decl    %edi
        jnz     2b
        check   "redirected at every turn", %ebx, $HOT/2*12

        movl    $HOT, %edi
        xorl    %ebx, %ebx
5:      xorl    %eax, %eax
        call    branch
        addl    %eax, %ebx
        xorb    $1, branch + 1          /* JZ becomes JNZ, and back */
        decl    %edi
        jnz     5b
        check   "a condition turned round at every turn", %ebx, $HOT/2
        ret

        .balign 64
site:
site_call:
        call    first_target
        ret
template first_target, 1
template second_target, 2
branch: .byte   0x0f, 0x85              /* jnz near; at + 1: 85h, or 84h for jz */
        .long   1f - (branch + 6)
        incl    %eax
1:      ret

/* Instructions that lie across a page boundary, and stores that do. */
straddling:
        movl    $across, %ebp
        call    call_often
        check   "a function across a page boundary", %ebx, $0x01010101*HOT
        movb    $2, across + 4          /* on the second page */
        call    *%ebp
        check   "its part on the second page changed", %eax, $0x02010101
        movb    $3, across + 1
        call    *%ebp
        check   "its part on the first page changed", %eax, $0x02010103
        movl    $0x04040404, across + 1
        call    *%ebp
        check   "both changed by one store", %eax, $0x04040404
        ret

/* Code that writes to its own page, but not to itself. */
shared_page:
        movl    $20000, %ecx
        movl    $0, counter
1:      incl    counter
        addl    $2, counter + 4
        loop    1b
        check   "a counter beside the loop", counter, $20000
        movl    %esp, %ebx
        movl    $near_stack, %esp
        movl    $5000, %ecx
        xorl    %edx, %edx
2:      call    3f
        addl    %eax, %edx
        loop    2b
        movl    %ebx, %esp
        check   "a stack beside the code", %edx, $5000*5001/2
        ret
3:      pushl   %ecx
        popl    %eax
        ret
counter:
        .long   0, 0
        .skip   64
near_stack:

/* With paging: the same bytes at two addresses, other bytes at the same one. */
paged:
        call    identity_map
        movl    $ALIAS_TABLE | P | RW | US, DIRECTORY + (ALIAS >> 20)
        movl    $0x100000 | P | RW | US, %eax
        movl    $ALIAS_TABLE, %edi
        movl    $64, %ecx
1:      stosl
        addl    $PAGE, %eax
        loop    1b
        movl    %cr0, %eax
        orl     $CR0_PG | CR0_WP, %eax
        movl    %eax, %cr0

        movl    $subject, %ebp
        call    call_often
        movl    $7, subject + 1 - 0x100000 + ALIAS
        call    *%ebp
        check   "changed through an alias", %eax, $7
        leal    subject - 0x100000 + ALIAS, %ebp
        call    call_often
        check   "run through the alias", %ebx, $7*HOT
        movl    $8, subject + 1
        call    *%ebp
        check   "run there when changed here", %eax, $8
        movl    $9, 2f + 1 - 0x100000 + ALIAS
2:      movl    $0, %eax
        check   "the next instruction, through the alias", %eax, $9
        call    remapped
        call    two_spaces
        call    withdrawn
        ret

/* One linear page over two frames by turns. */
remapped:
        movb    $MOV_EAX, FRAME_A
        movl    $1, FRAME_A + 1
        movb    $RET, FRAME_A + 5
        movb    $MOV_EAX, FRAME_B
        movl    $2, FRAME_B + 1
        movb    $RET, FRAME_B + 5
        movl    $HOT, %edi
        xorl    %ebx, %ebx
1:      movl    $FRAME_A | P | RW, ALIAS_TABLE + 4 * 100
        invlpg  ALIAS + 100 * PAGE
        call    ALIAS + 100 * PAGE
        addl    %eax, %ebx
        movl    $FRAME_B | P | RW, ALIAS_TABLE + 4 * 100
        invlpg  ALIAS + 100 * PAGE
        call    ALIAS + 100 * PAGE
        addl    %eax, %ebx
        decl    %edi
        jnz     1b
        check   "a page remapped at every turn", %ebx, $3*HOT
        ret

/* Two address spaces with other code at the same address. */
two_spaces:
        movl    $DIRECTORY, %esi
        movl    $OTHER_DIRECTORY, %edi
        movl    $1024, %ecx
        rep movsl
        movl    $OTHER_TABLE | P | RW, OTHER_DIRECTORY + (ALIAS >> 20)
        movl    $OTHER_TABLE, %edi
        xorl    %eax, %eax
        movl    $1024, %ecx
        rep stosl
        movl    $FRAME_A | P | RW, OTHER_TABLE + 4 * 100
        movl    $HOT, %edi
        xorl    %ebx, %ebx
1:      movl    $OTHER_DIRECTORY, %eax
        movl    %eax, %cr3
        call    ALIAS + 100 * PAGE
        leal    (%ebx, %eax, 2), %ebx
        movl    $DIRECTORY, %eax
        movl    %eax, %cr3
        call    ALIAS + 100 * PAGE
        addl    %eax, %ebx
        decl    %edi
        jnz     1b
        check   "two address spaces by turns", %ebx, $4*HOT
        movl    $5, FRAME_A + 1
        movl    $OTHER_DIRECTORY, %eax
        movl    %eax, %cr3
        call    ALIAS + 100 * PAGE
        movl    %eax, %ebx
        movl    $DIRECTORY, %eax
        movl    %eax, %cr3
        check   "changed from outside the space it runs in", %ebx, $5
        ret

/* A hot code page taken away and given back. */
withdrawn:
        movl    $ALIAS + 100 * PAGE, %ebp
        call    call_often
        movl    $0, ALIAS_TABLE + 4 * 100
        invlpg  (%ebp)
        will_trap
        call    *%ebp
        trapped "a warm code page no longer present", PF, 0, ALIAS+100*PAGE
        check   "CR2 is the address it would run at", trap_cr2, $ALIAS+100*PAGE
        movl    $FRAME_A | P | RW, ALIAS_TABLE + 4 * 100
        call    *%ebp
        check   "present again, with other code", %eax, $5
        ret

        .bss
buffer: .skip   128

        .section .text.across, "ax"
        .balign 4096
        .skip   4096 - 3
template across, 0x01010101

        .section .note.GNU-stack, "", @progbits
