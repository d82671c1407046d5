/* What the kernel promises to programs, and what both promise to the VMM. */
#ifndef ABI_H
#define ABI_H

/* System calls: number in EAX, arguments in EBX, ESI, EDI, result in EAX.
 * INT 80h keeps every other register. SYSENTER takes the return address in EDX
 * and the stack pointer in ECX, which is why neither carries an argument. */
#define SYSTEM_CALL_VECTOR 0x80
#define SYS_NULL 0   /* does nothing, as fast as the machine can */
#define SYS_EXIT 1   /* status */
#define SYS_WRITE 2  /* text, length */
#define SYS_GETPID 3
#define SYS_YIELD 4
#define SYS_BRK 5    /* new end of the heap, or 0 to ask where it is */
#define SYS_REPORT 6 /* key, value: for the VMM */

/* Keys on the report port; see samples/guests/README.md. All in TSC cycles. */
#define REPORT_INT80_MIN 1
#define REPORT_INT80_MEDIAN 2
#define REPORT_SYSENTER_MIN 3
#define REPORT_SYSENTER_MEDIAN 4
#define REPORT_PAGE_FAULT_MEDIAN 5
#define REPORT_CONTEXT_SWITCH_MEDIAN 6

#define USER_BASE 0x08048000
#define USER_STACK_TOP 0xbffff000
#define USER_STACK_BYTES 0x10000
#define USER_END 0xc0000000

#endif
