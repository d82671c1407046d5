/* Segmentation: bases, limits (up and down), rights, the accessed bit, local
 * descriptors, the instructions that inspect descriptors, 16-bit code and
 * 16-bit stacks beside 32-bit ones, and conforming code.
 *
 * QEMU checks no limits and no rights of data accesses; those are in `limits`. */
#include "harness.h"

        .set    DATA, SPARE             /* writable, 256 bytes, base `area` */
        .set    DOWN, SPARE + 8         /* expand-down, 32 bits, above 0fffh */
        .set    DOWN16, SPARE + 16      /* expand-down, 16 bits, above 0fffh */
        .set    PAGES, SPARE + 24       /* two pages by granularity */
        .set    CODE16, SPARE + 32      /* 16-bit code, base `code16` */
        .set    STACK16, SPARE + 40     /* 16-bit stack, base `area` */
        .set    RUN_ONLY, SPARE + 48    /* code that cannot be read */
        .set    CONFORMING, SPARE + 56
        .set    LDT, SPARE + 64
        .set    SHORT_CODE, SPARE + 72  /* code of 16 bytes, base `short_code` */
        .set    CODE32_NEAR, SPARE + 80 /* 32-bit code whose base is `code32` */
        .set    HIGH, SPARE + 88        /* a base near the top of the space */
        .set    LOCAL, 4                /* the first local descriptor */
        .set    ZF, 0x40

        .text
        .globl  checks
checks:
        descriptor_at DATA, area, 0xff, 0x92, 4
        descriptor_at DOWN, area, 0x0fff, 0x96, 4
        descriptor_at DOWN16, area, 0x0fff, 0x96, 0
        descriptor_at PAGES, area, 1, 0x92, 12
        descriptor_at CODE16, code16, 0xffff, 0x9a, 0
        descriptor_at STACK16, area, 0xffff, 0x92, 0
        descriptor_at RUN_ONLY, area, 0xff, 0x98, 4
        descriptor CONFORMING, 0, 0xfffff, 0x9e, 12
        descriptor_at LDT, local, 15, 0x82, 0
        descriptor_at SHORT_CODE, short_code, 15, 0x9a, 4
        descriptor_at CODE32_NEAR, code32, 0xffff, 0x9a, 4
        descriptor HIGH, 0xfffff000, 0xfffff, 0x92, 12
        call    bases
        call    loads
        call    inspection
        call    locals
        call    tables
        call    sixteen_bit_code
        call    sixteen_bit_stack
        call    conforming
        call    limits
        call    load_segments
        ret

bases:
        movl    $0x11223344, area + 8
        movl    $DATA, %eax
        movl    %eax, %fs
        check   "an offset is added to the base", %fs:8, $0x11223344
        movl    $4, %ebx
        movl    $2, %ecx
        movl    %fs:(%ebx, %ecx, 2), %eax
        check   "... with index and scale", %eax, $0x11223344
        movl    $HIGH, %eax
        movl    %eax, %gs
        movl    $area + 8 + 0x1000, %ebx
        movl    %gs:(%ebx), %eax
        check   "base + offset wraps at 4 GiB", %eax, $0x11223344
        movl    $DATA, %eax
        movl    %eax, %es
        movl    $area + 8, %esi
        movl    $16, %edi
        movsl
        check   "MOVS stores through ES", area+16, $0x11223344
        movl    $KERNEL_DS, %eax
        movl    %eax, %es
        movl    $8, %esi
        movl    $area + 20, %edi
        movsl   %fs:(%esi), %es:(%edi)
        check   "... and reads through an override", area+20, $0x11223344
        movl    $8, %esi
        lodsl   %fs:(%esi)
        check   "LODS through an override", %eax, $0x11223344
        .byte   0x64, 0x8d, 0x05     /* LEA with an FS override, which gas warns of */
        .long   8
        check   "LEA adds no base", %eax, $8
        ret

loads:
        movb    $0x92, gdt + DATA + 5
        movl    $DATA, %eax
        movl    %eax, %fs
        movzbl  gdt + DATA + 5, %eax
        check   "loading a descriptor sets its accessed bit", %eax, $0x93
        movl    $-1, %eax
        movl    %fs, %eax
        check   "reading a segment register clears the high half", %eax, $DATA
        movl    $-1, words
        movw    %fs, words
        check   "... but writes 16 bits to memory", words, $0xffff0000+DATA
        movl    %esp, %ebx
        pushl   %fs
        subl    %esp, %ebx
        popl    %gs
        check   "PUSH of a segment register takes four bytes", %ebx, $4
        movl    %gs, %eax
        check   "POP", %eax, $DATA
        movl    $0x600d, words
        movw    $KERNEL_DS, words + 4
        lfsl    words, %ecx
        check   "LFS: the offset", %ecx, $0x600d
        movl    %fs, %eax
        check   "LFS: the selector", %eax, $KERNEL_DS
        movw    $DATA, words + 2
        lgsw    words, %cx
        movzwl  %cx, %ecx
        check   "LGS of 16 bits: the offset", %ecx, $0x600d
        movl    %gs, %eax
        check   "LGS of 16 bits: the selector", %eax, $DATA
        movw    $0x7f8, words + 4
        movl    $0x1234, %ecx
        expect  "LFS that faults", GP, 0x7f8, lfsl words, %ecx
        check   "... keeps its register", %ecx, $0x1234
        movl    $DATA, %eax
        movl    %eax, %fs
        movb    $0x12, gdt + DATA + 5
        check   "a loaded segment does not see its descriptor change", %fs:8, $0x11223344
        expect  "... until it is loaded again", NP, DATA, movl %eax, %fs
        movb    $0x92, gdt + DATA + 5
        movl    $1, %eax
        movl    %eax, %fs
        movl    %fs, %ebx
        check   "a null selector may be loaded, RPL and all", %ebx, $1
        ret

inspection:
        movl    $DATA, %eax
        movl    $-1, %ebx
        larl    %eax, %ebx
        sete    %cl
        movzbl  %cl, %ecx
        check   "LAR: ZF", %ecx, $1
        andl    $0x00f0ff00, %ebx
        check   "LAR: the rights", %ebx, $0x00409200
        lsll    %eax, %ebx
        check   "LSL: the limit in bytes", %ebx, $0xff
        movl    $PAGES, %eax
        lsll    %eax, %ebx
        check   "LSL: ... when it counts pages", %ebx, $0x1fff
        movl    $0x7f8, %eax
        movl    $0x77, %ebx
        lsll    %eax, %ebx
        setz    %cl
        movzbl  %cl, %ecx
        check   "LSL past the GDT: ZF clear", %ecx, $0
        check   "LSL past the GDT: no result", %ebx, $0x77
        xorl    %eax, %eax
        larl    %eax, %ebx
        setz    %cl
        movzbl  %cl, %ecx
        check   "LAR of null: ZF clear", %ecx, $0
        movl    $TSS, %eax
        larl    %eax, %ebx
        andl    $0xff00, %ebx
        check   "LAR of the TSS", %ebx, $0x8b00

        .macro  verify text, instruction, selector, result
        movl    $\selector, %eax
        \instruction %ax
        setz    %cl
        movzbl  %cl, %ecx
        check   "\text", %ecx, $\result
        .endm
        verify  "VERR of data", verr, DATA, 1
        verify  "VERW of data", verw, DATA, 1
        verify  "VERR of code", verr, KERNEL_CS, 1
        verify  "VERW of code", verw, KERNEL_CS, 0
        verify  "VERR of code that cannot be read", verr, RUN_ONLY, 0
        verify  "VERR with RPL 3 of ring 0's data", verr, DATA+3, 0
        verify  "VERR with RPL 3 of conforming code", verr, CONFORMING+3, 1
        verify  "VERR of a TSS", verr, TSS, 0
        verify  "VERR of null", verr, 0, 0

        movl    $0x10, %eax
        movl    $3, %ebx
        arpl    %bx, %ax
        setz    %cl
        movzbl  %cl, %ecx
        check   "ARPL raises RPL", %eax, $0x13
        check   "... and says so", %ecx, $1
        movl    $1, %ebx
        arpl    %bx, %ax
        setz    %cl
        movzbl  %cl, %ecx
        check   "ARPL never lowers it", %eax, $0x13
        check   "... and says so", %ecx, $0
        ret

locals:
        movl    $LDT, %eax
        lldt    %ax
        xorl    %ebx, %ebx
        sldt    %ebx
        check   "SLDT", %ebx, $LDT
        movl    $area + 4, %eax
        movw    %ax, local + 2
        shrl    $16, %eax
        movb    %al, local + 4
        movl    $LOCAL, %eax
        movl    %eax, %fs
        check   "a local segment", %fs:4, $0x11223344
        movl    $LOCAL + 16, %eax
        expect  "past the LDT", GP, LOCAL+16, movl %eax, %fs
        xorl    %eax, %eax
        lldt    %ax
        check   "LDTR null: what is loaded stays", %fs:4, $0x11223344
        movl    $LOCAL, %eax
        expect  "... but no more can be loaded", GP, LOCAL, movl %eax, %fs
        ret

tables:
        movl    $0, words
        movl    $0, words + 4
        sgdtl   words
        movzwl  words, %eax
        check   "SGDT: limit", %eax, $255
        check   "SGDT: base", words+2, $gdt
        sidtl   words
        movzwl  words, %eax
        check   "SIDT: limit", %eax, $2047
        check   "SIDT: base", words+2, $idt
        xorl    %eax, %eax
        str     %ax
        check   "STR", %eax, $TSS
        smsww   %ax
        andl    $1, %eax
        check   "SMSW: PE", %eax, $1
        xorl    %eax, %eax
        lmsw    %ax
        movl    %cr0, %eax
        andl    $1, %eax
        check   "LMSW cannot leave protected mode", %eax, $1
        ret

/* 16-bit code, called from here by a far CALL and left by a far RET with an
 * operand-size prefix. */
sixteen_bit_code:
        movl    $0x12345678, %eax
        movl    $0x0001ffff, %ebx
        movl    $0x00020002, %ecx
        lcall   $CODE16, $in_code16 - code16
        check   "16-bit code: INC AX leaves the high half", %eax, $0x12345679
        check   "... BX wraps", %ebx, $0x00010001
        check   "... LOOP counts in CX", %ecx, $0x00020000
        check   "... a 66h prefix gives 32 bits", %edx, $0x89abcdef
        check   "... a near CALL pushes two bytes", %esi, $2
        check   "... a 67h prefix gives 32-bit addresses", %edi, $0x11223344
        movl    $STACK16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    $0xaaaaffff, %esi       /* the second byte comes from offset 0 */
        movl    $0xbbbb0040, %edi
        movl    $0xcccc0002, %ecx
        lcall   $CODE16, $in_strings - code16
        movl    $KERNEL_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        check   "... REP counts in CX", %ecx, $0xcccc0000
        check   "... SI wraps", %esi, $0xaaaa0001
        check   "... DI", %edi, $0xbbbb0042
        will_trap
        ljmp    $CODE16, $in_ud2 - code16
        trapped "16-bit code: the EIP of a fault", UD, NO_ERROR, in_ud2-code16
        check   "... its CS", trap_cs, $CODE16
        gate    0x50, count_handler, INTERRUPT_GATE
        movl    $0, words
        lcall   $CODE16, $in_int - code16
        check   "... an INT and back", words, $1
        movl    %esp, %ebx
        lcall   $CODE16, $in_far_call - code16
        subl    %esp, %ebx
        check   "a 16-bit far call to 32-bit code and back", %eax, $0x32323232
        check   "... leaves ESP", %ebx, $0
        qemu_differs 9f         /* its linked blocks go astray here */
        movb    $0xeb, code16 + 0xfff8  /* JMP SHORT across the end */
        movb    $in_wrap - code16 + 6, code16 + 0xfff9
        lcall   $CODE16, $0xfff8
        check   "IP wraps at 64 KiB", %eax, $0x77
9:      ret

count_handler:
        incl    words
        iret

        .balign 16
code16:
        .code16
in_code16:
        incw    %ax
        addw    $2, %bx
        movl    $0x89abcdef, %edx
1:      loop    1b
        movl    %esp, %esi
        call    2f
2:      subl    %esp, %esi
        addl    $2, %esp
        addr32 movl area + 8, %edi
        lretl
in_strings:
        rep movsb                       /* through segments with base `area` */
        lretl
in_ud2: ud2
in_int: int     $0x50
        lretl
in_far_call:
        lcallw  $CODE32_NEAR, $0
        lretl
in_wrap:
        movl    $0x77, %eax
        lretl
        .code32

code32: movl    $0x32323232, %eax
        lretw


/* A stack segment with B clear: SP is used, the high half of ESP stays. */
sixteen_bit_stack:
        movl    %esp, %ebp
        movl    $STACK16, %eax
        movl    %eax, %ss
        movl    $0x7fff0100, %esp
        pushl   $0x1a2b3c4d
        movl    %esp, %ebx
        movl    %ss:0xfc, %ecx
        popl    %edx
        movl    $0x7fff0000, %esp
        pushl   $0x55667788             /* wraps within the segment */
        movl    %esp, %esi
        popl    %edi
        movl    $0x7fff0100, %esp
        call    1f
1:      popl    %eax
        movl    $KERNEL_DS, words
        movw    words, %ss
        movl    %ebp, %esp
        check   "16-bit stack: PUSH moves SP alone", %ebx, $0x7fff00fc
        check   "... and writes below SP", %ecx, $0x1a2b3c4d
        check   "... POP", %edx, $0x1a2b3c4d
        check   "... SP wraps", %esi, $0x7ffffffc
        check   "... and back", %edi, $0x55667788
        check   "... CALL", %eax, $1b
        movl    $STACK16, %eax
        movl    %esp, %ecx
        movl    %eax, %ss
        movl    $0x7fff0200, %esp
        int     $0x50
        movl    %esp, %ebx
        movw    words + 4, %ss
        movl    %ecx, %esp
        check   "... INT and IRET", %ebx, $0x7fff0200
        ret

/* Conforming code runs in the ring of its caller. */
conforming:
        will_trap
        enter_ring3 1f
1:      lcall   $CONFORMING, $2f
        int     $RING3_DONE
3:      trapped "ring 3 calls conforming code of ring 0", RING3_DONE, NO_ERROR, 3b
        check   "... with CPL 3", %eax, $CONFORMING+3
        will_trap
        enter_ring3 1f
1:      ljmp    $CONFORMING, $4f
4:      cli
        trapped "... which therefore may not CLI", GP, 0, 4b
        expect  "a call outward", GP, USER_CS&~3, lcall $USER_CS, $checks
        ret
2:      movl    %cs, %eax
        lret

/* What QEMU does not check. */
limits:
        qemu_differs 9f
        movl    $DOWN, %eax
        movl    %eax, %fs
        movl    $0x5151, area + 0x1000
        check   "expand-down: just above the limit", %fs:0x1000, $0x5151
        expect  "expand-down: at the limit", GP, 0, movb %fs:0xfff, %al
        expect  "expand-down: across it", GP, 0, movl %fs:0xffe, %eax
        movl    $DOWN16, %eax
        movl    %eax, %fs
        check   "expand-down of 16 bits: just above the limit", %fs:0x1000, $0x5151
        expect  "... past 64 KiB", GP, 0, movb %fs:0x10000, %al
        expect  "... across 64 KiB", GP, 0, movw %fs:0xffff, %ax
        movl    $PAGES, %eax
        movl    %eax, %fs
        check   "limit in pages: inside", %fs:0x1000, $0x5151
        movb    %fs:0x1fff, %al
        expect  "limit in pages: outside", GP, 0, movb %fs:0x2000, %al
        movl    $RUN_ONLY, %eax
        expect  "code that cannot be read as data", GP, RUN_ONLY, movl %eax, %fs
        movl    $DATA, %eax
        movl    %eax, %fs
        movl    %fs:0xfc, %eax
        expect  "limit in bytes", GP, 0, movl %fs:0xfd, %eax
        movl    $DATA, %eax
        movl    %eax, %es
        movl    $0xfe, %edi
        movl    $5, %ecx
        expect  "REP STOSB that meets the limit", GP, 0, rep stosb
        check   "... after two", %ecx, $3
        movl    $KERNEL_DS, %eax
        movl    %eax, %es

        will_trap
        ljmp    $SHORT_CODE, $0
        trapped "a near jump past the limit of CS", GP, 0, short_jump-short_code
        check   "... its CS", trap_cs, $SHORT_CODE
        will_trap
        ljmp    $SHORT_CODE, $8
        trapped "running past the limit of CS", GP, 0, 13
        expect  "a far jump past the limit", GP, 0, ljmp $SHORT_CODE, $16
9:      ret

        .balign 16
short_code:
        nop
short_jump:
        jmp     . + 64
        .balign 8
        nop
        nop
        nop
        nop
        nop
        movl    $0, %eax                /* its end lies outside */

        .data
        .balign 8
local:  .word   0xff, 0
        .byte   0, 0x92, 0x40, 0
        .quad   0
words:  .long   0, KERNEL_DS, 0, 0

        .bss
        .balign 4096
area:   .skip   0x10010

        .section .note.GNU-stack, "", @progbits
