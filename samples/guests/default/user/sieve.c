/* Work for the processor: the primes below 2^20 by the sieve of Eratosthenes,
 * several times over, in a heap that comes into being page by page. */
#include "user.h"

#define LIMIT (1u << 20)
#define PRIMES_BELOW_LIMIT 82025
#define ROUNDS 3

static u32 count_primes(u8 *composite)
{
    u32 primes = 0;
    memset(composite, 0, LIMIT);
    for (u32 i = 2; i < LIMIT; i++) {
        if (composite[i])
            continue;
        primes++;
        if (i < 1024)
            for (u32 multiple = i * i; multiple < LIMIT; multiple += i)
                composite[multiple] = 1;
    }
    return primes;
}

int main(void)
{
    say("  sieve     pid %u: the primes below %u\n", call_kernel(SYS_GETPID, 0, 0), LIMIT);
    u8 *composite = grow_heap(LIMIT);
    for (u32 round = 0; round < ROUNDS; round++) {
        u32 primes = count_primes(composite);
        if (primes != PRIMES_BELOW_LIMIT)
            return 1;
        say("  sieve     round %u: %u primes\n", round + 1, primes);
    }
    return 0;
}
