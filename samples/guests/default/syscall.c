/* System calls, all but the null call, which entry.S answers itself. */
#include "kernel.h"

static u32 sys_write(u32 text, u32 length)
{
    if (!process_may_use(text, length))
        return (u32)-1;
    console_write((const char *)text, length);
    return length;
}

/* Moves the end of the heap; pages behind it appear when touched. */
static u32 sys_brk(u32 end)
{
    if (end >= current->heap_end && end < USER_STACK_TOP - USER_STACK_BYTES)
        current->heap_end = end;
    return current->heap_end;
}

u32 system_call(struct frame *frame)
{
    current->system_calls++;
    switch (frame->eax) {
    case SYS_EXIT:
        process_exit(frame->ebx);
    case SYS_WRITE:
        return sys_write(frame->ebx, frame->esi);
    case SYS_GETPID:
        return current->pid;
    case SYS_YIELD:
        schedule();
        return 0;
    case SYS_BRK:
        return sys_brk(frame->ebx);
    case SYS_REPORT:
        machine_report(frame->ebx, frame->esi);
        return 0;
    default:
        return (u32)-1;
    }
}
