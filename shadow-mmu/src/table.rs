//! The flat shadow tables of one space, in the form generated code reads.
//!
//! Four arrays of 2^20 entries: {user, supervisor} x {read, write}. An entry is
//! 0 (not permitted: take the slow path) or
//! `host page address - linear page address`, so `entry + linear` is the host
//! address of the byte. Guest memory lies above 4 GiB, hence no permitted entry
//! is 0. Only touched host pages of the arrays exist; reading an untouched one
//! costs a host page fault, so callers consult the counts in
//! [`Space`](crate::space::Space) first.

use crate::error::Error;
use crate::mirror::Mirror;

/// Entries of one array: the 4 KiB pages of the linear address space.
pub(crate) const ENTRIES: usize = 1 << 20;
/// Arrays of a space.
pub(crate) const ARRAYS: usize = 4;

/// One of the four arrays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Array(usize);

impl Array {
    /// All four.
    pub(crate) const ALL: [Array; ARRAYS] = [Array(0), Array(1), Array(2), Array(3)];

    /// The array that loads of that privilege consult.
    pub(crate) const fn read(user: bool) -> Array {
        Array(if user { 0 } else { 2 })
    }

    /// The array that stores of that privilege consult.
    pub(crate) const fn write(user: bool) -> Array {
        Array(if user { 1 } else { 3 })
    }

    /// Whether the entries permit stores.
    pub(crate) const fn is_write(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the entries serve user accesses.
    pub(crate) const fn is_user(self) -> bool {
        self.0 < 2
    }

    pub(crate) const fn index(self) -> usize {
        self.0
    }
}

/// Host addresses of the arrays of one view, for generated code.
///
/// Each points to 2^20 `u64` entries indexed by linear page number. Entry 0
/// means: not permitted, take the slow path. Otherwise entry + linear address
/// (wrapping, zero-extended) is the host address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// The array that permits loads.
    pub read: u64,
    /// The array that permits stores.
    pub write: u64,
}

/// The arrays: supervisor's and user's, each with its mirror.
pub(crate) struct Tables([Mirror; 2]);

impl Tables {
    pub(crate) fn new(room: bool) -> Result<Self, Error> {
        Ok(Tables([Mirror::new(room)?, Mirror::new(room)?]))
    }

    pub(crate) fn mirror(&self, user: bool) -> &Mirror {
        &self.0[usize::from(user)]
    }

    pub(crate) fn mirror_mut(&mut self, user: bool) -> &mut Mirror {
        &mut self.0[usize::from(user)]
    }

    pub(crate) fn view(&self, user: bool) -> View {
        self.mirror(user).view()
    }

    #[inline]
    pub(crate) fn get(&self, array: Array, page: u32) -> u64 {
        self.mirror(array.is_user()).tables()[at(array, page)]
    }

    #[inline]
    pub(crate) fn entry(&mut self, array: Array, page: u32) -> &mut u64 {
        &mut self.mirror_mut(array.is_user()).tables_mut()[at(array, page)]
    }

    /// The entries of `count` pages from `page` on, within one array.
    pub(crate) fn range(&mut self, array: Array, page: u32, count: usize) -> &mut [u64] {
        let start = at(array, page);
        &mut self.mirror_mut(array.is_user()).tables_mut()[start..start + count]
    }
}

/// Where an entry is in the tables of its view.
#[inline]
fn at(array: Array, page: u32) -> usize {
    usize::from(array.is_write()) * ENTRIES + (page as usize & (ENTRIES - 1))
}
