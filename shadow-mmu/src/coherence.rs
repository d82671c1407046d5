//! Keeping the shadow tables true: stores to traced frames, INVLPG, flushes.
//!
//! Every shadow entry and every fetch translation that still counts depends on
//! frames that are traced; a store to one takes the slow path, which reports it
//! here, and what depends on the bytes stored is dropped at once. Hence the
//! tables are never stale, INVLPG and flushes have nothing to do, and a switch
//! of spaces keeps everything.
//!
//! Guests free page tables and reuse them as data. A trace ends
//! - when the PDE that names a table changes (the usual way),
//! - when a store finds that nothing in the slot depends on the table any more,
//! - after [`IDLE_STORES`] stores in a row that concerned nothing,
//! - after [`STRAY_STORES`] stores to the directories of a space that is not
//!   current: the space is evicted.
//!
//! Letting go is always allowed; it costs hidden faults if it was wrong.

use crate::addr::{LinearAddr, PAGE_BYTES, PhysAddr};
use crate::mmu::ShadowMmu;
use crate::space::{Dropped, SLOT_PAGES, slot_of};
use crate::trace::Node;
use crate::walk::read_entry;
use std::ops::RangeInclusive;

/// Stores to a page table, none of which concerned an entry, that make it look like data.
const IDLE_STORES: u16 = 64;
/// Stores to page directories of a space not current that make them look like data.
const STRAY_STORES: u32 = 8;
/// A directory that more spaces share than this is the kernel's, not one freed.
const STRAY_SHARERS: usize = 8;

/// What a reported store means to the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WriteEffect {
    /// A frame stored to holds translated code: its blocks may be stale.
    pub code: bool,
}

/// The pages of a slot whose PTEs lie in bytes `first..=last` of its page table. With
/// 32-bit paging one half of the table is the slot's.
fn pages_of(slot: usize, pae: bool, first: u32, last: u32) -> RangeInclusive<u32> {
    let (bytes, base) = match pae {
        true => (8, 0),
        false => (4, (slot % 2 * SLOT_PAGES) as u32),
    };
    let begin = base.max(first / bytes);
    let end = (base + SLOT_PAGES as u32 - 1).min(last / bytes);
    let page = |entry: u32| (slot * SLOT_PAGES) as u32 + entry.wrapping_sub(base);
    if begin > end {
        return RangeInclusive::new(1, 0);
    }
    page(begin)..=page(end)
}

impl ShadowMmu {
    /// Reports a store of any kind (slow path, DMA, loader) that was performed.
    ///
    /// Needed where [`Translation::traced`](crate::Translation::traced) says so, harmless elsewhere.
    pub fn note_write(&mut self, addr: PhysAddr, len: u32) -> WriteEffect {
        let mut effect = WriteEffect::default();
        let end = addr.0.saturating_add(u64::from(len)).min(self.ram.bytes());
        let mut at = addr.0;
        while at < end {
            let page_end = (at & !(PAGE_BYTES - 1)) + PAGE_BYTES;
            if let Some(frame) = self.traces.ram_frame(at / PAGE_BYTES) {
                if self.traces.is_code(frame) {
                    self.counters.code_stores += 1;
                    effect.code = true;
                }
                if self.traces.has_users(frame) {
                    let last = end.min(page_end) - 1;
                    self.structure_written(
                        frame,
                        (at % PAGE_BYTES) as u32,
                        (last % PAGE_BYTES) as u32,
                    );
                }
            }
            at = page_end;
        }
        effect
    }

    /// INVLPG in the current space.
    ///
    /// The tables are coherent without it; dropping the page's entries costs one
    /// hidden fault and guards against stores that were not reported.
    pub fn invlpg(&mut self, linear: LinearAddr) {
        self.counters.invlpgs += 1;
        let page = linear.page();
        if self.spaces[self.current].slot(slot_of(page)).active {
            let dropped = self.spaces[self.current].drop_page(page);
            self.account(self.current, dropped);
        }
        let group = self.group_of(self.current);
        self.drop_fetched(group, [page]);
    }

    /// A flush of the TLB, of global pages too if `global`.
    ///
    /// Does nothing but count: shadow tables always agree with the guest's, so
    /// they are like a TLB that was flushed just now. A change of PSE, PAE, WP or
    /// NXE selects another space, see [`set_paging`](Self::set_paging); PGE
    /// changes no translation.
    pub fn flush(&mut self, global: bool) {
        let _ = global;
        self.counters.flushes += 1;
    }

    /// Declares that the frame holds translated code: no write entry may permit it from now on.
    pub fn protect_code(&mut self, addr: PhysAddr) {
        let Some(frame) = self.traces.ram_frame(addr.frame()) else {
            return;
        };
        if !self.traces.is_code(frame) {
            self.counters.code_protected += 1;
            if !self.traces.is_traced(frame) {
                self.revoke_writers(frame);
            }
            self.traces.set_code(frame, true);
        }
    }

    /// Declares that the frame holds no translated code any more.
    pub fn unprotect_code(&mut self, addr: PhysAddr) {
        if let Some(frame) = self.traces.ram_frame(addr.frame()) {
            self.traces.set_code(frame, false);
        }
    }

    /// Whether the frame is declared to hold translated code.
    #[must_use]
    pub fn is_code(&self, addr: PhysAddr) -> bool {
        self.traces
            .ram_frame(addr.frame())
            .is_some_and(|frame| self.traces.is_code(frame))
    }

    /// Bytes `first..=last` of a frame that serves as paging structure were stored.
    fn structure_written(&mut self, frame: usize, first: u32, last: u32) {
        let mut users = std::mem::take(&mut self.users);
        users.clear();
        self.traces.users(frame, &mut users);
        for &node in &users {
            // Handling an earlier user may have ended this one.
            if !self.traces.is_user(frame, node) {
                continue;
            }
            match node {
                Node::Table(space, slot) => match node.group() {
                    Some(group) => self.group_table_written(group, slot, first, last),
                    None => self.table_written(space, slot, first, last),
                },
                Node::Directory(space, index) => {
                    self.counters.directory_stores += 1;
                    self.directory_written(space, index, first, last);
                }
            }
        }
        self.count_strays(&users);
        self.users = users;
    }

    /// Drops what fetches of a group learnt from the bytes stored.
    fn group_table_written(&mut self, group: usize, slot: usize, first: u32, last: u32) {
        let pae = self.groups[group].has_long_entries();
        self.drop_fetched(group, pages_of(slot, pae, first, last));
    }

    /// Drops the pages of a slot whose PTEs lie in the bytes stored.
    fn table_written(&mut self, space: usize, slot: usize, first: u32, last: u32) {
        self.counters.page_table_stores += 1;
        let Some(context) = self.spaces[space].context else {
            return;
        };
        let pages = pages_of(slot, context.pae, first, last);
        if pages.is_empty() {
            return;
        }
        if self.spaces[space].is_idle(slot) {
            self.counters.traces_let_go += 1;
            self.release_slots(space, slot, slot + 1);
            return;
        }
        let mut useful = false;
        for page in pages {
            let dropped = self.spaces[space].drop_page(page);
            useful |= dropped != Dropped::default();
            self.account(space, dropped);
        }
        let record = self.spaces[space].slot_mut(slot);
        record.idle_stores = if useful { 0 } else { record.idle_stores + 1 };
        if record.idle_stores >= IDLE_STORES {
            self.counters.traces_let_go += 1;
            self.release_slots(space, slot, slot + 1);
        }
    }

    /// Empties the slots whose PDEs lie in the bytes stored, where the PDE did change.
    fn directory_written(&mut self, space: usize, index: usize, first: u32, last: u32) {
        let Some(context) = self.spaces[space].context else {
            return;
        };
        let Some(directory) = context.directory(index) else {
            return;
        };
        let bytes = context.entry_bytes();
        for entry in u64::from(first) / bytes..=u64::from(last) / bytes {
            let slots = if context.pae {
                let slot = index * SLOT_PAGES + entry as usize;
                slot..slot + 1
            } else {
                2 * entry as usize..2 * entry as usize + 2
            };
            let pde = read_entry(&self.ram, &context, PhysAddr(directory.0 + entry * bytes));
            for slot in slots {
                let record = self.spaces[space].slot(slot);
                if record.active && record.pde != pde {
                    self.release_slots(space, slot, slot + 1);
                }
                self.regroup(space, slot, pde);
            }
        }
    }

    /// Evicts spaces, none of them current, whose directories are stored to again and again.
    fn count_strays(&mut self, users: &[Node]) {
        let current = self.current;
        let directories = || {
            users.iter().filter_map(|node| match *node {
                Node::Directory(space, _) => Some(space),
                Node::Table(..) => None,
            })
        };
        if directories().any(|space| space == current) || directories().count() > STRAY_SHARERS {
            return;
        }
        for space in directories() {
            let record = &mut self.spaces[space];
            record.stray_stores += 1;
            if record.stray_stores > STRAY_STORES && record.context.is_some() {
                self.evict(space);
            }
        }
    }

    /// Empties the active slots from `start` up to `end` and ends the traces of their tables.
    pub(crate) fn release_slots(&mut self, space: usize, start: usize, end: usize) {
        let mut from = start;
        while let Some(slot) = self.spaces[space]
            .next_active(from)
            .filter(|&slot| slot < end)
        {
            let dropped = self.spaces[space].clear_slot(slot);
            self.account(space, dropped);
            self.traces.unlink(Node::Table(space, slot));
            from = slot + 1;
        }
    }

    fn account(&mut self, space: usize, dropped: Dropped) {
        self.counters.entries_dropped += u64::from(dropped.entries);
        if dropped.fetched {
            self.spaces[space].number = self.new_number();
            self.counters.epochs += 1;
        }
    }
}
