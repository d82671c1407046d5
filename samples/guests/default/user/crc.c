/* Work for the processor: the CRC-32 of 1 MiB, byte by byte through a table,
 * several times over; each round's result is the next one's data. */
#include "user.h"

#define POLYNOMIAL 0xedb88320u
#define BYTES (1u << 20)
#define ROUNDS 3
#define EXPECTED 0x95e61e86u

static u32 table[256];

static void make_table(void)
{
    for (u32 i = 0; i < 256; i++) {
        u32 value = i;
        for (u32 bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? POLYNOMIAL : 0);
        table[i] = value;
    }
}

static u32 crc32(const u8 *data, u32 bytes)
{
    u32 crc = ~0u;
    for (u32 i = 0; i < bytes; i++)
        crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
    return ~crc;
}

/* Numbers that look random (Marsaglia's xorshift). */
static void fill(u32 *words, u32 count, u32 seed)
{
    for (u32 i = 0; i < count; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        words[i] = seed;
    }
}

int main(void)
{
    say("  crc       pid %u: the CRC-32 of %u bytes\n", call_kernel(SYS_GETPID, 0, 0), BYTES);
    make_table();
    if (crc32((const u8 *)"123456789", 9) != 0xcbf43926)
        return 1;
    u8 *data = grow_heap(BYTES);
    u32 crc = 1;
    for (u32 round = 0; round < ROUNDS; round++) {
        fill((u32 *)data, BYTES / 4, crc);
        crc = crc32(data, BYTES);
        say("  crc       round %u: %08x\n", round + 1, crc);
    }
    return crc == EXPECTED ? 0 : 2;
}
