//! The default guest that is part of the program: see `samples/guests/default`.

/// Its image, an ELF32 file built with the program.
pub const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/default-guest.elf"));

/// The value it writes to the debug-exit port when all went well.
pub const SUCCESS: u32 = 0x10;
