//! The flat shadow tables of one space, in the form generated code reads.
//!
//! Arrays of 2^20 entries: {user, supervisor, supervisor past SMAP} x {read, write}. An entry is
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
/// Views of a space.
const SIDES: usize = 3;
/// Arrays of a space.
pub(crate) const ARRAYS: usize = 2 * SIDES;

/// Whose accesses a view serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The user's.
    User,
    /// The supervisor's.
    Supervisor,
    /// The supervisor's while EFLAGS.AC lifts SMAP.
    Lifted,
}

impl Side {
    /// All of them.
    pub(crate) const ALL: [Side; SIDES] = [Side::User, Side::Supervisor, Side::Lifted];

    pub(crate) fn is_user(self) -> bool {
        self == Side::User
    }
}

/// One of the arrays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Array(usize);

impl Array {
    /// All of them.
    pub(crate) const ALL: [Array; ARRAYS] = {
        let mut all = [Array(0); ARRAYS];
        let mut n = 0;
        while n < ARRAYS {
            all[n] = Array(n);
            n += 1;
        }
        all
    };

    /// The array that loads consult.
    pub(crate) const fn read(side: Side) -> Array {
        Array(2 * side as usize)
    }

    /// The array that stores consult.
    pub(crate) const fn write(side: Side) -> Array {
        Array(2 * side as usize + 1)
    }

    /// Whether the entries permit stores.
    pub(crate) const fn is_write(self) -> bool {
        self.0 & 1 != 0
    }

    /// The view that it belongs to.
    pub(crate) const fn side(self) -> Side {
        Side::ALL[self.0 / 2]
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

/// The arrays, by side, each view with its mirror.
pub(crate) struct Tables([Mirror; SIDES]);

impl Tables {
    pub(crate) fn new(room: bool) -> Result<Self, Error> {
        let mirror = || Mirror::new(room);
        Ok(Tables([mirror()?, mirror()?, mirror()?]))
    }

    pub(crate) fn mirror(&self, side: Side) -> &Mirror {
        &self.0[side as usize]
    }

    pub(crate) fn mirror_mut(&mut self, side: Side) -> &mut Mirror {
        &mut self.0[side as usize]
    }

    pub(crate) fn view(&self, side: Side) -> View {
        self.mirror(side).view()
    }

    #[inline]
    pub(crate) fn get(&self, array: Array, page: u32) -> u64 {
        self.mirror(array.side()).tables()[at(array, page)]
    }

    #[inline]
    pub(crate) fn entry(&mut self, array: Array, page: u32) -> &mut u64 {
        &mut self.mirror_mut(array.side()).tables_mut()[at(array, page)]
    }

    /// The entries of `count` pages from `page` on, within one array.
    pub(crate) fn range(&mut self, array: Array, page: u32, count: usize) -> &mut [u64] {
        let start = at(array, page);
        &mut self.mirror_mut(array.side()).tables_mut()[start..start + count]
    }
}

/// Where an entry is in the tables of its view.
#[inline]
fn at(array: Array, page: u32) -> usize {
    usize::from(array.is_write()) * ENTRIES + (page as usize & (ENTRIES - 1))
}
