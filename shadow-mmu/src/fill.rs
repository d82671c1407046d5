//! Hidden faults: setting shadow entries after a successful walk.
//!
//! Before an entry is set, whatever it depends on is traced, and before a trace
//! begins, write entries to the frame are taken back. In that order, no moment
//! exists at which a store to a paging structure could go unseen.
//!
//! A fill sets neighbours too, if the guest's tables allow their entries without
//! any further accessed or dirty flag: a cache line of PTEs, or all pages that a
//! large page has in the slot. After a switch to a fresh space this saves most
//! hidden faults.

use crate::addr::{LinearAddr, PAGE_BYTES, PhysAddr};
use crate::entry;
use crate::fault::Access;
use crate::mmu::ShadowMmu;
use crate::paging::{Context, Rights};
use crate::space::{SLOT_PAGES, slot_of};
use crate::table::{Array, Side};
use crate::trace::{NOT_RAM, Node};
use crate::walk::{Leaf, Walk, small_page};
use crate::writers::Revocation;

/// Pages of a large page filled together where each needs a record of its own.
const RECORDED_PAGES: u32 = 64;
/// Bytes of PTEs looked at together.
const LINE_BYTES: u64 = 64;

/// What the entries to set have in common.
#[derive(Clone, Copy)]
struct Target<'a> {
    space: usize,
    side: Side,
    context: &'a Context,
}

impl ShadowMmu {
    /// Fills what the walk for an access allows.
    pub(crate) fn fill(
        &mut self,
        linear: LinearAddr,
        access: Access,
        user: bool,
        context: &Context,
        walk: &Walk,
    ) {
        let (space, side) = (self.current, self.side(user));
        let page = linear.page();
        if access != Access::Fetch && self.traces.ram_frame(walk.page.frame()).is_none() {
            return;
        }
        self.depend(space, slot_of(page), walk.pde, context);
        if access == Access::Fetch {
            self.note_fetch(page, user, walk.pde, context);
        }
        if self.is_filled(space, page, access, side, walk) {
            return;
        }
        let target = Target {
            space,
            side,
            context,
        };
        match walk.leaf {
            Leaf::Small { pte_at, .. } => self.fill_line(target, page, walk.pde, pte_at),
            Leaf::Identity | Leaf::Large(_) => self.fill_large(target, page, walk),
        }
    }

    /// Whether all entries are there that the access could want: fetches, and
    /// stores to traced frames, come here again and again.
    fn is_filled(&self, space: usize, page: u32, access: Access, side: Side, walk: &Walk) -> bool {
        let traced = self
            .traces
            .ram_frame(walk.page.frame())
            .is_none_or(|frame| self.traces.is_traced(frame));
        let array = match access {
            Access::Write if !traced => Array::write(side),
            Access::Read | Access::Write | Access::Fetch => Array::read(side),
        };
        self.spaces[space].get(array, page) != 0
    }

    /// Makes `node` a user of the frame; if that begins a trace, write entries to it go.
    pub(crate) fn link(&mut self, frame: usize, node: Node) {
        if self.traces.link(frame, node) {
            self.counters.traces_begun += 1;
            self.revoke_writers(frame);
        }
    }

    /// Takes back all write entries to a frame.
    pub(crate) fn revoke_writers(&mut self, frame: usize) {
        for revocation in self.writers.take(frame) {
            self.revoke(frame, revocation);
        }
    }

    fn revoke(
        &mut self,
        frame: usize,
        Revocation {
            page,
            spaces: mut set,
        }: Revocation,
    ) {
        let entry = self.shadow_entry(frame, page);
        while set != 0 {
            if let Some(space) = self.spaces.get_mut(set.trailing_zeros() as usize) {
                let count = u64::from(space.revoke(page, entry));
                self.counters.revoked += count;
                self.counters.entries_dropped += count;
            }
            set &= set - 1;
        }
    }

    /// The entry that permits `frame` at linear page `page`.
    pub(crate) fn shadow_entry(&self, frame: usize, page: u32) -> u64 {
        let host = self.ram.host_base() as u64 + frame as u64 * PAGE_BYTES;
        host.wrapping_sub(u64::from(page) * PAGE_BYTES)
    }

    /// Ensures that changes of the PDE, and of the page table it names, reach the slot.
    fn depend(&mut self, space: usize, slot: usize, pde: u64, context: &Context) {
        let record = self.spaces[space].slot_mut(slot);
        if record.active {
            if record.pde == pde {
                return;
            }
            if (record.pde ^ pde) & !(entry::A | entry::D) == 0 {
                // Only a walker set a flag: all entries remain allowed.
                record.pde = pde;
                return;
            }
            self.release_slots(space, slot, slot + 1);
        }
        self.spaces[space].activate(slot, pde);
        if context.paging && !context.is_large(pde) {
            let table = PhysAddr(entry::address(pde)).frame();
            if let Some(frame) = self.traces.ram_frame(table) {
                self.link(frame, Node::Table(space, slot));
            }
        }
    }

    /// Fills the pages whose PTEs share a cache line with the one at `pte_at`.
    fn fill_line(&mut self, target: Target<'_>, page: u32, pde: u64, pte_at: PhysAddr) {
        let mut line = [0; LINE_BYTES as usize];
        if self
            .ram
            .read_slice(PhysAddr(pte_at.0 & !(LINE_BYTES - 1)), &mut line)
            .is_none()
        {
            return;
        }
        if target.context.pae {
            let first = page & !7;
            let (ptes, _) = line.as_chunks::<8>();
            for (page, pte) in (first..).zip(ptes) {
                self.fill_small(target, page, pde, u64::from_le_bytes(*pte));
            }
        } else {
            let first = page & !15;
            let (ptes, _) = line.as_chunks::<4>();
            for (page, pte) in (first..).zip(ptes) {
                self.fill_small(target, page, pde, u64::from(u32::from_le_bytes(*pte)));
            }
        }
    }

    #[inline]
    fn fill_small(&mut self, target: Target<'_>, page: u32, pde: u64, pte: u64) {
        if let Some((phys, rights)) = small_page(target.context, pde, pte) {
            self.fill_page(target, page, phys, rights, pte & entry::D != 0);
        }
    }

    /// Fills the pages of a large page, or of the identity, in the slot: there
    /// all entries have one value.
    fn fill_large(&mut self, target: Target<'_>, page: u32, walk: &Walk) {
        let Target {
            space,
            side,
            context,
        } = target;
        let write = walk.dirty() && context.permits_side(walk.rights, Access::Write, side);
        let frame = walk.page.frame();
        let distance = page.wrapping_sub(frame as u32);
        if write && !self.writers.note_window(distance, space) {
            self.fill_recorded(target, page, walk);
            return;
        }
        let offset = page % SLOT_PAGES as u32;
        let entry = self.shadow_entry(frame as usize, page);
        let states = self.traces.states(frame - u64::from(offset), SLOT_PAGES);
        let space = &mut self.spaces[space];
        let mut set = 0;
        if context.permits_side(walk.rights, Access::Read, side) {
            set += space.set_run(Array::read(side), page - offset, entry, states, |state| {
                state & NOT_RAM == 0
            });
        }
        if write {
            set += space.set_run(Array::write(side), page - offset, entry, states, |state| {
                state == 0
            });
        }
        self.counters.entries_set += u64::from(set);
    }

    /// Fills an aligned group of pages of a large page, one by one.
    fn fill_recorded(&mut self, target: Target<'_>, page: u32, walk: &Walk) {
        let offset = page % RECORDED_PAGES;
        let first = walk.page.0 - u64::from(offset) * PAGE_BYTES;
        for index in 0..RECORDED_PAGES {
            let phys = PhysAddr(first + u64::from(index) * PAGE_BYTES);
            self.fill_page(
                target,
                page - offset + index,
                phys,
                walk.rights,
                walk.dirty(),
            );
        }
    }

    /// Sets the entries of one page, as far as its rights and traces allow.
    #[inline]
    fn fill_page(
        &mut self,
        target: Target<'_>,
        page: u32,
        phys: PhysAddr,
        rights: Rights,
        dirty: bool,
    ) {
        let Some(frame) = self.traces.ram_frame(phys.frame()) else {
            return;
        };
        let entry = self.shadow_entry(frame, page);
        let Target {
            space,
            side,
            context,
        } = target;
        if context.permits_side(rights, Access::Read, side) {
            let set = self.spaces[space].set(Array::read(side), page, entry);
            self.counters.entries_set += u64::from(set);
        }
        if !dirty
            || self.traces.is_traced(frame)
            || !context.permits_side(rights, Access::Write, side)
        {
            return;
        }
        if self.spaces[space].set(Array::write(side), page, entry) {
            self.counters.entries_set += 1;
            if let Some(revocation) = self.writers.note_page(frame, space, page) {
                self.revoke(frame, revocation);
            }
        }
    }
}
