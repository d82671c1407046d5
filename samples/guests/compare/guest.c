/* The guest of `ring1 compare`: each operation of which a virtual machine
 * monitor makes more, or less, than the processor does, timed one by one.
 *
 * It needs no more of a kernel than the ways in and out of rings (entry.S) and
 * page tables (space.c, fork.c). It ends by a line DONE and the debug-exit port. */
#include "guest.h"

#define CPUID_APIC (1u << 9)
#define CPUID_SEP (1u << 11)
#define COM1_IER 0x3f9
#define UART_IRQ 4
#define PAGES 16

static int have_apic, have_sysenter;

/* Ring 3 to ring 0 and back. */
ROW_OF(int80, 10, "xorl %%eax, %%eax; int $0x80", NULL);
ROW_OF(syscall, 10, "xorl %%eax, %%eax; movl %%esp, %%ecx; movl $1f, %%edx; sysenter; 1:", NULL);

/* What a vDSO does for the time of day: a page that the kernel keeps, read
 * until it did not change meanwhile, and the TSC. */
static volatile struct {
    u32 sequence, multiplier, shift;
    u64 base;
} time_page = { 2, 0x5a3c, 16, 0 };

__attribute__((noinline)) static u64 time_of_day(void)
{
    u32 sequence;
    u64 now;
    do {
        while ((sequence = time_page.sequence) & 1)
            ;
        now = time_page.base + ((rdtsc() & 0xffffffff) * time_page.multiplier >> time_page.shift);
    } while (sequence != time_page.sequence);
    return now;
}

static void vdso_batch(void)
{
    TIMES(100) {
        u64 now = time_of_day();
        __asm__ volatile("" : : "A"(now));
    }
}

static void hundred(void)
{
    TIMES(100)
        __asm__ volatile("");
}

static const struct row vdso_row = { "vdso", 100, vdso_batch, hundred, NULL };

/* Ports of a device that is all in the monitor: the progress code. */
ROW_OF(in, 10, "inb $0x80, %%al", NULL);
ROW_OF(out, 10, "outb %%al, $0x80", NULL);

/* The local APIC: its task priority, which CR8 is in 64-bit code, and a read. */
ROW_OF(cr8wr, 10, "xorl %%eax, %%eax; movl %%eax, 0xfee00080", NULL);
ROW_OF(mmio, 10, "movl 0xfee00030, %%eax", NULL);

ROW_OF(divzero, 10, "xorl %%ecx, %%ecx; divl %%ecx", NULL);

/* A page table entry that nothing uses: absent, present, absent … */
ROW_OF(ptemod, 100, "xorl $0x2000007, arena_table + 4 * 1023", arena_empty);

/* The touch of a page that is absent: fault, entry, touch again. */
static void touch_pages(void)
{
    for (u32 i = 0; i < 256; i++)
        *(volatile u8 *)(ARENA + i * PAGE_BYTES);
}

static void touch_one(void)
{
    for (u32 i = 0; i < 256; i++)
        *(volatile u8 *)TLB;
}

static const struct row pgfault_row = { "pgfault", 256, touch_pages, touch_one, arena_empty };

/* INVLPG, and the read after it that needs the translation again. */
static void invlpg_batch(void)
{
    TIMES(100) {
        invlpg(TLB);
        *(volatile u8 *)TLB;
    }
}

static void invlpg_empty(void)
{
    TIMES(100)
        *(volatile u8 *)TLB;
}

static const struct row invlpg_row = { "invlpg", 100, invlpg_batch, invlpg_empty, NULL };

static void touch_some(void)
{
    for (u32 i = 0; i < PAGES; i++)
        *(volatile u8 *)(TLB + i * PAGE_BYTES);
}

/* To the other address space and back, pages touched in each. */
static void switch_batch(void)
{
    TIMES(50) {
        write_cr3((u32)other_directory);
        touch_some();
        write_cr3((u32)directory);
        touch_some();
    }
}

static void switch_empty(void)
{
    TIMES(100)
        touch_some();
}

static const struct row switch_row = { "ctxswitch", 100, switch_batch, switch_empty, NULL };

/* The UART asks for an interrupt as soon as it may, its transmitter being
 * empty; the handler withdraws the request. */
static void interrupt_batch(void)
{
    TIMES(100) {
        u32 before = interrupts;
        outb(COM1_IER, 2);
        while (interrupts == before)
            ;
    }
}

/* The same two writes, and no interrupt. */
static void interrupt_empty(void)
{
    TIMES(100) {
        outb(COM1_IER, 0);
        outb(COM1_IER, 0);
    }
}

static const struct row interrupt_row = { "interrupt", 100, interrupt_batch, interrupt_empty, NULL };

static void interrupt_row_measured(void)
{
    outb(COM1_IER + 3, 0x08); /* OUT2: a PC's UART reaches its line through it */
    __asm__ volatile("sti");
    meter_time(&interrupt_row, MAX_BATCHES);
    __asm__ volatile("cli");
    meter_say(&interrupt_row);
}

/* The 8259A: only line 4, and no command needed to end an interrupt. */
static void controller_init(void)
{
    outb(0x20, 0x11);
    outb(0x21, VECTOR_IRQ0);
    outb(0x21, 0x04);
    outb(0x21, 0x03); /* ICW4: 8086 mode, automatic EOI */
    outb(0x21, (u8)~(1u << UART_IRQ));
    outb(0xa1, 0xff);
}

/* Called from entry.S. */
void unexpected_trap(u32 vector, u32 error, u32 eip)
{
    print("unexpected trap %u, error %x, at %08x, address %08x\n", vector, error, eip, read_cr2());
    machine_exit(EXIT_FAILURE);
}

static const struct row *in_ring3;

static void time_in_ring3(void) { meter_time(in_ring3, MAX_BATCHES); }

static void from_ring3(const struct row *row)
{
    in_ring3 = row;
    run_in_ring3(time_in_ring3);
    meter_say(row);
}

static void find_features(void)
{
    u32 ignore, features;
    cpuid(1, &ignore, &ignore, &ignore, &features);
    have_apic = features & CPUID_APIC;
    have_sysenter = features & CPUID_SEP;
}

static void measure_rings(void)
{
    if (have_sysenter)
        from_ring3(&syscall_row);
    from_ring3(&int80_row);
    from_ring3(&vdso_row);
    meter(&callret_row, MAX_BATCHES);
    meter(&divzero_row, MAX_BATCHES);
}

static void measure_devices(void)
{
    meter(&in_row, MAX_BATCHES);
    meter(&out_row, MAX_BATCHES);
    if (have_apic) {
        meter(&cr8wr_row, MAX_BATCHES);
        meter(&mmio_row, MAX_BATCHES);
    }
    interrupt_row_measured();
}

static void measure_memory(void)
{
    meter(&pgfault_row, MAX_BATCHES);
    meter(&ptemod_row, MAX_BATCHES);
    meter(&invlpg_row, MAX_BATCHES);
    meter(&switch_row, MAX_BATCHES);
    tlb_region = (volatile u8 *)TLB;
    meter(&tlbmiss_row, 100);
    fork_init();
    touch_pages(); /* where copies go */
    meter(&forkwait_row, 100);
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic;
    (void)info;
    console_init();
    print("\n"); /* firmware may have left the line begun */
    controller_init();
    find_features();
    tables_init(have_sysenter);
    set_kernel_stack((u32)entry_stack_top, have_sysenter);
    space_init(have_apic);
    measure_rings();
    measure_devices();
    measure_memory();
    print("DONE\n");
    machine_exit(EXIT_SUCCESS);
}
