//! Small guests of our own, ready to be run by whoever embeds ring1 or tests it.
//!
//! Each check guest examines one part of the machine and is its own judge: it
//! prints `ok N text` or `FAIL N: text` lines on COM1 and ends by a byte
//! written to port F4h, 10h if all was as it should be, else the number of the
//! check that failed. `guests/README.md` has the details.

/// Alignment checks: operands of all kinds, and what is exempt.
pub const ALIGNMENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/alignment.elf"));

/// Breakpoints, single steps, the resume flag, shadows of debug traps.
pub const DEBUG: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/debug.elf"));

/// Every exception: vector, error code, saved EIP, and untouched registers.
pub const FAULTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/faults.elf"));

/// Paging: A and D, rights, WP, large and global pages, recursive tables, PAE, NX,
/// error codes and CR2, and instructions that fault half-way.
pub const PAGING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/paging.elf"));

/// Model-specific registers: MTRRs, PAT, machine check, and those that are not there.
pub const MSR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/msr.elf"));

/// SMEP, SMAP, UMIP, PSE-36, registers' combinations that do not exist.
pub const PROTECTION: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/protection.elf"));

/// Segmentation: bases, limits, rights, descriptors, 16-bit code and stacks.
pub const SEGMENTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/segments.elf"));

/// Self-modifying code: by every store, hot and cold, through aliases and remapping.
pub const SMC: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/smc.elf"));

/// Ways between rings: interrupt and call gates, IRET and RETF, EFLAGS by
/// privilege, the I/O permission map.
pub const GATES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gates.elf"));

/// The interrupt controllers, timer and clock; gates, shadows, HLT and nesting.
pub const INTERRUPTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/interrupts.elf"));

/// SYSENTER and SYSEXIT.
pub const SYSENTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sysenter.elf"));

/// Hardware task switches: task gates, CALL, JMP and IRET between tasks.
pub const TASKS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tasks.elf"));

/// Virtual-8086 mode with and without VME, virtual interrupts, the I/O map.
pub const V86: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/v86.elf"));

/// Real mode, and the ways between it, protected and unreal mode: a flat image
/// to be placed at [`REAL_START`] and entered there, CS being 0.
pub const REAL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/real.bin"));

/// Where [`REAL`] is loaded and entered.
pub const REAL_START: u32 = 0x7c00;

/// What the guests write to port F4h when every check has passed.
pub const PASSED: u8 = 0x10;

/// Every check guest that is entered in protected mode, by name.
pub fn all() -> &'static [(&'static str, &'static [u8])] {
    &[
        ("alignment", ALIGNMENT),
        ("debug", DEBUG),
        ("faults", FAULTS),
        ("gates", GATES),
        ("interrupts", INTERRUPTS),
        ("msr", MSR),
        ("paging", PAGING),
        ("protection", PROTECTION),
        ("segments", SEGMENTS),
        ("smc", SMC),
        ("sysenter", SYSENTER),
        ("tasks", TASKS),
        ("v86", V86),
    ]
}
