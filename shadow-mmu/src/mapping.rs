//! Lazily zeroed arrays straight from the host.
//!
//! Shadow tables and per-frame records are huge and almost empty. A private
//! anonymous mapping costs nothing until it is touched, and what was never
//! touched reads as zero. Everything else in this crate sees such an array as a
//! plain slice; the `unsafe` stays here and in [`memory`](crate::memory).

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut, MmapOptions};

use crate::error::Error;
use crate::trace::Link;
use crate::writers::FrameWriters;

/// Types for which all-zero bytes are a valid value and that need no drop.
///
/// # Safety
/// The all-zero bit pattern must be a valid value, the alignment at most a page.
pub(crate) unsafe trait Zeroable: Copy {}

// SAFETY: an integer.
unsafe impl Zeroable for u8 {}
// SAFETY: an integer.
unsafe impl Zeroable for u32 {}
// SAFETY: an integer.
unsafe impl Zeroable for u64 {}
// SAFETY: a struct of arrays of integers.
unsafe impl Zeroable for FrameWriters {}
// SAFETY: a struct of integers.
unsafe impl Zeroable for Link {}

/// Maps `bytes` of zeroed private memory that the host backs on first touch.
fn map_anonymous(bytes: usize, what: &'static str) -> Result<MmapMut, Error> {
    let mapping = MmapOptions::new()
        .len(bytes)
        .no_reserve_swap()
        .map_anon()
        .map_err(|source| Error::Map {
            what,
            bytes,
            source,
        })?;
    // Only advice: a host without huge pages refuses it, which changes nothing.
    let _ = mapping.advise(Advice::NoHugePage);
    Ok(mapping)
}

/// An array in its own mapping; all zero at first.
pub(crate) struct Zeroed<T: Zeroable> {
    mapping: MmapMut,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Zeroable> Zeroed<T> {
    /// Maps `len` elements (at least one).
    pub(crate) fn new(len: usize, what: &'static str) -> Result<Self, Error> {
        let len = len.max(1);
        let mapping = map_anonymous(len.saturating_mul(size_of::<T>()), what)?;
        Ok(Zeroed {
            mapping,
            len,
            element: PhantomData,
        })
    }
}

impl<T: Zeroable> Deref for Zeroed<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `len` elements, page-aligned and valid when
        // zero (`Zeroable`). Generated code reads these words, and never writes them.
        unsafe { std::slice::from_raw_parts(self.mapping.as_ptr().cast(), self.len) }
    }
}

impl<T: Zeroable> DerefMut for Zeroed<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.as_mut_ptr().cast(), self.len) }
    }
}
