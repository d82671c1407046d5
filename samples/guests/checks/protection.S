/* What CR4 protects a kernel with: SMEP, SMAP with CLAC and STAC, UMIP; PSE-36
 * and the reserved bits of large pages; combinations of CR0 and CR4 that do not
 * exist. */
#include "harness.h"

        .set    AC, 0x40000
        .set    CR4_PSE, 0x10
        .set    CR4_UMIP, 0x800
        .set    CR4_SMEP, 0x100000
        .set    CR4_SMAP, 0x200000
        .set    USER_PAGE, 0x500000
        .set    USER_LDT, 0x501000
        .set    FREE_PAGE, 0x600000     /* its 4 MiB are given a large page */
        .set    LDT, SPARE
        .set    IN_LDT, 4

        .set    E_P, 1
        .set    E_W, 2
        .set    E_RSVD, 8
        .set    E_I, 16

        .macro  set_cr4 bits
        movl    $\bits, %eax
        movl    %eax, %cr4
        .endm

        .macro  set_flags bits
        pushl   $2|\bits
        popfl
        .endm

        .text
        .globl  checks
checks:
        call    privileged_stores
        call    combinations
        call    identity_map
        andl    $~US, DIRECTORY         /* the kernel's own 4 MiB */
        movl    %cr0, %eax
        orl     $CR0_PG|CR0_WP, %eax
        movl    %eax, %cr0
        call    execution
        call    access
        call    implicit
        call    large_pages
        movl    %cr0, %eax
        andl    $~CR0_PG, %eax
        movl    %eax, %cr0
        ret

/* Runs an instruction in ring 3 that must be #GP(0). */
        .macro  ring3_refused text, vector, error, instruction:vararg
        will_trap
        enter_ring3 98f
98:     \instruction
        int     $RING3_DONE
        trapped "\text", \vector, "\error", 98b
        .endm

privileged_stores:
        will_trap
        enter_ring3 1f
1:      sgdt    cell
        sidt    cell
        sldt    %eax
        str     %eax
        smsw    %eax
2:      int     $RING3_DONE
        trapped "without UMIP ring 3 may look", RING3_DONE, NO_ERROR, 2b+2
        set_cr4 CR4_UMIP
        ring3_refused "UMIP: SGDT", GP, 0, sgdt cell
        ring3_refused "UMIP: SIDT", GP, 0, sidt cell
        ring3_refused "UMIP: SLDT", GP, 0, sldt %eax
        ring3_refused "UMIP: STR", GP, 0, str %eax
        ring3_refused "UMIP: SMSW", GP, 0, smsw %eax
        sgdt    cell
        sldt    %eax
        smsw    %eax
        check   "UMIP: ring 0 may look", cell+2, $gdt
        set_cr4 0
        ring3_refused "STAC in ring 3", UD, NO_ERROR, .byte 0x0f, 0x01, 0xcb
        ring3_refused "CLAC in ring 3", UD, NO_ERROR, .byte 0x0f, 0x01, 0xca
        ret

combinations:
        qemu_differs 1f
        movl    $0x20000001, %ebx
        expect  "NW without CD", GP, 0, movl %ebx, %cr0
        movl    $0x80000000, %ebx
        expect  "PG without PE", GP, 0, movl %ebx, %cr0
        movl    $0x80000000, %ebx
        expect  "a reserved bit of CR4", GP, 0, movl %ebx, %cr4
1:      movl    %cr0, %ebx
        movl    %ebx, %eax
        orl     $0x60000000, %eax
        movl    %eax, %cr0
        movl    %cr0, %eax
        andl    $0x60000000, %eax
        check   "CD and NW", %eax, $0x60000000
        movl    %ebx, %cr0
        xorl    %eax, %eax
        lmsw    %ax
        movl    %cr0, %eax
        andl    $1, %eax
        check   "LMSW does not clear PE", %eax, $1
        movl    %ebx, %cr0
        expect  "CR1", UD, NO_ERROR, .byte 0x0f, 0x20, 0xc8
        expect  "CR5", UD, NO_ERROR, .byte 0x0f, 0x20, 0xe8
        ret

        .set    RET, 0xc3

execution:
        movb    $RET, USER_PAGE
        movl    $USER_PAGE, %ebx
        call    *%ebx
        set_cr4 CR4_SMEP
        will_trap
        call    *%ebx
        trapped "SMEP: ring 0 cannot run a user page", PF, E_P|E_I, USER_PAGE
        andl    $~P, TABLE1 + ((USER_PAGE - 0x400000) >> 10)
        invlpg  USER_PAGE
        will_trap
        call    *%ebx
        trapped "SMEP: I/D in the code of an absent page", PF, E_I, USER_PAGE
        orl     $P, TABLE1 + ((USER_PAGE - 0x400000) >> 10)
        movb    USER_PAGE, %al
        set_cr4 0
        call    *%ebx
        movl    $1, %eax
        check   "SMEP off: it can", %eax, $1
        ret

access:
        movl    $0x1234, USER_PAGE
        set_cr4 CR4_SMAP
        expect  "SMAP: ring 0 cannot read a user page", PF, E_P, movl USER_PAGE, %eax
        expect  "SMAP: nor write it", PF, E_P|E_W, movl %eax, USER_PAGE
        check   "... CR2", trap_cr2, $USER_PAGE
        stac
        movl    USER_PAGE, %ebx
        movl    $0x5678, USER_PAGE
        movl    USER_PAGE, %ecx
        clac
        check   "STAC lifts it: read", %ebx, $0x1234
        check   "STAC lifts it: written", %ecx, $0x5678
        expect  "CLAC restores it", PF, E_P, movl USER_PAGE, %eax
        set_flags AC
        movl    USER_PAGE, %ebx
        set_flags 0
        check   "so does POPF", %ebx, $0x5678
        expect  "... and back", PF, E_P, movl USER_PAGE, %eax
        stac
        pushfl
        popl    %eax
        andl    $AC, %eax
        check   "STAC sets AC", %eax, $AC
        clac
        movl    $USER_PAGE, %esi
        movl    $cell, %edi
        movl    $2, %ecx
        expect  "SMAP: REP MOVS", PF, E_P, rep movsl
        movl    $2000, %ebx
2:      stac
        movl    USER_PAGE, %eax
        clac
        movl    cell, %edx
        decl    %ebx
        jnz     2b
        expect  "SMAP after a loop that lifts it", PF, E_P, movl USER_PAGE, %eax
        stac
        movl    $0xb8, USER_PAGE        /* mov $..., %eax */
        movl    $0x40cd0000, USER_PAGE + 3 /* int $40h */
        clac
        will_trap
        enter_ring3 USER_PAGE
        trapped "SMAP: ring 3 runs and reads as ever", RING3_DONE, NO_ERROR, USER_PAGE+7
        set_cr4 0
        movl    USER_PAGE, %eax
        ret

/* A descriptor table in a user page: the processor's own access, which AC does
 * not lift. */
implicit:
        qemu_differs 1f
        movl    $0x0000ffff, USER_LDT
        movl    $0x00cf9300, USER_LDT + 4
        descriptor LDT, USER_LDT, 7, 0x82, 0
        movl    $LDT, %eax
        lldt    %ax
        movl    $IN_LDT, %eax
        movl    %eax, %fs
        set_cr4 CR4_SMAP
        movl    $IN_LDT, %eax
        expect  "SMAP: a descriptor in a user page", PF, E_P, movl %eax, %fs
        check   "... CR2", trap_cr2, $USER_LDT
        stac
        expect  "SMAP with AC: likewise", PF, E_P, movl %eax, %fs
        clac
        set_cr4 0
        movl    $KERNEL_DS, %eax
        movl    %eax, %fs
        xorl    %eax, %eax
        lldt    %ax
1:      ret

        .macro  large_page pde
        movl    $\pde, DIRECTORY + (FREE_PAGE >> 22) * 4
        movl    %cr3, %eax
        movl    %eax, %cr3
        .endm

        .set    PS, 0x80
        .set    A, 0x20
        .set    D, 0x40

large_pages:
        pushl   DIRECTORY + (FREE_PAGE >> 22) * 4
        movl    $0x600d, 0x400000 + 0x200000
        set_cr4 CR4_PSE
        large_page 0x400000|PS|P|RW
        check   "4 MiB page: read", FREE_PAGE, $0x600d
        large_page 0x400000|PS|P|RW|0x1000
        check   "its PAT bit", FREE_PAGE, $0x600d
        qemu_differs 1f
        large_page 0x400000|PS|P|RW|0x20000
        expect  "bit 17 is reserved", PF, E_P|E_RSVD, movl FREE_PAGE, %eax
        large_page 0x400000|PS|P|RW|0x200000
        expect  "bit 21 is reserved", PF, E_P|E_RSVD|E_W, movl %eax, FREE_PAGE
        large_page 0x400000|PS|P|RW|0x2000
        check   "PSE-36: above 4 GiB there is nothing", FREE_PAGE, $0xffffffff
1:      large_page 0x400000|PS|P
        expect  "a faulting write", PF, E_P|E_W, movl %eax, FREE_PAGE
        movl    DIRECTORY + (FREE_PAGE >> 22) * 4, %eax
        andl    $D, %eax
        check   "... does not set D", %eax, $0
        large_page 0x400000|PS|P|RW
        movl    $0x600e, FREE_PAGE
        movl    DIRECTORY + (FREE_PAGE >> 22) * 4, %eax
        check   "a write sets A and D", %eax, $0x400000|PS|P|RW|A|D
        movl    $0, DIRECTORY + (FREE_PAGE >> 22) * 4
        invlpg  FREE_PAGE + 0x1ff000
        expect  "INVLPG anywhere in the page", PF, 0, movl FREE_PAGE - 0x200000, %eax
        popl    DIRECTORY + (FREE_PAGE >> 22) * 4
        set_cr4 0
        ret

        .bss
        .balign 8
cell:   .skip   16

        .section .note.GNU-stack, "", @progbits
