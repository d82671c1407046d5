//! Flat binaries: no header, so the user says where they go.
//!
//! The default is what a BIOS does with a boot sector: address 0x7C00, real mode, DL = the first hard disk.
//! There is no BIOS behind it, so the program finds no interrupt services. The 32-bit form enters the same
//! bytes in flat protected mode.

use super::bytes::u16_at;
use super::place::Placement;
use super::{Entry, EntryMode, Image, LoadError, Problem, flat32_entry, refuse_extras};

/// Where a BIOS loads the boot sector.
const BOOT_SECTOR_ADDRESS: u32 = 0x7C00;
/// Size of a boot sector.
const SECTOR_BYTES: usize = 512;
/// The BIOS's number of the first hard disk, in DL at entry.
const FIRST_HARD_DISK: u32 = 0x80;
/// One past what real mode reaches with a segment and a 16-bit offset, A20 aside.
const REAL_MODE_END: u32 = 0x10_0000;

/// The mode in which a flat binary starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlatMode {
    /// 16-bit real mode.
    #[default]
    Real16,
    /// Flat 32-bit protected mode, paging off.
    Protected32,
}

/// Where a flat binary goes and how it starts: at its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlatOptions {
    /// Physical address of the first byte.
    pub address: u32,
    /// The mode at entry.
    pub mode: FlatMode,
}

impl Default for FlatOptions {
    fn default() -> Self {
        FlatOptions {
            address: BOOT_SECTOR_ADDRESS,
            mode: FlatMode::Real16,
        }
    }
}

/// Whether `bytes` is one sector with the boot signature.
pub(super) fn is_boot_sector(bytes: &[u8]) -> bool {
    bytes.len() == SECTOR_BYTES && u16_at(bytes, 510) == Some(0xAA55)
}

/// Loads the kernel of `image` as `options` say.
pub(super) fn load(
    image: &Image,
    options: FlatOptions,
    placement: &mut Placement,
) -> Result<Entry, LoadError> {
    let kernel = image.kernel;
    refuse_extras(image, "a flat binary")?;
    let address = options.address;
    if options.mode == FlatMode::Real16 && address >= REAL_MODE_END {
        return Err(
            Problem::Malformed("a real-mode binary must start below 1 MiB").of(kernel.path),
        );
    }
    placement
        .put("code", u64::from(address), kernel.bytes)
        .map_err(|problem| problem.of(kernel.path))?;
    match options.mode {
        FlatMode::Protected32 => flat32_entry(placement, kernel.path, address, [0; 8]),
        FlatMode::Real16 => Ok(real_entry(address)),
    }
}

/// Real mode at `address`, below 1 MiB, with CS = 0 where that reaches; the stack grows down from 0x7C00.
fn real_entry(address: u32) -> Entry {
    let cs = ((address & 0xF_0000) >> 4) as u16;
    let gpr = [0, 0, FIRST_HARD_DISK, 0, BOOT_SECTOR_ADDRESS, 0, 0, 0];
    Entry {
        eip: address & 0xFFFF,
        gpr,
        mode: EntryMode::Real { cs },
    }
}
