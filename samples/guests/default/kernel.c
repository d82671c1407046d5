/* The guest that ring1 carries: what it does, in order.
 *
 * It shows each thing a kernel needs of the machine, checks the results, and
 * says so on COM1. It ends by the debug-exit port, 10h for success. */
#include "kernel.h"

#define MULTIBOOT_MAGIC 0x2badb002
#define CPUID_TSC (1u << 4)
#define CPUID_SEP (1u << 11)
#define CALIBRATION_TICKS 5

/* SEP is also set on early Pentium Pros, which do not have the instructions. */
static int print_processor(void)
{
    u32 name[4] = { 0 }, signature, ignore, features, highest;
    cpuid(0, &highest, &name[0], &name[2], &name[1]);
    cpuid(1, &signature, &ignore, &ignore, &features);
    u32 family = signature >> 8 & 15, model = signature >> 4 & 15, stepping = signature & 15;
    int have_sysenter = (features & CPUID_SEP) && !(family == 6 && model < 3 && stepping < 3);
    print("  processor %s, family %u, model %u; SYSENTER: %s\n", (char *)name, family, model,
          have_sysenter ? "yes" : "no");
    return have_sysenter;
}

static void print_memory(u32 magic, const u32 *info)
{
    if (magic == MULTIBOOT_MAGIC && (info[0] & 1))
        print("  memory    %u KiB below 1 MiB, %u KiB above, says the loader\n", info[1], info[2]);
    else
        print("  memory    size unknown: no Multiboot loader\n");
}

/* Sleeps through some ticks, which shows HLT, the timer and the TSC at once. */
static void print_timer(void)
{
    wait_for_interrupt();
    u32 first_tick = timer_ticks;
    u64 start = rdtsc();
    while (timer_ticks - first_tick < CALIBRATION_TICKS)
        wait_for_interrupt();
    u32 cycles = (u32)(rdtsc() - start);
    print("  timer     %u Hz; halted for %u ticks; the TSC runs at %u MHz\n", TIMER_HZ, CALIBRATION_TICKS,
          cycles / (CALIBRATION_TICKS * (1000000 / TIMER_HZ)));
}

static void print_end(const struct process *process)
{
    print("  %-9s exit %u after %u time slices, %u system calls, %u pages on demand\n", process->name,
          process->exit_status, process->slices, process->system_calls, process->demand_pages);
}

static void expect(int condition, const char *what)
{
    if (condition)
        return;
    print("FAILED: %s\n", what);
    machine_exit(EXIT_FAILURE);
}

static void run_pair(void)
{
    print("two processes in ring 3, each in an address space of its own\n");
    struct process *sieve = process_start("sieve", program_sieve);
    struct process *crc = process_start("crc", program_crc);
    u32 before = timer_ticks;
    processes_run();
    print_end(sieve);
    print_end(crc);
    print("  timer     %u ticks meanwhile\n", timer_ticks - before);
    expect(sieve->exit_status == 0 && crc->exit_status == 0, "a process found a wrong result");
}

static void run_trespasser(void)
{
    print("a process that reaches for the kernel\n");
    struct process *trespass = process_start("trespass", program_trespass);
    processes_run();
    expect(trespass->exit_status == 128 + VECTOR_PAGE_FAULT, "ring 3 wrote to the kernel");
    print("  kernel    process killed; nothing else was touched\n");
}

static void run_meter(int have_sysenter)
{
    print("what it costs, in TSC cycles\n");
    struct process *meter = process_start(have_sysenter ? "sysenter" : "int80", program_meter);
    struct process *partner = process_start("partner", program_partner);
    processes_run();
    expect(meter->exit_status == 0 && partner->exit_status == 0, "the measurement failed");
}

void kernel_main(u32 magic, const u32 *info)
{
    console_init();
    print("hello from a guest: a small 32-bit kernel of ring1's own\n");
    int have_sysenter = print_processor();
    print_memory(magic, info);
    tables_init(have_sysenter);
    interrupts_init();
    print("  tables    GDT, IDT and TSS loaded; 8259A lines at vectors %u to %u\n", VECTOR_IRQ0, VECTOR_IRQ_LAST);
    print_timer();
    memory_init();
    processes_init(have_sysenter);
    u32 frames = frames_in_use();
    print("  paging    on; 8 MiB mapped for ring 0, code write-protected\n");
    run_pair();
    run_trespasser();
    run_meter(have_sysenter);
    expect(frames_in_use() == frames, "page frames were lost");
    print("all is well: every page frame is back, good bye\n");
    machine_exit(EXIT_SUCCESS);
}
