/* A small printf, and the two memory functions that a compiler calls unasked. */
#include "format.h"

struct output {
    char *buffer;
    u32 size;
    u32 used;
};

static void put(struct output *out, char c)
{
    if (out->used + 1 < out->size)
        out->buffer[out->used++] = c;
}

static void put_padded(struct output *out, const char *text, u32 length, u32 width, char pad, int left)
{
    u32 padding = width > length ? width - length : 0;
    if (!left)
        for (u32 i = 0; i < padding; i++)
            put(out, pad);
    for (u32 i = 0; i < length; i++)
        put(out, text[i]);
    if (left)
        for (u32 i = 0; i < padding; i++)
            put(out, ' ');
}

/* Writes the digits of `value` into the end of `digits` and returns where they begin. */
static char *to_digits(char *end, u32 value, u32 base)
{
    do {
        *--end = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    return end;
}

u32 format(char *buffer, u32 size, const char *pattern, arguments list)
{
    struct output out = { buffer, size, 0 };
    char digits[12], *end = digits + sizeof digits;
    for (; *pattern; pattern++) {
        if (*pattern != '%') {
            put(&out, *pattern);
            continue;
        }
        int left = *++pattern == '-';
        pattern += left;
        char pad = *pattern == '0' ? '0' : ' ';
        u32 width = 0;
        for (; *pattern >= '0' && *pattern <= '9'; pattern++)
            width = width * 10 + (*pattern - '0');
        const char *text = digits;
        u32 length = 1;
        switch (*pattern) {
        case 's':
            text = __builtin_va_arg(list, const char *);
            length = text_length(text);
            break;
        case 'u':
        case 'x':
            text = to_digits(end, __builtin_va_arg(list, u32), *pattern == 'u' ? 10 : 16);
            length = end - text;
            break;
        case 'c':
            digits[0] = (char)__builtin_va_arg(list, int);
            break;
        default:
            digits[0] = *pattern;
        }
        put_padded(&out, text, length, width, pad, left);
    }
    buffer[out.used] = 0;
    return out.used;
}

u32 text_length(const char *text)
{
    u32 length = 0;
    while (text[length])
        length++;
    return length;
}

void *memset(void *to, int value, u32 count)
{
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, u32 count)
{
    void *at = to;
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
    return to;
}
