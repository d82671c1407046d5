//! Compiled code of blocks: how it comes into the arena, is linked, and goes.
//!
//! Code that is dropped stays where it is, for the arena only grows; what must go is
//! whatever leads to it: link slots, and the caches by EIP and location.

use super::links::Chain;
use super::{BlockId, Cache, CachedBlock, Compiled, Key, entries};
use crate::native::landing::Placed;
use translator::compile::HostCode;
use translator::state::JumpEntry;

impl Cache {
    /// Installs compiled code for a block. False if the arena is full, which
    /// also asks for a flush.
    pub fn install(&mut self, id: BlockId, code: &HostCode) -> bool {
        let placed = self.place(id, code);
        if let (true, Some(block)) = (placed, self.get(id)) {
            let (insns, guest_bytes) = (u64::from(block.insns), u64::from(block.len_bytes));
            self.counters.compiled += 1;
            self.counters.compiled_insns += insns;
            self.counters.compiled_guest_bytes += guest_bytes;
            self.counters.compiled_host_bytes += code.bytes.len() as u64;
        }
        placed
    }

    /// Makes compiled code that of a block, as [`Cache::install`] does, but counts
    /// nothing.
    pub fn place(&mut self, id: BlockId, code: &HostCode) -> bool {
        let Some(address) = self.arena.add(&code.bytes) else {
            self.exhausted = true;
            return false;
        };
        for link in &code.links {
            let of = |offset: u32| address + u64::from(offset);
            let jump = link.jump.map(|jump| (of(jump.at), of(jump.stub)));
            self.links.describe(link.slot, link.eip, jump);
        }
        let eip = self.blocks.get(id).map_or(0, |block| block.key.eip);
        let placed = Placed {
            address,
            eip,
            owner: id,
        };
        self.landings.add(placed, &code.landings);
        if let Some(perf) = &mut self.perf {
            perf.block(eip, address, &code.bytes);
        }
        if let Some(block) = self.get_mut(id) {
            block.compiled = Compiled::At(address);
        }
        true
    }

    /// The `len` bytes of compiled code at an address that a block is said to have.
    pub fn code_at(&self, address: u64, len: usize) -> Option<&[u8]> {
        self.arena.get(address, len)
    }

    /// Reserves link slots for a block about to be compiled, or `None` if there
    /// are none left, which also asks for a flush.
    pub fn reserve_links(&mut self, id: BlockId, count: u32) -> Option<u32> {
        let Some(first) = self.links.reserve(id, count as usize) else {
            self.exhausted = true;
            return None;
        };
        self.get_mut(id)?.outgoing = (first, count);
        Some(first)
    }

    /// Makes `slot` lead to the compiled code of `target`, if it has any.
    pub fn link(&mut self, slot: u32, target: BlockId) {
        let Some(block) = self.blocks.get_mut(target) else {
            return;
        };
        let Compiled::At(code) = block.compiled else {
            return;
        };
        if let Some(chain) = self.links.chain(block.incoming, slot) {
            block.incoming = chain;
            self.set_link(slot, Some(code));
            self.counters.links += 1;
        }
    }

    /// Gives memory back that only speed needs: the instructions of blocks, and the
    /// mapping by which code is written.
    pub fn rest(&mut self) {
        self.blocks.iter_mut().for_each(CachedBlock::forget_ops);
        self.arena.rest();
    }

    /// Leaves the blocks to the host, which takes them all at once when the process ends.
    pub(crate) fn abandon_blocks(&mut self) {
        std::mem::forget(std::mem::take(&mut self.blocks));
    }

    /// Slots that lead to a block; some may be of blocks that are gone.
    pub fn slots_to(&self, block: &CachedBlock) -> impl Iterator<Item = u32> {
        self.links.chained(block.incoming)
    }

    /// Makes the slots of a list lead nowhere.
    pub(super) fn unlink(&mut self, mut chain: Chain) {
        while let Some(slot) = self.links.unchain(&mut chain) {
            self.set_link(slot, None);
        }
    }

    fn set_link(&mut self, slot: u32, code: Option<u64>) {
        if let Some((at, target)) = self.links.set(slot, code) {
            self.arena.redirect(at, target);
        }
    }

    /// Drops the compiled code of a block, which may be compiled again.
    pub fn drop_code(&mut self, id: BlockId) {
        let Some(block) = self.get_mut(id) else {
            return;
        };
        let Compiled::At(code) = std::mem::replace(&mut block.compiled, Compiled::No) else {
            return;
        };
        let incoming = std::mem::take(&mut block.incoming);
        let key = block.key;
        self.unlink(incoming);
        self.forget_code(&key, code);
    }

    /// Drops compiled code from the caches that lead to it.
    pub(super) fn forget_code(&mut self, key: &Key, code: u64) {
        self.codes.forget(key);
        for index in entries(key.eip) {
            if self.jumps[index].code == code {
                self.jumps[index] = JumpEntry::default();
            }
        }
    }
}
