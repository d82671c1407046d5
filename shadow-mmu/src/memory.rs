//! Guest physical memory.
//!
//! RAM is one mapping of a memory file, so `host = base + physical`: this is
//! what makes a shadow entry a single difference, and [mirrors](crate::mirror)
//! can map parts of the file again. Ranges of it can be declared
//! holes (the legacy video area, say): they belong to devices, every access
//! through [`GuestRam`] answers `None` there, and no shadow entry ever permits
//! them.
//!
//! Generated code writes this memory behind Rust's back, so it is only ever
//! touched through raw pointers, never through references.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use memmap2::{MmapMut, MmapOptions};

use crate::addr::{PAGE_BYTES, PhysAddr};
use crate::error::Error;
use crate::mirror::memory_file;

/// The largest guest memory: what 36 physical address bits reach.
const MAX_BYTES: u64 = 1 << 36;

/// Guest RAM: physical addresses 0 to [`bytes`](GuestRam::bytes), less the holes.
pub struct GuestRam {
    base: NonNull<u8>,
    bytes: u64,
    file: File,
    /// Keeps the memory alive; used through `base` only.
    _mapping: MmapMut,
    /// Page-aligned half-open ranges that are not RAM.
    holes: Vec<(u64, u64)>,
    /// From the beginning of the first to the end of the last.
    all_holes: (u64, u64),
}

// SAFETY: it owns its mapping; sending it to another thread sends the memory along.
unsafe impl Send for GuestRam {}

impl GuestRam {
    /// Reserves guest memory; the host backs it as the guest touches it.
    ///
    /// # Errors
    /// If the size is not a whole number of pages up to 64 GiB, or the host refuses.
    pub fn new(bytes: u64) -> Result<GuestRam, Error> {
        let size = usize::try_from(bytes).unwrap_or(0);
        if size == 0 || bytes > MAX_BYTES || !bytes.is_multiple_of(PAGE_BYTES) {
            return Err(Error::RamSize { bytes });
        }
        let file = memory_file(bytes)?;
        let mut mapping = map_file(&file, size)?;
        // An entry is `host - linear`; above 4 GiB it can never be zero.
        let base = NonNull::new(mapping.as_mut_ptr())
            .filter(|base| base.as_ptr() as u64 >= 1 << 32)
            .ok_or(Error::LowMapping)?;
        Ok(GuestRam {
            base,
            bytes,
            file,
            _mapping: mapping,
            holes: Vec::new(),
            all_holes: (u64::MAX, 0),
        })
    }

    /// The size of guest memory in bytes, holes included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The host address of physical address 0.
    #[must_use]
    pub fn host_base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The file whose bytes are guest memory.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Declares `start..end` (rounded outwards to pages) to be no RAM.
    pub fn add_hole(&mut self, start: PhysAddr, end: PhysAddr) {
        let start = start.0 & !(PAGE_BYTES - 1);
        let end = end.0.saturating_add(PAGE_BYTES - 1) & !(PAGE_BYTES - 1);
        self.holes.push((start, end));
        let (first, last) = self.all_holes;
        self.all_holes = (first.min(start), last.max(end));
    }

    /// The page-aligned ranges that are not RAM.
    pub(crate) fn holes(&self) -> &[(u64, u64)] {
        &self.holes
    }

    /// The host address of `len` bytes at `addr`, if all of them are RAM.
    #[must_use]
    #[inline]
    pub fn host(&self, addr: PhysAddr, len: u32) -> Option<*mut u8> {
        let end = addr.0.checked_add(u64::from(len))?;
        let (first, last) = self.all_holes;
        let among_holes = addr.0 < last && first < end;
        if end > self.bytes || among_holes && self.in_hole(addr.0, end) {
            return None;
        }
        // SAFETY: addr + len <= bytes, so the result stays inside (or, for an
        // empty access, at the end of) the mapping.
        Some(unsafe { self.base.as_ptr().add(addr.0 as usize) })
    }

    /// Whether a hole has any of the bytes from `start` to `end`.
    fn in_hole(&self, start: u64, end: u64) -> bool {
        let mut holes = self.holes.iter();
        holes.any(|&(from, to)| start < to && from < end)
    }

    /// Reads a byte; `None` where there is no RAM.
    #[must_use]
    pub fn read_u8(&self, addr: PhysAddr) -> Option<u8> {
        self.read_bytes(addr).map(u8::from_le_bytes)
    }

    /// Reads a little-endian word; `None` where there is no RAM.
    #[must_use]
    pub fn read_u16(&self, addr: PhysAddr) -> Option<u16> {
        self.read_bytes(addr).map(u16::from_le_bytes)
    }

    /// Reads a little-endian doubleword; `None` where there is no RAM.
    #[must_use]
    pub fn read_u32(&self, addr: PhysAddr) -> Option<u32> {
        self.read_bytes(addr).map(u32::from_le_bytes)
    }

    /// Reads a little-endian quadword; `None` where there is no RAM.
    #[must_use]
    pub fn read_u64(&self, addr: PhysAddr) -> Option<u64> {
        self.read_bytes(addr).map(u64::from_le_bytes)
    }

    /// Reads sixteen bytes; `None` where there is no RAM.
    #[must_use]
    #[inline]
    pub fn read_u128(&self, addr: PhysAddr) -> Option<u128> {
        self.read_bytes(addr).map(u128::from_le_bytes)
    }

    /// Writes a byte; `None`, and no effect, where there is no RAM.
    #[inline]
    pub fn write_u8(&self, addr: PhysAddr, value: u8) -> Option<()> {
        self.write_slice(addr, &value.to_le_bytes())
    }

    /// Writes a little-endian word; `None`, and no effect, where there is no RAM.
    #[inline]
    pub fn write_u16(&self, addr: PhysAddr, value: u16) -> Option<()> {
        self.write_slice(addr, &value.to_le_bytes())
    }

    /// Writes a little-endian doubleword; `None`, and no effect, where there is no RAM.
    #[inline]
    pub fn write_u32(&self, addr: PhysAddr, value: u32) -> Option<()> {
        self.write_slice(addr, &value.to_le_bytes())
    }

    /// Writes a little-endian quadword; `None`, and no effect, where there is no RAM.
    pub fn write_u64(&self, addr: PhysAddr, value: u64) -> Option<()> {
        self.write_slice(addr, &value.to_le_bytes())
    }

    /// Fills `bytes` from memory at `addr`; `None`, and no effect, unless all of it is RAM.
    pub fn read_slice(&self, addr: PhysAddr, bytes: &mut [u8]) -> Option<()> {
        let from = self.host(addr, u32::try_from(bytes.len()).ok()?)?;
        // SAFETY: `host` vouches for the whole range; guest memory is never
        // borrowed, so it cannot overlap `bytes`.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        Some(())
    }

    /// Stores `bytes` at `addr`; `None`, and no effect, unless all of it is RAM.
    #[inline]
    pub fn write_slice(&self, addr: PhysAddr, bytes: &[u8]) -> Option<()> {
        let to = self.host(addr, u32::try_from(bytes.len()).ok()?)?;
        // SAFETY: as in `read_slice`. `&self` suffices because no reference into
        // guest memory exists; the type is not `Sync`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Some(())
    }

    #[inline]
    fn read_bytes<const N: usize>(&self, addr: PhysAddr) -> Option<[u8; N]> {
        let from = self.host(addr, N as u32)?;
        // SAFETY: `host` vouches for N bytes; a byte array has no alignment.
        Some(unsafe { from.cast::<[u8; N]>().read() })
    }
}

/// Maps the file of guest memory.
fn map_file(file: &File, bytes: usize) -> Result<MmapMut, Error> {
    // SAFETY: the file has no name, so nobody else can change its length.
    let mapping = unsafe {
        MmapOptions::new()
            .len(bytes)
            .no_reserve_swap()
            .map_mut(file)
    };
    mapping.map_err(|source| Error::Map {
        what: "guest memory",
        bytes,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_written() {
        let ram = GuestRam::new(0x2000).unwrap();
        ram.write_u32(PhysAddr(0xFFE), 0x1122_3344).unwrap();
        assert_eq!(ram.read_u8(PhysAddr(0x1001)), Some(0x11));
        assert_eq!(ram.read_u16(PhysAddr(0xFFE)), Some(0x3344));
        assert_eq!(ram.read_u64(PhysAddr(0xFFE)), Some(0x1122_3344));
    }

    #[test]
    fn refuses_what_is_not_ram() {
        let mut ram = GuestRam::new(0x10_0000).unwrap();
        ram.add_hole(PhysAddr(0xA_0000), PhysAddr(0xC_0000));
        assert_eq!(ram.read_u32(PhysAddr(0xF_FFFD)), None);
        assert_eq!(ram.read_u32(PhysAddr(u64::MAX)), None);
        assert_eq!(ram.read_u16(PhysAddr(0x9_FFFF)), None);
        assert_eq!(ram.write_u8(PhysAddr(0xB_FFFF), 1), None);
        assert_eq!(ram.read_u8(PhysAddr(0xC_0000)), Some(0));
    }

    #[test]
    fn refuses_odd_sizes() {
        assert!(GuestRam::new(0).is_err());
        assert!(GuestRam::new(4097).is_err());
        assert!(GuestRam::new(1 << 40).is_err());
    }
}
