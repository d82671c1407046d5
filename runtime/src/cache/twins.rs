//! Blocks of programs that lie at several addresses.
//!
//! An operating system starts a program at other addresses each time, and what it runs
//! has other EIPs then: other locations, though its pages are the same and shared. A
//! block that [moves](translator::block::moves) need not be decoded for each of them: the
//! first one at a place in memory is the *origin*, and the others are its *twins*, copies
//! with their EIPs moved. Their bytes are the same, so they live and die together, and
//! only the origin is entered in the [frames](super::frame). What is learned of how the
//! code is best made is taken along, and so is the code itself, from where it is
//! [kept](super::copies).

use super::{BlockId, Cache, CachedBlock, Key, Map};
use crate::interp::Op;
use crate::volatile;
use translator::block::moves;
use translator::mode::Mode;

/// The origins, by physical address and mode.
#[derive(Default)]
pub(super) struct Twins(Map<(u64, u32), BlockId>);

impl Twins {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl CachedBlock {
    /// Whether it is the same block at other addresses.
    pub fn moves(&self) -> bool {
        let Key { eip, mode, .. } = self.key;
        moves(eip, self.len_bytes, Mode(mode), self.terminal)
    }

    /// A block that more hangs on than its bytes.
    pub fn is_peculiar(&self) -> bool {
        let volatile = |op: &Op| volatile::address(op.insn()).is_some();
        let (crosses, last) = (self.crosses_to().is_some(), self.ops.last());
        crosses || self.is_single() || self.asks || self.price != 0 || last.is_some_and(volatile)
    }
}

impl Cache {
    /// Enters a new block among the origins, if it can be one.
    pub(super) fn may_have_twins(&mut self, id: BlockId) {
        if let Some(block) = self.get(id)
            && block.moves()
            && !block.is_peculiar()
        {
            let place = (block.key.phys, block.key.mode);
            self.twins.0.insert(place, id);
        }
    }

    /// The block at `key` as a twin of one that is there at another EIP.
    pub fn twin(&mut self, key: Key) -> Option<BlockId> {
        let origin_id = *self.twins.0.get(&(key.phys, key.mode))?;
        let origin = self.get(origin_id).filter(|block| !block.is_peculiar())?;
        let by = key.eip.wrapping_sub(origin.key.eip);
        let terminal = origin.terminal.moved(by);
        if !moves(key.eip, origin.len_bytes, Mode(key.mode), terminal) {
            return None;
        }
        let twin = origin.twin(key, self.counters.blocks, origin_id);
        let id = self.enter(twin);
        self.get_mut(origin_id)?.twins.add(id);
        self.counters.moved += 1;
        Some(id)
    }

    /// The block whose code a block's twins are made of.
    pub fn origin(&mut self, id: BlockId) -> Option<&mut CachedBlock> {
        let origin = self.get(id)?.origin.unwrap_or(id);
        self.get_mut(origin)
    }

    /// Parts a block that is being dropped from its family; the twins that go with it.
    pub(super) fn part(&mut self, id: BlockId, block: &mut CachedBlock) -> Vec<BlockId> {
        if let Some(origin) = block.origin {
            if let Some(origin) = self.get_mut(origin) {
                origin.twins.remove(id);
            }
            return Vec::new();
        }
        let place = (block.key.phys, block.key.mode);
        if self.twins.0.get(&place) == Some(&id) {
            self.twins.0.remove(&place);
        }
        block.twins.take()
    }
}
