/* rbench.h: what the workloads of rbench share: types, the clock's two ends, system calls of i386 Linux.
 *
 * There is no C library. That leaves out 64-bit division, which gcc takes from libgcc: where it is needed, there is
 * divide() with a 32-bit divisor. */
#ifndef RBENCH_H
#define RBENCH_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

/* A workload runs n iterations, its setup outside of start() and stop(), and returns a checksum. */
struct workload {
    const char *name;
    u32 (*run)(u32 n);
    u32 n;
};
extern const struct workload workloads[];

void start(void);
void stop(void);
/* Ends the program with a message: a system call failed that cannot. */
void die(const char *what) __attribute__((noreturn));

enum { SYS_EXIT = 1, SYS_FORK = 2, SYS_READ = 3, SYS_WRITE = 4, SYS_WAITPID = 7, SYS_GETPID = 20, SYS_PIPE = 42,
       SYS_GETRUSAGE = 77, SYS_MUNMAP = 91, SYS_MMAP2 = 192, SYS_CLOCK_GETTIME = 265 };

static inline int syscall3(int number, u32 a, u32 b, u32 c)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

/* Fresh private memory. */
void *map(u32 bytes);

static inline u32 mix(u32 sum, u32 value) { return (sum ^ value) * 16777619u; }

static inline u32 next_random(u32 *state)
{
    u32 x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

static inline u64 divide(u64 value, u32 by, u32 *rest)
{
    u32 high = (u32)(value >> 32), low = (u32)value, remainder = high % by;
    __asm__("divl %2" : "+a"(low), "+d"(remainder) : "r"(by) : "cc");
    *rest = remainder;
    return (u64)(high / by) << 32 | low;
}

#endif
