/* The 8259A pair, the 8254, and what happens at each trap.
 *
 * The kernel runs with interrupts off except where it waits for one, so a tick
 * finds either ring 3, and may take the processor away from it, or that wait. */
#include "kernel.h"

#define PIC1 0x20
#define PIC2 0xa0
#define PIC_EOI 0x20
#define PIT_CHANNEL0 0x40
#define PIT_COMMAND 0x43
#define PIT_INPUT_HZ 1193182u

volatile u32 timer_ticks;

void interrupts_init(void)
{
    outb(PIC1, 0x11); /* ICW1: edge triggered, cascade, ICW4 follows */
    outb(PIC2, 0x11);
    outb(PIC1 + 1, VECTOR_IRQ0);
    outb(PIC2 + 1, VECTOR_IRQ0 + 8);
    outb(PIC1 + 1, 0x04); /* ICW3: the second one is on line 2 */
    outb(PIC2 + 1, 0x02);
    outb(PIC1 + 1, 0x01); /* ICW4: 8086 mode, EOI by command */
    outb(PIC2 + 1, 0x01);
    outb(PIC1 + 1, 0xfe); /* only the timer */
    outb(PIC2 + 1, 0xff);
    u32 divisor = (PIT_INPUT_HZ + TIMER_HZ / 2) / TIMER_HZ;
    outb(PIT_COMMAND, 0x34); /* channel 0, low then high byte, rate generator */
    outb(PIT_CHANNEL0, divisor & 0xff);
    outb(PIT_CHANNEL0, divisor >> 8);
}

static void interrupt(struct frame *frame)
{
    u32 line = frame->vector - VECTOR_IRQ0;
    if (line >= 8)
        outb(PIC2, PIC_EOI);
    outb(PIC1, PIC_EOI);
    if (line != 0)
        return;
    timer_ticks++;
    if (frame->cs == USER_CS)
        schedule();
}

/* Called from entry.S for every vector but the system call's. */
void trap(struct frame *frame)
{
    if (frame->vector >= VECTOR_IRQ0) {
        interrupt(frame);
    } else if (frame->vector == VECTOR_PAGE_FAULT) {
        page_fault(frame);
    } else if (frame->cs == USER_CS) {
        print("  %-9s exception %u at %08x: killed\n", current->name, frame->vector, frame->eip);
        process_exit(128 + frame->vector);
    } else {
        print("kernel: exception %u, error %x, at %08x\n", frame->vector, frame->error, frame->eip);
        machine_exit(EXIT_FAILURE);
    }
}
