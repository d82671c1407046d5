/* The guest's parts and what each offers the others. */
#ifndef GUEST_H
#define GUEST_H

#include "../default/kernel.h"
#include "meter.h"

#define PAGE_UNCACHED 0x10u
#define FRAME_MASK (~(PAGE_BYTES - 1))

/* Frames that tables give out; the image is below. entry.S knows the first. */
#define ARENA_FRAMES 0x02000000u
#define FORK_FRAMES 0x02400000u
#define TLB_FRAMES 0x03000000u

/* What is mapped where, in both address spaces. */
#define ARENA 0x20000000u  /* 4 MiB, on demand */
#define FORK 0x30000000u   /* a process's image */
#define TLB 0x40000000u    /* for the TLB's row */
#define LOCAL_APIC 0xfee00000u

/* space.c */
extern u32 directory[1024], other_directory[1024];
extern u32 arena_table[1024];
void space_init(int have_apic);
void arena_empty(void);

/* fork.c */
extern const struct row forkwait_row;
void fork_init(void);
void copy_on_write(u32 address);

/* entry.S */
void run_in_ring3(void (*function)(void));
extern volatile u32 interrupts;
extern u8 entry_stack_top[];

static inline void invlpg(u32 linear) { __asm__ volatile("invlpg (%0)" : : "r"(linear) : "memory"); }

#endif
