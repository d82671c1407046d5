/* Page frames and address spaces.
 *
 * The first 8 MiB are mapped at their own addresses in every space, for ring 0
 * only, so the kernel reaches any frame without a window. The page tables that
 * do this are shared; the kernel's code and constants are read-only in them,
 * and CR0.WP makes ring 0 respect that. A program's heap and stack begin empty
 * and get zeroed frames as they are touched. */
#include "kernel.h"

#define KERNEL_SPACE_BYTES 0x800000u
#define KERNEL_TABLES (KERNEL_SPACE_BYTES / (PAGE_BYTES * 1024))
#define FRAME_MASK (~(PAGE_BYTES - 1))

#define ERROR_PRESENT 1u
#define ERROR_WRITE 2u
#define ERROR_USER 4u

extern u8 kernel_data[], kernel_end[];

static u32 next_frame, free_frames, frames_used;
static u32 *kernel_directory;

u32 frame_alloc(void)
{
    u32 frame = free_frames;
    if (frame) {
        free_frames = *(u32 *)frame;
    } else if (next_frame < KERNEL_SPACE_BYTES) {
        frame = next_frame;
        next_frame += PAGE_BYTES;
    } else {
        print("kernel: out of memory\n");
        machine_exit(EXIT_FAILURE);
    }
    frames_used++;
    return (u32)memset((void *)frame, 0, PAGE_BYTES);
}

void frame_free(u32 frame)
{
    *(u32 *)frame = free_frames;
    free_frames = frame;
    frames_used--;
}

u32 frames_in_use(void) { return frames_used; }

void space_map(u32 *directory, u32 linear, u32 frame, u32 rights)
{
    u32 *entry = &directory[linear >> 22];
    if (!(*entry & PAGE_PRESENT))
        *entry = frame_alloc() | PAGE_PRESENT | PAGE_WRITABLE | (rights & PAGE_USER);
    u32 *table = (u32 *)(*entry & FRAME_MASK);
    table[linear >> 12 & 0x3ff] = frame | rights | PAGE_PRESENT;
}

u32 *space_create(void)
{
    u32 *directory = (u32 *)frame_alloc();
    for (u32 i = 0; i < KERNEL_TABLES; i++)
        directory[i] = kernel_directory[i];
    return directory;
}

/* Frees all that ring 3 could reach, the tables and the directory. */
void space_destroy(u32 *directory)
{
    for (u32 i = KERNEL_TABLES; i < 1024; i++) {
        if (!(directory[i] & PAGE_PRESENT))
            continue;
        u32 *table = (u32 *)(directory[i] & FRAME_MASK);
        for (u32 j = 0; j < 1024; j++)
            if (table[j] & PAGE_PRESENT)
                frame_free(table[j] & FRAME_MASK);
        frame_free((u32)table);
    }
    frame_free((u32)directory);
}

/* NULL stands for the kernel's own space. */
void space_switch(u32 *directory) { write_cr3((u32)(directory ? directory : kernel_directory)); }

void memory_init(void)
{
    next_frame = (u32)kernel_end;
    kernel_directory = (u32 *)frame_alloc();
    for (u32 at = 0; at < KERNEL_SPACE_BYTES; at += PAGE_BYTES) {
        int constant = at >= 0x100000 && at < (u32)kernel_data;
        space_map(kernel_directory, at, at, constant ? 0 : PAGE_WRITABLE);
    }
    space_switch(NULL);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

void page_fault(struct frame *frame)
{
    u32 address = read_cr2();
    if (current->pid != 0 && !(frame->error & ERROR_PRESENT) && process_may_use(address, 1)) {
        space_map(current->directory, address & FRAME_MASK, frame_alloc(), PAGE_WRITABLE | PAGE_USER);
        current->demand_pages++;
        return;
    }
    print("  %-9s page fault: %s of %s page %08x from ring %u, at %08x\n", current->name,
          frame->error & ERROR_WRITE ? "write" : "read",
          frame->error & ERROR_PRESENT ? "protected" : "absent", address, frame->cs & 3, frame->eip);
    if (!(frame->error & ERROR_USER))
        machine_exit(EXIT_FAILURE);
    process_exit(128 + VECTOR_PAGE_FAULT);
}
