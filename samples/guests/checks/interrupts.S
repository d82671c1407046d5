/* Interrupts: the 8259A pair and the 8254, interrupt and trap gates, the
 * one-instruction shadows, HLT, nesting by priority, masks, the second PIC by
 * way of the real-time clock, and counter 2 with port 61h. */
#include "harness.h"

        .set    PIC1, 0x20
        .set    PIC2, 0xa0
        .set    EOI, 0x20
        .set    READ_IRR, 0x0a
        .set    READ_ISR, 0x0b
        .set    PIT0, 0x40
        .set    PIT2, 0x42
        .set    PIT_COMMAND, 0x43
        .set    CMOS_INDEX, 0x70
        .set    CMOS_DATA, 0x71
        .set    IRQ0, 0x20              /* vectors */
        .set    IRQ4, 0x24
        .set    IRQ7, 0x27
        .set    IRQ8, 0x28
        .set    CASCADE, 0x04

        .set    IF, 0x200

        .text
        .globl  checks
checks:
        call    pic_init
        call    timer
        call    shadows
        call    priorities
        call    masks
        call    channel2
        call    cascade
        ret

        .macro  out port, value
        movb    $\value, %al
        outb    %al, $\port
        .endm

pic_init:
        out     PIC1, 0x11
        out     PIC2, 0x11
        out     PIC1+1, IRQ0
        out     PIC2+1, IRQ8
        out     PIC1+1, CASCADE
        out     PIC2+1, 2
        out     PIC1+1, 1
        out     PIC2+1, 1
        out     PIC1+1, 0xff
        out     PIC2+1, 0xff
        ret

/* Lets channel 0 run out once, AX input cycles from now (mode 0). */
one_shot:
        pushl   %eax
        out     PIT_COMMAND, 0x30
        popl    %eax
        outb    %al, $PIT0
        movb    %ah, %al
        outb    %al, $PIT0
        ret

/* Makes IRQ 0 pending and waits, by polling, until the PIC has it. */
raise_irq0:
        movl    $100, %eax
        call    one_shot
        out     PIC1, READ_IRR
1:      inb     $PIC1, %al
        testb   $1, %al
        jz      1b
        ret

count_irq0:                     /* the plainest handler */
        pushl   %eax
        incl    ticks
        out     PIC1, EOI
        popl    %eax
        iret

spurious_irq7:                  /* a request withdrawn: no EOI */
        iret

timer:
        gate    IRQ7, spurious_irq7, INTERRUPT_GATE
        gate    IRQ0, count_irq0, INTERRUPT_GATE
        movl    $0, ticks
        call    raise_irq0
        out     PIC1+1, 0xfe
        check   "interrupts off: nothing is delivered", ticks, $0
        sti
        nop
        cli
        check   "interrupts on: it is", ticks, $1
        out     PIC1, READ_IRR
        inb     $PIC1, %al
        andl    $1, %eax
        check   "... and no longer pending", %eax, $0

        movl    $1193, %eax             /* 1 ms */
        call    one_shot
        sti
        hlt
        cli
        check   "HLT is ended by the timer", ticks, $2

        out     PIT_COMMAND, 0x34       /* rate generator */
        out     PIT0, 0xa9              /* 1193 cycles: 1 kHz */
        out     PIT0, 0x04
        movl    $20, %ecx
        movl    $0, ticks
1:      sti
        hlt
        cli
        loop    1b
        cmpl    $20, ticks
        setae   %al
        movzbl  %al, %eax
        check   "periodic: HLT wakes at each tick", %eax, $1
        movl    $0, ticks
        sti
2:      cmpl    $50, ticks              /* a loop that only an interrupt ends */
        jb      2b
        cli
        check   "periodic: a busy loop is interrupted", $1, $1
        movl    $100, %eax              /* no longer periodic; let a last tick pass */
        call    one_shot
        movl    $20000, %ecx
        sti
3:      inb     $0x61, %al
        loop    3b
        cli

        gate    IRQ0, eflags_irq0, INTERRUPT_GATE
        call    raise_irq0
        stc
        sti
        nop
        cli
        check   "an interrupt gate clears IF", inner_eflags, $2+1
        check   "... and saves it set", saved_eflags, $IF+2+1
        gate    IRQ0, eflags_irq0, TRAP_GATE
        call    raise_irq0
        clc
        sti
        nop
        cli
        check   "a trap gate leaves IF", inner_eflags, $IF+2
        ret

eflags_irq0:                    /* keeps CF, PF and ZF out of the way but CF, IF */
        pushfl
        popl    inner_eflags
        andl    $IF | 3, inner_eflags
        pushl   8(%esp)
        popl    saved_eflags
        andl    $IF | 3, saved_eflags
        pushl   %eax
        out     PIC1, EOI
        popl    %eax
        iret

/* Where the interrupt comes: note_irq0 keeps the EIP it interrupted. */
        .macro  interrupted_at text, eip
        check   "\text", interrupted_eip, $\eip
        .endm

note_irq0:
        pushl   %eax
        movl    4(%esp), %eax
        movl    %eax, interrupted_eip
        out     PIC1, EOI
        popl    %eax
        iret

shadows:
        gate    IRQ0, note_irq0, INTERRUPT_GATE
        movl    $0, interrupted_eip
        call    raise_irq0
        sti
        cli
        check   "STI, CLI: no interrupt between", interrupted_eip, $0
        sti
        nop
1:      nop
        cli
        interrupted_at "STI holds off for one instruction", 1b
        call    raise_irq0
        sti
        hlt
1:      cli
        interrupted_at "STI, HLT: after HLT", 1b
        call    raise_irq0
        pushl   $IF | 2
        popfl
1:      nop
        cli
        interrupted_at "POPF does not hold off", 1b
        call    raise_irq0
        pushl   $IF | 2
        pushl   $KERNEL_CS
        pushl   $1f
        iret
1:      nop
        cli
        interrupted_at "IRET does not hold off", 1b
        call    raise_irq0
        sti
        sti
1:      nop
        cli
        interrupted_at "STI, STI: only the first holds off", 1b
        movl    $0, interrupted_eip
        int     $IRQ0
1:      interrupted_at "INT n of an interrupt's vector", 1b
        ret

/* Two lines at once. The handlers write what they do into `history`, four bits
 * each, the latest lowest. IRQ 4 comes from COM1, whose transmitter is empty. */
        .macro  note event
        shll    $4, history
        orl     $\event, history
        .endm

raise_irq4:
        movw    $COM1 + 4, %dx
        movb    $8, %al                 /* OUT2 lets the interrupt through */
        outb    %al, %dx
        movw    $COM1 + 1, %dx
        movb    $2, %al                 /* transmitter empty */
        outb    %al, %dx
        out     PIC1, READ_IRR
1:      inb     $PIC1, %al
        testb   $0x10, %al
        jz      1b
        ret

quiet_irq4:
        pushl   %edx
        movw    $COM1 + 2, %dx
        inb     %dx, %al
        decl    %edx
        xorl    %eax, %eax
        outb    %al, %dx
        popl    %edx
        ret

plain_irq0:                     /* 1: in IRQ 0 */
        pushl   %eax
        note    1
        out     PIC1, EOI
        popl    %eax
        iret

plain_irq4:                     /* 4: in IRQ 4 */
        pushl   %eax
        note    4
        call    quiet_irq4
        out     PIC1, EOI
        popl    %eax
        iret

open_irq0:                      /* 1, with interrupts on 2, and 3 behind the EOI */
        pushl   %eax
        note    1
        sti
        nop
        note    2
        cli
        out     PIC1, EOI
        sti
        nop
        note    3
        cli
        popl    %eax
        iret

open_irq4:                      /* 4, then raises IRQ 0, and 5 when that is over */
        pushl   %eax
        note    4
        call    quiet_irq4
        out     PIC1, READ_ISR
        inb     $PIC1, %al
        movb    %al, in_service
        call    raise_irq0
        sti
        nop
        note    5
        cli
        out     PIC1, 0x64              /* specific EOI for line 4 */
        popl    %eax
        iret

priorities:
        out     PIC1+1, 0xee            /* IRQ 0 and 4 */
        gate    IRQ0, plain_irq0, INTERRUPT_GATE
        gate    IRQ4, plain_irq4, INTERRUPT_GATE
        movl    $0, history
        call    raise_irq4
        call    raise_irq0
        sti
        nop
        nop
        nop
        cli
        check   "two at once: the lower line comes first", history, $0x14

        gate    IRQ0, open_irq0, INTERRUPT_GATE
        movl    $0, history
        call    raise_irq4
        call    raise_irq0
        sti
        nop
        nop
        nop
        cli
        check   "IRQ 4 waits for the EOI of IRQ 0", history, $0x1243

        gate    IRQ0, plain_irq0, INTERRUPT_GATE
        gate    IRQ4, open_irq4, INTERRUPT_GATE
        movl    $0, history
        call    raise_irq4
        sti
        nop
        nop
        nop
        cli
        check   "IRQ 0 interrupts the handler of IRQ 4", history, $0x415
        movzbl  in_service, %eax
        check   "the in-service register shows line 4", %eax, $0x10
        out     PIC1, READ_ISR
        inb     $PIC1, %al
        movzbl  %al, %eax
        check   "... and nothing after the EOI", %eax, $0
        ret

masks:
        gate    IRQ0, count_irq0, INTERRUPT_GATE
        movl    $0, ticks
        out     PIC1+1, 0xff
        inb     $PIC1+1, %al
        movzbl  %al, %eax
        check   "the mask can be read", %eax, $0xff
        call    raise_irq0
        sti
        nop
        nop
        cli
        check   "masked: not delivered", ticks, $0
        out     PIC1+1, 0xfe
        sti
        nop
        nop
        cli
        check   "unmasked: delivered then", ticks, $1
        ret

/* Counter 2, its gate at port 61h bit 0, its output at bit 5. */
latch_counter2:                 /* into EAX */
        out     PIT_COMMAND, 0x80
        inb     $PIT2, %al
        movb    %al, %ah
        inb     $PIT2, %al
        xchgb   %al, %ah
        movzwl  %ax, %eax
        ret

channel2:
        inb     $0x61, %al
        andb    $~3, %al
        outb    %al, $0x61              /* gate low */
        out     PIT_COMMAND, 0xb0       /* mode 0 */
        out     PIT2, 0x00
        out     PIT2, 0x20
        qemu_differs 3f         /* it starts counting at once */
        call    latch_counter2
        movl    %eax, %ebx
        call    latch_counter2
        check   "counter 2 stands while its gate is low", %eax, %ebx
        inb     $0x61, %al
        andl    $0x20, %eax
        check   "... and its output is low", %eax, $0
3:      out     PIT_COMMAND, 0xe8       /* read back its status */
        inb     $PIT2, %al
        andl    $0x3f, %eax
        check   "its status: mode 0, two bytes, binary", %eax, $0x30
        inb     $0x61, %al
        orb     $1, %al
        outb    %al, $0x61
        call    latch_counter2
        movl    %eax, %ebx
1:      call    latch_counter2
        cmpl    %eax, %ebx
        je      1b
        check   "with the gate high it counts", $1, $1
2:      inb     $0x61, %al
        testb   $0x20, %al
        jz      2b
        check   "and its output rises in the end", $1, $1
        ret

/* IRQ 8, from the real-time clock, comes by way of the second PIC. */
rtc_irq8:
        pushl   %eax
        incl    ticks
        out     PIC1, READ_ISR
        inb     $PIC1, %al
        movb    %al, in_service
        out     PIC2, READ_ISR
        inb     $PIC2, %al
        movb    %al, in_service + 1
        out     CMOS_INDEX, 0x0c        /* reading register C ends the request */
        inb     $CMOS_DATA, %al
        out     PIC2, EOI
        out     PIC1, EOI
        popl    %eax
        iret

cascade:
        gate    IRQ8, rtc_irq8, INTERRUPT_GATE
        movl    $0, ticks
        movl    $0, in_service
        out     CMOS_INDEX, 0x0c
        inb     $CMOS_DATA, %al
        out     CMOS_INDEX, 0x0b
        inb     $CMOS_DATA, %al
        movb    %al, %bl
        orb     $0x40, %bl              /* PIE: periodic, 1,024 Hz as reset leaves it */
        out     CMOS_INDEX, 0x0a
        out     CMOS_DATA, 0x26
        out     CMOS_INDEX, 0x0b
        movb    %bl, %al
        outb    %al, $CMOS_DATA
        out     PIC1+1, 0xfb            /* only the cascade */
        out     PIC2+1, 0xfe
1:      sti
        hlt
        cli
        cmpl    $5, ticks
        jb      1b
        check   "the clock ticks through the second PIC", ticks, $5
        check   "in service: line 2 there, line 0 here", in_service, $0x0104
        out     CMOS_INDEX, 0x0b
        movb    %bl, %al
        andb    $~0x40, %al
        outb    %al, $CMOS_DATA
        out     PIC1+1, 0xff
        out     PIC2+1, 0xff
        ret

        .bss
        .balign 4
ticks:  .skip   4
inner_eflags: .skip 4
saved_eflags: .skip 4
interrupted_eip: .skip 4
history: .skip  4
in_service: .skip 4

        .section .note.GNU-stack, "", @progbits
