//! Guests, and a program for guests, that are part of ring1: the default guest, and what
//! `ring1 compare` runs. Their sources are in `samples/guests`.

/// The default guest, an ELF32 file built with the program.
pub const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/default-guest.elf"));

/// The same with debug information, for `ring1 guest`.
pub const DEBUG_IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/default-guest.debug.elf"));

/// The value a guest of ours writes to the debug-exit port when all went well.
pub const SUCCESS: u32 = 0x10;

/// The guest of `ring1 compare`, a Multiboot kernel.
pub const COMPARE_GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/compare-guest.elf"));

/// The program of `ring1 compare`, a static one for i386 Linux.
pub const COMPARE_PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/compare-program.elf"));
