/* What every program has: system calls and a way to speak. */
#ifndef USER_H
#define USER_H

#include "../abi.h"
#include "../cpu.h"
#include "../format.h"

u32 call_kernel(u32 number, u32 first, u32 second);
u32 call_kernel_fast(u32 number, u32 first, u32 second);

/* One line, written by one system call so that no other process gets between. */
void say(const char *pattern, ...);

/* Grows the heap by `bytes`, which read as zero. */
void *grow_heap(u32 bytes);

/* Whether SYSENTER may be used. */
int have_sysenter(void);

#endif
