/* The ways into the kernel and back out of it.
 *
 * Every entry builds the same `struct frame`. The null system call is answered
 * before that: it touches no memory but the stack, so what it costs is what
 * the machine charges for changing rings twice. */

        .set    KERNEL_DS, 0x10
        .set    USER_CS, 0x1b
        .set    USER_DS, 0x23
        .set    EFLAGS_IF, 0x200

/* Debuggers find by these the program that called: its EIP and ESP among what
 * an interrupt of ring 3 pushes, then its registers, as PUSHAL leaves them. */
        .cfi_sections .debug_frame
        .macro  frame_of_interrupt
        .cfi_def_cfa %esp, 20
        .cfi_offset %eip, -20
        .cfi_offset %esp, -8
        .endm

        .macro  frame_is_saved
        .cfi_def_cfa %esp, 68
        .cfi_offset %eax, -32
        .cfi_offset %ecx, -36
        .cfi_offset %edx, -40
        .cfi_offset %ebx, -44
        .cfi_offset %ebp, -52
        .cfi_offset %esi, -56
        .cfi_offset %edi, -60
        .endm

        .macro  save
        pushal
        pushl   %ds
        pushl   %es
        movl    $KERNEL_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        cld
        .endm

        .macro  restore
        popl    %es
        popl    %ds
        popal
        addl    $8, %esp
        .endm

        .text

/* One stub a vector; 8, 10-14 and 17 come with an error code of their own. */
        .macro  stub vector
stub_\vector:
        .if !(\vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17)
        pushl   $0
        .endif
        pushl   $\vector
        jmp     trap_entry
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

trap_entry:
        save
        pushl   %esp
        call    trap
        addl    $4, %esp
        .globl  return_to_user
return_to_user:
        restore
        iret

        .globl  system_call_entry
system_call_entry:
        .cfi_startproc simple
        frame_of_interrupt
        testl   %eax, %eax
        jnz     1f
        iret
1:      pushl   $0
        .cfi_adjust_cfa_offset 4
        pushl   $0x80
        .cfi_adjust_cfa_offset 4
        save
        frame_is_saved
        pushl   %esp
        .cfi_adjust_cfa_offset 4
        call    system_call
        addl    $4, %esp
        .cfi_adjust_cfa_offset -4
        movl    %eax, 36(%esp)
        jmp     return_to_user
        .cfi_endproc

/* SYSENTER saves nothing; by our convention EDX is the return address and ECX
 * the stack pointer, which is also where SYSEXIT wants them. STI takes effect
 * after the instruction that follows it, hence not before ring 3. */
        .globl  sysenter_entry
sysenter_entry:
        .cfi_startproc simple
        .cfi_def_cfa %esp, 0
        .cfi_register %eip, %edx
        .cfi_register %esp, %ecx
        testl   %eax, %eax
        jnz     1f
        sti
        sysexit
1:      pushl   $USER_DS
        pushl   %ecx
        pushl   $EFLAGS_IF | 2
        pushl   $USER_CS
        pushl   %edx
        pushl   $0
        pushl   $0x80
        save
        frame_of_interrupt
        frame_is_saved
        pushl   %esp
        .cfi_adjust_cfa_offset 4
        call    system_call
        addl    $4, %esp
        .cfi_adjust_cfa_offset -4
        movl    %eax, 36(%esp)
        restore
        movl    (%esp), %edx
        movl    12(%esp), %ecx
        sti
        sysexit
        .cfi_endproc

/* switch_stack(old_esp, new_esp): leaves on one kernel stack, returns on another. */
        .globl  switch_stack
switch_stack:
        movl    4(%esp), %eax
        movl    8(%esp), %edx
        pushl   %ebp
        pushl   %ebx
        pushl   %esi
        pushl   %edi
        movl    %esp, (%eax)
        movl    %edx, %esp
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
        .long   stub_\vector
        .endm
        .set    n, 0
        .rept   48
        stub_address %n
        .set    n, n + 1
        .endr

        .section .note.GNU-stack, "", @progbits
