/* Where the Linux program begins, and how it calls the kernel. */

        .text
        .globl  _start
_start:
        movl    %esp, %eax
        xorl    %ebp, %ebp
        andl    $-16, %esp
        subl    $12, %esp
        pushl   %eax
        call    program_main
        hlt

/* linux_call(number, a, b, c, d, e) */
        .globl  linux_call
linux_call:
        pushl   %ebp
        pushl   %ebx
        pushl   %esi
        pushl   %edi
        movl    20(%esp), %eax
        movl    24(%esp), %ebx
        movl    28(%esp), %ecx
        movl    32(%esp), %edx
        movl    36(%esp), %esi
        movl    40(%esp), %edi
        xorl    %ebp, %ebp
        int     $0x80
        popl    %edi
        popl    %esi
        popl    %ebx
        popl    %ebp
        ret

/* The handler of SIGFPE: over the two bytes of the DIV, by the saved EIP. Its
 * arguments are the signal, what caused it, and the context. */
        .globl  over_the_division
over_the_division:
        movl    12(%esp), %eax
        addl    $2, 76(%eax)
        ret

        .globl  end_of_signal
end_of_signal:
        movl    $173, %eax
        int     $0x80

        .section .note.GNU-stack, "", @progbits
