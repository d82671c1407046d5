/* The program of `ring1 compare`: what a user sees of the same operations,
 * through Linux: on the host, or in a guest of which it is the first process.
 *
 * It is static and needs no C library. As process 1 it ends by switching the
 * machine off. */
#include "linux.h"
#include "meter.h"

#define BATCHES 200
#define FEW 30

static u32 by_vsyscall;
static int (*clock_gettime)(u32 clock, void *time);

void print(const char *pattern, ...)
{
    char line[160];
    arguments list;
    arguments_begin(list, pattern);
    u32 length = format(line, sizeof line, pattern, list);
    arguments_end(list);
    linux_call(SYS_WRITE, 1, (u32)line, length, 0, 0);
}

ROW_OF(int80, 10, "movl $64, %%eax; int $0x80", NULL);

/* By the way that the kernel recommends: SYSENTER, or SYSCALL on AMD's. */
static void syscall_batch(void)
{
    TIMES(100) {
        u32 result = SYS_GETPPID;
        __asm__ volatile("call *%1" : "+a"(result) : "m"(by_vsyscall) : "memory");
    }
}

static void hundred(void)
{
    TIMES(100)
        __asm__ volatile("");
}

static const struct row syscall_row = { "syscall", 100, syscall_batch, hundred, NULL };

static void vdso_batch(void)
{
    u32 time[2];
    TIMES(100)
        clock_gettime(1, time); /* CLOCK_MONOTONIC */
}

static const struct row vdso_row = { "vdso", 100, vdso_batch, hundred, NULL };

#define TOUCHED 64

static volatile u8 *fresh;

static void forget_pages(void) { linux_call(SYS_MADVISE, (u32)fresh, TOUCHED * 4096, MADV_DONTNEED, 0, 0); }

static void touch_pages(void)
{
    for (u32 i = 0; i < TOUCHED; i++)
        fresh[i * 4096] = 1;
}

static void touch_one(void)
{
    for (u32 i = 0; i < TOUCHED; i++)
        fresh[0] = 1;
}

static const struct row pgfault_row = { "pgfault", TOUCHED, touch_pages, touch_one, forget_pages };

ROW_OF(sigfpe, 1, "xorl %%ecx, %%ecx; divl %%ecx", NULL);

/* Protected, and opened again, with a write that shows it. */
static void mprotect_batch(void)
{
    TIMES(10) {
        linux_call(SYS_MPROTECT, (u32)fresh, 4096, PROT_READ, 0, 0);
        linux_call(SYS_MPROTECT, (u32)fresh, 4096, PROT_READ | PROT_WRITE, 0, 0);
        fresh[0] = 0;
    }
}

static void nothing(void) {}

static const struct row mprotect_row = { "mprotect", 10, mprotect_batch, nothing, NULL };

static void forkwait_batch(void)
{
    int child = linux_call(SYS_FORK, 0, 0, 0, 0, 0);
    if (child == 0)
        linux_call(SYS_EXIT, 0, 0, 0, 0, 0);
    linux_call(SYS_WAITPID, (u32)child, 0, 0, 0, 0);
}

static const struct row forkwait_row = { "forkwait", 1, forkwait_batch, nothing, NULL };

static int there[2], back[2];

/* Ends when the other end of its pipe is closed. */
static void answer(void)
{
    u8 byte;
    linux_call(SYS_CLOSE, (u32)there[1], 0, 0, 0, 0);
    while (linux_call(SYS_READ, (u32)there[0], (u32)&byte, 1, 0, 0) == 1)
        linux_call(SYS_WRITE, (u32)back[1], (u32)&byte, 1, 0, 0);
    linux_call(SYS_EXIT, 0, 0, 0, 0, 0);
}

static void pingpong_batch(void)
{
    u8 byte = 0;
    TIMES(10) {
        linux_call(SYS_WRITE, (u32)there[1], (u32)&byte, 1, 0, 0);
        linux_call(SYS_READ, (u32)back[0], (u32)&byte, 1, 0, 0);
    }
}

static const struct row pingpong_row = { "pipeswitch", 20, pingpong_batch, nothing, NULL };

static void measure_switches(void)
{
    u32 first_cpu = 1;
    linux_call(SYS_SCHED_SETAFFINITY, 0, sizeof first_cpu, (u32)&first_cpu, 0, 0);
    if (linux_call(SYS_PIPE, (u32)there, 0, 0, 0, 0) || linux_call(SYS_PIPE, (u32)back, 0, 0, 0, 0))
        return;
    int child = linux_call(SYS_FORK, 0, 0, 0, 0, 0);
    if (child == 0)
        answer();
    meter(&pingpong_row, BATCHES);
    linux_call(SYS_CLOSE, (u32)there[1], 0, 0, 0, 0);
    linux_call(SYS_WAITPID, (u32)child, 0, 0, 0, 0);
}

/* Pages of 4 KiB, also where the kernel would rather have larger ones. */
static volatile u8 *map_pages(u32 pages)
{
    u32 at = (u32)linux_call(SYS_MMAP2, 0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE_ANONYMOUS, ~0u);
    linux_call(SYS_MADVISE, at, pages * 4096, MADV_NOHUGEPAGE, 0, 0);
    return (volatile u8 *)at;
}

void over_the_division(void);
void end_of_signal(void);

static void catch_divisions(void)
{
    u32 action[5] = { (u32)over_the_division, SA_SIGINFO | SA_RESTORER, (u32)end_of_signal };
    linux_call(SYS_RT_SIGACTION, SIGFPE, (u32)action, 0, 8, 0);
}

/* The kernel's notes for a new process lie behind its arguments and environment. */
static void find_vdso(const u32 *stack)
{
    const u32 *at = stack + 1 + stack[0] + 1;
    while (*at++)
        ;
    for (; at[0]; at += 2) {
        if (at[0] == AT_SYSINFO)
            by_vsyscall = at[1];
        if (at[0] == AT_SYSINFO_EHDR)
            clock_gettime = vdso_symbol(at[1], "__vdso_clock_gettime");
    }
}

/* The last one: a fork copies what is mapped. */
static void measure_tlb(void)
{
    tlb_region = map_pages(TLB_PAGES);
    for (u32 i = 0; i < TLB_PAGES; i++)
        tlb_region[i * 4096] = 0;
    meter(&tlbmiss_row, FEW);
}

static void measure(void)
{
    if (by_vsyscall)
        meter(&syscall_row, BATCHES);
    meter(&int80_row, BATCHES);
    if (clock_gettime)
        meter(&vdso_row, BATCHES);
    meter(&callret_row, BATCHES);
    meter(&pgfault_row, BATCHES);
    meter(&sigfpe_row, BATCHES);
    meter(&mprotect_row, BATCHES);
    meter(&forkwait_row, BATCHES);
    measure_switches();
    measure_tlb();
}

void program_main(const u32 *stack)
{
    find_vdso(stack);
    catch_divisions();
    fresh = map_pages(TOUCHED);
    measure();
    print("DONE\n");
    if (linux_call(SYS_GETPID, 0, 0, 0, 0, 0) == 1)
        linux_call(SYS_REBOOT, 0xfee1dead, 672274793, 0x4321fedc, 0, 0);
    linux_call(SYS_EXIT, 0, 0, 0, 0, 0);
}
