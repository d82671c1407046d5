/* Measures what the machine charges for system calls, page faults and context
 * switches, in cycles of the time-stamp counter, and reports it to the VMM.
 *
 * A batch is short enough that most see no timer interrupt; the minimum is the
 * cost undisturbed, the median what one usually pays. */
#include "meter.h"

static u32 samples[BATCHES];

/* Sorts, by insertion: there are few. */
static void sort(u32 *values, u32 count)
{
    for (u32 i = 1; i < count; i++) {
        u32 value = values[i], j = i;
        for (; j > 0 && values[j - 1] > value; j--)
            values[j] = values[j - 1];
        values[j] = value;
    }
}

static u32 cycles_since(u64 start) { return (u32)(rdtsc() - start); }

static void null_by_int80(void)
{
    u32 number = SYS_NULL;
    __asm__ volatile("int $0x80" : "+a"(number) : : "memory");
}

static void null_by_sysenter(void)
{
    u32 number = SYS_NULL;
    __asm__ volatile("movl %%esp, %%ecx; movl $1f, %%edx; sysenter; 1:" : "+a"(number) : : "ecx", "edx", "memory");
}

static void publish(const char *what, u32 count, u32 min_key, u32 median_key)
{
    sort(samples, count);
    u32 min = samples[0], median = samples[count / 2];
    if (min_key)
        call_kernel(SYS_REPORT, min_key, min);
    call_kernel(SYS_REPORT, median_key, median);
    say("  %-24s min %6u  median %6u\n", what, min, median);
}

static void measure_int80(void)
{
    for (u32 i = 0; i < BATCHES; i++) {
        u64 start = rdtsc();
        for (u32 j = 0; j < CALLS_PER_BATCH; j++)
            null_by_int80();
        samples[i] = cycles_since(start) / CALLS_PER_BATCH;
    }
    publish("null call by INT 80h", BATCHES, REPORT_INT80_MIN, REPORT_INT80_MEDIAN);
}

static void measure_sysenter(void)
{
    for (u32 i = 0; i < BATCHES; i++) {
        u64 start = rdtsc();
        for (u32 j = 0; j < CALLS_PER_BATCH; j++)
            null_by_sysenter();
        samples[i] = cycles_since(start) / CALLS_PER_BATCH;
    }
    publish("null call by SYSENTER", BATCHES, REPORT_SYSENTER_MIN, REPORT_SYSENTER_MEDIAN);
}

/* Each first touch is a fault that the kernel answers with a zeroed page. */
static int measure_page_faults(void)
{
    volatile u8 *heap = grow_heap(FAULTS * 4096);
    u32 sum = 0;
    for (u32 i = 0; i < FAULTS; i++) {
        u64 start = rdtsc();
        sum += heap[i * 4096];
        samples[i] = cycles_since(start);
    }
    publish("page fault, zeroed page", FAULTS, 0, REPORT_PAGE_FAULT_MEDIAN);
    return sum == 0;
}

/* Two yields, the partner's and ours, make two switches. */
static void measure_switches(void)
{
    for (u32 i = 0; i < SWITCH_BATCHES; i++) {
        u64 start = rdtsc();
        for (u32 j = 0; j < SWITCHES_PER_BATCH / 2; j++)
            call_kernel(SYS_YIELD, 0, 0);
        samples[i] = cycles_since(start) / SWITCHES_PER_BATCH;
    }
    publish("yield to another process", SWITCH_BATCHES, 0, REPORT_CONTEXT_SWITCH_MEDIAN);
}

int main(void)
{
    measure_switches();
    measure_int80();
    if (have_sysenter()) {
        if (call_kernel_fast(SYS_GETPID, 0, 0) != call_kernel(SYS_GETPID, 0, 0))
            return 1;
        measure_sysenter();
    }
    return measure_page_faults() ? 0 : 2;
}
