/* rbench.c: runs the workloads and says how long they took.
 *
 * rbench [-r runs] [-s divisor] [-l] [prefix ...]
 *
 * prints, for `ring1 bench`:
 *   BEGIN name n             before each run of n iterations
 *   BENCH name value unit    ns: time on the wall, cpu: time of this process and its children, per iteration
 *   CHECK name n checksum    once; the same wherever the processor does what it should
 *   DONE B                   at the end
 */
#include "rbench.h"

struct time { int seconds, parts; };
enum { MONOTONIC = 1, PROCESS_CPUTIME = 2, CHILDREN = -1 };

static u64 wall_ns, cpu_ns, wall_start, cpu_start;

void *memset(void *to, int value, u32 bytes)
{
    void *end = to;
    __asm__ volatile("rep stosb" : "+D"(end), "+c"(bytes) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, u32 bytes)
{
    void *end = to;
    __asm__ volatile("rep movsb" : "+D"(end), "+S"(from), "+c"(bytes) : : "memory");
    return to;
}

static u32 length(const char *text)
{
    u32 n = 0;
    while (text[n])
        n++;
    return n;
}

static void print(const char *text)
{
    syscall3(SYS_WRITE, 1, (u32)text, length(text));
}

void die(const char *what)
{
    print("rbench: ");
    print(what);
    print("\n");
    syscall3(SYS_EXIT, 1, 0, 0);
    __builtin_unreachable();
}

void *map(u32 bytes)
{
    u32 result;
    /* PROT_READ | PROT_WRITE; MAP_PRIVATE | MAP_ANONYMOUS, no file; EBP, the offset, is of no interest then. */
    __asm__ volatile("int $0x80" : "=a"(result)
                     : "a"(SYS_MMAP2), "b"(0), "c"(bytes), "d"(3), "S"(0x22), "D"(-1) : "memory");
    if (result > 0xfffff000u)
        die("no memory");
    return (void *)result;
}

static u64 clock_ns(int clock)
{
    struct time t;
    syscall3(SYS_CLOCK_GETTIME, (u32)clock, (u32)&t, 0);
    return (u64)t.seconds * 1000000000u + (u32)t.parts;
}

static u64 used_ns(void)
{
    struct { struct time user, system; int others[14]; } usage;
    syscall3(SYS_GETRUSAGE, (u32)CHILDREN, (u32)&usage, 0);
    u64 children_us = (u64)(usage.user.seconds + usage.system.seconds) * 1000000u + (u32)usage.user.parts
        + (u32)usage.system.parts;
    return clock_ns(PROCESS_CPUTIME) + children_us * 1000u;
}

void start(void)
{
    cpu_start = used_ns();
    wall_start = clock_ns(MONOTONIC);
}

void stop(void)
{
    wall_ns += clock_ns(MONOTONIC) - wall_start;
    cpu_ns += used_ns() - cpu_start;
}

static char *decimal(char *to, u64 value)
{
    char digits[20];
    int n = 0;
    do {
        u32 digit;
        value = divide(value, 10, &digit);
        digits[n++] = (char)('0' + digit);
    } while (value);
    while (n)
        *to++ = digits[--n];
    return to;
}

static char *word(char *to, const char *text)
{
    while (*text)
        *to++ = *text++;
    return to;
}

/* A line of a word, a name, and what the caller adds at the place that is returned. */
static char *begin(char *line, const char *what, const char *name)
{
    return word(word(word(word(line, what), " "), name), " ");
}

static void print_time(const char *name, u64 total, u32 n, const char *unit)
{
    char line[120], *at = begin(line, "BENCH", name);
    u32 rest;
    at = decimal(at, divide(total, n, &rest));
    u32 thousandths = (u32)divide((u64)rest * 1000u, n, &rest);
    *at++ = '.';
    *at++ = (char)('0' + thousandths / 100);
    *at++ = (char)('0' + thousandths / 10 % 10);
    *at++ = (char)('0' + thousandths % 10);
    at = word(word(at, unit), "\n");
    *at = 0;
    print(line);
}

static void run(const struct workload *w, u32 n, u32 runs)
{
    for (u32 i = 0; i < runs; i++) {
        char line[120], *at = decimal(begin(line, "BEGIN", w->name), n);
        *word(at, "\n") = 0;
        print(line);
        wall_ns = cpu_ns = 0;
        u32 sum = w->run(n);
        print_time(w->name, wall_ns, n, " ns");
        print_time(w->name, cpu_ns, n, " cpu");
        if (i)
            continue;
        at = word(decimal(begin(line, "CHECK", w->name), n), " ");
        for (int shift = 28; shift >= 0; shift -= 4)
            *at++ = "0123456789abcdef"[sum >> shift & 15];
        *word(at, "\n") = 0;
        print(line);
    }
}

static u32 number(const char *text)
{
    u32 value = 0;
    while (*text >= '0' && *text <= '9')
        value = value * 10 + (u32)(*text++ - '0');
    return value;
}

static int begins(const char *name, const char *prefix)
{
    while (*prefix)
        if (*name++ != *prefix++)
            return 0;
    return 1;
}

static int chosen(const char *name, char **prefixes)
{
    if (!*prefixes)
        return 1;
    for (; *prefixes; prefixes++)
        if (begins(name, *prefixes))
            return 1;
    return 0;
}

__attribute__((used, noreturn)) static void entry(u32 *stack)
{
    char **words = (char **)(stack + 2);
    u32 runs = 3, divisor = 1;
    int list = 0;
    for (; *words && **words == '-'; words++) {
        char option = (*words)[1];
        if (option == 'l')
            list = 1;
        else if ((option == 'r' || option == 's') && words[1])
            *(option == 'r' ? &runs : &divisor) = number(*++words);
        else
            die("usage: rbench [-r runs] [-s divisor] [-l] [prefix ...]");
    }
    for (const struct workload *w = workloads; w->name; w++) {
        u32 n = divisor ? w->n / divisor : w->n;
        if (!chosen(w->name, words))
            continue;
        if (list) {
            print(w->name);
            print("\n");
        } else {
            run(w, n ? n : 1, runs);
        }
    }
    if (!list)
        print("DONE B\n");
    syscall3(SYS_EXIT, 0, 0, 0);
    __builtin_unreachable();
}

__asm__(".globl _start\n_start: xorl %ebp, %ebp\n movl %esp, %eax\n andl $-16, %esp\n subl $12, %esp\n"
        " pushl %eax\n call entry\n");
