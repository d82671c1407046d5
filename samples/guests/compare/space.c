/* Two address spaces that differ in nothing but their directories: the image at
 * its own addresses, pages that come on demand, and many that are always there. */
#include "guest.h"

#define IMAGE_TABLES 2
#define TLB_TABLES (TLB_PAGES / 1024)
#define RIGHTS (PAGE_PRESENT | PAGE_WRITABLE | PAGE_USER)
#define TABLE __attribute__((aligned(4096)))

u32 directory[1024] TABLE, other_directory[1024] TABLE;
u32 arena_table[1024] TABLE;
static u32 image_tables[IMAGE_TABLES][1024] TABLE, tlb_tables[TLB_TABLES][1024] TABLE, apic_table[1024] TABLE;

static void map_table(u32 linear, u32 *table)
{
    directory[linear >> 22] = other_directory[linear >> 22] = (u32)table | RIGHTS;
}

static void map_run(u32 linear, u32 (*tables)[1024], u32 count, u32 frame)
{
    for (u32 i = 0; i < count; i++) {
        for (u32 j = 0; j < 1024; j++, frame += PAGE_BYTES)
            tables[i][j] = frame | RIGHTS;
        map_table(linear + (i << 22), tables[i]);
    }
}

void space_init(int have_apic)
{
    map_run(0, image_tables, IMAGE_TABLES, 0);
    map_run(TLB, tlb_tables, TLB_TABLES, TLB_FRAMES);
    map_table(ARENA, arena_table);
    if (have_apic) {
        apic_table[LOCAL_APIC >> 12 & 1023] = LOCAL_APIC | PAGE_PRESENT | PAGE_WRITABLE | PAGE_UNCACHED;
        map_table(LOCAL_APIC, apic_table);
    }
    write_cr3((u32)directory);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

/* Takes away the pages that came on demand. */
void arena_empty(void)
{
    for (u32 i = 0; i < 1024; i++) {
        if (!arena_table[i])
            continue;
        arena_table[i] = 0;
        invlpg(ARENA + i * PAGE_BYTES);
    }
}
