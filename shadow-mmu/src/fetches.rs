//! How long a fetch translation holds, as a number.
//!
//! What is found by EIP (blocks, compiled code) is remembered under a number for "the
//! fetch translations there are now", and is valid whenever that number is current
//! again. Were it a number per address space, a new process would know none of the
//! kernel's code, although all spaces map it alike. So there are two kinds:
//!
//! - *User* fetches: a number per space. It changes when something goes that a user
//!   fetch was translated by.
//! - *Supervisor* fetches: a number per [`Group`] of spaces. A group lists the slots
//!   that its members fetched supervisor code from, each with its PDE; to be a member
//!   a space must have the same PDEs there, accessed flags included, so that a walk
//!   in it would find and change nothing else. Page tables below equal PDEs are the
//!   same table; the group traces those itself, as a user of their frames beside the
//!   spaces.
//!
//! A space whose directory comes to differ leaves and looks for another group. A store
//! to a PTE that a page was fetched by starts the group anew. Spaces join when they
//! become current; joining costs a look at a PDE per listed slot, of which kernels
//! have ten or so.

use crate::addr::{LinearAddr, PAGE_BYTES, PhysAddr};
use crate::entry;
use crate::mmu::ShadowMmu;
use crate::paging::Context;
use crate::space::{SLOT_PAGES, SLOTS, slot_of};
use crate::trace::{GROUPS, Node};
use crate::walk::read_entry;
use crate::writers::SpaceSet;

const WORDS: usize = SLOT_PAGES / 64;

/// What decides a supervisor fetch, tables aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mode {
    paging: bool,
    pae: bool,
    pse: bool,
    nx: bool,
    smep: bool,
}

impl Mode {
    fn of(context: &Context) -> Self {
        Mode {
            paging: context.paging,
            pae: context.pae,
            pse: context.pse,
            nx: context.nx,
            smep: context.smep,
        }
    }
}

/// Spaces in which supervisor code is fetched from the same places.
#[derive(Default)]
pub(crate) struct Group {
    /// Of the fetches since it was made or started anew.
    number: u64,
    members: SpaceSet,
    mode: Option<Mode>,
    /// The slots that were fetched from.
    slots: Vec<u16>,
    /// By slot: 0, or what [`comparable`] made of the PDE.
    pdes: Vec<u64>,
    /// A bit per page that was fetched.
    fetched: Vec<u64>,
}

impl Group {
    fn lists(&self, slot: usize) -> Option<u64> {
        let pde = self.pdes.get(slot).copied().unwrap_or(0);
        (pde != 0).then_some(pde)
    }

    fn has_fetched(&self, page: u32) -> bool {
        let word = self.fetched.get(page as usize / 64).copied();
        word.is_some_and(|word| word >> (page % 64) & 1 != 0)
    }

    /// Whether PTEs have 8 bytes.
    pub(crate) fn has_long_entries(&self) -> bool {
        self.mode.is_some_and(|mode| mode.pae)
    }

    fn list(&mut self, slot: usize, pde: u64) {
        self.pdes.resize(SLOTS, 0);
        self.fetched.resize(SLOTS * WORDS, 0);
        self.slots.push(slot as u16);
        self.pdes[slot] = pde;
    }
}

/// Stands for the PDE where there is no paging.
const IDENTITY: u64 = entry::P;

/// A PDE as groups compare it. Dirty flags do not concern fetches, and walks set them.
fn comparable(pde: u64) -> u64 {
    pde & !entry::D
}

impl ShadowMmu {
    /// A number for the fetch translations of the current space, user's or supervisor's.
    ///
    /// A translation returned for [`Access::Fetch`](crate::Access::Fetch) with that
    /// privilege is valid, and making it again would change no accessed flag, whenever
    /// the number is what it was then, in whatever space. It can change in `translate`,
    /// `note_write`, `invlpg` and `set_paging`.
    #[inline]
    #[must_use]
    pub fn fetch_number(&self, user: bool) -> u64 {
        let space = &self.spaces[self.current];
        if user {
            space.number
        } else {
            self.groups[space.group.unwrap_or(0)].number
        }
    }

    /// A number that was never used.
    pub(crate) fn new_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Records that a page of the current space was translated for a fetch.
    pub(crate) fn note_fetch(&mut self, page: u32, user: bool, pde: u64, context: &Context) {
        let space = self.current;
        if user {
            self.spaces[space].mark_fetched(page);
            return;
        }
        let slot = slot_of(page);
        let pde = match context.paging {
            true => comparable(pde),
            false => IDENTITY,
        };
        let mut group = self.group_of(space);
        if self.groups[group].lists(slot).is_some_and(|old| old != pde) {
            self.leave(space);
            group = self.group_of(space);
        }
        if self.groups[group].lists(slot).is_none() {
            self.groups[group].list(slot, pde);
            self.part(group, slot, pde);
            if context.paging && !context.is_large(pde) {
                let table = PhysAddr(entry::address(pde)).frame();
                if let Some(frame) = self.traces.ram_frame(table) {
                    self.link(frame, Node::group_table(group, slot));
                }
            }
        }
        self.groups[group].fetched[page as usize / 64] |= 1 << (page % 64);
    }

    /// Members that have another PDE in a slot leave.
    fn part(&mut self, group: usize, slot: usize, pde: u64) {
        let mut rest = self.groups[group].members;
        while rest != 0 {
            let space = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            if self.pde_of(space, slot) != pde {
                self.leave(space);
            }
        }
    }

    /// The PDE that a slot has in a space now, to compare; 0 without.
    fn pde_of(&self, space: usize, slot: usize) -> u64 {
        let Some(context) = self.spaces[space].context else {
            return 0;
        };
        if !context.paging {
            return IDENTITY;
        }
        let linear = LinearAddr((slot * SLOT_PAGES) as u32 * PAGE_BYTES as u32);
        let at = context.pde_at(linear);
        at.map_or(0, |at| comparable(read_entry(&self.ram, &context, at)))
    }

    /// The group of a space, which joins one if it is in none.
    pub(crate) fn group_of(&mut self, space: usize) -> usize {
        if let Some(group) = self.spaces[space].group {
            return group;
        }
        let group = match self.fitting(space) {
            Some(group) => group,
            None => self.found(self.spaces[space].context.as_ref().map(Mode::of)),
        };
        self.groups[group].members |= 1 << space;
        self.spaces[space].group = Some(group);
        group
    }

    /// A group of others that a space could be in: of several, that which knows most.
    fn fitting(&self, space: usize) -> Option<usize> {
        let mode = self.spaces[space].context.as_ref().map(Mode::of);
        let fits = |group: &usize| {
            let group = &self.groups[*group];
            let agrees = |&slot: &u16| {
                let slot = usize::from(slot);
                group.lists(slot) == Some(self.pde_of(space, slot))
            };
            let others = group.members & !(1 << space);
            group.mode == mode && others != 0 && group.slots.iter().all(agrees)
        };
        (0..GROUPS)
            .filter(fits)
            .max_by_key(|&group| self.groups[group].slots.len())
    }

    /// The current space looks for company. One that differed for a moment, while its
    /// directory was being written, would else be alone for good.
    pub(crate) fn join(&mut self) {
        let group = self.group_of(self.current);
        if self.groups[group].members != 1 << self.current {
            return;
        }
        let known = |group: usize| self.groups[group].slots.len();
        if (self.fitting(self.current)).is_some_and(|other| known(other) >= known(group)) {
            self.leave(self.current);
        }
    }

    /// A group without members: an unused one, or else that with the fewest members,
    /// none of them current.
    fn found(&mut self, mode: Option<Mode>) -> usize {
        let here = self.spaces[self.current].group;
        let group = (0..GROUPS)
            .filter(|&group| Some(group) != here)
            .min_by_key(|&group| self.groups[group].members.count_ones())
            .unwrap_or(0);
        for space in &mut self.spaces {
            if space.group == Some(group) {
                space.group = None;
            }
        }
        self.groups[group].members = 0;
        self.groups[group].mode = mode;
        self.begin_anew(group);
        group
    }

    /// A space is in no group any more; the current one joins another at once.
    pub(crate) fn leave(&mut self, space: usize) {
        if let Some(group) = self.spaces[space].group.take() {
            self.groups[group].members &= !(1 << space);
            if self.groups[group].members == 0 {
                self.begin_anew(group);
            }
        }
        if space == self.current && self.spaces[space].context.is_some() {
            self.group_of(space);
        }
    }

    /// Nothing that was fetched in the group so far is valid any more.
    fn begin_anew(&mut self, group: usize) {
        let number = self.new_number();
        self.counters.epochs += 1;
        let record = &mut self.groups[group];
        record.number = number;
        for slot in std::mem::take(&mut record.slots) {
            let slot = usize::from(slot);
            record.pdes[slot] = 0;
            record.fetched[slot * WORDS..][..WORDS].fill(0);
            self.traces.unlink(Node::group_table(group, slot));
        }
    }

    /// The PDE of a slot was stored to.
    pub(crate) fn regroup(&mut self, space: usize, slot: usize, pde: u64) {
        let group = self.spaces[space].group.map(|group| &self.groups[group]);
        let listed = group.and_then(|group| group.lists(slot));
        if listed.is_some_and(|listed| listed != comparable(pde)) {
            self.leave(space);
        }
    }

    /// The supervisor's translation of one of the pages may have changed in a group.
    pub(crate) fn drop_fetched(&mut self, group: usize, pages: impl IntoIterator<Item = u32>) {
        let record = &self.groups[group];
        if pages.into_iter().any(|page| record.has_fetched(page)) {
            self.begin_anew(group);
        }
    }
}
