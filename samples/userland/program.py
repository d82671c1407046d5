"""Writes a C program of some 2,000 lines to standard output, always the same one.

It is there to be compiled with different options and run on two machines that must
agree on every bit: integers of all widths, 64-bit ones in pairs of registers, floats
of all three formats, conversions, the C library's mathematics, structures by value,
bit-fields, switches, calls through pointers, recursion, variable arguments, strings
and loops that a compiler turns into vector code. Every number ends in the digest,
floats by their bits (%a), and with a second argument is printed. Nothing in it is undefined: arithmetic is on
unsigned values, shift counts are masked, divisors made odd, conversions clamped, so
that one binary has one output.
"""

INTEGERS = ["uint8_t", "int8_t", "uint16_t", "int16_t", "uint32_t", "int32_t", "uint64_t", "int64_t"]
FLOATS = ["float", "double", "long double"]
ONE = ["sin", "cos", "tan", "atan", "exp", "log1p", "sqrt", "cbrt", "sinh", "tanh", "asinh", "floor", "rint", "expm1"]
TWO = ["fmod", "atan2", "hypot", "remainder", "copysign", "fmin", "fdim", "nextafter"]

HEAD = r"""
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t digest = 0xcbf29ce484222325u;
static uint32_t seed = 12345;
static int shown;

static void take(const char *text)
{
    if (shown)
        puts(text);
    for (; *text; text++)
        digest = (digest ^ (unsigned char)*text) * 0x100000001b3u;
}

static void take_int(uint64_t value)
{
    char text[40];
    snprintf(text, sizeof text, "%llu ", (unsigned long long)value);
    take(text);
}

static void take_float(long double value)
{
    char text[64];
    snprintf(text, sizeof text, "%La ", value);
    take(text);
}

static uint32_t next(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8 ^ seed << 16;
}

static double next_float(void)
{
    double value = (double)(int32_t)next() / 65536.0;
    return next() % 4 ? value : value * 1e-3;
}

static int64_t whole(long double value)
{
    if (!(value > -9e18L && value < 9e18L))
        return 42;
    return (int64_t)value;
}
"""

FIXED = r"""
static int order(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void sorts(void)
{
    double values[500];
    for (int i = 0; i < 500; i++)
        values[i] = next_float();
    qsort(values, 500, sizeof *values, order);
    for (int i = 0; i < 500; i += 7)
        take_float(values[i]);
}

static uint64_t sum(const char *kinds, ...)
{
    va_list list;
    uint64_t total = 0;
    va_start(list, kinds);
    for (; *kinds; kinds++) {
        switch (*kinds) {
        case 'i': total = total * 31 + va_arg(list, uint32_t); break;
        case 'l': total = total * 33 + va_arg(list, uint64_t); break;
        case 'd': total = total * 37 + (uint64_t)whole(va_arg(list, double)); break;
        case 's': total = total * 41 + strlen(va_arg(list, char *)); break;
        }
    }
    va_end(list);
    return total;
}

static uint32_t ackermann(uint32_t m, uint32_t n)
{
    return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

static jmp_buf back;

static void jumps(uint32_t n)
{
    if (n % 5 == 0)
        longjmp(back, (int)(n % 7) + 1);
    jumps(n - 1);
}

static void strings(void)
{
    char text[400], copy[400];
    for (int i = 0; i < 50; i++) {
        snprintf(text, sizeof text, "%08x %-12d|%+.9e|%Lg|%#o", next(), (int)next(), next_float(), (long double)next_float(), next());
        memmove(copy, text, strlen(text) + 1);
        for (char *at = strtok(copy, " |"); at; at = strtok(NULL, " |")) {
            take_int(strtoull(at, NULL, 16));
            take_float(strtold(at, NULL));
        }
        memset(copy, i, 64);
        take_int((uint64_t)(memcmp(text, copy, 64) > 0));
        take(text);
    }
}

static void special(void)
{
    volatile double zero = 0.0, huge = 1e308, tiny = 5e-324;
    take_float(1 / zero);
    take_float(-1 / zero);
    take_float(huge * 10 - huge);
    take_float(tiny / 2);
    take_float(tiny * 1e300);
    take_float(sqrt(-1 - zero) != sqrt(-1 - zero));
    take_int((uint64_t)(zero / zero == zero / zero));
    take_int((uint64_t)whole(huge) + (uint64_t)lrint(2.5) + (uint64_t)llrint(-3.5));
}
"""


class Random:
    """A linear congruential generator: Python's own might change with its version."""

    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % bound

    def of(self, choices):
        return choices[self.below(len(choices))]


random = Random(2026)


def integer(depth, names):
    """An expression of type uint64_t or narrower, in unsigned arithmetic."""
    if depth == 0:
        constant = f"{random.below(2**32)}u"
        name = f"({random.of(['uint32_t', 'uint64_t'])}){random.of(names)}"
        return random.of([name, name, constant, f"{constant}ll * {random.below(99)}u"])
    a, b = integer(depth - 1, names), integer(depth - 1, names)
    kind = random.below(12)
    if kind < 6:
        return f"(({a}) {random.of(['+', '-', '*', '&', '|', '^'])} ({b}))"
    if kind < 8:
        return f"((uint64_t)({a}) {random.of(['<<', '>>'])} (({b}) & 63))"
    if kind == 8:
        return f"((uint64_t)({a}) {random.of(['/', '%'])} ((uint64_t)({b}) | 1))"
    if kind == 9:
        return f"(({a}) {random.of(['<', '==', '>='])} ({b}) ? ({b}) : {random.of(names)})"
    if kind == 10:
        return f"(uint64_t)({random.of(INTEGERS)})({a})"
    return f"((uint32_t)({a}) << {1 + random.below(31)} | (uint32_t)({b}) >> {1 + random.below(31)})"


def real(depth, names):
    """A floating-point expression."""
    if depth == 0:
        return random.of([*names, *names, f"{random.below(1000)}.{random.below(1000)}", f"(double)(int32_t){random.below(2**31)}"])
    a, b = real(depth - 1, names), real(depth - 1, names)
    kind = random.below(10)
    if kind < 6:
        return f"({a} {random.of(['+', '-', '*', '/'])} {b})"
    if kind == 6:
        return f"{random.of(ONE)}({a})"
    if kind == 7:
        return f"{random.of(TWO)}({a}, {b})"
    if kind == 8:
        return f"({a} < {b} ? {b} : ({random.of(FLOATS)})({a}))"
    return f"(double)({random.of(['int32_t', 'int16_t', 'int64_t', 'uint8_t'])})whole({a})"


def integer_function(n):
    kinds = [random.of(INTEGERS) for _ in range(3)]
    print(f"\nstatic uint64_t integer_{n}({kinds[0]} a, {kinds[1]} b, {kinds[2]} c)\n{{")
    print(f"    {random.of(INTEGERS)} d = ({random.of(INTEGERS)})({integer(1, ['a', 'b', 'c'])});")
    for _ in range(4):
        name = random.of("abcd")
        print(f"    {name} {random.of(['=', '^=', '+='])} {integer(3, list('abcd'))};")
    print("    return (uint64_t)a * 3 + (uint64_t)b * 5 + (uint64_t)c * 7 + (uint64_t)d;\n}")


def float_function(n):
    kind = random.of(FLOATS)
    print(f"\nstatic long double float_{n}({kind} x, double y, float z)\n{{")
    for _ in range(3):
        name = random.of("xyz")
        print(f"    {name} = {real(2, list('xyz'))};")
        print("    take_float(" + name + ");")
    print(f"    return {real(2, list('xyz'))};\n}}")


def switch_function(n):
    print(f"\nstatic uint32_t choose_{n}(uint32_t a, uint32_t b)\n{{\n    switch (a % {12 + n}) {{")
    for case in range(10 + n):
        end = "break" if random.below(4) else f"return b + {case}"
        print(f"    case {case}: b = (uint32_t)({integer(1, ['a', 'b'])}); {end};")
    print("    default: b = ~b;\n    }\n    return a ^ b;\n}")


def structure(n):
    """A structure with bit-fields, passed and returned by value."""
    widths = [1 + random.below(13) for _ in range(3)]
    print(f"\nstruct record_{n} {{")
    for name, width in zip("pqr", widths):
        print(f"    {random.of(['unsigned', 'int'])} {name} : {width};")
    kind, number = random.of(INTEGERS), random.of(FLOATS)
    print(f"    {kind} s[{2 + random.below(5)}];\n    {number} t;\n}};")
    print(f"\nstatic struct record_{n} mix_{n}(struct record_{n} one, struct record_{n} two)\n{{")
    print("    one.p ^= two.q;\n    one.q += (unsigned)two.r;\n    one.r = (unsigned)two.p * 3u;")
    print(f"    for (unsigned i = 0; i < sizeof one.s / sizeof *one.s; i++)\n        one.s[i] = ({kind})((uint64_t)one.s[i] + (uint64_t)two.s[i] * i);")
    print(f"    one.t = one.t {random.of(['+', '-', '*'])} two.t;\n    return one;\n}}")
    print(f"\nstatic void records_{n}(void)\n{{\n    struct record_{n} one, two;\n    memset(&one, 0, sizeof one);")
    print("    one.t = 1.5f;\n    two = one;\n    for (unsigned i = 0; i < 20; i++) {\n        two.p = next();\n        two.q = next();\n        two.r = next();")
    print(f"        two.s[i % 2] = ({kind})next();\n        two.t = ({number})next_float();\n        one = mix_{n}(two, one);")
    print("        take_int((uint64_t)one.p);\n        take_int((uint64_t)one.q + (uint64_t)one.s[1]);\n        take_float(one.t);\n    }\n}")


def loop(n):
    """Arrays in loops: what a compiler makes vector code of."""
    kind = random.of(["uint8_t", "uint16_t", "uint32_t", "uint64_t", "float", "double"])
    operator = random.of(["+", "-", "*"])
    print(f"\nstatic void loop_{n}(void)\n{{\n    static {kind} a[300], b[300], c[300];\n    {kind} total = 0;")
    print(f"    for (int i = 0; i < 300; i++) {{\n        a[i] = ({kind})(next() & 0xffff);\n        b[i] = ({kind})(next() & 0xff);\n    }}")
    print(f"    for (int i = 0; i < 300; i++)\n        c[i] = ({kind})(a[i] {operator} b[i]);")
    print(f"    for (int i = 1; i < 299; i++)\n        a[i] = ({kind})(c[i - 1] + c[i + 1] {operator} b[i]);")
    print(f"    for (int i = 0; i < 300; i++)\n        b[i] = a[i] > c[i] ? a[i] : ({kind})(c[i] - b[i]);")
    print(f"    for (int i = 0; i < 300; i++)\n        total = ({kind})(total + b[i] + a[i]);")
    sink = "take_float" if kind in FLOATS else "take_int"
    print(f"    {sink}(total);\n    {sink}(b[{random.below(300)}]);\n}}")


def main_function(counts):
    print("\nstatic uint32_t (*const choices[])(uint32_t, uint32_t) = {")
    print("    " + ", ".join(f"choose_{n}" for n in range(counts["switches"])) + "\n};")
    print("\nstatic void (*const parts[])(void) = {\n    sorts, strings, special,")
    for name in ["records", "loop"]:
        print("    " + ", ".join(f"{name}_{n}" for n in range(counts[name])) + ",")
    print("};\n\nint main(int argc, char **argv)\n{\n    int rounds = argc > 1 ? atoi(argv[1]) : 1;\n    shown = argc > 2;")
    print("    for (int round = 0; round < rounds; round++) {\n        uint32_t a = next(), b = next(), c = next();")
    for n in range(counts["integers"]):
        print(f"        take_int(integer_{n}(a, b, c));")
        print(f"        a = next() >> {random.below(28)};" if n % 3 else "        b = c; c = next();")
    for n in range(counts["floats"]):
        print(f"        take_float(float_{n}(next_float(), next_float(), next_float()));")
    print('        printf("%d numbers %016llx\\n", round, (unsigned long long)digest);')
    print("        for (unsigned i = 0; i < 200; i++)\n            take_int(choices[i % (sizeof choices / sizeof *choices)](next(), i));")
    print("        for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)\n            parts[i]();")
    print('        take_int(sum("idlsid", next(), next_float(), (uint64_t)a << 20, "text", b, (double)c));')
    print("        take_int(ackermann(2, a % 30));\n        int jumped = setjmp(back);\n        take_int((uint64_t)jumped);\n        if (!jumped)\n            jumps(next() % 100 + 1);")
    print('        printf("%d all     %016llx\\n", round, (unsigned long long)digest);\n    }\n    return 0;\n}')


COUNTS = {"integers": 60, "floats": 50, "switches": 10, "records": 10, "loop": 16}

print(HEAD)
for n in range(COUNTS["integers"]):
    integer_function(n)
for n in range(COUNTS["floats"]):
    float_function(n)
for n in range(COUNTS["switches"]):
    switch_function(n)
for n in range(COUNTS["records"]):
    structure(n)
for n in range(COUNTS["loop"]):
    loop(n)
print(FIXED)
main_function(COUNTS)
