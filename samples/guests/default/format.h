/* Text: the part that kernel and programs share. */
#ifndef FORMAT_H
#define FORMAT_H

#include "cpu.h"

typedef __builtin_va_list arguments;
#define arguments_begin __builtin_va_start
#define arguments_end __builtin_va_end

/* Formats into `buffer` (always terminated) and returns the length.
 * Knows %s %c %u %x and %%, a width, and a leading 0 or - before it. */
u32 format(char *buffer, u32 size, const char *pattern, arguments list);

u32 text_length(const char *text);
void *memset(void *to, int value, u32 count);
void *memcpy(void *to, const void *from, u32 count);

#endif
