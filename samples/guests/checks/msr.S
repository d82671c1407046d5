/* Model-specific registers as kernels probe them: which exist, what they hold,
 * which values they refuse. */
#include "harness.h"

        .set    PLATFORM_ID, 0x17
        .set    BIOS_SIGN_ID, 0x8b
        .set    PLATFORM_INFO, 0xce
        .set    MTRRCAP, 0xfe
        .set    MCG_CAP, 0x179
        .set    MCG_STATUS, 0x17a
        .set    PHYSBASE0, 0x200
        .set    PHYSMASK7, 0x20f
        .set    FIX64K, 0x250
        .set    FIX4K_F8000, 0x26f
        .set    PAT, 0x277
        .set    DEF_TYPE, 0x2ff

        .macro  read_msr number
        movl    $\number, %ecx
        rdmsr
        .endm

        .macro  write_msr number, high, low
        movl    $\number, %ecx
        movl    $\high, %edx
        movl    $\low, %eax
        wrmsr
        .endm

        .macro  holds text, number, high, low
        write_msr \number, \high, \low
        xorl    %eax, %eax
        xorl    %edx, %edx
        rdmsr
        check   "\text", %eax, $\low
        check   "... the upper half", %edx, $\high
        .endm

/* The write is #GP and changes nothing. */
        .macro  refuses text, number, high, low
        qemu_differs 96f
        read_msr \number
        movl    %eax, %esi
        movl    $\high, %edx
        movl    $\low, %eax
        expect  "\text", GP, 0, wrmsr
        read_msr \number
        check   "... as it was", %eax, %esi
96:
        .endm

        .text
        .globl  checks
checks:
        movl    $1, %eax
        cpuid
        movl    %edx, features
        andl    $0x35080, %edx
        check   "CPUID: MCE, MTRR, MCA, PAT, PSE-36", %edx, $0x35080
        call    memory_types
        call    the_rest
        ret

memory_types:
        read_msr MTRRCAP
        check   "MTRRCAP: eight ranges, fixed ones, WC", %eax, $0x508
        refuses "MTRRCAP is read-only", MTRRCAP, 0, 0x508
        holds   "the first base", PHYSBASE0, 0xf, 0xfffff006
        refuses "a base of type 2", PHYSBASE0, 0, 0xc0000002
        refuses "a base with bit 8", PHYSBASE0, 0, 0xc0000100
        refuses "a base above MAXPHYADDR", PHYSBASE0, 0x10, 0
        holds   "the last mask", PHYSMASK7, 0xf, 0xc0000800
        refuses "a mask with bit 10", PHYSMASK7, 0, 0xc0000c00
        holds   "a fixed range", FIX64K, 0x06050401, 0x00060606
        refuses "a fixed range of type 3", FIX64K, 0x06060603, 0x06060606
        holds   "the last fixed range", FIX4K_F8000, 0x05050505, 0x05050505
        holds   "the default type", DEF_TYPE, 0, 0xc06
        refuses "the default type 7", DEF_TYPE, 0, 0xc07
        refuses "a reserved bit beside it", DEF_TYPE, 0, 0x1c06
        holds   "PAT", PAT, 0x00010406, 0x00070406
        refuses "PAT with type 2", PAT, 0x00070402, 0x00070406
        refuses "PAT with bit 3", PAT, 0x00070406, 0x0007040e
        write_msr PHYSMASK7, 0, 0
        ret

the_rest:
        qemu_differs 1f                 /* has ten banks */
        read_msr MCG_CAP
        movzbl  %al, %eax
        check   "machine check: no banks", %eax, $0
1:      holds   "MCG_STATUS can be cleared", MCG_STATUS, 0, 0
        read_msr PLATFORM_ID
        refuses "PLATFORM_ID is read-only", PLATFORM_ID, 0, 0
        write_msr BIOS_SIGN_ID, 0, 0
        movl    $1, %eax
        cpuid
        read_msr BIOS_SIGN_ID
        qemu_differs 2f
        movl    $0x12345, %ecx
        expect  "RDMSR of none", GP, 0, rdmsr
        expect  "WRMSR of none", GP, 0, wrmsr
        movl    $0xc0000081, %ecx
        expect  "STAR", GP, 0, rdmsr
2:      will_trap
        enter_ring3 1f
1:      rdmsr
        trapped "RDMSR in ring 3", GP, 0, 1b
        ret

        .bss
        .balign 4
features: .skip 4

        .section .note.GNU-stack, "", @progbits
