/* A process made, run and buried, as a kernel does it: the page table of its
 * parent is copied with all pages read-only in both, the child writes to some
 * of its pages, which get frames of their own, and ends; then the parent writes
 * to its own again. */
#include "guest.h"

#define IMAGE_PAGES 64
#define WRITTEN 4
#define WRITTEN_STEP (IMAGE_PAGES / WRITTEN)
#define RIGHTS (PAGE_PRESENT | PAGE_WRITABLE | PAGE_USER)
#define TABLE __attribute__((aligned(4096)))
#define FORKS 10

static u32 parent_table[1024] TABLE, child_table[1024] TABLE, child_directory[1024] TABLE;
static u32 frames_given, child_runs;

void fork_init(void)
{
    for (u32 i = 0; i < IMAGE_PAGES; i++)
        parent_table[i] = (FORK_FRAMES + i * PAGE_BYTES) | RIGHTS;
    directory[FORK >> 22] = (u32)parent_table | RIGHTS;
}

/* A write to a page that both have: the child gets a copy, in a frame of the
 * arena, where the kernel reaches it; the parent, alone by then, its page back. */
void copy_on_write(u32 address)
{
    u32 index = address >> 12 & 1023;
    if (!child_runs) {
        parent_table[index] |= PAGE_WRITABLE;
    } else {
        u32 slot = ARENA + frames_given++ * PAGE_BYTES;
        memcpy((void *)slot, (const void *)(address & FRAME_MASK), PAGE_BYTES);
        child_table[index] = (arena_table[slot >> 12 & 1023] & FRAME_MASK) | RIGHTS;
    }
    invlpg(address);
}

/* What both do: writes, one to a page. */
static void write_some(void)
{
    for (u32 i = 0; i < WRITTEN; i++)
        *(volatile u32 *)(FORK + i * WRITTEN_STEP * PAGE_BYTES) += 1;
}

static void fork_and_wait(void)
{
    memcpy(child_directory, directory, PAGE_BYTES);
    child_directory[FORK >> 22] = (u32)child_table | RIGHTS;
    memset(child_table, 0, PAGE_BYTES);
    for (u32 i = 0; i < IMAGE_PAGES; i++) {
        parent_table[i] &= ~PAGE_WRITABLE;
        child_table[i] = parent_table[i];
    }
    frames_given = 0;
    child_runs = 1;
    write_cr3((u32)child_directory);
    run_in_ring3(write_some);
    child_runs = 0;
    write_cr3((u32)directory);
    run_in_ring3(write_some);
}

static void forkwait_batch(void)
{
    for (u32 i = 0; i < FORKS; i++)
        fork_and_wait();
}

static void nothing(void) {}

const struct row forkwait_row = { "forkwait", FORKS, forkwait_batch, nothing, NULL };
