/* #AC: the alignment of each kind of operand, the three conditions, its order
 * among other faults, and accesses that are exempt because the processor makes
 * them itself. The expectations were asked of silicon. */
#include "harness.h"

        .set    AC, 0x40000
        .set    CR0_AM, 0x40000
        .set    CR4_OSFXSR, 0x200
        .set    ALIGNMENT, 17

/* Enters ring 3 at `entry` with AC set; see enter_ring3. */
        .macro  enter_checked entry
        pushl   $USER_DS
        popl    %ds
        pushl   $USER_DS
        popl    %es
        pushl   $USER_DS
        pushl   $user_stack_top
        pushl   $AC|2
        pushl   $USER_CS
        pushl   $\entry
        iret
        .endm

/* Runs one instruction in ring 3 that must be #AC. */
        .macro  misaligned text, instruction:vararg
        will_trap
        enter_checked 98f
98:     \instruction
        int     $RING3_DONE
        trapped "\text", ALIGNMENT, 0, 98b
        .endm

/* Runs one that must not fault. */
        .macro  aligned text, instruction:vararg
        will_trap
        enter_checked 97f
97:     \instruction
98:     int     $RING3_DONE
        trapped "\text", RING3_DONE, NO_ERROR, 98b+2
        .endm

/* Runs one that must end in another fault. */
        .macro  rather text, vector, error, instruction:vararg
        will_trap
        enter_checked 98f
98:     \instruction
        int     $RING3_DONE
        trapped "\text", \vector, "\error", 98b
        .endm

        .text
        .globl  checks
checks:
        movl    %cr4, %eax
        orl     $CR4_OSFXSR, %eax
        movl    %eax, %cr4
        fninit
        aligned "CR0.AM clear", movl data+1, %ecx
        movl    %cr0, %eax
        orl     $CR0_AM, %eax
        movl    %eax, %cr0
        pushfl
        orl     $AC, (%esp)
        popfl
        movl    data+1, %ecx
        pushl   $2
        popfl
        will_trap
        enter_ring3 98f
98:     movl    data+1, %ecx
        int     $RING3_DONE
        trapped "AC clear; nor does ring 0 check", RING3_DONE, NO_ERROR, 98b+8
        call    integers
        call    stacks
        call    strings
        call    numbers
        call    vectors
        call    order
        call    exempt
        ret

integers:
        misaligned "a doubleword at 1", movl data+1, %ecx
        misaligned "a doubleword at 2", movl data+2, %ecx
        misaligned "a word at 1", movw data+1, %cx
        misaligned "a store", movl %ecx, data+2
        misaligned "read, modify, write", addl %ecx, data+2
        aligned "a word at 2", movw data+2, %cx
        aligned "a byte at 3", movb data+3, %cl
        aligned "LEA", leal data+1, %ecx
        misaligned "BT of a doubleword", btl %ebx, data+2
        misaligned "CMPXCHG8B at 4", cmpxchg8b data+4
        aligned "CMPXCHG8B at 8", cmpxchg8b data+8
        misaligned "a far pointer of 48 bits", lfs data+2, %ecx
        misaligned "a far pointer of 32 bits", lfsw data+1, %cx
        aligned "a far pointer at 4", lfs data+4, %ecx
        aligned "SIDT at 2 modulo 4", sidt data+2
        misaligned "SIDT at 4", sidt data+4
        movl    $2000, %ebx
        will_trap
        enter_checked 1f
1:      movl    data, %ecx
        decl    %ebx
        jnz     1b
98:     movl    data+1, %ecx
        trapped "after a loop of aligned accesses", ALIGNMENT, 0, 98b
        ret

stacks:
        will_trap
        enter_checked 1f
1:      movl    $data+30, %esp
98:     pushl   %eax
        trapped "PUSH", ALIGNMENT, 0, 98b
        will_trap
        enter_checked 1f
1:      movl    $data+30, %esp
98:     popl    %eax
        trapped "POP", ALIGNMENT, 0, 98b
        will_trap
        enter_checked 1f
1:      movl    $data+30, %esp
98:     call    1b
        trapped "CALL", ALIGNMENT, 0, 98b
        will_trap
        enter_checked 1f
1:      movl    $data+62, %esp
98:     pushal
        trapped "PUSHA", ALIGNMENT, 0, 98b
        will_trap
        enter_checked 1f
1:      movl    $data+32, %esp
        pushw   %ax
98:     pushl   %eax
        trapped "PUSH of a word, then of a doubleword", ALIGNMENT, 0, 98b
        ret

strings:
        movl    $data, %esi
        movl    $data+17, %edi
        movl    $3, %ecx
        misaligned "REP MOVS, target", rep movsl
        check   "... nothing done", %ecx, $3
        movl    $data+17, %edi
        aligned "REP STOS of bytes", rep stosb
        movl    $3, %ecx
        movl    $data+2, %edi
        misaligned "REP STOS of doublewords", rep stosl
        ret

numbers:
        misaligned "FLD m32 at 2", flds data+2
        misaligned "FLD m64 at 4", fldl data+4
        aligned "FLD m64 at 8", fldl data+8
        misaligned "FLD m80 at 4", fldt data+4
        aligned "FLD m80 at 8", fldt data+8
        misaligned "FSTP m80 at 4", fstpt data+4
        misaligned "FNSTCW at 1", fnstcw data+1
        misaligned "FNSTENV at 2", fnstenv data+2
        aligned "FNSTENV at 4", fnstenv data+4
        misaligned "FNSAVE at 2", fnsave data+2
        aligned "FNSAVE at 4", fnsave data+4
        misaligned "FXSAVE at 2", fxsave data+2
        rather  "FXSAVE at 4", GP, 0, fxsave data+4
        aligned "FXSAVE at 16", fxsave data+16
        fninit
        ret

vectors:
        misaligned "MOVQ of MM0 at 4", movq data+4, %mm0
        misaligned "MOVUPS at 8", movups data+8, %xmm0
        misaligned "MOVUPS, a store", movups %xmm0, data+8
        rather  "MOVAPS at 8", GP, 0, movaps data+8, %xmm0
        rather  "MOVAPS at 1", GP, 0, movaps data+1, %xmm0
        misaligned "MOVSD at 4", movsd data+4, %xmm0
        misaligned "MOVSS at 2", movss data+2, %xmm0
        aligned "MOVUPS at 16", movups data+16, %xmm0
        aligned "PREFETCHNTA at 1", prefetchnta data+1
        emms
        ret

order:
        descriptor_at SPARE, data, 0x10, 0xf2, 4
        will_trap
        enter_checked 1f
1:      movl    $SPARE|3, %eax
        movl    %eax, %fs
98:     movl    %fs:0x0f, %ecx
        trapped "a limit comes first", GP, 0, 98b
        movl    $KERNEL_DS, %eax
        movl    %eax, %fs
        call    identity_map
        andl    $~P, TABLE0 + (0x300000 >> 10)
        movl    %cr0, %eax
        orl     $CR0_PG, %eax
        movl    %eax, %cr0
        movl    $0, trap_cr2
        misaligned "a page that is absent comes later", movl 0x300001, %ecx
        misaligned "... also for a store", movl %ecx, 0x2ffffe
        rather  "... and comes, if aligned", PF, 4, movl 0x300000, %ecx
        movl    %cr0, %eax
        andl    $~CR0_PG, %eax
        movl    %eax, %cr0
        ret

/* The processor's own accesses: a stack in the TSS and a descriptor table that
 * are not aligned. */
exempt:
        addl    $2, tss + TSS_ESP0
        aligned "the stack of ring 0 at 2 modulo 4", nop
        subl    $2, tss + TSS_ESP0
        movl    $gdt_copy + 1, %edi
        movl    $gdt, %esi
        movl    $64, %ecx
        rep movsb
        sgdt    saved_gdtr
        movl    saved_gdtr + 2, %eax
        movl    %eax, saved_base
        movl    $gdt_copy + 1, saved_gdtr + 2
        lgdt    saved_gdtr
        movl    $USER_DS, %eax
        aligned "a descriptor table at 1", movl %eax, %fs
        movl    saved_base, %eax
        movl    %eax, saved_gdtr + 2
        lgdt    saved_gdtr
        movl    $KERNEL_DS, %eax
        movl    %eax, %fs
        ret

        .bss
        .balign 64
data:   .skip   1024
gdt_copy: .skip 128
saved_gdtr: .skip 8
saved_base: .skip 4

        .section .note.GNU-stack, "", @progbits
