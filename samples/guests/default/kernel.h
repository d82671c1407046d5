/* The kernel's parts and what each offers the others. */
#ifndef KERNEL_H
#define KERNEL_H

#include "abi.h"
#include "cpu.h"
#include "format.h"

/* Selectors. SYSENTER and SYSEXIT fix the order of the first four. */
#define KERNEL_CS 0x08
#define KERNEL_DS 0x10
#define USER_CS 0x1b
#define USER_DS 0x23
#define TSS_SELECTOR 0x28

#define PAGE_BYTES 4096u
#define PAGE_PRESENT 1u
#define PAGE_WRITABLE 2u
#define PAGE_USER 4u

#define TIMER_HZ 100
#define VECTOR_PAGE_FAULT 14
#define VECTOR_IRQ0 32
#define VECTOR_IRQ_LAST 47

/* What entry.S leaves on the kernel stack, lowest address first. ESP and SS
 * are there only for an entry from ring 3. */
struct frame {
    u32 es, ds;
    u32 edi, esi, ebp, esp_unused, ebx, edx, ecx, eax;
    u32 vector, error;
    u32 eip, cs, eflags, esp, ss;
};

struct process {
    u32 pid;
    const char *name;
    enum { UNUSED, RUNNABLE, FINISHED } state;
    u32 kernel_esp;      /* where switch_stack left off */
    u32 kernel_stack;    /* frame that holds the kernel stack */
    u32 *directory;      /* page directory; frames are mapped at their own address */
    u32 image_start, image_end, heap_end;
    u32 exit_status;
    u32 slices, demand_pages, system_calls;
};

/* console.c */
void console_init(void);
void console_write(const char *text, u32 length);
void print(const char *pattern, ...);
void machine_report(u32 key, u32 value);
_Noreturn void machine_exit(u32 status);
#define EXIT_SUCCESS 0x10
#define EXIT_FAILURE 1

/* tables.c */
void tables_init(int have_sysenter);
void set_kernel_stack(u32 top, int have_sysenter);

/* interrupts.c */
void interrupts_init(void);
extern volatile u32 timer_ticks;

/* memory.c */
void memory_init(void);
u32 frame_alloc(void);
void frame_free(u32 frame);
u32 frames_in_use(void);
u32 *space_create(void);
void space_destroy(u32 *directory);
void space_switch(u32 *directory);
void space_map(u32 *directory, u32 linear, u32 frame, u32 rights);
void page_fault(struct frame *frame);

/* process.c */
extern struct process *current;
void processes_init(int have_sysenter);
struct process *process_start(const char *name, const u8 *elf);
void processes_run(void);
void schedule(void);
_Noreturn void process_exit(u32 status);
int process_may_use(u32 start, u32 bytes);

/* syscall.c */
u32 system_call(struct frame *frame);

/* entry.S, programs.S */
extern const u32 vector_stubs[VECTOR_IRQ_LAST + 1];
void system_call_entry(void);
void sysenter_entry(void);
void return_to_user(void);
void switch_stack(u32 *old_esp, u32 new_esp);
void load_tables(const void *gdt, u32 gdt_bytes, const void *idt, u32 idt_bytes);
extern const u8 program_sieve[], program_crc[], program_trespass[], program_meter[], program_partner[];

#endif
