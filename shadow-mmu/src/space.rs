//! One cached guest address space: its shadow tables and what they depend on.
//!
//! The linear space is cut into [`SLOTS`] slots of 2 MiB. A slot is what one PAE
//! page table or half of a 32-bit one maps, and 512 entries are exactly one host
//! page of each array. A slot is *active* once anything in it depends on its
//! PDE; the PDE it was filled under is remembered, so a rewrite of the same value
//! disturbs nothing. Counts of the entries in each array keep every operation
//! away from table pages that were never touched.
//!
//! Pages that user code was fetched from: a bit per page, valid only while the space
//! has the number that the slot carries. Another number forgets all bits at once.

use crate::error::Error;
use crate::mirror::Mirror;
use crate::paging::Context;
use crate::settling::Settling;
use crate::table::{ARRAYS, Array, Side, Tables};

/// Spaces kept at a time.
pub(crate) const MAX_SPACES: usize = 48;
/// Pages of a slot.
pub(crate) const SLOT_PAGES: usize = 512;
/// Slots of a space.
pub(crate) const SLOTS: usize = 2048;
const FETCH_WORDS: usize = SLOT_PAGES / 64;
/// Traced pages remembered as writable, by view; a power of two.
const WRITABLE: usize = 8;
/// No page has this number.
const NO_PAGE: u32 = u32::MAX;

/// What depends on one PDE (or with 32-bit paging, on one half of what it maps).
#[derive(Clone, Copy, Default)]
pub(crate) struct Slot {
    /// The PDE under which the slot was filled.
    pub(crate) pde: u64,
    /// The number of the space with which `fetched` bits of the slot are valid.
    fetch_number: u64,
    /// Nonzero entries in each array.
    filled: [u16; ARRAYS],
    /// Stores to the page table since an entry was last filled or dropped.
    pub(crate) idle_stores: u16,
    /// Anything depends on the PDE.
    pub(crate) active: bool,
}

/// What [`Space::drop_page`] and [`Space::clear_slot`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Dropped {
    /// Shadow entries removed.
    pub(crate) entries: u32,
    /// A translation returned for a user's fetch under this number was among them.
    pub(crate) fetched: bool,
}

/// A cached address space.
pub(crate) struct Space {
    /// Decides the translations; `None` once evicted.
    pub(crate) context: Option<Context>,
    /// When it was last made current.
    pub(crate) last_used: u64,
    /// Stores to its page directories while it was not current.
    pub(crate) stray_stores: u32,
    /// Of the user's fetch translations: see [`fetches`](crate::fetches).
    pub(crate) number: u64,
    /// Of its supervisor's.
    pub(crate) group: Option<usize>,
    /// Whether mirrors pay.
    pub(crate) settling: Settling,
    tables: Tables,
    slots: Vec<Slot>,
    active: [u64; SLOTS / 64],
    fetched: Vec<u64>,
    writable: [[u32; WRITABLE]; Side::ALL.len()],
}

/// The slot that holds a linear page.
pub(crate) const fn slot_of(page: u32) -> usize {
    (page as usize / SLOT_PAGES) & (SLOTS - 1)
}

/// The word of the fetched bitmap that holds a page's bit.
const fn fetch_word(page: u32) -> usize {
    (page as usize / 64) & (SLOTS * FETCH_WORDS - 1)
}

impl Space {
    /// With room for mirrors, if that is asked for.
    pub(crate) fn new(room: bool) -> Result<Self, Error> {
        Ok(Space {
            context: None,
            last_used: 0,
            stray_stores: 0,
            number: 0,
            group: None,
            settling: Settling::default(),
            tables: Tables::new(room)?,
            slots: vec![Slot::default(); SLOTS],
            active: [0; SLOTS / 64],
            fetched: vec![0; SLOTS * FETCH_WORDS],
            writable: [[NO_PAGE; WRITABLE]; Side::ALL.len()],
        })
    }

    pub(crate) fn mirror(&self, side: Side) -> &Mirror {
        self.tables.mirror(side)
    }

    pub(crate) fn mirror_mut(&mut self, side: Side) -> &mut Mirror {
        self.tables.mirror_mut(side)
    }

    /// Forgets whether mirrors paid.
    pub(crate) fn settle_anew(&mut self) {
        self.settling = Settling::default();
        self.empty_mirrors();
    }

    pub(crate) fn empty_mirrors(&mut self) {
        for side in Side::ALL {
            self.mirror_mut(side).empty();
        }
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(crate) fn slot(&self, slot: usize) -> &Slot {
        &self.slots[slot]
    }

    pub(crate) fn slot_mut(&mut self, slot: usize) -> &mut Slot {
        &mut self.slots[slot]
    }

    /// Marks the slot as depending on `pde`.
    pub(crate) fn activate(&mut self, slot: usize, pde: u64) {
        self.active[slot / 64] |= 1 << (slot % 64);
        let record = &mut self.slots[slot];
        record.active = true;
        record.pde = pde;
        record.idle_stores = 0;
    }

    /// The first active slot at or after `from`.
    pub(crate) fn next_active(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.active.get(word)? & u64::MAX << (from % 64);
        while bits == 0 {
            word += 1;
            bits = *self.active.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// The entry, or 0, without touching table pages that hold nothing.
    #[inline]
    pub(crate) fn get(&self, array: Array, page: u32) -> u64 {
        if self.slots[slot_of(page)].filled[array.index()] == 0 {
            0
        } else {
            self.tables.get(array, page)
        }
    }

    /// Sets an entry; true if that changed it.
    #[inline]
    pub(crate) fn set(&mut self, array: Array, page: u32, entry: u64) -> bool {
        let slot = &mut self.slots[slot_of(page)];
        let old = std::mem::replace(self.tables.entry(array, page), entry);
        slot.filled[array.index()] += u16::from(old == 0);
        slot.idle_stores = 0;
        if old != 0 && old != entry {
            self.mirror_mut(array.side()).hide(page, 1);
        }
        old != entry
    }

    /// Sets the entries of pages of one slot, from `page` on, to `entry` where
    /// `allowed` says so of the frame's state; returns how many that changed.
    pub(crate) fn set_run(
        &mut self,
        array: Array,
        page: u32,
        entry: u64,
        states: &[u8],
        allowed: impl Fn(u8) -> bool,
    ) -> u32 {
        let slot = &mut self.slots[slot_of(page)];
        let filled = &mut slot.filled[array.index()];
        let entries = self.tables.range(array, page, states.len());
        slot.idle_stores = 0;
        if *filled == 0 && states.iter().fold(true, |all, &state| all & allowed(state)) {
            entries.fill(entry);
            *filled = entries.len() as u16;
            return entries.len() as u32;
        }
        let (mut changed, mut replaced) = (0, false);
        for (old, &state) in entries.iter_mut().zip(states) {
            let new = if allowed(state) { entry } else { *old };
            *filled += u16::from(*old == 0) & u16::from(new != 0);
            changed += u32::from(*old != new);
            replaced |= *old != 0 && *old != new;
            *old = new;
        }
        if replaced {
            self.mirror_mut(array.side()).hide(page, states.len());
        }
        changed
    }

    /// Removes the write entries for `page` that equal `entry`; returns how many.
    pub(crate) fn revoke(&mut self, page: u32, entry: u64) -> u32 {
        let slot = &mut self.slots[slot_of(page)];
        let mut count = 0;
        for array in Side::ALL.map(Array::write) {
            if slot.filled[array.index()] != 0 && self.tables.get(array, page) == entry {
                *self.tables.entry(array, page) = 0;
                slot.filled[array.index()] -= 1;
                self.tables.mirror_mut(array.side()).hide(page, 1);
                count += 1;
            }
        }
        count
    }

    /// Records that the page, of a traced frame, would have a write entry otherwise.
    pub(crate) fn mark_writable(&mut self, page: u32, side: Side) {
        self.writable[side as usize][page as usize % WRITABLE] = page;
    }

    /// Whether that is so. It ends with the page's entries.
    #[inline]
    pub(crate) fn is_writable(&self, page: u32, side: Side) -> bool {
        self.writable[side as usize][page as usize % WRITABLE] == page
    }

    /// Where a page that [`is_writable`](Self::is_writable) is read from; 0 if that is
    /// not known.
    #[inline]
    pub(crate) fn read_entry(&self, page: u32, side: Side) -> u64 {
        self.tables.get(Array::read(side), page)
    }

    /// All pages of which that is so.
    pub(crate) fn writable(&self, side: Side) -> impl Iterator<Item = u32> {
        let pages = self.writable[side as usize].into_iter();
        pages.filter(|&page| page != NO_PAGE)
    }

    fn forget_writable(&mut self, which: impl Fn(u32) -> bool) {
        let pages = self.writable.as_flattened_mut().iter_mut();
        pages
            .filter(|page| which(**page))
            .for_each(|page| *page = NO_PAGE);
    }

    /// Records that the page's translation was returned for a user's fetch.
    #[inline]
    pub(crate) fn mark_fetched(&mut self, page: u32) {
        let index = slot_of(page);
        let slot = &mut self.slots[index];
        if slot.fetch_number != self.number {
            slot.fetch_number = self.number;
            self.fetched[index * FETCH_WORDS..][..FETCH_WORDS].fill(0);
        }
        self.fetched[fetch_word(page)] |= 1 << (page % 64);
    }

    /// Whether nothing in the slot, entry or fetched translation, depends on its page table.
    pub(crate) fn is_idle(&self, slot: usize) -> bool {
        let slot = &self.slots[slot];
        slot.filled == [0; ARRAYS] && slot.fetch_number != self.number
    }

    /// Removes all entries of a page.
    pub(crate) fn drop_page(&mut self, page: u32) -> Dropped {
        self.forget_writable(|known| known == page);
        let slot = &mut self.slots[slot_of(page)];
        let mut dropped = Dropped::default();
        for array in Array::ALL {
            if slot.filled[array.index()] != 0 {
                let old = std::mem::take(self.tables.entry(array, page));
                slot.filled[array.index()] -= u16::from(old != 0);
                if old != 0 {
                    self.tables.mirror_mut(array.side()).hide(page, 1);
                }
                dropped.entries += u32::from(old != 0);
            }
        }
        if slot.fetch_number == self.number {
            let word = self.fetched[fetch_word(page)];
            dropped.fetched = word & 1 << (page % 64) != 0;
        }
        dropped
    }

    /// Removes all entries of a slot and makes it inactive.
    pub(crate) fn clear_slot(&mut self, slot: usize) -> Dropped {
        self.forget_writable(|known| slot_of(known) == slot);
        let record = &mut self.slots[slot];
        let mut dropped = Dropped {
            entries: 0,
            fetched: record.fetch_number == self.number,
        };
        for array in Array::ALL {
            let filled = std::mem::take(&mut record.filled[array.index()]);
            if filled != 0 {
                self.tables
                    .range(array, (slot * SLOT_PAGES) as u32, SLOT_PAGES)
                    .fill(0);
                let first = (slot * SLOT_PAGES) as u32;
                let mirror = self.tables.mirror_mut(array.side());
                mirror.hide(first, SLOT_PAGES);
                dropped.entries += u32::from(filled);
            }
        }
        record.fetch_number = 0;
        record.active = false;
        self.active[slot / 64] &= !(1 << (slot % 64));
        dropped
    }
}
