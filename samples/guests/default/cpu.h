/* The processor as C sees it: fixed-width types and one-instruction helpers.
 *
 * No header of the C library is used: a compiler for the 64-bit host has no
 * 32-bit ones unless its owner installed them. */
#ifndef CPU_H
#define CPU_H

typedef __UINT8_TYPE__ u8;
typedef __UINT16_TYPE__ u16;
typedef __UINT32_TYPE__ u32;
typedef __UINT64_TYPE__ u64;

#define NULL ((void *)0)
#define CR0_WP (1u << 16)
#define CR0_PG (1u << 31)
#define EFLAGS_IF (1u << 9)
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176

static inline void outb(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline void outl(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }

static inline u8 inb(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u64 rdtsc(void)
{
    u64 value;
    __asm__ volatile("rdtsc" : "=A"(value));
    return value;
}

static inline void wrmsr(u32 msr, u32 value) { __asm__ volatile("wrmsr" : : "c"(msr), "a"(value), "d"(0)); }

static inline void cpuid(u32 leaf, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx)
{
    __asm__ volatile("cpuid" : "=a"(*eax), "=b"(*ebx), "=c"(*ecx), "=d"(*edx) : "a"(leaf), "c"(0));
}

static inline u32 read_cr2(void)
{
    u32 value;
    __asm__ volatile("movl %%cr2, %0" : "=r"(value));
    return value;
}

static inline u32 read_cr0(void)
{
    u32 value;
    __asm__ volatile("movl %%cr0, %0" : "=r"(value));
    return value;
}

static inline void write_cr0(u32 value) { __asm__ volatile("movl %0, %%cr0" : : "r"(value) : "memory"); }
static inline void write_cr3(u32 value) { __asm__ volatile("movl %0, %%cr3" : : "r"(value) : "memory"); }

/* Waits for one interrupt: STI holds interrupts off until HLT has begun. */
static inline void wait_for_interrupt(void) { __asm__ volatile("sti; hlt; cli" : : : "memory"); }

#endif
