/* What the i386 Linux kernel is asked for, without a C library. */
#ifndef LINUX_H
#define LINUX_H

#include "../default/cpu.h"

#define SYS_EXIT 1
#define SYS_FORK 2
#define SYS_READ 3
#define SYS_WRITE 4
#define SYS_CLOSE 6
#define SYS_WAITPID 7
#define SYS_GETPID 20
#define SYS_PIPE 42
#define SYS_GETPPID 64
#define SYS_REBOOT 88
#define SYS_MPROTECT 125
#define SYS_RT_SIGACTION 174
#define SYS_MMAP2 192
#define SYS_MADVISE 219
#define SYS_SCHED_SETAFFINITY 241

#define SIGFPE 8
#define SA_SIGINFO 4
#define SA_RESTORER 0x04000000

#define PROT_READ 1
#define PROT_WRITE 2
#define MAP_PRIVATE_ANONYMOUS 0x22
#define MADV_DONTNEED 4
#define MADV_NOHUGEPAGE 15

#define AT_SYSINFO 32
#define AT_SYSINFO_EHDR 33

/* A system call by INT 80h; five arguments, in registers. */
int linux_call(u32 number, u32 a, u32 b, u32 c, u32 d, u32 e);

/* vdso.c: what the kernel's own library, at `image`, calls `name`; or NULL. */
void *vdso_symbol(u32 image, const char *name);

#endif
