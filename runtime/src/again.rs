//! Blocks whose instructions are forgotten, decoded again.
//!
//! Decoded instructions are twenty times as long as the bytes that they were made of.
//! A block with compiled code seldom needs them: for an access that its first instruction
//! may not do, and to be compiled once more. One that has not run for long may never run
//! again. So these forget them ([`CachedBlock::forget_ops`]), and have them decoded when
//! they are wanted after all.
//!
//! Invariant: a block's bytes are those that it was decoded from, or it is about to be
//! dropped. What depends on more than its bytes and its key never forgets.

use crate::cache::{BlockId, CachedBlock};
use crate::ledger::Account;
use crate::vcpu::Cpu;
use crate::vm::Vm;
use shadow_mmu::PhysAddr;
use translator::block::Block;
use translator::decode::{MAX_INSN_BYTES, decode_block_for};
use translator::mode::Mode;

/// Bytes of a page frame.
const FRAME_BYTES: usize = 0x1000;

/// A cached block as the compiler takes it. None if its instructions are forgotten and
/// its bytes have been overwritten.
pub(crate) fn block(cpu: &Cpu, cached: &CachedBlock) -> Option<Block> {
    cached.block().or_else(|| decode(cpu, cached))
}

#[cold]
fn decode(cpu: &Cpu, cached: &CachedBlock) -> Option<Block> {
    let phys = cached.key.phys;
    // The decoder tells from the next instruction's bytes whether this one is cut off.
    let room = FRAME_BYTES - (phys & 0xfff) as usize;
    let len = (cached.len_bytes as usize + MAX_INSN_BYTES).min(room);
    let mut buffer = [0xff; FRAME_BYTES];
    let bytes = buffer.get_mut(..len)?;
    cpu.fetch(PhysAddr(phys), bytes);
    let (known, mode) = (cpu.model.decodable(), Mode(cached.key.mode));
    let insns = cached.insns as usize;
    let again = decode_block_for(known, bytes, cached.key.eip, mode, insns).ok()?;
    let same = again.insns.len() == insns && again.len_bytes == cached.len_bytes;
    same.then(|| cached.block_of(again.insns))
}

impl Vm {
    /// All blocks of the cache, as they were decoded.
    pub fn blocks(&self) -> impl Iterator<Item = Block> {
        let all = self.cache.iter();
        all.filter_map(|(_, cached)| block(&self.cpu, cached))
    }

    /// Gives a block its instructions back. False if it had to be dropped.
    #[cold]
    #[inline(never)]
    pub(crate) fn recall(&mut self, id: BlockId) -> bool {
        let before = self.cpu.ledger.enter(Account::DECODE);
        let cached = self.cache.get(id);
        let again = cached.and_then(|cached| block(&self.cpu, cached));
        self.cpu.ledger.leave(before);
        match (again, self.cache.get_mut(id)) {
            (Some(block), Some(cached)) => {
                cached.recall_ops(&block.insns);
                true
            }
            _ => {
                self.cache.remove(&mut self.cpu.code, id);
                false
            }
        }
    }
}
