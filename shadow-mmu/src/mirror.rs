//! Mirrors: a view's linear address space, laid out for the host's own MMU.
//!
//! A look-up in a shadow table costs several instructions at each access. Code
//! that is hot enough does without: behind the tables of a view lie 4 GiB of host
//! address space, its *mirror*, in which linear page `p` is mapped at `p * 4096`
//! to the same memory as the shadow entry names. An access there is one
//! instruction, and the host checks it.
//!
//! ```text
//!  read table ─ write table ─ guard ─ mirror of 4 GiB ─ guard
//!  0            8 MiB                 32 MiB
//! ```
//!
//! A mirror starts out empty. An access to a page that it lacks is a fault of the
//! host, which the runtime answers with [`ShadowMmu::mirror`]; that costs some ten
//! microseconds, so it is for pages that are used thousands of times.
//!
//! Invariant: a mirror maps a page at most as the shadow entries permit it now.
//! Whoever removes an entry takes the page out, [`Mirror::hide`]; with no entry
//! there is no page. Guards on both sides catch displacements that lead out.

#![allow(unsafe_code)]

use crate::addr::{LinearAddr, PAGE_BYTES};
use crate::error::Error;
use crate::fault::Access;
use crate::mirror_pages::MirrorPages;
use crate::mmu::ShadowMmu;
use crate::space::SLOT_PAGES;
use crate::table::{Array, ENTRIES, Side, View};
use rustix::fd::BorrowedFd;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

/// From a view's read table to its mirror, in bytes.
pub const MIRROR_DISTANCE: u64 = 32 << 20;

/// Bytes of the tables of a view.
const TABLE_BYTES: usize = 2 * ENTRIES * size_of::<u64>();
/// Bytes of a mirror, and of the guard behind it.
const MIRROR_BYTES: usize = 1 << 32;
const GUARD_BYTES: usize = 16 << 20;
const SPAN_BYTES: usize = MIRROR_DISTANCE as usize + MIRROR_BYTES + GUARD_BYTES;

/// Mappings made before all mirrors are emptied: hosts allow some 65,000, and each
/// may cut another in two.
const MAX_MAPPINGS: u32 = 16_384;

/// What is mapped where.
#[derive(Clone, Copy)]
struct Mapping {
    page: u32,
    count: usize,
    /// Offset into guest memory.
    offset: u64,
    writable: bool,
}

/// Host address space of one view: its tables and its mirror.
pub(crate) struct Mirror {
    base: NonNull<u8>,
    bytes: usize,
    /// The mirrored pages; there are none until the first.
    mapped: Option<MirrorPages>,
    /// Bits set.
    count: u32,
    /// Times that pages came or went since that was asked.
    changes: u32,
}

// SAFETY: it owns its address space.
unsafe impl Send for Mirror {}

impl Mirror {
    /// Reserves address space for the tables, and for the mirror too if `room`.
    pub(crate) fn new(room: bool) -> Result<Self, Error> {
        let bytes = if room { SPAN_BYTES } else { TABLE_BYTES };
        let refused = |source: rustix::io::Errno| Error::Map {
            what: "shadow tables",
            bytes,
            source: source.into(),
        };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address that the host chooses.
        let base = unsafe { mmap_anonymous(null_mut(), bytes, ProtFlags::empty(), flags) };
        let base = NonNull::new(base.map_err(refused)?.cast()).ok_or(Error::LowMapping)?;
        let mirror = Mirror {
            base,
            bytes,
            mapped: None,
            count: 0,
            changes: 0,
        };
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the start of the mapping made above.
        unsafe { mprotect(base.as_ptr().cast(), TABLE_BYTES, access) }.map_err(refused)?;
        // Only advice.
        let advice = rustix::mm::Advice::LinuxNoHugepage;
        // SAFETY: as above; this advice changes no content.
        let _ = unsafe { rustix::mm::madvise(base.as_ptr().cast(), TABLE_BYTES, advice) };
        Ok(mirror)
    }

    /// The tables: all entries of the read table, then those of the write table.
    pub(crate) fn tables(&self) -> &[u64] {
        // SAFETY: so many bytes are mapped, zero at first. Generated code reads
        // them and never writes them.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), 2 * ENTRIES) }
    }

    /// The tables, to change.
    pub(crate) fn tables_mut(&mut self) -> &mut [u64] {
        // SAFETY: as in `tables`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().cast(), 2 * ENTRIES) }
    }

    pub(crate) fn view(&self) -> View {
        let read = self.tables().as_ptr() as u64;
        let write = read + (ENTRIES * size_of::<u64>()) as u64;
        View { read, write }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.bytes == SPAN_BYTES
    }

    /// The host's address of a linear page.
    fn at(&self, page: u32) -> *mut c_void {
        let offset = MIRROR_DISTANCE as usize + (page as usize & (ENTRIES - 1)) * 4096;
        // SAFETY: the page is in the reserved range; callers have seen `has_room`.
        unsafe { self.base.as_ptr().add(offset).cast() }
    }

    fn holds(&self, page: u32) -> bool {
        let word = self.words().get(page as usize / 64).copied();
        word.is_some_and(|word| word >> (page % 64) & 1 != 0)
    }

    fn words(&self) -> &[u64] {
        self.mapped.as_ref().map_or(&[], MirrorPages::words)
    }

    /// The mirrored pages.
    fn pages(&self) -> impl Iterator<Item = u32> {
        let words = self
            .words()
            .iter()
            .enumerate()
            .filter(|(_, word)| **word != 0);
        words.flat_map(|(n, word)| {
            let bits = (0..64).filter(move |bit| word >> bit & 1 != 0);
            bits.map(move |bit| 64 * n as u32 + bit)
        })
    }

    /// Maps pages. False if the host refuses.
    fn map(&mut self, file: BorrowedFd<'_>, mapping: Mapping) -> bool {
        let Mapping { page, count, .. } = mapping;
        if !self.has_room() || page as usize + count > ENTRIES {
            return false;
        }
        let protection = match mapping.writable {
            true => ProtFlags::READ | ProtFlags::WRITE,
            false => ProtFlags::READ,
        };
        let at = self.at(page);
        self.mapped = self.mapped.take().or_else(MirrorPages::new);
        let Some(pages) = &mut self.mapped else {
            return false;
        };
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: replaces pages of the mirror, which is this value's own and which
        // no reference points into.
        let mapped = unsafe { mmap(at, count * 4096, protection, flags, file, mapping.offset) };
        if mapped.is_err() {
            return false;
        }
        self.changes += 1;
        let words = pages.words_mut();
        for page in page..page + count as u32 {
            let word = &mut words[page as usize / 64];
            self.count += u32::from(*word >> (page % 64) & 1 == 0);
            *word |= 1 << (page % 64);
        }
        true
    }

    /// How often pages came or went since this was asked last.
    pub(crate) fn take_changes(&mut self) -> u32 {
        std::mem::take(&mut self.changes)
    }

    /// Takes pages out.
    #[inline]
    pub(crate) fn hide(&mut self, page: u32, count: usize) {
        if self.count != 0 {
            self.hide_mapped(page, count);
        }
    }

    #[cold]
    fn hide_mapped(&mut self, page: u32, count: usize) {
        let all = page..page.saturating_add(count as u32).min(ENTRIES as u32);
        let Some(first) = all.clone().find(|&page| self.holds(page)) else {
            return;
        };
        let last = all.clone().rev().find(|&page| self.holds(page));
        let count = (last.unwrap_or(first) - first + 1) as usize;
        self.changes += 1;
        // SAFETY: pages of the mirror. What is not mapped between them has no
        // access anyway.
        let hidden = unsafe { mprotect(self.at(first), count * 4096, MprotectFlags::empty()) };
        if hidden.is_err() {
            return self.empty();
        }
        let words = self.mapped.as_mut().map(MirrorPages::words_mut);
        let words = words.unwrap_or_default();
        for page in first..first + count as u32 {
            let (word, bit) = (&mut words[page as usize / 64], 1 << (page % 64));
            if *word & bit != 0 {
                *word &= !bit;
                self.count -= 1;
            }
        }
    }

    /// Gives back the host's entries for the pages. Each comes again when it is accessed.
    fn rest(&mut self) {
        if !self.has_room() || self.mapped.is_none() {
            return;
        }
        let advice = rustix::mm::Advice::LinuxDontNeed;
        // SAFETY: the pages are shared with the file that is guest memory, and stay there;
        // between them nothing was ever accessed. No reference points into the mirror.
        let _ = unsafe { rustix::mm::madvise(self.at(0), MIRROR_BYTES, advice) };
    }

    /// Takes all pages out and gives their mappings back to the host.
    pub(crate) fn empty(&mut self) {
        if !self.has_room() || self.mapped.is_none() {
            return;
        }
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: replaces the mirror, which is this value's own.
        let emptied =
            unsafe { mmap_anonymous(self.at(0), MIRROR_BYTES, ProtFlags::empty(), flags) };
        if emptied.is_err() {
            // A page that must go and cannot: nothing may run any more.
            std::process::abort();
        }
        self.mapped = None;
        self.count = 0;
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, unmapped once. A failure would
        // leak address space, nothing more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

impl ShadowMmu {
    /// Whether there is room for mirrors, behind all tables. Without, code must not
    /// access any.
    #[must_use]
    pub fn has_mirrors(&self) -> bool {
        self.room
    }

    /// Tables without entries, and a mirror that stays empty.
    #[must_use]
    pub fn blank_view(&self) -> View {
        self.blank.view()
    }

    /// Maps the page of `linear` in the current space's mirror for user or
    /// supervisor accesses, if its shadow entries permit the access, and what
    /// neighbours of its slot are neighbours on the host with the same rights.
    /// False if the access would still fault there.
    pub fn mirror(&mut self, linear: LinearAddr, access: Access, user: bool) -> bool {
        if self.mappings >= MAX_MAPPINGS {
            self.empty_mirrors();
        }
        let (page, side) = (linear.page(), self.side(user));
        let Some(mapping) = self.mapping(page, side) else {
            return false;
        };
        if access == Access::Write && !mapping.writable {
            return false;
        }
        let file = self.ram.file();
        let mapped = self.spaces[self.current]
            .mirror_mut(side)
            .map(file, mapping);
        self.mappings += 1;
        self.counters.mirrored += u64::from(mapped);
        mapped
    }

    /// Gives back what the host spends on mirrors that nobody uses at the moment. What is
    /// mapped stays mapped, but each page's first access is a fault for the host to answer.
    pub fn rest(&mut self) {
        for space in &mut self.spaces {
            for side in Side::ALL {
                space.mirror_mut(side).rest();
            }
        }
    }

    /// Empties the mirrors of all spaces.
    fn empty_mirrors(&mut self) {
        self.mappings = 0;
        for space in &mut self.spaces {
            space.empty_mirrors();
        }
    }

    /// What to map for a page: a run with one difference of host and linear
    /// address, and one kind of rights.
    fn mapping(&self, page: u32, side: Side) -> Option<Mapping> {
        let space = &self.spaces[self.current];
        let rights = |page: u32| {
            let entry = |array| space.get(array, page);
            (entry(Array::read(side)), entry(Array::write(side)))
        };
        let (read, write) = rights(page);
        if read == 0 || write != 0 && write != read {
            return None;
        }
        let first_of_slot = page - page % SLOT_PAGES as u32;
        let mirror = space.mirror(side);
        let alike = |&page: &u32| rights(page) == (read, write) && !mirror.holds(page);
        let before = (first_of_slot..page).rev().take_while(alike).count();
        let behind = (page + 1..first_of_slot + SLOT_PAGES as u32)
            .take_while(alike)
            .count();
        let first = page - before as u32;
        let host = read.wrapping_add(u64::from(first) * PAGE_BYTES);
        let offset = host.wrapping_sub(self.ram.host_base() as u64);
        let count = before + 1 + behind;
        let bytes = count as u64 * PAGE_BYTES;
        (offset < self.ram.bytes() && self.ram.bytes() - offset >= bytes).then_some(Mapping {
            page: first,
            count,
            offset,
            writable: write != 0,
        })
    }

    /// Pages in the current space's mirror for user or supervisor accesses.
    #[must_use]
    pub fn mirrored_pages(&self, user: bool) -> u32 {
        self.spaces[self.current].mirror(self.side(user)).count
    }

    /// Compares the mirrors with the shadow entries: see [`ShadowMmu::audit`].
    pub(crate) fn audit_mirrors(&self) -> Result<(), String> {
        for (number, space) in self.spaces.iter().enumerate() {
            for side in Side::ALL {
                let mirror = space.mirror(side);
                let stray = (mirror.pages()).find(|&page| space.get(Array::read(side), page) == 0);
                if let Some(page) = stray {
                    return Err(format!(
                        "space {number}, page {page:#x}: mirrored, no entry"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Guest memory that can be mapped again elsewhere.
pub(crate) fn memory_file(bytes: u64) -> Result<std::fs::File, Error> {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    let made = memfd_create("ring1-memory", MemfdFlags::CLOEXEC)
        .and_then(|file| ftruncate(&file, bytes).map(|()| file));
    made.map(std::fs::File::from).map_err(|source| Error::Map {
        what: "guest memory",
        bytes: bytes as usize,
        source: source.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PhysAddr;
    use crate::memory::GuestRam;

    fn flat() -> ShadowMmu {
        ShadowMmu::new(GuestRam::new(4 << 20).unwrap()).unwrap()
    }

    /// Reads through the mirror.
    fn read(mmu: &ShadowMmu, linear: u32) -> u8 {
        let at = mmu.view(false).read + MIRROR_DISTANCE + u64::from(linear);
        // SAFETY: the tests ask for mirrored pages only.
        unsafe { (at as *const u8).read() }
    }

    #[test]
    fn a_mirror_shows_guest_memory_where_entries_permit_it() {
        let mut mmu = flat();
        let at = LinearAddr(0x12_3456);
        assert!(!mmu.mirror(at, Access::Read, false), "no entry yet");
        mmu.translate(at, Access::Write, false).unwrap();
        assert!(mmu.mirror(at, Access::Write, false));
        mmu.ram().write_u8(PhysAddr(0x12_3456), 0x5a).unwrap();
        assert_eq!(read(&mmu, at.0), 0x5a);
        assert_eq!(mmu.audit(), Ok(()));
    }

    #[test]
    fn what_becomes_code_is_hidden_and_comes_back_for_loads() {
        let mut mmu = flat();
        let at = LinearAddr(0x20_1000);
        mmu.translate(at, Access::Write, false).unwrap();
        assert!(mmu.mirror(at, Access::Write, false));
        let pages = mmu.mirrored_pages(false);
        mmu.protect_code(PhysAddr(0x20_1000));
        assert_eq!(mmu.mirrored_pages(false), pages - 1);
        assert!(
            !mmu.mirror(at, Access::Write, false),
            "code is not writable"
        );
        assert!(mmu.mirror(at, Access::Read, false));
        assert_eq!(mmu.audit(), Ok(()));
    }

    #[test]
    fn the_number_of_mappings_is_bounded() {
        let mut mmu = flat();
        mmu.translate(LinearAddr(0), Access::Write, false).unwrap();
        for _ in 0..2 * MAX_MAPPINGS {
            assert!(mmu.mirror(LinearAddr(0), Access::Write, false));
        }
        assert!(mmu.mappings <= MAX_MAPPINGS);
    }
}
