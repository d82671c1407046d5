//! Link slots: the data words through which compiled blocks jump to each other.
//!
//! Compiled code loads a host address from its slot and jumps there. An unlinked
//! slot holds the address of a stub that returns to the run loop and names the
//! slot; linking and unlinking a jump is one store. Direct code has jumps instead
//! that are written themselves, and a stub for each slot ([`translator::direct::gate`]);
//! its slots only say where the jumps are.
//!
//! Which slots lead to a block is a list that runs through what is known of them: no
//! allocation for each block. A slot is in the list of the block that it leads to and in
//! no other; if its owner is gone, it stays there until that block goes.

use super::generations::GENERATIONS;
use super::{BlockId, NOWHERE};
use std::num::NonZeroU64;
use std::ops::Range;
use translator::state::STUB_BYTES;

/// What a slot is for.
#[derive(Clone, Copy, Debug)]
pub struct SlotInfo {
    /// The block whose code jumps through the slot.
    pub owner: BlockId,
    /// EIP of the target.
    pub eip: u32,
    /// The jump to be written, by the host address of its displacement.
    jump: Option<NonZeroU64>,
    /// The target stands in the jump's place.
    fallen: bool,
    /// Whether it is in a list, and what comes next there.
    next: Next,
}

/// A jump that must be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where its displacement is.
    pub at: u64,
    /// Where it must lead.
    pub target: u64,
    /// Not only the displacement: something else stands in its place.
    pub anew: bool,
}

/// What is known of a slot that nobody has.
const FREE: SlotInfo = SlotInfo {
    owner: NOWHERE,
    eip: 0,
    jump: None,
    fallen: false,
    next: Next::Apart,
};

/// A place in a list of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// In none.
    Apart,
    Last,
    Slot(u32),
}

/// The slots that lead to a block.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chain(Option<u32>);

impl SlotInfo {
    /// Whether the target stands in the place of the slot's jump.
    pub fn is_fallen(&self) -> bool {
        self.fallen
    }
}

impl Next {
    fn rest(self) -> Chain {
        match self {
            Self::Slot(slot) => Chain(Some(slot)),
            Self::Apart | Self::Last => Chain(None),
        }
    }
}

/// All link slots. The array's address never changes.
pub struct Links {
    slots: Box<[u64]>,
    info: Vec<SlotInfo>,
    /// Slots of the current generation that are not reserved yet.
    left: Range<usize>,
    stub: u64,
    /// The stubs of direct code.
    stubs: u64,
}

impl Links {
    /// An array of so many; `stub` is what unlinked slots hold, `stubs` where direct
    /// code has one for each.
    pub fn new(slots: usize, stub: u64, stubs: u64) -> Self {
        Self {
            slots: vec![0; slots].into_boxed_slice(),
            info: Vec::new(),
            left: 0..slots / GENERATIONS,
            stub,
            stubs,
        }
    }

    /// Host address of the stub of a slot in direct code.
    pub fn stub(&self, slot: u32) -> u64 {
        self.stubs + slot as u64 * STUB_BYTES as u64
    }

    /// Host address of the array, for generated code.
    pub fn address(&self) -> u64 {
        self.slots.as_ptr() as u64
    }

    /// The slots of a share.
    pub fn share(&self, number: usize) -> Range<u32> {
        let slots = (self.slots.len() / GENERATIONS) as u32;
        let first = number as u32 * slots;
        first..first + slots
    }

    /// Goes on with the slots of a share, which must be in no list any more.
    pub fn begin(&mut self, number: usize) {
        let share = self.share(number);
        self.left = share.start as usize..share.end as usize;
        let known = self.info.len();
        let begun = self.left.start.min(known)..self.left.end.min(known);
        self.slots[begun.clone()].fill(self.stub);
        self.info[begun].fill(FREE);
    }

    /// Reserves `count` unlinked slots of the current generation and returns the first,
    /// or `None` if there are no more.
    pub fn reserve(&mut self, owner: BlockId, count: usize) -> Option<u32> {
        let first = self.left.start;
        let end = first.checked_add(count).filter(|&n| n <= self.left.end)?;
        self.left.start = end;
        self.slots.get_mut(first..end)?.fill(self.stub);
        if self.info.len() < end {
            self.info.resize(end, FREE);
        }
        self.info[first..end].fill(SlotInfo { owner, ..FREE });
        Some(first as u32)
    }

    /// What the slots known hold.
    pub fn words(&self) -> &[u64] {
        self.slots.get(..self.info.len()).unwrap_or_default()
    }

    /// A list without the slots in `gone`.
    #[must_use]
    pub fn without(&mut self, mut chain: Chain, gone: &Range<u32>) -> Chain {
        let mut kept = Chain::default();
        while let Some(slot) = self.unchain(&mut chain) {
            if !gone.contains(&slot) {
                kept = self.chain(kept, slot).unwrap_or(kept);
            }
        }
        kept
    }

    /// Notes where a slot leads, and the jump it stands for.
    pub fn describe(&mut self, slot: u32, eip: u32, jump: Option<u64>) {
        if let Some(info) = self.info.get_mut(slot as usize) {
            info.eip = eip;
            info.jump = jump.and_then(NonZeroU64::new);
            info.fallen = false;
        }
    }

    /// Whether a slot leads to code.
    pub fn is_made(&self, slot: u32) -> bool {
        let word = self.slots.get(slot as usize);
        word.is_some_and(|&word| word != self.stub)
    }

    /// What a slot is for.
    pub fn info(&self, slot: u32) -> Option<SlotInfo> {
        self.info.get(slot as usize).copied()
    }

    /// Makes a slot lead to `code`, or to the run loop if that is `None`. Returns
    /// the jump that must be written for that, if the slot stands for one.
    #[must_use]
    pub fn set(&mut self, slot: u32, code: Option<u64>) -> Option<Change> {
        let word = self.slots.get_mut(slot as usize)?;
        *word = code.unwrap_or(self.stub);
        let stub = self.stub(slot);
        let info = self.info.get_mut(slot as usize)?;
        Some(Change {
            at: info.jump?.get(),
            target: code.unwrap_or(stub),
            anew: std::mem::take(&mut info.fallen),
        })
    }

    /// Notes that the `code` a slot leads to stands in the place of the slot's jump.
    pub fn set_fallen(&mut self, slot: u32, code: u64) {
        if let (Some(word), Some(info)) = (
            self.slots.get_mut(slot as usize),
            self.info.get_mut(slot as usize),
        ) {
            *word = code;
            info.fallen = true;
        }
    }

    /// Whether a slot is in no list.
    pub fn is_apart(&self, slot: u32) -> bool {
        let info = self.info.get(slot as usize);
        info.is_some_and(|info| info.next == Next::Apart)
    }

    /// Adds a slot to a list, which is returned; `None` if it is in one already.
    #[must_use]
    pub fn chain(&mut self, chain: Chain, slot: u32) -> Option<Chain> {
        let info = self.info.get_mut(slot as usize)?;
        if info.next != Next::Apart {
            return None;
        }
        info.next = chain.0.map_or(Next::Last, Next::Slot);
        Some(Chain(Some(slot)))
    }

    /// Takes the first slot out of a list.
    pub fn unchain(&mut self, chain: &mut Chain) -> Option<u32> {
        let first = chain.0.take()?;
        let info = self.info.get_mut(first as usize)?;
        *chain = info.next.rest();
        info.next = Next::Apart;
        Some(first)
    }

    /// The slots of a list.
    pub fn chained(&self, chain: Chain) -> impl Iterator<Item = u32> {
        let next = |slot: &u32| self.info.get(*slot as usize)?.next.rest().0;
        std::iter::successors(chain.0, next)
    }

    /// Forgets all slots.
    pub fn clear(&mut self) {
        self.info.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_in_one_list_until_it_is_taken_out() {
        let mut links = Links::new(64, 0, 0);
        links.reserve(BlockId(0), 4).expect("there is room");
        let mut chain = Chain::default();
        for slot in [2, 0, 3] {
            chain = links.chain(chain, slot).expect("it is in none");
        }
        assert!(links.chain(Chain::default(), 0).is_none());
        assert_eq!(links.chained(chain).collect::<Vec<_>>(), [3, 0, 2]);
        assert_eq!(links.unchain(&mut chain), Some(3));
        assert_eq!(links.chained(chain).collect::<Vec<_>>(), [0, 2]);
        let other = links.chain(Chain::default(), 3).expect("it is free");
        assert_eq!(links.chained(other).collect::<Vec<_>>(), [3]);
        let rest: Vec<_> = std::iter::from_fn(|| links.unchain(&mut chain)).collect();
        assert_eq!(rest, [0, 2]);
    }
}
