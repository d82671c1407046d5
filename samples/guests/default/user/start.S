/* Where a program begins, and the two ways to call the kernel. */

        .text
        .globl  _start
_start:
        xorl    %ebp, %ebp
        call    main
        movl    %eax, %ebx
        movl    $1, %eax
        int     $0x80
        ud2

/* call_kernel(number, first, second), by INT 80h. */
        .globl  call_kernel
call_kernel:
        pushl   %ebx
        pushl   %esi
        movl    12(%esp), %eax
        movl    16(%esp), %ebx
        movl    20(%esp), %esi
        int     $0x80
        popl    %esi
        popl    %ebx
        ret

/* The same, by SYSENTER: the kernel returns to EDX with ESP from ECX. */
        .globl  call_kernel_fast
call_kernel_fast:
        pushl   %ebx
        pushl   %esi
        movl    12(%esp), %eax
        movl    16(%esp), %ebx
        movl    20(%esp), %esi
        movl    %esp, %ecx
        movl    $1f, %edx
        sysenter
1:      popl    %esi
        popl    %ebx
        ret

        .section .note.GNU-stack, "", @progbits
