/* The programs' library. */
#include "user.h"

void say(const char *pattern, ...)
{
    char line[160];
    arguments list;
    arguments_begin(list, pattern);
    u32 length = format(line, sizeof line, pattern, list);
    arguments_end(list);
    call_kernel(SYS_WRITE, (u32)line, length);
}

void *grow_heap(u32 bytes)
{
    u32 start = call_kernel(SYS_BRK, 0, 0);
    call_kernel(SYS_BRK, start + bytes, 0);
    return (void *)start;
}

int have_sysenter(void)
{
    u32 signature, ignore, features;
    cpuid(1, &signature, &ignore, &ignore, &features);
    u32 family = signature >> 8 & 15, model = signature >> 4 & 15, stepping = signature & 15;
    return (features >> 11 & 1) && !(family == 6 && model < 3 && stepping < 3);
}
