/* Finding a function of the vDSO, the library that the kernel maps into each
 * process: an ELF file in memory, whose section headers lead to the symbols. */
#include "linux.h"

#define SECTION_DYNAMIC_SYMBOLS 11

struct header {
    u8 ident[16];
    u16 type, machine;
    u32 version, entry, program_headers, section_headers, flags;
    u16 header_bytes, program_header_bytes, program_header_count, section_header_bytes, section_header_count;
};

struct symbol {
    u32 name, value, size;
    u8 info, other;
    u16 section;
};

struct section {
    u32 name, type, flags, address, offset, bytes, link, info, align, entry_bytes;
};

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* By the section headers, which the vDSO has: they say how many symbols there
 * are, whatever kind of hash table it carries. */
void *vdso_symbol(u32 image, const char *name)
{
    const struct header *header = (const struct header *)image;
    const struct section *sections = (const struct section *)(image + header->section_headers);
    for (u32 i = 0; i < header->section_header_count; i++) {
        if (sections[i].type != SECTION_DYNAMIC_SYMBOLS)
            continue;
        const struct symbol *symbols = (const struct symbol *)(image + sections[i].offset);
        const char *names = (const char *)(image + sections[sections[i].link].offset);
        for (u32 j = 0; j < sections[i].bytes / sizeof *symbols; j++)
            if (same(names + symbols[j].name, name))
                return (void *)(image + symbols[j].value);
    }
    return NULL;
}
