//! Which pages a mirror holds: a bit for each of 2^20.
//!
//! There are some tens of mirrors, and each holds pages of a few places of its address
//! space. So the bits are memory fresh from the host, of which only what is written to
//! takes room: a few pages instead of 32.

#![allow(unsafe_code)]

use crate::table::ENTRIES;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ptr::{NonNull, null_mut};

const WORDS: usize = ENTRIES / 64;
const BYTES: usize = WORDS * size_of::<u64>();

/// See the module's essay.
pub(crate) struct MirrorPages(NonNull<u64>);

// SAFETY: it owns its memory.
unsafe impl Send for MirrorPages {}

impl MirrorPages {
    /// No pages. None if the host refuses memory.
    pub fn new() -> Option<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the host chooses.
        let start = unsafe { mmap_anonymous(null_mut(), BYTES, access, MapFlags::PRIVATE) };
        NonNull::new(start.ok()?.cast()).map(Self)
    }

    /// The bits, 64 pages to a word.
    pub fn words(&self) -> &[u64] {
        // SAFETY: so many words are mapped, zero at first.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), WORDS) }
    }

    /// The bits, to change.
    pub fn words_mut(&mut self) -> &mut [u64] {
        // SAFETY: as in `words`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr(), WORDS) }
    }
}

impl Drop for MirrorPages {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, unmapped once. A failure would leak
        // address space, nothing more.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), BYTES) };
    }
}
