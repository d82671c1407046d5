//! Compiled code by location, whatever the tag.
//!
//! A new address space has a tag that nothing is known under, though most of what its
//! process will run has been compiled for others: the kernel, libraries. This cache
//! finds such code with one look at memory, where the map of blocks and the block
//! would take five.

use super::{BlockId, Key};

/// Blocks remembered, a power of two.
const ENTRIES: usize = 1 << 16;

/// A direct-mapped cache of blocks that stay in their page.
pub struct Codes(Box<[(Key, BlockId, u64)]>);

const NONE: (Key, BlockId, u64) = {
    let (phys, eip, mode) = (u64::MAX, u32::MAX, u32::MAX);
    (Key { phys, eip, mode }, BlockId(u32::MAX), 0)
};

impl Default for Codes {
    fn default() -> Self {
        Self(vec![NONE; ENTRIES].into_boxed_slice())
    }
}

fn index(key: &Key) -> usize {
    let mixed = key.eip ^ key.eip >> 16 ^ key.mode.wrapping_mul(0x9e37_79b9) >> 18;
    mixed as usize & (ENTRIES - 1)
}

impl Codes {
    /// The block at `key` and the address of its code.
    #[inline]
    pub fn find(&self, key: &Key) -> Option<(BlockId, u64)> {
        let (known, id, code) = &self.0[index(key)];
        (known == key).then_some((*id, *code))
    }

    /// Notes a compiled block.
    pub fn remember(&mut self, key: Key, id: BlockId, code: u64) {
        self.0[index(&key)] = (key, id, code);
    }

    /// Forgets one.
    pub fn forget(&mut self, key: &Key) {
        let entry = &mut self.0[index(key)];
        if entry.0 == *key {
            *entry = NONE;
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.fill(NONE);
    }
}
