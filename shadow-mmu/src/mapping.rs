//! Lazily zeroed arrays straight from the host.
//!
//! Shadow tables and per-frame records are huge and almost empty. A private
//! anonymous mapping costs nothing until it is touched, and what was never
//! touched reads as zero. Everything else in this crate sees such an array as a
//! plain slice; the `unsafe` stays here and in [`memory`](crate::memory).

#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::error::Error;
use crate::trace::{Frame, Link};

/// Types for which all-zero bytes are a valid value and that need no drop.
///
/// # Safety
/// The all-zero bit pattern must be a valid value, the alignment at most a page.
pub(crate) unsafe trait Zeroable: Copy {}

// SAFETY: an integer.
unsafe impl Zeroable for u64 {}
// SAFETY: a struct of integers and of a bool, for which zero is `false`.
unsafe impl Zeroable for Frame {}
// SAFETY: a struct of integers.
unsafe impl Zeroable for Link {}

/// Maps `bytes` of zeroed private memory that the host backs on first touch.
pub(crate) fn map_anonymous(
    bytes: usize,
    what: &'static str,
    huge: bool,
) -> Result<NonNull<u8>, Error> {
    let advice = if huge {
        Advice::LinuxHugepage
    } else {
        Advice::LinuxNoHugepage
    };
    // SAFETY: a fresh mapping at an address of the host's choice aliases nothing.
    let pointer = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }
    .map_err(|source| Error::Map {
        what,
        bytes,
        source,
    })?;
    // SAFETY: the range is the mapping just made. Advice is only advice: a host
    // without huge pages refuses it, which changes nothing.
    let _ = unsafe { rustix::mm::madvise(pointer, bytes, advice) };
    NonNull::new(pointer.cast::<u8>()).ok_or(Error::LowMapping)
}

/// Gives a mapping back.
///
/// # Safety
/// The range must come from [`map_anonymous`] and not be used afterwards.
pub(crate) unsafe fn unmap(base: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise. Unmapping a whole mapping cannot fail.
    let _ = unsafe { rustix::mm::munmap(base.as_ptr().cast(), bytes) };
}

/// An array in its own mapping; all zero at first.
pub(crate) struct Zeroed<T: Zeroable> {
    base: NonNull<T>,
    len: usize,
}

// SAFETY: it owns its memory like a `Box<[T]>`.
unsafe impl<T: Zeroable + Send> Send for Zeroed<T> {}
// SAFETY: as above; shared access gives only `&[T]`.
unsafe impl<T: Zeroable + Sync> Sync for Zeroed<T> {}

impl<T: Zeroable> Zeroed<T> {
    /// Maps `len` elements (at least one).
    pub(crate) fn new(len: usize, what: &'static str) -> Result<Self, Error> {
        let len = len.max(1);
        let base = map_anonymous(len.saturating_mul(size_of::<T>()), what, false)?.cast();
        Ok(Zeroed { base, len })
    }
}

impl<T: Zeroable> Drop for Zeroed<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, of that size; nobody can use it any more.
        unsafe { unmap(self.base.cast(), self.len * size_of::<T>()) }
    }
}

impl<T: Zeroable> Deref for Zeroed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `len` elements, valid when zero (`Zeroable`).
        // Generated code reads these words, and never writes them.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl<T: Zeroable> DerefMut for Zeroed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}
