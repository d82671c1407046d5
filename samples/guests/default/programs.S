/* The programs, each an ELF file of its own, carried inside the kernel. */

        .macro  program name
        .globl  program_\name
        .balign 4
program_\name:
        .incbin "\name\().elf"
        .endm

        .section .rodata
        program sieve
        program crc
        program trespass
        program meter
        program partner

        .section .note.GNU-stack, "", @progbits
