//! What in direct code depends on where and when it was made.
//!
//! Code refers to nothing by host address: the state is in R15, routines and tables are
//! reached through it, jumps stay inside until they are linked. What is left are
//! *numbers* that the runtime gives out: the block's first link slot, by which exits
//! name their block, and the number of its first instruction among the callouts. Each
//! is in the last four bytes of one instruction. A list of those makes code that can
//! be kept and used again under other numbers, in another machine.
//!
//! Guest addresses are part of what a block is, so code has them as constants. But a
//! program is at other addresses each time it is started, and the rest of its code is
//! the same: the constants of a block that [moves](crate::block::Block::moves) are
//! listed, too.

use super::Emitter;
use crate::compile::{HostCode, Numbered, Relocation};

impl Emitter<'_> {
    /// The four bytes just emitted are a number.
    pub(super) fn relocate(&mut self, counts: Numbered) {
        let at = self.asm.here().saturating_sub(4) as u32;
        if counts != Numbered::Eip || self.moves {
            self.code.relocations.push(Relocation { at, counts });
        }
    }
}

impl HostCode {
    /// Adds to all numbers of link slots and callouts, modulo 2^32. False if a number
    /// is said to be where there is no code; nothing can be done with the code then.
    #[must_use]
    pub fn renumber(&mut self, links: u32, callouts: u32) -> bool {
        for link in &mut self.links {
            link.slot = link.slot.wrapping_add(links);
        }
        self.change(|counts, number| match counts {
            Numbered::Link => number.wrapping_add(links),
            Numbered::Callout => number.wrapping_add(callouts),
            Numbered::Eip => number,
        })
    }

    /// Makes code of a block that moves that of the same block `by` bytes further on,
    /// which are whole pages. False as above.
    #[must_use]
    pub fn move_by(&mut self, by: u32) -> bool {
        for link in &mut self.links {
            link.eip = link.eip.wrapping_add(by);
        }
        self.change(|counts, number| match counts {
            Numbered::Link | Numbered::Callout => number,
            Numbered::Eip => number.wrapping_add(by),
        })
    }

    fn change(&mut self, new: impl Fn(Numbered, u32) -> u32) -> bool {
        for relocation in &self.relocations {
            let rest = self.bytes.get_mut(relocation.at as usize..);
            let Some(place) = rest.and_then(<[u8]>::first_chunk_mut) else {
                return false;
            };
            *place = new(relocation.counts, u32::from_le_bytes(*place)).to_le_bytes();
        }
        true
    }
}
