//! Accesses, and the page faults (#PF) that the guest's own tables answer.

use crate::addr::LinearAddr;

/// The kind of a memory access, as far as paging distinguishes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Access {
    /// A data read.
    Read,
    /// A data write (or the write half of a read-modify-write).
    Write,
    /// An instruction fetch.
    Fetch,
}

/// A true fault: CR2 and the error code of the #PF to deliver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageFault {
    /// The faulting linear address, for CR2.
    pub addr: LinearAddr,
    /// The error code (SDM volume 3, "Page-Fault Exceptions").
    pub error: u16,
}

/// Error-code bit P: the fault was a protection violation, not a missing page.
pub const PF_PRESENT: u16 = 1 << 0;
/// Error-code bit W/R: the access was a write.
pub const PF_WRITE: u16 = 1 << 1;
/// Error-code bit U/S: the access was a user access.
pub const PF_USER: u16 = 1 << 2;
/// Error-code bit RSVD: a reserved bit was set in a paging-structure entry.
pub const PF_RESERVED: u16 = 1 << 3;
/// Error-code bit I/D: the access was a fetch and fetches can be denied (NX or SMEP).
pub const PF_FETCH: u16 = 1 << 4;

/// Why the guest's tables refuse an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Denial {
    /// Some entry of the walk has P = 0.
    NotPresent,
    /// Some present entry has a reserved bit set.
    Reserved,
    /// The page is there, its rights forbid the access.
    Protection,
}

impl Denial {
    /// Builds the fault; `fetch_bit` tells whether the mode reports I/D at all.
    pub(crate) fn fault(
        self,
        addr: LinearAddr,
        access: Access,
        user: bool,
        fetch_bit: bool,
    ) -> PageFault {
        let mut error = match self {
            Denial::NotPresent => 0,
            Denial::Reserved => PF_PRESENT | PF_RESERVED,
            Denial::Protection => PF_PRESENT,
        };
        if user {
            error |= PF_USER;
        }
        match access {
            Access::Write => error |= PF_WRITE,
            Access::Fetch if fetch_bit => error |= PF_FETCH,
            Access::Fetch | Access::Read => {}
        }
        PageFault { addr, error }
    }
}
