/* A program that does what it must not: it writes where the kernel lives. */
#include "user.h"

#define KERNEL_START 0x100000u

int main(void)
{
    say("  trespass  pid %u: writing to %08x\n", call_kernel(SYS_GETPID, 0, 0), KERNEL_START);
    *(volatile u32 *)KERNEL_START = 0;
    say("  trespass  and nobody minded\n");
    return 0;
}
