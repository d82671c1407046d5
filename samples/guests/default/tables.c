/* GDT, IDT and TSS: flat segments for two rings, a gate for each exception and
 * interrupt line and one for system calls, and the stack ring 0 starts on. */
#include "kernel.h"

#define GATE_INTERRUPT 0x8e /* present, DPL 0: interrupts stay off */
#define GATE_SYSTEM 0xee    /* present, DPL 3: ring 3 may call it */

/* Base 0, limit 4 GiB, 32 bits; only type and DPL differ. */
#define FLAT(access) (0x00cf00000000ffffull | (u64)(access) << 40)

struct tss {
    u32 back_link, esp0, ss0, unused[22];
    u16 trap, io_map;
};

static struct tss tss;
static u64 gdt[6] = { 0, FLAT(0x9a), FLAT(0x92), FLAT(0xfa), FLAT(0xf2), 0 };
static u64 idt[256];

static void set_gate(u32 vector, u32 handler, u32 kind)
{
    u64 high = (handler & 0xffff0000) | kind << 8;
    idt[vector] = high << 32 | KERNEL_CS << 16 | (handler & 0xffff);
}

static u64 tss_descriptor(void)
{
    u64 base = (u32)&tss, limit = sizeof tss - 1;
    return limit | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24) << 56;
}

void set_kernel_stack(u32 top, int have_sysenter)
{
    tss.esp0 = top;
    if (have_sysenter)
        wrmsr(MSR_SYSENTER_ESP, top);
}

void tables_init(int have_sysenter)
{
    for (u32 vector = 0; vector <= VECTOR_IRQ_LAST; vector++)
        set_gate(vector, vector_stubs[vector], GATE_INTERRUPT);
    set_gate(SYSTEM_CALL_VECTOR, (u32)system_call_entry, GATE_SYSTEM);
    tss.ss0 = KERNEL_DS;
    tss.io_map = sizeof tss; /* past the limit: ring 3 has no ports */
    gdt[TSS_SELECTOR / 8] = tss_descriptor();
    load_tables(gdt, sizeof gdt, idt, sizeof idt);
    if (have_sysenter) {
        wrmsr(MSR_SYSENTER_CS, KERNEL_CS);
        wrmsr(MSR_SYSENTER_EIP, (u32)sysenter_entry);
    }
}
