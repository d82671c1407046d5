/* Where the loader hands over: 32-bit protected mode, flat segments, paging
 * and interrupts off. A Multiboot loader leaves its magic in EAX and its table
 * in EBX; a plain ELF loader need leave nothing. */

        .set    MAGIC, 0x1badb002
        .set    WANT_MEMORY, 2

        .section .multiboot, "ax"
        .balign 4
        .long   MAGIC, WANT_MEMORY, -(MAGIC + WANT_MEMORY)

        .text
        .globl  _start
_start:
        cli
        cld
        movl    $stack_top, %esp
        xorl    %ebp, %ebp
        pushl   %ebx
        pushl   %eax
        call    kernel_main
1:      hlt
        jmp     1b

/* load_tables(gdt, gdt_bytes, idt, idt_bytes): both tables, the segment
 * registers and the task register. */
        .globl  load_tables
load_tables:
        subl    $8, %esp
        movl    16(%esp), %eax
        decl    %eax
        movw    %ax, (%esp)
        movl    12(%esp), %eax
        movl    %eax, 2(%esp)
        lgdt    (%esp)
        movl    24(%esp), %eax
        decl    %eax
        movw    %ax, (%esp)
        movl    20(%esp), %eax
        movl    %eax, 2(%esp)
        lidt    (%esp)
        addl    $8, %esp
        ljmp    $0x08, $1f
1:      movl    $0x10, %eax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        movw    %ax, %ss
        movl    $0x28, %eax
        ltr     %ax
        ret

        .bss
        .balign 16
        .skip   8192
stack_top:

        .section .note.GNU-stack, "", @progbits
