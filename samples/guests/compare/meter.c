/* The measuring, and the rows that need no kernel. */
#include "meter.h"

static u32 samples[MAX_BATCHES];
static u32 minimum, median;

static void sort(u32 *values, u32 count)
{
    for (u32 i = 1; i < count; i++) {
        u32 value = values[i], j = i;
        for (; j > 0 && values[j - 1] > value; j--)
            values[j] = values[j - 1];
        values[j] = value;
    }
}

static void take(step timed, step prepare, u32 batches)
{
    for (u32 i = 0; i < batches; i++) {
        if (prepare)
            prepare();
        u64 start = rdtsc();
        timed();
        u64 cycles = rdtsc() - start;
        samples[i] = cycles >> 32 ? ~0u : (u32)cycles;
    }
    sort(samples, batches);
}

static u32 without(u32 cycles, u32 overhead) { return cycles > overhead ? cycles - overhead : 0; }

void meter_time(const struct row *row, u32 batches)
{
    take(row->empty, row->prepare, batches);
    u32 overhead = samples[0];
    take(row->batch, row->prepare, batches);
    minimum = without(samples[0], overhead);
    median = without(samples[batches / 2], overhead);
}

void meter_say(const struct row *row) { print("COMPARE %s %u %u %u\n", row->name, row->operations, minimum, median); }

void meter(const struct row *row, u32 batches)
{
    meter_time(row, batches);
    meter_say(row);
}

#define CALLS 1000

__attribute__((noinline)) static void callret_batch(void)
{
    TIMES(CALLS / 10)
        __asm__ volatile(".rept 10; call 1f; .endr; jmp 2f; 1: ret; 2:" : : : "memory", "cc");
}

__attribute__((noinline)) static void callret_empty(void)
{
    TIMES(CALLS / 10)
        __asm__ volatile("jmp 2f; 1: ret; 2:" : : : "memory", "cc");
}

const struct row callret_row = { "callret", CALLS, callret_batch, callret_empty, NULL };

volatile u8 *tlb_region;

/* One byte a page, in an order that no prefetcher guesses; each address waits
 * for the byte before, which is zero. Lines differ from page to page, so that
 * they share no cache set. */
static void tlbmiss_batch(void)
{
    u32 at = 0;
    for (u32 i = 0; i < TLB_PAGES; i++) {
        u32 page = i * 1103u % TLB_PAGES;
        at = tlb_region[page * 4096 + page % 64 * 64 + at];
    }
}

/* As many lines, in as few pages as can have them. */
static void tlbmiss_empty(void)
{
    u32 at = 0;
    for (u32 i = 0; i < TLB_PAGES; i++) {
        u32 line = i * 1103u % TLB_PAGES;
        at = tlb_region[line * 64 + at];
    }
}

const struct row tlbmiss_row = { "tlbmiss", TLB_PAGES, tlbmiss_batch, tlbmiss_empty, NULL };
