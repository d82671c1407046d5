//! The operations: what each is, what it means, what the literature says of it.
//!
//! Our guest and our Linux program call the rows by these names. An operation that
//! both have may differ in what lies behind it: a null system call ends in one
//! instruction of the guest's kernel, and in a hundred of Linux's.
//!
//! Published figures are those of Adams and Agesen, "A Comparison of Software and
//! Hardware Techniques for x86 Virtualization" (ASPLOS 2006), on a 3.8 GHz Pentium 4.

/// A published figure in cycles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Published {
    /// As it is printed there.
    Exact(f64),
    /// Known from others who quote it, or computed from seconds.
    About(f64),
    /// Not known here.
    Unknown,
}

impl Published {
    /// The figure, if there is one.
    pub fn cycles(self) -> Option<f64> {
        match self {
            Self::Exact(cycles) | Self::About(cycles) => Some(cycles),
            Self::Unknown => None,
        }
    }
}

/// The published columns.
pub const PUBLISHED: [&str; 3] = ["P4 native", "P4 software VMM", "P4 hardware VMM"];

/// An operation.
#[derive(Debug)]
pub struct Row {
    /// What guest and program call it.
    pub name: &'static str,
    /// What our guest does, if it does.
    pub in_guest: Option<&'static str>,
    /// What our Linux program does, if it does.
    pub in_linux: Option<&'static str>,
    /// Published figures: native, software VMM, hardware VMM.
    pub published: [Published; 3],
}

use Published::{About, Exact, Unknown};

const NONE: [Published; 3] = [Unknown; 3];

/// All of them, in the order of tables: rings, devices, memory, processes.
#[rustfmt::skip]
pub static ROWS: [Row; 19] = [
    Row {
        name: "syscall",
        in_guest: Some("SYSENTER from ring 3 into ring 0, which returns by SYSEXIT at once."),
        in_linux: Some("A getppid by the kernel's own entry (__kernel_vsyscall: SYSENTER, on AMD SYSCALL)."),
        published: [Exact(242.0), About(2308.0), Exact(242.0)],
    },
    Row {
        name: "int80",
        in_guest: Some("INT 80h from ring 3 into ring 0, which returns by IRET at once."),
        in_linux: Some("A getppid by INT 80h."),
        published: NONE,
    },
    Row {
        name: "vdso",
        in_guest: Some("The time as a vDSO computes it, in ring 3: a page that the kernel keeps, and RDTSC."),
        in_linux: Some("A clock_gettime by the vDSO; where it trusts no clock, a system call is inside."),
        published: NONE,
    },
    Row {
        name: "callret",
        in_guest: Some("CALL of a RET: the price of looking up where translated code goes on."),
        in_linux: Some("CALL of a RET: the price of looking up where translated code goes on."),
        published: [Exact(11.0), Exact(51.0), Exact(11.0)],
    },
    Row {
        name: "divzero",
        in_guest: Some("DIV by zero in ring 0: #DE through the IDT, and IRET behind the DIV."),
        in_linux: None,
        published: [Exact(889.0), Exact(3223.0), Exact(1014.0)],
    },
    Row {
        name: "sigfpe",
        in_guest: None,
        in_linux: Some("DIV by zero that reaches the program as a signal, and the return from its handler."),
        published: NONE,
    },
    Row {
        name: "in",
        in_guest: Some("IN from port 80h, which leads to a device inside the monitor."),
        in_linux: None,
        published: [Exact(3209.0), About(214.0), Exact(15826.0)],
    },
    Row {
        name: "out",
        in_guest: Some("OUT to port 80h."),
        in_linux: None,
        published: NONE,
    },
    Row {
        name: "cr8wr",
        in_guest: Some("A store to the local APIC's task priority, which is what 64-bit code calls CR8."),
        in_linux: None,
        published: [About(140.0), Exact(35.0), Unknown],
    },
    Row {
        name: "mmio",
        in_guest: Some("A load from a register in memory, the local APIC's version."),
        in_linux: None,
        published: NONE,
    },
    Row {
        name: "interrupt",
        in_guest: Some("An OUT that makes the UART ask for an interrupt, and its handler; less the price of two OUTs."),
        in_linux: None,
        published: NONE,
    },
    Row {
        name: "pgfault",
        in_guest: Some("The touch of an absent page: #PF, the handler fills the page table, the touch is done again."),
        in_linux: Some("The first write to a page of fresh memory: #PF, and a zeroed page from Linux."),
        published: [Exact(1093.0), Exact(3927.0), Exact(11242.0)],
    },
    Row {
        name: "ptemod",
        in_guest: Some("A store that changes an entry of a page table in use."),
        in_linux: None,
        published: [Exact(1.0), Exact(391.0), Exact(12733.0)],
    },
    Row {
        name: "mprotect",
        in_guest: None,
        in_linux: Some("A page protected, opened again and written to: two system calls, two changes of a page table."),
        published: NONE,
    },
    Row {
        name: "invlpg",
        in_guest: Some("INVLPG, and what it adds to the next read of that page."),
        in_linux: None,
        published: NONE,
    },
    Row {
        name: "ctxswitch",
        in_guest: Some("A load of CR3 with another address space, and what it adds to reads of 16 pages there."),
        in_linux: None,
        published: NONE,
    },
    Row {
        name: "pipeswitch",
        in_guest: None,
        in_linux: Some("A byte through a pipe to another process, which wakes: a switch with its system calls."),
        published: NONE,
    },
    Row {
        name: "tlbmiss",
        in_guest: Some("What a read costs more if it is one of 4096 pages, too many for a TLB, than if of 64."),
        in_linux: Some("What a read costs more if it is one of 4096 pages, too many for a TLB, than if of 64."),
        published: NONE,
    },
    Row {
        name: "forkwait",
        in_guest: Some("A process made by copy on write, run in ring 3 and ended: 64 pages, four written by each."),
        in_linux: Some("A fork, the child's end, and the wait for it."),
        // 40,000 processes in 6.0, 36.9 and 106.4 s.
        published: [About(570_000.0), About(3_505_500.0), About(10_108_000.0)],
    },
];

/// The row that is called `name`.
pub fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_row_means_something() {
        for (number, one) in ROWS.iter().enumerate() {
            assert!(std::ptr::eq(row(one.name).unwrap(), one), "{}", one.name);
            assert!(one.in_guest.is_some() || one.in_linux.is_some());
            let sentences = one.in_guest.iter().chain(&one.in_linux);
            assert!(
                sentences.into_iter().all(|text| text.ends_with('.')),
                "{number}"
            );
        }
        assert!(row("floppy").is_none());
    }
}
