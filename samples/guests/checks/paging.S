/* Paging: accessed and dirty bits, rights by ring, CR0.WP, large pages, the
 * error codes and CR2, INVLPG and global pages, tables seen through themselves,
 * exactness where an instruction faults half-way, and PAE with NX.
 *
 * The window is a page table's worth of addresses with frames of its own. */
#include "harness.h"

        .set    A, 0x20                 /* bits of an entry */
        .set    D, 0x40
        .set    PS, 0x80
        .set    G, 0x100
        .set    CR4_PSE, 0x10
        .set    CR4_PAE, 0x20
        .set    CR4_PGE, 0x80

        .set    E_P, 1                  /* bits of the error code */
        .set    E_W, 2
        .set    E_U, 4
        .set    E_RSVD, 8
        .set    E_I, 16

        .set    WINDOW, 0x10000000
        .set    WINDOW_PDE, DIRECTORY + (WINDOW >> 20)
        .set    WINDOW_TABLE, FREE_FRAMES
        .set    FRAME, FREE_FRAMES + PAGE       /* the frames of pages 0 ... */
        .set    LARGE, 0x20000000
        .set    LARGE_PDE, DIRECTORY + (LARGE >> 20)
        .set    LARGE_FRAME, 0x400000
        .set    RECURSIVE, 0xffc00000           /* all tables, once PDE 1023 is the directory */

        /* PAE structures */
        .set    PDPT, FREE_FRAMES + 0x20000
        .set    PAE_DIRECTORY, FREE_FRAMES + 0x21000
        .set    PAE_TABLE, FREE_FRAMES + 0x22000

        /* page(n): its address, and its entry */
        .macro  page_entry n, bits
        movl    $(FRAME + (\n) * PAGE) | (\bits), WINDOW_TABLE + 4 * (\n)
        invlpg  WINDOW + (\n) * PAGE
        .endm

        .macro  page_fault_at text, error, cr2, instruction:vararg
        expect  "\text", PF, "\error", \instruction
        check   "... and CR2", trap_cr2, $\cr2
        .endm

        /* One instruction in ring 3 that faults, or (user_may) does not. */
        .macro  user_fault text, error, cr2, instruction:vararg
        will_trap
        enter_ring3 97f
97:     \instruction
        int     $RING3_DONE
        trapped "\text", PF, "\error", 97b
        check   "... and CR2", trap_cr2, $\cr2
        .endm

        .macro  user_may text, instruction:vararg
        will_trap
        enter_ring3 97f
97:     \instruction
        int     $RING3_DONE
96:     trapped "\text", RING3_DONE, NO_ERROR, 96b
        .endm

        .text
        .globl  checks
checks:
        call    identity_map
        movl    $WINDOW_TABLE | P | RW | US, WINDOW_PDE
        movl    %cr0, %eax
        orl     $CR0_PG, %eax
        movl    %eax, %cr0
        call    accessed_dirty
        call    not_present
        call    rights
        call    write_protect
        call    directory_rights
        call    half_way
        call    changes
        call    recursive
        call    large_pages
        call    global_pages
        call    pae
        ret

accessed_dirty:
        page_entry 0, P|RW|US
        andl    $~A, WINDOW_PDE
        movl    %cr3, %eax
        movl    %eax, %cr3
        check   "at first the entry has neither A nor D", WINDOW_TABLE, $FRAME+P+RW+US
        movl    WINDOW, %eax
        check   "a read sets A", WINDOW_TABLE, $FRAME+P+RW+US+A
        check   "... in the directory as well", WINDOW_PDE, $WINDOW_TABLE+P+RW+US+A
        movl    $1, WINDOW
        check   "a write sets D", WINDOW_TABLE, $FRAME+P+RW+US+A+D
        check   "... but not in the directory", WINDOW_PDE, $WINDOW_TABLE+P+RW+US+A
        page_entry 1, P|RW|US
        movl    $1, WINDOW + PAGE
        check   "a first write sets both", WINDOW_TABLE+4, $FRAME+PAGE+P+RW+US+A+D
        andl    $~D, WINDOW_TABLE + 4
        invlpg  WINDOW + PAGE
        movl    WINDOW + PAGE, %eax
        check   "D cleared: a read leaves it clear", WINDOW_TABLE+4, $FRAME+PAGE+P+RW+US+A
        movl    $2, WINDOW + PAGE
        check   "... and a write sets it again", WINDOW_TABLE+4, $FRAME+PAGE+P+RW+US+A+D
        andl    $~A, WINDOW_TABLE + 4
        invlpg  WINDOW + PAGE
        movl    WINDOW + PAGE, %eax
        check   "A cleared: a read sets it again", WINDOW_TABLE+4, $FRAME+PAGE+P+RW+US+A+D
        page_entry 2, P|RW
        movl    WINDOW + 2 * PAGE, %eax
        lock    addl $0, WINDOW + 2 * PAGE
        check   "a read-modify-write sets D", WINDOW_TABLE+8, $FRAME+2*PAGE+P+RW+A+D
        page_entry 3, P|RW
        movb    $0xc3, FRAME + 3 * PAGE
        call    WINDOW + 3 * PAGE
        check   "running code sets A", WINDOW_TABLE+12, $FRAME+3*PAGE+P+RW+A
        page_entry 4, P|RW
        page_entry 5, P|RW
        movl    $0x11223344, WINDOW + 5 * PAGE - 2
        check   "a write across two pages sets D in the first", WINDOW_TABLE+16, $FRAME+4*PAGE+P+RW+A+D
        check   "... and in the second", WINDOW_TABLE+20, $FRAME+5*PAGE+P+RW+A+D
        movzwl  FRAME + 5 * PAGE - 2, %eax
        check   "... its low half in the first frame", %eax, $0x3344
        ret

not_present:
        page_entry 8, 0
        page_entry 7, P|RW
        page_fault_at "read, not present", 0, WINDOW+8*PAGE+0x123, movl WINDOW+8*PAGE+0x123, %eax
        page_fault_at "write, not present", E_W, WINDOW+8*PAGE+0x123, movl %eax, WINDOW+8*PAGE+0x123
        qemu_differs 1f         /* it reads first, and says so; silicon says W */
        page_fault_at "read-modify-write, not present", E_W, WINDOW+8*PAGE, incl WINDOW+8*PAGE
1:      page_fault_at "read across into an absent page", 0, WINDOW+8*PAGE, movl WINDOW+8*PAGE-1, %eax
        page_fault_at "write across into an absent page", E_W, WINDOW+8*PAGE, movl %eax, WINDOW+8*PAGE-3
        page_fault_at "read, no table", 0, 0x30000000, movl 0x30000000, %eax
        page_fault_at "write, no table", E_W, 0x30000000, movl %eax, 0x30000000
        will_trap
        movl    $WINDOW + 8 * PAGE + 4, %eax
        jmp     *%eax
        trapped "jump, not present", PF, 0, WINDOW+8*PAGE+4
        check   "... and CR2", trap_cr2, $WINDOW+8*PAGE+4
        movb    $0xb8, WINDOW + 8 * PAGE - 2    /* mov $imm, %eax, cut off */
        movl    $WINDOW + 8 * PAGE - 2, %eax
        will_trap
        jmp     *%eax
        trapped "an instruction that runs into an absent page", PF, 0, WINDOW+8*PAGE-2
        check   "... and CR2", trap_cr2, $WINDOW+8*PAGE
        page_entry 8, P|RW
        movl    $0x77, WINDOW + 8 * PAGE
        check   "made present, it works at once", FRAME+8*PAGE, $0x77
        ret

rights:
        page_entry 0, P|RW
        page_entry 1, P|US
        page_entry 2, P|RW|US
        page_entry 3, 0
        user_fault "ring 3: read of a supervisor page", E_P|E_U, WINDOW, movl WINDOW, %eax
        user_fault "ring 3: write of a supervisor page", E_P|E_W|E_U, WINDOW, movl %eax, WINDOW
        user_fault "ring 3: write of a read-only page", E_P|E_W|E_U, WINDOW+PAGE, movl %eax, WINDOW+PAGE
        user_fault "ring 3: read, not present", E_U, WINDOW+3*PAGE, movl WINDOW+3*PAGE, %eax
        user_fault "ring 3: write, not present", E_W|E_U, WINDOW+3*PAGE, movl %eax, WINDOW+3*PAGE
        user_may "ring 3: read of a read-only page", movl WINDOW+PAGE, %eax
        user_may "ring 3: write of a writable page", movl %eax, WINDOW+2*PAGE
        will_trap
        enter_ring3 WINDOW
        trapped "ring 3: running a supervisor page", PF, E_P|E_U, WINDOW
        movl    WINDOW, %eax
        user_fault "ring 3: ... also just after ring 0 read it", E_P|E_U, WINDOW, movl WINDOW, %eax
        movl    %eax, WINDOW
        user_fault "ring 3: ... or wrote it", E_P|E_W|E_U, WINDOW, movl %eax, WINDOW

/* The processor itself is always supervisor: descriptor tables, TSS. */
        movl    $gdt, %eax
        shrl    $12, %eax
        andl    $~US, TABLE0(, %eax, 4)
        movl    %cr3, %ebx
        movl    %ebx, %cr3
        pushl   %eax
        will_trap
        enter_ring3 94f
94:     movl    $USER_DS, %ecx
        movl    %ecx, %es
        int     $RING3_DONE
93:     trapped "ring 3: loads ES from a GDT it may not read", RING3_DONE, NO_ERROR, 93b
        popl    %eax
        orl     $US, TABLE0(, %eax, 4)
        movl    %cr3, %ebx
        movl    %ebx, %cr3
        ret

write_protect:
        page_entry 1, P|US
        movl    %cr0, %ebx
        movl    $0x5a5a, WINDOW + PAGE
        check   "ring 0, WP clear: a read-only page can be written", FRAME+PAGE, $0x5a5a
        check   "... and becomes dirty", WINDOW_TABLE+4, $FRAME+PAGE+P+US+A+D
        orl     $CR0_WP, %ebx
        movl    %ebx, %cr0
        page_fault_at "ring 0, WP set: it cannot", E_P|E_W, WINDOW+PAGE, movl %eax, WINDOW+PAGE
        page_fault_at "... nor by read-modify-write", E_P|E_W, WINDOW+PAGE, orl $0, WINDOW+PAGE
        movl    $0x5a5a, %eax
        page_fault_at "... nor by CMPXCHG", E_P|E_W, WINDOW+PAGE, cmpxchgl %ecx, WINDOW+PAGE
        movl    $1, %eax
        page_fault_at "... that would not store", E_P|E_W, WINDOW+PAGE, cmpxchgl %ecx, WINDOW+PAGE
        page_fault_at "... nor by XCHG", E_P|E_W, WINDOW+PAGE, xchgl %ecx, WINDOW+PAGE
        page_fault_at "... nor by BTS", E_P|E_W, WINDOW+PAGE, btsl $0, WINDOW+PAGE
        andl    $~CR0_WP, %ebx
        movl    %ebx, %cr0
        movl    $0xa5a5, WINDOW + PAGE
        check   "WP clear again", FRAME+PAGE, $0xa5a5
        orl     $CR0_WP, %ebx
        movl    %ebx, %cr0
        page_fault_at "WP set again", E_P|E_W, WINDOW+PAGE, movl %eax, WINDOW+PAGE
        ret

/* The directory's rights and the table's are combined. */
directory_rights:
        page_entry 2, P|RW|US
        movl    $WINDOW_TABLE | P | RW, WINDOW_PDE
        movl    %cr3, %eax
        movl    %eax, %cr3
        user_fault "ring 3: a supervisor directory entry", E_P|E_U, WINDOW+2*PAGE, movl WINDOW+2*PAGE, %eax
        movl    $WINDOW_TABLE | P | US, WINDOW_PDE
        movl    %cr3, %eax
        movl    %eax, %cr3
        user_fault "ring 3: a read-only directory entry", E_P|E_W|E_U, WINDOW+2*PAGE, movl %eax, WINDOW+2*PAGE
        user_may "ring 3: ... can be read", movl WINDOW+2*PAGE, %eax
        page_fault_at "ring 0, WP set: as well", E_P|E_W, WINDOW+2*PAGE, movl %eax, WINDOW+2*PAGE
        movl    $0, WINDOW_PDE
        movl    %cr3, %eax
        movl    %eax, %cr3
        page_fault_at "a directory entry taken away", 0, WINDOW+2*PAGE, movl WINDOW+2*PAGE, %eax
        movl    $WINDOW_TABLE | P | RW | US, WINDOW_PDE
        movl    WINDOW + 2 * PAGE, %eax
        ret

/* Instructions that fault with part of their work done or doable. */
half_way:
        page_entry 4, P|RW|US
        page_entry 5, 0
        page_entry 6, P|RW|US
        movl    $WINDOW + 5 * PAGE - 6, %edi
        movl    $FRAME + 8 * PAGE, %esi
        movl    $20, %ecx
        cld
        page_fault_at "REP MOVSB into an absent page", E_W, WINDOW+5*PAGE, rep movsb
        check   "... ECX is what is left", %ecx, $14
        check   "... EDI is where it stopped", %edi, $WINDOW+5*PAGE
        check   "... ESI as well", %esi, $FRAME+8*PAGE+6
        movl    $WINDOW + 6 * PAGE + 8, %esi
        movl    $FRAME + 8 * PAGE, %edi
        movl    $10, %ecx
        std
        page_fault_at "REP MOVSL downwards from an absent page", 0, WINDOW+6*PAGE-4, rep movsl
        cld
        check   "... ECX", %ecx, $7
        check   "... ESI", %esi, $WINDOW+6*PAGE-4
        movl    $WINDOW + 5 * PAGE - 2, %edi
        movl    $3, %ecx
        page_fault_at "REP STOSL, the first across the boundary", E_W, WINDOW+5*PAGE, rep stosl
        check   "... ECX is unchanged", %ecx, $3
        movl    $WINDOW + 5 * PAGE - 2, %esi
        movl    $5, %ecx
        movl    $FRAME + 9 * PAGE, %edi
        page_fault_at "REPE CMPSW that reads an absent page", 0, WINDOW+5*PAGE, repe cmpsw

        movl    $0x12345678, %eax
        movw    $0x4444, FRAME + 5 * PAGE - 2
        page_fault_at "a write across into an absent page", E_W, WINDOW+5*PAGE, movl %eax, WINDOW+5*PAGE-2
        movzwl  FRAME + 5 * PAGE - 2, %ecx
        check   "... writes nothing", %ecx, $0x4444
        qemu_differs 1f
        stc
        movl    $5, %ecx
        page_fault_at "ADC to an absent page", E_W, WINDOW+5*PAGE, adcl %ecx, WINDOW+5*PAGE
        movl    trap_eflags, %eax
        andl    $1, %eax
        check   "... leaves CF", %eax, $1
        movl    $3, %edx
        page_fault_at "XADD to an absent page", E_W, WINDOW+5*PAGE, lock xaddl %edx, WINDOW+5*PAGE
        check   "... leaves its register", %edx, $3
1:      movl    $0x5000, %eax
        movl    $3, %edx
        page_fault_at "MUL by an absent page", 0, WINDOW+5*PAGE, mull WINDOW+5*PAGE
        check   "... leaves EAX", %eax, $0x5000
        check   "... leaves EDX", %edx, $3
        page_fault_at "PUSH of an absent page", 0, WINDOW+5*PAGE, pushl WINDOW+5*PAGE
        movl    trap_frame, %eax
        addl    $12, %eax
        movl    %esp, %ecx
        check   "... leaves ESP", %eax, %ecx
        pushl   $0x99
        page_fault_at "POP into an absent page", E_W, WINDOW+5*PAGE, popl WINDOW+5*PAGE
        movl    trap_frame, %eax
        addl    $12, %eax
        movl    %esp, %ecx
        check   "... leaves ESP", %eax, %ecx
        popl    %eax
        call    half_way_stack
        ret

/* Stack instructions in ring 3 whose stack is not all there. */
        .macro  user_stack_fault text, esp, cr2, error, instruction:vararg
        will_trap
        pushl   $USER_DS
        pushl   $\esp
        pushl   $2
        pushl   $USER_CS
        pushl   $97f
        iret
97:     \instruction
        trapped "\text", PF, "\error", 97b
        check   "... and CR2", trap_cr2, $\cr2
        check   "... and ESP as before", trap_esp, $\esp
        .endm

half_way_stack:
        movl    $0, FRAME + 4 * PAGE + 0xffc
        user_stack_fault "ring 3: PUSH below its page", WINDOW+6*PAGE, WINDOW+6*PAGE-4, E_W|E_U, pushl %eax
        user_stack_fault "ring 3: CALL", WINDOW+6*PAGE, WINDOW+6*PAGE-4, E_W|E_U, call checks
        user_stack_fault "ring 3: POP above its page", WINDOW+5*PAGE, WINDOW+5*PAGE, E_U, popl %eax
        user_stack_fault "ring 3: RET", WINDOW+5*PAGE, WINDOW+5*PAGE, E_U, ret
        user_stack_fault "ring 3: ENTER", WINDOW+6*PAGE, WINDOW+6*PAGE-4, E_W|E_U, enter $16, $0
        user_stack_fault "ring 3: POPA half-way", WINDOW+5*PAGE-28, WINDOW+5*PAGE, E_U, popal
        qemu_differs 1f         /* it reads the stack as ring 0 would */
        user_stack_fault "ring 3: far RET half-way", WINDOW+5*PAGE-4, WINDOW+5*PAGE, E_U, lret
        user_stack_fault "ring 3: IRET half-way", WINDOW+5*PAGE-8, WINDOW+5*PAGE, E_U, iret
1:      movl    $WINDOW + 5 * PAGE + 32, %ebp
        user_stack_fault "ring 3: LEAVE", WINDOW+7*PAGE, WINDOW+5*PAGE+32, E_U, leave
        check   "... leaves EBP", %ebp, $WINDOW+5*PAGE+32
        ret

/* What software must do, and what it need not, when entries change. */
changes:
        page_entry 10, P|RW
        page_entry 11, P|RW
        movl    $10, WINDOW + 10 * PAGE
        movl    $11, WINDOW + 11 * PAGE
        movl    $FRAME + 11 * PAGE + P + RW, WINDOW_TABLE + 4 * 10
        invlpg  WINDOW + 10 * PAGE
        check   "another frame, after INVLPG", WINDOW+10*PAGE, $11
        movl    $FRAME + 10 * PAGE + P + RW, WINDOW_TABLE + 4 * 10
        movl    %cr3, %eax
        movl    %eax, %cr3
        check   "another frame, after a load of CR3", WINDOW+10*PAGE, $10
        movl    $0, WINDOW_TABLE + 4 * 10
        movl    %cr3, %eax
        movl    %eax, %cr3
        page_fault_at "taken away", 0, WINDOW+10*PAGE, movl WINDOW+10*PAGE, %eax
        movl    $FRAME + 11 * PAGE + P + RW, WINDOW_TABLE + 4 * 10
        check   "made present, without INVLPG", WINDOW+10*PAGE, $11
        movl    $12, WINDOW + 10 * PAGE
        check   "one frame at two addresses", WINDOW+11*PAGE, $12
        page_entry 10, P
        page_fault_at "made read-only", E_P|E_W, WINDOW+10*PAGE, movl %eax, WINDOW+10*PAGE

        movl    $3000, %ecx             /* one page over two frames by turns */
        xorl    %ebx, %ebx
        movl    $1, FRAME + 12 * PAGE
        movl    $2, FRAME + 13 * PAGE
1:      movl    $FRAME + 12 * PAGE + P + RW, WINDOW_TABLE + 4 * 14
        invlpg  WINDOW + 14 * PAGE
        addl    WINDOW + 14 * PAGE, %ebx
        movl    $FRAME + 13 * PAGE + P + RW, WINDOW_TABLE + 4 * 14
        invlpg  WINDOW + 14 * PAGE
        addl    WINDOW + 14 * PAGE, %ebx
        loop    1b
        check   "a page remapped at every turn", %ebx, $9000

        movl    $WINDOW_TABLE, %edi     /* a table filled by REP STOS */
        movl    $FRAME + 12 * PAGE + P + RW, %eax
        movl    $32, %ecx
        addl    $4 * 64, %edi
        rep stosl
        check   "entries written by REP STOS", WINDOW+80*PAGE, $1
        movl    $WINDOW_TABLE, %ebx     /* the table among its own pages */
        orl     $P | RW, %ebx
        movl    %ebx, WINDOW_TABLE + 4 * 100
        movl    $FRAME + 13 * PAGE + P + RW, WINDOW + 100 * PAGE + 4 * 101
        check   "an entry written through its own table", WINDOW+101*PAGE, $2
        ret

/* The directory as its own last table, as many kernels have it. */
recursive:
        movl    $DIRECTORY | P | RW, DIRECTORY + 4 * 1023
        movl    RECURSIVE + 0x3ff000 + 4 * 1023, %eax
        andl    $~0xfff, %eax
        check   "the directory seen through itself", %eax, $DIRECTORY
        movl    RECURSIVE + (WINDOW >> 10) + 4 * 101, %eax
        check   "an entry seen through the directory", %eax, $FRAME+13*PAGE+P+RW+A
        movl    $FRAME + 12 * PAGE + P + RW, RECURSIVE + (WINDOW >> 10) + 4 * 101
        invlpg  WINDOW + 101 * PAGE
        check   "... and changed through it", WINDOW+101*PAGE, $1
        movl    $0, RECURSIVE + 0x3ff000 + (WINDOW >> 20)
        movl    %cr3, %eax
        movl    %eax, %cr3
        page_fault_at "a table taken away through it", 0, WINDOW+101*PAGE, movl WINDOW+101*PAGE, %eax
        movl    $WINDOW_TABLE | P | RW | US, RECURSIVE + 0x3ff000 + (WINDOW >> 20)
        check   "... and given back", WINDOW+101*PAGE, $1
        ret

large_pages:
        movl    %cr4, %eax
        orl     $CR4_PSE, %eax
        movl    %eax, %cr4
        movl    $LARGE_FRAME | P | RW | PS, LARGE_PDE
        movl    $0x1234, LARGE_FRAME + 0x2a5000
        check   "4 MiB page: read", LARGE+0x2a5000, $0x1234
        check   "4 MiB page: A is set", LARGE_PDE, $LARGE_FRAME+P+RW+PS+A
        movl    $0x4321, LARGE + 0x3ffffc
        check   "4 MiB page: written", LARGE_FRAME+0x3ffffc, $0x4321
        check   "4 MiB page: D is set", LARGE_PDE, $LARGE_FRAME+P+RW+PS+A+D
        user_fault "ring 3: a supervisor 4 MiB page", E_P|E_U, LARGE+0x1000, movl LARGE+0x1000, %eax
        movl    $LARGE_FRAME | P | US | PS, LARGE_PDE
        invlpg  LARGE + 0x100000
        movl    LARGE + 0x2a5000, %eax
        check   "4 MiB page: one INVLPG is for all of it", %eax, $0x1234
        user_may "ring 3: a 4 MiB page of its own", movl LARGE+0x2a5000, %eax
        user_fault "ring 3: ... read-only", E_P|E_W|E_U, LARGE+0x1000, movl %eax, LARGE+0x1000
        page_fault_at "ring 0, WP set: as well", E_P|E_W, LARGE+0x3fffff, movb %al, LARGE+0x3fffff
        page_fault_at "read across the end of a 4 MiB page", 0, LARGE+0x400000, movl LARGE+0x3ffffe, %eax
        movl    $WINDOW_TABLE | P | RW | US, LARGE_PDE
        movl    %cr3, %eax
        movl    %eax, %cr3
        check   "replaced by a table", LARGE+101*PAGE, $1
        movl    %cr4, %eax
        andl    $~CR4_PSE, %eax
        movl    %eax, %cr4
        orl     $PS, LARGE_PDE
        movl    %cr3, %eax
        movl    %eax, %cr3
        check   "with CR4.PSE clear, PS means nothing", LARGE+101*PAGE, $1
        ret

/* Whether a global page outlives a load of CR3 is the processor's business;
 * INVLPG and a change of CR4.PGE must end it. */
global_pages:
        movl    %cr4, %eax
        orl     $CR4_PGE, %eax
        movl    %eax, %cr4
        page_entry 12, P|RW|G
        check   "a global page", WINDOW+12*PAGE, $1
        movl    $FRAME + 13 * PAGE + P + RW + G, WINDOW_TABLE + 4 * 12
        invlpg  WINDOW + 12 * PAGE
        check   "another frame, after INVLPG", WINDOW+12*PAGE, $2
        movl    $FRAME + 12 * PAGE + P + RW + G, WINDOW_TABLE + 4 * 12
        movl    %cr4, %eax
        xorl    $CR4_PGE, %eax
        movl    %eax, %cr4
        check   "another frame, after CR4.PGE is cleared", WINDOW+12*PAGE, $1
        movl    $FRAME + 13 * PAGE + P + RW + G, WINDOW_TABLE + 4 * 12
        xorl    $CR4_PGE, %eax
        movl    %eax, %cr4
        check   "another frame, after CR4.PGE is set", WINDOW+12*PAGE, $2
        xorl    $CR4_PGE, %eax
        movl    %eax, %cr4
        ret

/* Three levels, 64-bit entries. */
        .macro  pae_entry n, bits, high=0
        movl    $(FRAME + (\n) * PAGE) | (\bits), PAE_TABLE + 8 * (\n)
        movl    $\high, PAE_TABLE + 8 * (\n) + 4
        invlpg  WINDOW + (\n) * PAGE
        .endm

        .macro  set_paging cr3, cr4_bits
        movl    %cr0, %eax
        andl    $~CR0_PG, %eax
        movl    %eax, %cr0
        movl    $\cr4_bits, %edx
        movl    %edx, %cr4
        movl    $\cr3, %edx
        movl    %edx, %cr3
        orl     $CR0_PG, %eax
        movl    %eax, %cr0
        .endm

pae:
        movl    $1, %eax
        cpuid
        btl     $6, %edx
        jnc     9f
        movl    $PDPT, %edi
        xorl    %eax, %eax
        movl    $3 * 1024, %ecx
        rep stosl
        movl    $PAE_DIRECTORY | P, PDPT
        movl    $P | RW | US | PS, %eax
        movl    $PAE_DIRECTORY, %edi
1:      movl    %eax, (%edi)
        addl    $8, %edi
        addl    $0x200000, %eax
        cmpl    $PAE_DIRECTORY + 8 * 4, %edi
        jb      1b
        movl    $PAE_TABLE | P | RW | US, PAE_DIRECTORY + 8 * (WINDOW >> 21)
        set_paging PDPT, CR4_PAE
        call    pae_pages
        call    pae_top
        call    no_execute
        set_paging DIRECTORY, 0
        check   "two levels again", WINDOW+101*PAGE, $1
9:      ret

pae_pages:
        pae_entry 0, P|RW|US
        movl    $0x1111, FRAME
        check   "PAE: read", WINDOW, $0x1111
        check   "PAE: A is set", PAE_TABLE, $FRAME+P+RW+US+A
        movl    $0x2222, WINDOW
        check   "PAE: written", FRAME, $0x2222
        check   "PAE: D is set", PAE_TABLE, $FRAME+P+RW+US+A+D
        check   "PAE: A is set in the directory", PAE_DIRECTORY+8*(WINDOW>>21), $PAE_TABLE+P+RW+US+A
        pae_entry 1, 0
        page_fault_at "PAE: not present", 0, WINDOW+PAGE, movl WINDOW+PAGE, %eax
        pae_entry 1, P
        page_fault_at "PAE: read-only", E_P|E_W, WINDOW+PAGE, movl %eax, WINDOW+PAGE
        user_fault "PAE: ring 3, supervisor page", E_P|E_U, WINDOW+PAGE, movl WINDOW+PAGE, %eax
        movl    $LARGE_FRAME | P | RW | PS, PAE_DIRECTORY + 8 * (LARGE >> 21)
        movl    $0x3333, LARGE_FRAME + 0x1ffffc
        check   "PAE, 2 MiB page: read", LARGE+0x1ffffc, $0x3333
        check   "PAE, 2 MiB page: A is set", PAE_DIRECTORY+8*(LARGE>>21), $LARGE_FRAME+P+RW+PS+A
        movl    $0x4444, LARGE + 0x1000
        check   "PAE, 2 MiB page: written", LARGE_FRAME+0x1000, $0x4444
        check   "PAE, 2 MiB page: D is set", PAE_DIRECTORY+8*(LARGE>>21), $LARGE_FRAME+P+RW+PS+A+D
        page_fault_at "PAE: read across the end of a 2 MiB page", 0, LARGE+0x200000, movl LARGE+0x1fffff, %eax
        qemu_differs 9f         /* it leaves out P */
        pae_entry 2, P|RW, 0x80000
        page_fault_at "PAE: a reserved bit", E_P|E_RSVD, WINDOW+2*PAGE, movl WINDOW+2*PAGE, %eax
        page_fault_at "PAE: a reserved bit, write", E_P|E_RSVD|E_W, WINDOW+2*PAGE, movl %eax, WINDOW+2*PAGE
        pae_entry 2, P|RW, 0x80000000
        page_fault_at "PAE: the NX bit without EFER.NXE is reserved", E_P|E_RSVD, WINDOW+2*PAGE, movl WINDOW+2*PAGE, %eax
9:      ret

/* The four entries at the top are read when CR3 is loaded. */
pae_top:
        page_fault_at "PAE: top entry not present", 0, 0x40000000, movl 0x40000000, %eax
        movl    $PAE_DIRECTORY | P, PDPT + 8
        movl    %cr3, %eax
        movl    %eax, %cr3
        check   "PAE: ... made present", 0x40000000+WINDOW, $0x2222
        qemu_differs 9f
        movl    $PAE_DIRECTORY | P | RW, PDPT + 16
        movl    %cr3, %eax
        expect  "PAE: CR3 with a reserved bit in a top entry", GP, 0, movl %eax, %cr3
        movl    $0, PDPT + 16
9:      ret

no_execute:
        movl    $0x80000001, %eax
        cpuid
        btl     $20, %edx
        jnc     9f
        movl    $0xc0000080, %ecx       /* EFER */
        rdmsr
        orl     $1 << 11, %eax          /* NXE */
        wrmsr
        pae_entry 3, P|RW|US, 0x80000000
        movb    $0xc3, WINDOW + 3 * PAGE
        check   "NX: such a page can be written and read", WINDOW+3*PAGE, $0xc3
        movl    $WINDOW + 3 * PAGE, %eax
        will_trap
        jmp     *%eax
        trapped "NX: but not run", PF, E_P|E_I, WINDOW+3*PAGE
        will_trap
        enter_ring3 WINDOW+3*PAGE
        trapped "NX: nor in ring 3", PF, E_P|E_U|E_I, WINDOW+3*PAGE
        pae_entry 4, 0
        movl    $WINDOW + 4 * PAGE, %eax
        will_trap
        jmp     *%eax
        trapped "NX: running an absent page", PF, E_I, WINDOW+4*PAGE
        pae_entry 3, P|RW|US
        call    WINDOW + 3 * PAGE
        check   "NX taken away: it can be run", WINDOW+3*PAGE, $0xc3
        movl    $0xc0000080, %ecx
        rdmsr
        andl    $~(1 << 11), %eax
        wrmsr
9:      ret

        .section .note.GNU-stack, "", @progbits
