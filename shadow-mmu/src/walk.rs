//! The page walk over the guest's own tables.
//!
//! [`walk`] only looks; [`Walk::mark`] then sets accessed and dirty as the
//! processor would once the access is known to be allowed. Tables outside RAM
//! read as zero, hence as not present.

use crate::addr::{LinearAddr, PhysAddr};
use crate::entry::{self, A, D, P, RW, US, XD};
use crate::fault::Denial;
use crate::memory::GuestRam;
use crate::paging::{Context, Rights};

/// What maps a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leaf {
    /// Paging is off.
    Identity,
    /// A PDE, at this address.
    Large(PhysAddr),
    /// A PTE, below a PDE.
    Small {
        /// Where the PDE lies.
        pde_at: PhysAddr,
        /// The PTE.
        pte: u64,
        /// Where the PTE lies.
        pte_at: PhysAddr,
    },
}

/// A finished walk: present at every level, no reserved bit set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Walk {
    /// The 4 KiB frame (of a large page, the one that holds the address).
    pub(crate) page: PhysAddr,
    /// What all levels grant together.
    pub(crate) rights: Rights,
    /// The PDE; zero with paging off.
    pub(crate) pde: u64,
    /// What maps the page.
    pub(crate) leaf: Leaf,
}

impl Walk {
    /// Whether every entry used has its accessed flag set.
    pub(crate) fn accessed(&self) -> bool {
        match self.leaf {
            Leaf::Identity => true,
            Leaf::Large(_) => self.pde & A != 0,
            Leaf::Small { pte, .. } => self.pde & pte & A != 0,
        }
    }

    /// Whether the page's dirty flag is set.
    pub(crate) fn dirty(&self) -> bool {
        match self.leaf {
            Leaf::Identity => true,
            Leaf::Large(_) => self.pde & D != 0,
            Leaf::Small { pte, .. } => pte & D != 0,
        }
    }

    /// Sets accessed in every entry used, and for a write dirty in the last
    /// (SDM volume 3, "Accessed and Dirty Flags"). The flags lie in the low half
    /// of an entry of either size.
    pub(crate) fn mark(&mut self, ram: &GuestRam, write: bool) {
        let last = if write { A | D } else { A };
        match &mut self.leaf {
            Leaf::Identity => {}
            Leaf::Large(pde_at) => set_flags(ram, *pde_at, &mut self.pde, last),
            Leaf::Small {
                pde_at,
                pte,
                pte_at,
            } => {
                set_flags(ram, *pde_at, &mut self.pde, A);
                // A table that maps itself: the PTE may be the PDE just changed.
                if pte_at == pde_at {
                    *pte |= A;
                }
                set_flags(ram, *pte_at, pte, last);
                if pte_at == pde_at {
                    self.pde = *pte;
                }
            }
        }
    }
}

fn set_flags(ram: &GuestRam, at: PhysAddr, value: &mut u64, flags: u64) {
    if *value & flags != flags {
        *value |= flags;
        // The entry was read from there, so it is RAM.
        let _ = ram.write_u32(at, *value as u32);
    }
}

/// Reads a paging-structure entry; where there is no RAM it is not present.
pub(crate) fn read_entry(ram: &GuestRam, context: &Context, at: PhysAddr) -> u64 {
    if context.pae {
        ram.read_u64(at).unwrap_or(0)
    } else {
        u64::from(ram.read_u32(at).unwrap_or(0))
    }
}

/// Walks the tables of `context` for `linear`, changing nothing.
pub(crate) fn walk(ram: &GuestRam, context: &Context, linear: LinearAddr) -> Result<Walk, Denial> {
    if !context.paging {
        let rights = Rights {
            write: true,
            user: true,
            no_fetch: false,
        };
        let page = PhysAddr(u64::from(linear.0 & !0xFFF));
        return Ok(Walk {
            page,
            rights,
            pde: 0,
            leaf: Leaf::Identity,
        });
    }
    let pde_at = context.pde_at(linear).ok_or(Denial::NotPresent)?;
    let pde = read_entry(ram, context, pde_at);
    let large = context.is_large(pde);
    check(pde, context.reserved(large))?;
    if large {
        let offset = u64::from(linear.0) & if context.pae { 0x1F_F000 } else { 0x3F_F000 };
        let page = PhysAddr(entry::large_address(pde, context.pae) | offset);
        return Ok(Walk {
            page,
            rights: rights(pde, pde),
            pde,
            leaf: Leaf::Large(pde_at),
        });
    }
    let pte_at = context.pte_at(pde, linear);
    let pte = read_entry(ram, context, pte_at);
    check(pte, context.reserved(false))?;
    let page = PhysAddr(entry::address(pte));
    Ok(Walk {
        page,
        rights: rights(pde, pte),
        pde,
        leaf: Leaf::Small {
            pde_at,
            pte,
            pte_at,
        },
    })
}

/// Frame and rights of a PTE below `pde`, if the processor could use it without
/// a fault and without setting accessed.
pub(crate) fn small_page(context: &Context, pde: u64, pte: u64) -> Option<(PhysAddr, Rights)> {
    let usable = pte & (P | A) == P | A && pte & context.reserved(false) == 0;
    usable.then(|| (PhysAddr(entry::address(pte)), rights(pde, pte)))
}

/// The present bit is tested before reserved bits, at each level in turn.
fn check(entry: u64, reserved: u64) -> Result<(), Denial> {
    if entry & P == 0 {
        Err(Denial::NotPresent)
    } else if entry & reserved != 0 {
        Err(Denial::Reserved)
    } else {
        Ok(())
    }
}

fn rights(pde: u64, last: u64) -> Rights {
    Rights {
        write: pde & last & RW != 0,
        user: pde & last & US != 0,
        no_fetch: (pde | last) & XD != 0,
    }
}
