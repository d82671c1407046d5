/* The other end of the meter's context switches: yields until it has done so
 * as often as the meter will. */
#include "meter.h"

int main(void)
{
    for (u32 i = 0; i < SWITCH_BATCHES * SWITCHES_PER_BATCH / 2; i++)
        call_kernel(SYS_YIELD, 0, 0);
    return 0;
}
