/* The ways into the guest's kernel, each as short as it can be: what the rows
 * charge is the machine's share, not the kernel's. */

        .set    KERNEL_DS, 0x10
        .set    USER_CS, 0x1b
        .set    USER_DS, 0x23
        .set    ERROR_PRESENT, 1
        .set    ARENA_FRAMES, 0x02000000
        .set    COM1_IER, 0x3f9

        .text

        .macro  stub vector
stub_\vector:
        .if !(\vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17)
        pushl   $0
        .endif
        pushl   $\vector
        jmp     unexpected
        .endm

        .altmacro
        .macro  stub_at vector
        stub    \vector
        .endm
        .set    n, 0
        .rept   48
        stub_at %n
        .set    n, n + 1
        .endr

/* Vector, error code, EIP: whoever comes here made a mistake. */
unexpected:
        call    unexpected_trap

/* #DE: over the two bytes of the DIV. */
divide_error:
        addl    $2, (%esp)
        iret

/* #PF: an absent page gets its frame and the access is made again; a page that
 * is present was written to, which copy on write settles. */
page_fault:
        testb   $ERROR_PRESENT, (%esp)
        jnz     1f
        pushl   %eax
        pushl   %ecx
        movl    %cr2, %eax
        andl    $0x003ff000, %eax
        movl    %eax, %ecx
        shrl    $12, %ecx
        orl     $ARENA_FRAMES | 7, %eax
        movl    %eax, arena_table(, %ecx, 4)
        popl    %ecx
        popl    %eax
        addl    $4, %esp
        iret
1:      addl    $4, %esp
        pushal
        pushl   %ds
        pushl   %es
        movl    $KERNEL_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %cr2, %eax
        pushl   %eax
        call    copy_on_write
        addl    $4, %esp
        popl    %es
        popl    %ds
        popal
        iret

/* IRQ 4: the UART's request is withdrawn; the 8259A ends it by itself. */
uart_interrupt:
        pushl   %eax
        pushl   %edx
        movl    $COM1_IER, %edx
        xorl    %eax, %eax
        outb    %al, %dx
        incl    interrupts
        popl    %edx
        popl    %eax
        iret

/* INT 80h: 0 is the null call, anything else the end of ring 3. */
        .globl  system_call_entry
system_call_entry:
        testl   %eax, %eax
        jnz     leave_ring3
        iret

/* SYSENTER: EDX is the return address and ECX the stack pointer. */
        .globl  sysenter_entry
sysenter_entry:
        testl   %eax, %eax
        jnz     leave_ring3
        sti
        sysexit

/* run_in_ring3(function): returns when the function does, to the same stack. */
        .globl  run_in_ring3
run_in_ring3:
        movl    4(%esp), %eax
        pushl   %ebp
        pushl   %ebx
        pushl   %esi
        pushl   %edi
        movl    %esp, ring0_esp
        movl    %eax, %ebx
        movl    $USER_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        pushl   $USER_DS
        pushl   $user_stack_top
        pushl   $2
        pushl   $USER_CS
        pushl   $1f
        iret
1:      call    *%ebx
        movl    $1, %eax
        int     $0x80

leave_ring3:
        cli
        movl    $KERNEL_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    ring0_esp, %esp
        popl    %edi
        popl    %esi
        popl    %ebx
        popl    %ebp
        ret

        .section .rodata
        .balign 4
        .globl  vector_stubs
vector_stubs:
        .macro  stub_address vector
        .if     \vector == 0
        .long   divide_error
        .elseif \vector == 14
        .long   page_fault
        .elseif \vector == 36
        .long   uart_interrupt
        .else
        .long   stub_\vector
        .endif
        .endm
        .set    n, 0
        .rept   48
        stub_address %n
        .set    n, n + 1
        .endr

        .bss
        .balign 4096
        .skip   4096
        .globl  entry_stack_top
entry_stack_top:
        .skip   8192
        .globl  user_stack_top
user_stack_top:
ring0_esp:
        .skip   4
        .globl  interrupts
interrupts:
        .skip   4

        .section .note.GNU-stack, "", @progbits
