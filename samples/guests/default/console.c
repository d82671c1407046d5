/* The ways out of the machine: COM1, polled; the report port; the debug exit. */
#include "kernel.h"

#define COM1 0x3f8
#define LSR_TRANSMIT_EMPTY 0x20
#define DEBUG_EXIT_PORT 0xf4
#define REPORT_PORT 0xf5

void console_init(void)
{
    outb(COM1 + 1, 0x00); /* no interrupts */
    outb(COM1 + 3, 0x80); /* divisor latch: 115,200 baud */
    outb(COM1 + 0, 0x01);
    outb(COM1 + 1, 0x00);
    outb(COM1 + 3, 0x03); /* 8 data bits, no parity, 1 stop bit */
    outb(COM1 + 2, 0x07); /* FIFOs on and empty */
}

static void put(char c)
{
    while (!(inb(COM1 + 5) & LSR_TRANSMIT_EMPTY))
        ;
    outb(COM1, c);
}

void console_write(const char *text, u32 length)
{
    for (u32 i = 0; i < length; i++) {
        if (text[i] == '\n')
            put('\r');
        put(text[i]);
    }
}

void print(const char *pattern, ...)
{
    char line[160];
    arguments list;
    arguments_begin(list, pattern);
    console_write(line, format(line, sizeof line, pattern, list));
    arguments_end(list);
}

void machine_report(u32 key, u32 value)
{
    outl(REPORT_PORT, key);
    outl(REPORT_PORT, value);
}

_Noreturn void machine_exit(u32 status)
{
    outb(DEBUG_EXIT_PORT, status);
    for (;;)
        __asm__ volatile("cli; hlt");
}
