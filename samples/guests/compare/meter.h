/* How costs are measured, in ring 0, in ring 3 and under Linux alike.
 *
 * A batch of operations is timed by the TSC, many times over; the same loop
 * without the operation is timed too, and the shortest of those is taken off.
 * What is left is said on a line of its own, for `ring1 compare`:
 *
 *     COMPARE name operations minimum median
 *
 * in cycles a batch. Whoever links this provides `print`. */
#ifndef METER_H
#define METER_H

#include "../default/cpu.h"
#include "../default/format.h"

#define MAX_BATCHES 300
#define TLB_PAGES 4096u

typedef void (*step)(void);

/* One row: `batch` does `operations`, `empty` all but them; `prepare`, which
 * may be NULL, goes before each batch and is not timed. */
struct row {
    const char *name;
    u32 operations;
    step batch, empty, prepare;
};

/* Times the row, in whichever ring this is called; the figures stay here. */
void meter_time(const struct row *row, u32 batches);

/* Says what was measured last. */
void meter_say(const struct row *row);

/* Both. */
void meter(const struct row *row, u32 batches);

void print(const char *pattern, ...);

/* A loop of `count` rounds that counts by SUB: what DEC costs depends, in a
 * translator, on who set the carry flag that it keeps. */
#define TIMES(count) for (u32 left = count; left; ({ __asm__ volatile("subl $1, %0" : "+r"(left) : : "cc"); }))

/* A row whose operation is the given assembly, ten times a round, so that the
 * loop counts for little. It changes EAX, ECX, EDX and flags at most. */
#define ROW_OF(name, rounds, text, prepare)                                                              \
    static void name##_batch(void)                                                                       \
    {                                                                                                    \
        TIMES(rounds)                                                                                    \
            __asm__ volatile(".rept 10; " text "; .endr" : : : "eax", "edx", "ecx", "memory", "cc");     \
    }                                                                                                    \
    static void name##_empty(void)                                                                       \
    {                                                                                                    \
        TIMES(rounds)                                                                                    \
            __asm__ volatile("" : : : "eax", "edx", "ecx", "memory", "cc");                              \
    }                                                                                                    \
    static const struct row name##_row = { #name, 10 * rounds, name##_batch, name##_empty, prepare }

/* A call and its return. */
extern const struct row callret_row;

/* Reads of pages that no TLB holds. `tlb_region` has TLB_PAGES pages. */
extern const struct row tlbmiss_row;
extern volatile u8 *tlb_region;

#endif
