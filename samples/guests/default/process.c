/* Processes: loading, taking turns, ending.
 *
 * Each has an address space and a kernel stack of one page. A process that is
 * not running has left its kernel stack inside switch_stack; a new one is made
 * to look as if it had, on its way to ring 3. Process 0 is the boot thread: it
 * runs only when no other can. */
#include "kernel.h"

#define PROCESSES 4

struct elf_header {
    u8 ident[16];
    u16 type, machine;
    u32 version, entry, program_headers, section_headers, flags;
    u16 header_bytes, program_header_bytes, program_header_count;
};

struct elf_segment {
    u32 type, offset, linear, physical, file_bytes, memory_bytes, flags, align;
};

#define SEGMENT_LOAD 1
#define SEGMENT_WRITABLE 2

static struct process processes[PROCESSES];
static u32 next_pid = 1;
static int use_sysenter;
struct process *current = &processes[0];

void processes_init(int have_sysenter)
{
    use_sysenter = have_sysenter;
    current->name = "kernel";
    current->state = RUNNABLE;
}

/* Copies one segment, page by page, into frames of its own. */
static void load_segment(struct process *process, const u8 *elf, const struct elf_segment *segment)
{
    u32 rights = PAGE_USER | (segment->flags & SEGMENT_WRITABLE ? PAGE_WRITABLE : 0);
    u32 start = segment->linear, file_end = start + segment->file_bytes, end = start + segment->memory_bytes;
    const u8 *from = elf + segment->offset;
    for (u32 page = start & ~(PAGE_BYTES - 1); page < end; page += PAGE_BYTES) {
        u32 frame = frame_alloc();
        u32 low = page > start ? page : start;
        u32 high = page + PAGE_BYTES < file_end ? page + PAGE_BYTES : file_end;
        if (low < high)
            memcpy((u8 *)frame + (low - page), from + (low - start), high - low);
        space_map(process->directory, page, frame, rights);
    }
    if (process->image_start == 0 || start < process->image_start)
        process->image_start = start;
    end = (end + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
    if (end > process->image_end)
        process->image_end = end;
}

/* Builds the kernel stack that switch_stack and return_to_user then unwind. */
static void prepare_entry(struct process *process, u32 entry)
{
    struct frame *frame = (struct frame *)(process->kernel_stack + PAGE_BYTES) - 1;
    frame->es = frame->ds = frame->ss = USER_DS;
    frame->cs = USER_CS;
    frame->eip = entry;
    frame->eflags = EFLAGS_IF | 2;
    frame->esp = USER_STACK_TOP;
    u32 *stack = (u32 *)frame;
    *--stack = (u32)return_to_user;
    process->kernel_esp = (u32)(stack - 4); /* EBP, EBX, ESI, EDI: zero */
}

struct process *process_start(const char *name, const u8 *elf)
{
    const struct elf_header *header = (const struct elf_header *)elf;
    const struct elf_segment *segment = (const struct elf_segment *)(elf + header->program_headers);
    struct process *process = processes + 1;
    while (process->state != UNUSED)
        process++;
    memset(process, 0, sizeof *process);
    process->pid = next_pid++;
    process->name = name;
    process->directory = space_create();
    process->kernel_stack = frame_alloc();
    for (u32 i = 0; i < header->program_header_count; i++)
        if (segment[i].type == SEGMENT_LOAD)
            load_segment(process, elf, &segment[i]);
    process->heap_end = process->image_end;
    prepare_entry(process, header->entry);
    process->state = RUNNABLE;
    return process;
}

/* Whether the running process may use these bytes: image, heap or stack. */
int process_may_use(u32 start, u32 bytes)
{
    u32 end = start + bytes;
    if (end < start)
        return 0;
    return (start >= current->image_start && end <= current->heap_end) ||
           (start >= USER_STACK_TOP - USER_STACK_BYTES && end <= USER_STACK_TOP);
}

static struct process *next_runnable(void)
{
    u32 place = current - processes;
    for (u32 i = 1; i < PROCESSES; i++) {
        struct process *next = &processes[1 + (place + i - 1) % (PROCESSES - 1)];
        if (next->state == RUNNABLE)
            return next;
    }
    return current->state == RUNNABLE ? current : &processes[0];
}

void schedule(void)
{
    struct process *old = current, *next = next_runnable();
    if (next == old)
        return;
    current = next;
    next->slices++;
    space_switch(next->directory);
    set_kernel_stack(next->kernel_stack + PAGE_BYTES, use_sysenter);
    switch_stack(&old->kernel_esp, next->kernel_esp);
}

_Noreturn void process_exit(u32 status)
{
    current->state = FINISHED;
    current->exit_status = status;
    schedule();
    __builtin_unreachable(); /* nothing switches back to a finished process */
}

/* Runs every process to its end, then gives back what they held. */
void processes_run(void)
{
    schedule();
    for (struct process *process = processes + 1; process < processes + PROCESSES; process++) {
        if (process->state != FINISHED)
            continue;
        space_destroy(process->directory);
        frame_free(process->kernel_stack);
        process->state = UNUSED;
    }
}
