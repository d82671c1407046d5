//! Compiled code of blocks: how it comes into the arena, is linked, and goes.
//!
//! Code that is dropped stays where it is until its [generation](super::generations)
//! goes; what must go is whatever leads to it: link slots, gates, and the caches by EIP
//! and location.
//!
//! Code that ends with a jump to the block that is placed next loses that jump: the block
//! takes its place. Most code is placed when it is first reached, so what runs without a
//! branch taken on the guest often does on the host. When such a block goes, the jump
//! comes back, over the first bytes of its code.

use super::generations::Exhausted;
use super::links::Chain;
use super::{BlockId, Cache, CachedBlock, Compiled, Key, Tail, entries};
use crate::native::landing::Placed;
use translator::compile::{HostCode, Jump, Link};
use translator::direct::gate;
use translator::state::JumpEntry;

impl Cache {
    /// Installs compiled code for a block. False if there is no room, which is then asked
    /// for.
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
        let turn = code.turn.clone().unwrap_or_default();
        let tail = self.tail.take().filter(|tail| self.follows(tail, id));
        let tail = tail.filter(|_| self.arena.is_good_over(Jump::BYTES, &turn));
        let address = match &tail {
            Some(_) => self.arena.add_over(Jump::BYTES, &code.bytes),
            None => self.arena.add_loop(&turn, &code.bytes),
        };
        let Some(address) = address else {
            self.exhaust(Exhausted::Share);
            return false;
        };
        for link in &code.links {
            let of = |offset: u32| address + u64::from(offset);
            let jump = link.jump.map(|jump| of(jump.at));
            self.links.describe(link.slot, link.eip, jump);
            let spent = link.jump.and_then(|jump| jump.spent).map(of);
            for at in [jump, spent].into_iter().flatten() {
                self.arena.redirect(at, self.links.stub(link.slot));
            }
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
        let (generation, _) = self.generation();
        if let Some(block) = self.get_mut(id) {
            (block.compiled, block.generation) = (Compiled::At(address), generation);
        }
        if let Some(Tail { slot, .. }) = tail {
            self.fall_through(slot, id, address);
        }
        self.tail = tail_of(id, code);
        true
    }

    /// Whether a block about to be placed is what the code placed last jumps to in the
    /// end, and may stand in that jump's place.
    fn follows(&self, tail: &Tail, id: BlockId) -> bool {
        let (Some(owner), Some(block)) = (self.get(tail.owner), self.get(id)) else {
            return false;
        };
        let by = tail.eip.wrapping_sub(owner.key.eip);
        let there = Key {
            phys: owner.key.phys.wrapping_add(by as i32 as u64),
            eip: tail.eip,
            mode: owner.key.mode,
        };
        block.key == there
            && block.crosses_to().is_none()
            && owner.may_link_to(tail.eip)
            && self.links.is_apart(tail.slot)
    }

    /// The code at `address`, of block `id`, stands where the jump of `slot` would.
    fn fall_through(&mut self, slot: u32, id: BlockId, address: u64) {
        if let Some(block) = self.blocks.get_mut(id)
            && let Some(chain) = self.links.chain(block.incoming, slot)
        {
            block.incoming = chain;
            self.links.set_fallen(slot, address);
            self.counters.links += 1;
        }
    }

    /// The `len` bytes of compiled code at an address that a block is said to have.
    pub fn code_at(&self, address: u64, len: usize) -> Option<&[u8]> {
        self.arena.get(address, len)
    }

    /// Reserves link slots for a block about to be compiled, or `None` if there
    /// are none left, which are then asked for.
    pub fn reserve_links(&mut self, id: BlockId, count: u32) -> Option<u32> {
        let Some(first) = self.links.reserve(id, count as usize) else {
            self.exhaust(Exhausted::Share);
            return None;
        };
        self.get_mut(id)?.outgoing = (first, count);
        for slot in first..first + count {
            let at = self.links.stub(slot);
            self.arena.write(at, &gate::stub(at, self.unlinked));
        }
        Some(first)
    }

    /// Makes `slot` lead to the compiled code of `target`, if it has any. Under another
    /// tag than `tag` the slot's EIP may be that of another block.
    pub fn link(&mut self, slot: u32, target: BlockId, tag: u32) {
        let (Some(info), Some(block)) = (self.links.info(slot), self.blocks.get_mut(target)) else {
            return;
        };
        let Compiled::At(code) = block.compiled else {
            return;
        };
        let owner = self.blocks.get(info.owner);
        if owner.is_some_and(|owner| owner.may_link_to(info.eip)) {
            self.link_in_page(slot, target, code);
        } else if let Some(gate) = self.gates.open(&mut self.arena, info.eip, tag, code) {
            self.set_link(slot, Some(gate));
            self.counters.links += 1;
        } else {
            self.exhaust(Exhausted::Gates);
        }
    }

    fn link_in_page(&mut self, slot: u32, target: BlockId, code: u64) {
        if let Some(block) = self.blocks.get_mut(target)
            && block.crosses_to().is_none()
            && let Some(chain) = self.links.chain(block.incoming, slot)
        {
            block.incoming = chain;
            self.set_link(slot, Some(code));
            self.counters.links += 1;
        }
    }

    /// Gives a gate to the tag under which it has just been closed.
    pub fn reopen(&mut self, number: u32, target: BlockId, tag: u32) {
        if let Some(block) = self.blocks.get(target)
            && let Compiled::At(code) = block.compiled
            && self.gates.has(number)
        {
            let eip = block.key.eip;
            self.gates.open(&mut self.arena, eip, tag, code);
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
        match self.links.set(slot, code) {
            Some(change) if change.anew => self.arena.jump(change.at, change.target),
            Some(change) => self.arena.redirect(change.at, change.target),
            None => {}
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
        self.gates.close(&mut self.arena, key.eip, code);
        for index in entries(key.eip) {
            if self.jumps[index].code == code {
                self.jumps[index] = JumpEntry::default();
            }
        }
    }
}

/// The jump that code ends with, if another block may take its place: when that goes, the
/// jump must find room in front of what has taken the place of the next one.
fn tail_of(owner: BlockId, code: &HostCode) -> Option<Tail> {
    let last = |link: &&Link| link.jump.is_some_and(|jump| jump.is_last(&code.bytes));
    let link = code.links.iter().find(last)?;
    let (slot, eip) = (link.slot, link.eip);
    let room = code.bytes.len() >= 2 * Jump::BYTES;
    room.then_some(Tail { slot, eip, owner })
}
