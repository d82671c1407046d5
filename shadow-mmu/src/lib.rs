//! Guest memory, guest page-table walks and the flat shadow page tables.
//!
//! The guest believes in its page tables; generated code wants one load, one test
//! and one access. Between them stands a *shadow table* per guest address space
//! and view (user, supervisor): a flat array over all linear pages, with an entry
//! where the guest's tables permit an access right now.
//!
//! ```text
//!  generated code ──► shadow entry ──► guest memory           the usual case
//!        │ none
//!        ▼
//!   translate ──► walk ──► #PF for the guest                  a true fault
//!                   │
//!                   └────► mark A/D, trace, fill entries      a hidden fault
//!
//!   store to a traced frame ──► note_write ──► drop what depended on it
//! ```
//!
//! The rule that makes it work: a frame on which any entry depends is
//! write-traced, that is, no write entry permits it. So every change of a page
//! table is seen as it happens, entries are never stale, and the tables of many
//! spaces survive side by side: a CR3 load is a change of base pointer.
//!
//! Invariants:
//! - an entry never grants more than the guest's tables grant now, and exists
//!   only once the walk has set accessed (for stores: dirty) in them;
//! - no write entry permits a frame that holds translated code, page tables of a
//!   cached space, or no RAM;
//! - memory spent is bounded by the number of spaces, whatever the guest does;
//! - no guest table, however odd, makes this crate panic.
//!
//! Map: [`memory`] guest RAM · `paging`, `entry`, `walk` the guest's tables by the
//! book · `table`, `space` shadow tables · `trace` what depends on which frame, `writers` what may write it ·
//! `fetches` how long fetch translations hold · [`mirror`] the same for the host's MMU, `settling` when it pays ·
//! `mmu`, `fill`, `coherence` the three moments: look up, fill, drop · `audit` the
//! invariants as code.

#![deny(unsafe_code)]

mod addr;
mod audit;
mod coherence;
mod counters;
mod entry;
mod error;
mod fault;
mod fetches;
mod fill;
mod mapping;
pub mod memory;
pub mod mirror;
mod mirror_pages;
mod mmu;
mod paging;
mod settling;
mod space;
mod table;
mod trace;
mod walk;
mod withhold;
mod writers;

pub use addr::{LinearAddr, PAGE_BYTES, PhysAddr};
pub use coherence::WriteEffect;
pub use counters::MmuCounters;
pub use entry::MAXPHYADDR;
pub use error::Error;
pub use fault::{Access, PF_FETCH, PF_PRESENT, PF_RESERVED, PF_USER, PF_WRITE, PageFault};
pub use memory::GuestRam;
pub use mirror::MIRROR_DISTANCE;
pub use mmu::{ShadowMmu, Translation};
pub use paging::{
    CR0_PG, CR0_WP, CR4_PAE, CR4_PSE, CR4_SMAP, CR4_SMEP, PagingRegs, ReservedPdpte, load_pdptes,
};
pub use table::View;
