/* workloads.c: the workloads of rbench, two or three of each kind. Names say the kind: `ring1 bench` takes the mean
 * of what begins alike. */
#include "rbench.h"

/* int_: table-driven bytes. A greedy LZ77 parse of text made of repeated words. */
enum { TEXT = 16384 };
static u8 text[TEXT];
static u32 heads[4096];

static void write_text(void)
{
    u32 seed = 7;
    for (u32 i = 0; i < TEXT;) {
        u32 word = next_random(&seed) % 200, letters = 2 + word % 9;
        for (u32 j = 0; j < letters && i < TEXT; j++)
            text[i++] = (u8)('a' + (word * 7 + j * j) % 26);
        if (i < TEXT)
            text[i++] = ' ';
    }
}

static u32 lz(u32 n)
{
    u32 sum = 0;
    write_text();
    start();
    for (u32 k = 0; k < n; k++) {
        for (u32 i = 0; i < 4096; i++)
            heads[i] = TEXT;
        for (u32 i = 0; i + 4 <= TEXT;) {
            u32 key = (text[i] | text[i + 1] << 8 | text[i + 2] << 16) * 2654435761u >> 20;
            u32 before = heads[key], same = 0;
            heads[key] = i;
            if (before < i)
                while (same < 64 && i + same < TEXT && text[before + same] == text[i + same])
                    same++;
            sum = mix(sum, same < 3 ? text[i] : same << 16 | (i - before));
            i += same < 3 ? 1 : same;
        }
    }
    stop();
    return sum;
}

/* int_: carries. A factorial in words of 32 bits. */
static u32 digits[512];

static u32 factorial(u32 n)
{
    u32 sum = 0;
    start();
    for (u32 k = 0; k < n; k++) {
        u32 length = 1;
        digits[0] = 1 + k % 3;
        for (u32 factor = 2; factor < 1000; factor++) {
            u32 carry = 0;
            for (u32 i = 0; i < length; i++) {
                u64 product = (u64)digits[i] * factor + carry;
                digits[i] = (u32)product;
                carry = (u32)(product >> 32);
            }
            if (carry)
                digits[length++] = carry;
        }
        for (u32 i = 0; i < length; i++)
            sum = mix(sum, digits[i]);
    }
    stop();
    return sum;
}

/* ptr_: a list of 64 KiB, in no order, turned round each time. */
struct node { struct node *next; u32 value; };
static struct node nodes[8192];

static u32 reverse(u32 n)
{
    u32 sum = 0, seed = 3, at = 0;
    for (u32 i = 0; i < 8192; i++)
        nodes[i].value = next_random(&seed);
    /* An odd multiple of every number, modulo a power of two, is every number. */
    for (u32 i = 0; i < 8192; i++, at = (at + 5003) % 8192)
        nodes[at].next = i == 8191 ? 0 : &nodes[(at + 5003) % 8192];
    struct node *list = &nodes[0];
    start();
    for (u32 k = 0; k < n; k++) {
        struct node *turned = 0;
        while (list) {
            struct node *next = list->next;
            list->next = turned;
            sum += list->value * k;
            turned = list;
            list = next;
        }
        list = turned;
    }
    stop();
    return mix(sum, list->value);
}

/* call_: recursion. Eight queens. */
static __attribute__((noinline)) u32 queens(u32 rows, u32 columns, u32 left, u32 right)
{
    u32 solutions = 0;
    if (!rows)
        return 1;
    for (u32 free = 0xff & ~(columns | left | right); free; free &= free - 1) {
        u32 place = free & -free;
        solutions += queens(rows - 1, columns | place, (left | place) << 1, (right | place) >> 1);
    }
    return solutions;
}

static u32 all_queens(u32 n)
{
    u32 sum = 0;
    start();
    for (u32 k = 0; k < n; k++)
        sum = mix(sum, queens(8, k & 1, 0, 0));
    stop();
    return sum;
}

/* call_: functions known only when they run. */
static __attribute__((noinline)) u32 twice(u32 x) { return x + x; }
static __attribute__((noinline)) u32 turn(u32 x) { return x << 7 | x >> 25; }
static __attribute__((noinline)) u32 less(u32 x) { return x - 0x9e3779b9u; }
static __attribute__((noinline)) u32 other(u32 x) { return ~x; }

static u32 pointers(u32 n)
{
    static u32 (*const functions[])(u32) = { twice, turn, less, other };
    u32 x = 1;
    start();
    for (u32 k = 0; k < n; k++)
        for (u32 i = 0; i < 1000; i++)
            x = functions[(x >> 5 ^ i) & 3](x) + i;
    stop();
    return x;
}

/* interp_: a stack machine that counts the steps of Collatz sequences. */
enum { PUSH, LOAD, STORE, ADD, MULTIPLY, HALVE, ODD, IF_ZERO, JUMP, ONE, END };
static const u8 program[] = {
    /* 0 */ LOAD, 0, ONE, IF_ZERO, 34, LOAD, 0, ODD, IF_ZERO, 20,
    /* 10 */ LOAD, 0, PUSH, 3, MULTIPLY, PUSH, 1, ADD, JUMP, 23,
    /* 20 */ LOAD, 0, HALVE, STORE, 0, LOAD, 1, PUSH, 1, ADD,
    /* 30 */ STORE, 1, JUMP, 0, END,
};

static u32 interpret(u32 first)
{
    u32 stack[16], variables[2] = { first, 0 }, pc = 0, *top = stack;
    for (u32 steps = 0; steps < 100000; steps++) {
        switch (program[pc++]) {
        case PUSH: *top++ = program[pc++]; break;
        case LOAD: *top++ = variables[program[pc++]]; break;
        case STORE: variables[program[pc++]] = *--top; break;
        case ADD: top--; top[-1] += *top; break;
        case MULTIPLY: top--; top[-1] *= *top; break;
        case HALVE: top[-1] >>= 1; break;
        case ODD: top[-1] &= 1; break;
        case ONE: top[-1] -= 1; break;
        case IF_ZERO: pc = *--top ? pc + 1 : program[pc]; break;
        case JUMP: pc = program[pc]; break;
        default: return variables[1];
        }
    }
    return 0;
}

static u32 stack_machine(u32 n)
{
    u32 sum = 0;
    start();
    for (u32 k = 0; k < n; k++)
        sum = mix(sum, interpret(k + 27));
    stop();
    return sum;
}

/* x87_: polynomials and roots. */
static u32 horner(u32 n)
{
    static const double factors[] = { 0.5, -1.25, 0.75, 2.0, -0.125, 1.0 };
    double sum = 0, x = -1;
    start();
    for (u32 k = 0; k < n; k++) {
        double value = 0, root;
        for (u32 i = 0; i < 6; i++)
            value = value * x + factors[i];
        __asm__("fsqrt" : "=t"(root) : "0"(value * value + 1));
        sum += root / (x * x + 2);
        x = x > 1 ? -1 : x + 1.0 / 4096;
    }
    stop();
    union { double value; u32 words[2]; } bits = { sum };
    return mix(bits.words[0], bits.words[1]);
}

/* sse_: four floats, sixteen bytes at a time. */
typedef float floats __attribute__((vector_size(16)));
typedef u8 bytes __attribute__((vector_size(16)));
static floats xs[256], ys[256];

__attribute__((target("sse2"))) static u32 axpy(u32 n)
{
    for (u32 i = 0; i < 256; i++) {
        xs[i] = (floats){ i, 1.5f, 2, 0.25f };
        ys[i] = (floats){ 1, i, 3, 4 };
    }
    start();
    for (u32 k = 0; k < n; k++) {
        floats factor = { 0.5f, -0.25f, k & 1 ? 1 : -1, 0.125f };
        for (u32 i = 0; i < 256; i++)
            ys[i] = ys[i] * (floats){ 0.5f, 0.5f, 0.5f, 0.5f } + factor * xs[i];
    }
    stop();
    u32 sum = 0;
    for (u32 i = 0; i < 256; i++)
        for (u32 j = 0; j < 4; j++) {
            union { float value; u32 word; } bits = { ys[i][j] };
            sum = mix(sum, bits.word);
        }
    return sum;
}

__attribute__((target("sse2"))) static u32 count_bytes(u32 n)
{
    u32 sum = 0;
    write_text();
    start();
    for (u32 k = 0; k < n; k++) {
        u8 letter = (u8)('a' + k % 26);
        bytes wanted = letter - (bytes){ 0 }, counts = { 0 };
        for (u32 i = 0; i < 2048; i += 16)
            counts -= (bytes)(*(const bytes *)(text + i) == wanted);
        for (u32 i = 0; i < 16; i++)
            sum += counts[i] * (i + 1);
    }
    stop();
    return sum;
}

/* rep_: fills and copies of 1 to 256 words, not aligned. */
static u32 fill_and_copy(u32 n)
{
    start();
    for (u32 k = 0; k < n; k++) {
        void *to = text + k % 61, *from = text + 8192 - k % 53;
        u32 words = 1 + k * 37 % 256, count = words;
        __asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(k * 2654435761u) : "memory");
        to = text + 4096 + k % 59, count = words;
        __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    }
    stop();
    u32 sum = 0;
    for (u32 i = 0; i < TEXT; i++)
        sum = mix(sum, text[i]);
    return sum;
}

/* os_: the way into the kernel and back. */
static u32 getpid_int80(u32 n)
{
    start();
    for (u32 k = 0; k < n; k++)
        syscall3(SYS_GETPID, 0, 0, 0);
    stop();
    return 0;
}

/* os_: page faults on fresh memory. */
static u32 touch(u32 n)
{
    volatile u8 *pages = map(n * 4096);
    start();
    for (u32 k = 0; k < n; k++)
        pages[k * 4096] = 1;
    stop();
    syscall3(SYS_MUNMAP, (u32)pages, n * 4096, 0);
    return 0;
}

/* os_: a byte through a pipe to another process, and back. */
static u32 pipe_and_back(u32 n)
{
    int to[2], back[2];
    u8 byte = 1;
    if (syscall3(SYS_PIPE, (u32)to, 0, 0) < 0 || syscall3(SYS_PIPE, (u32)back, 0, 0) < 0)
        die("no pipe");
    int child = syscall3(SYS_FORK, 0, 0, 0);
    if (!child) {
        while (syscall3(SYS_READ, (u32)to[0], (u32)&byte, 1) == 1 && byte)
            syscall3(SYS_WRITE, (u32)back[1], (u32)&byte, 1);
        syscall3(SYS_EXIT, 0, 0, 0);
    }
    start();
    for (u32 k = 0; k < n; k++)
        if (syscall3(SYS_WRITE, (u32)to[1], (u32)&byte, 1) != 1 || syscall3(SYS_READ, (u32)back[0], (u32)&byte, 1) != 1)
            die("the pipe broke");
    byte = 0;
    syscall3(SYS_WRITE, (u32)to[1], (u32)&byte, 1);
    syscall3(SYS_WAITPID, (u32)child, 0, 0);
    stop();
    return 0;
}

/* os_: a process that only ends. */
static u32 fork_and_wait(u32 n)
{
    start();
    for (u32 k = 0; k < n; k++) {
        int child = syscall3(SYS_FORK, 0, 0, 0);
        if (child < 0)
            die("no process");
        if (!child)
            syscall3(SYS_EXIT, 0, 0, 0);
        syscall3(SYS_WAITPID, (u32)child, 0, 0);
    }
    stop();
    return 0;
}

const struct workload workloads[] = {
    { "int_lz", lz, 300 },
    { "int_factorial", factorial, 400 },
    { "ptr_reverse", reverse, 2000 },
    { "call_queens", all_queens, 800 },
    { "call_pointers", pointers, 8000 },
    { "interp_collatz", stack_machine, 3000 },
    { "x87_horner", horner, 1000000 },
    { "sse_axpy", axpy, 60000 },
    { "sse2_count", count_bytes, 100000 },
    { "rep_both", fill_and_copy, 200000 },
    { "os_getpid", getpid_int80, 50000 },
    { "os_touch", touch, 4096 },
    { "os_pipe", pipe_and_back, 5000 },
    { "os_fork", fork_and_wait, 300 },
    { 0, 0, 0 },
};
