/* What every check guest uses: names, and the macros that state an expectation.
 *
 * A guest defines `checks`, which the harness calls once in ring 0 with flat
 * segments, paging off, interrupts off and a gate for every vector. It states
 * expectations in order; each prints `ok N text` or `FAIL N: text`, and the
 * first that fails ends the guest. Returning from `checks` is success.
 *
 *      check  "text", actual, expected
 *      expect "text", vector, error, instruction
 *
 * (An expression as an argument is written without spaces.)
 *
 * `check` compares two 32-bit operands, not relative to ESP, and keeps every
 * register and flag. `expect` runs one instruction that must trap, and checks
 * vector, error code and that the saved EIP is the instruction's own address.
 * Where more is run, or EIP is another, the instructions go between
 *
 *      will_trap
 *      trapped "text", vector, error, eip
 *
 * where `eip` is a label before (1b). After either, ESP is what it was before,
 * the other general registers are as the trap found them, and the trap_* words
 * tell the rest.
 */

/* Selectors of the harness's GDT; entries from SPARE on belong to the guest. */
        .set    KERNEL_CS, 0x08
        .set    KERNEL_DS, 0x10
        .set    USER_CS, 0x1b
        .set    USER_DS, 0x23
        .set    TSS, 0x28
        .set    SPARE, 0x30

        .set    COM1, 0x3f8
        .set    EXIT_PORT, 0xf4
        .set    NO_ERROR, -1    /* of a vector without error code */
        .set    NO_TRAP, -1     /* in trap_vector */
        .set    RING3_DONE, 0x40 /* a vector ring 3 may call, to come back */

        .set    DE, 0
        .set    DB, 1
        .set    BP, 3
        .set    OF, 4
        .set    BR, 5
        .set    UD, 6
        .set    NM, 7
        .set    DF, 8
        .set    TS, 10
        .set    NP, 11
        .set    SS, 12
        .set    GP, 13
        .set    PF, 14
        .set    MF, 16

/* Offsets in a TSS. */
        .set    TSS_ESP0, 4
        .set    TSS_SS0, 8
        .set    TSS_CR3, 28
        .set    TSS_EIP, 32
        .set    TSS_EFLAGS, 36
        .set    TSS_ESP, 56
        .set    TSS_ES, 72
        .set    TSS_CS, 76
        .set    TSS_SS, 80
        .set    TSS_DS, 84
        .set    TSS_IO_MAP, 102

/* Gate types, with the present bit. */
        .set    INTERRUPT_GATE, 0x8e
        .set    TRAP_GATE, 0x8f
        .set    INTERRUPT_GATE_16, 0x86
        .set    TASK_GATE, 0x85
        .set    CALL_GATE, 0x8c
        .set    CALL_GATE_16, 0x84
        .set    DPL3, 0x60

        .macro  check text, actual, expected
        pushfl
        pushl   \expected
        pushl   \actual
        pushl   $.Ltext\@
        call    check_equal
        popfl
        .pushsection .rodata
.Ltext\@: .asciz "\text"
        .popsection
        .endm

        .macro  will_trap
        movl    $99f, trap_resume
        movl    %esp, trap_resume_esp
        movl    $NO_TRAP, trap_vector
        .endm

        .macro  trapped text, vector, error, eip
99:     pushl   $\eip
        pushl   $\error
        pushl   $\vector
        pushl   $.Ltext\@
        call    check_trap
        .pushsection .rodata
.Ltext\@: .asciz "\text"
        .popsection
        .endm

/* Ends what will_trap began without a word; trap_vector tells what came. */
        .macro  trapped_quietly
99:     movl    $0, trap_resume
        .endm

        .macro  expect text, vector, error, instruction:vararg
        will_trap
98:     \instruction
        trapped "\text", \vector, "\error", 98b
        .endm

/* Jumps to `label` under QEMU's TCG, for what that gets wrong (7.2 at least). */
        .macro  qemu_differs label
        cmpl    $0, on_qemu
        jne     \label
        .endm

/* Enters ring 3 at `entry` with the general registers as they are; to be put
 * between will_trap and trapped, since only a trap brings us back. DS and ES
 * are ring 3's: IRET would make those of ring 0 null. */
        .macro  enter_ring3 entry
        pushl   $USER_DS
        popl    %ds
        pushl   $USER_DS
        popl    %es
        pushl   $USER_DS
        pushl   $user_stack_top
        pushl   $0x002
        pushl   $USER_CS
        pushl   $\entry
        iret
        .endm

/* Page tables for the guests that want paging, all at fixed places past their
 * own image: the first 8 MiB at their own addresses, open to both rings. */
        .set    PAGE, 4096
        .set    CR0_PG, 0x80000000
        .set    CR0_WP, 0x10000
        .set    DIRECTORY, 0x200000
        .set    TABLE0, 0x201000        /* for the first 4 MiB */
        .set    TABLE1, 0x202000        /* for the next */
        .set    FREE_FRAMES, 0x210000   /* from here on nothing is used */
        .set    P, 1
        .set    RW, 2
        .set    US, 4

/* Fills an IDT entry. Keeps every register. */
        .macro  gate vector, handler, kind, selector=KERNEL_CS
        pushl   $\selector
        pushl   $\kind
        pushl   $\handler
        pushl   $\vector
        call    set_gate
        .endm

/* Gives a vector back to the harness. */
        .macro  ungate vector
        pushl   $\vector
        call    reset_gate
        .endm

/* Writes a descriptor of the GDT: base, limit in bytes or pages, access byte
 * and the flags G, D/B, L, AVL in the high half of `flags`. */
        .macro  descriptor selector, base, limit, access, flags
        movl    $((\limit) & 0xffff) | (((\base) & 0xffff) << 16), gdt + ((\selector) & ~7)
        movl    $(((\base) >> 16) & 0xff) | ((\access) << 8) | ((\limit) & 0xf0000) | ((\flags) << 20) | ((\base) & 0xff000000), gdt + ((\selector) & ~7) + 4
        .endm

/* The same for a base known only to the linker. */
        .macro  descriptor_at selector, symbol, limit, access, flags
        pushl   $(\limit)
        pushl   $(\flags)
        pushl   $(\access)
        pushl   $\symbol
        pushl   $\selector
        call    set_descriptor
        .endm
