//! The blocks of one page frame, and which of its bytes they hold.
//!
//! A page with code can hold data as well, or code that overlaps in a thousand
//! ways, and every store to it asks which blocks it hits. A bit for each byte
//! answers "none" without looking at the blocks. Bits are set with a block and not
//! cleared with it, so they may say too much; a store that then hits nothing has
//! them made anew from the blocks that are left.

use super::BlockId;
use std::ops::Range;

/// Bytes of a page frame.
const FRAME_BYTES: usize = 0x1000;

/// The blocks of one frame.
#[derive(Default)]
pub struct Frame {
    blocks: Vec<BlockId>,
    covered: Covered,
}

/// One bit for each byte of a frame.
struct Covered([u64; FRAME_BYTES / 64]);

impl Default for Covered {
    fn default() -> Self {
        Self([0; FRAME_BYTES / 64])
    }
}

impl Covered {
    /// The word and the mask of each part of `bytes`.
    fn words(bytes: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
        let end = bytes.end.min(FRAME_BYTES);
        (bytes.start / 64..end.div_ceil(64)).map(move |word| {
            let low = bytes.start.saturating_sub(word * 64);
            let high = (end - word * 64).min(64);
            (word, u64::MAX >> (64 - (high - low)) << low)
        })
    }

    fn add(&mut self, bytes: Range<usize>) {
        Self::words(bytes).for_each(|(word, mask)| self.0[word] |= mask);
    }

    fn any(&self, bytes: Range<usize>) -> bool {
        Self::words(bytes).any(|(word, mask)| self.0[word] & mask != 0)
    }
}

impl Frame {
    /// Adds a block that holds `bytes` of the frame.
    pub fn add(&mut self, id: BlockId, bytes: Range<usize>) {
        self.blocks.push(id);
        self.covered.add(bytes);
    }

    /// Removes a block. True if none is left.
    pub fn remove(&mut self, id: BlockId) -> bool {
        self.blocks.retain(|&other| other != id);
        self.blocks.is_empty()
    }

    /// The blocks that hold any of `bytes`; `held` says what a block holds.
    pub fn hit(
        &mut self,
        bytes: &Range<usize>,
        held: impl Fn(BlockId) -> Range<usize>,
    ) -> Vec<BlockId> {
        if !self.covered.any(bytes.clone()) {
            return Vec::new();
        }
        let hits = |id: &BlockId| {
            let held = held(*id);
            held.start < bytes.end && bytes.start < held.end
        };
        let hit: Vec<BlockId> = self.blocks.iter().copied().filter(hits).collect();
        if hit.is_empty() {
            self.covered = Covered::default();
            for &id in &self.blocks {
                self.covered.add(held(id));
            }
        }
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(id: BlockId) -> Range<usize> {
        match id.0 {
            1 => 0..10,
            2 => 60..200,
            _ => 4090..4096,
        }
    }

    fn frame() -> Frame {
        let mut frame = Frame::default();
        (1..=3).for_each(|n| frame.add(BlockId(n), held(BlockId(n))));
        frame
    }

    #[test]
    fn a_store_hits_the_blocks_that_hold_its_bytes() {
        let mut frame = frame();
        let hits = [
            (9..10, 1),
            (58..61, 2),
            (199..203, 2),
            (64..128, 2),
            (4095..4096, 3),
        ];
        for (bytes, n) in hits {
            assert_eq!(frame.hit(&bytes, held), [BlockId(n)], "{bytes:?}");
        }
        for bytes in [10..60, 200..204, 4000..4090] {
            assert_eq!(frame.hit(&bytes, held), [], "{bytes:?}");
        }
        assert_eq!(frame.hit(&(0..4096), held).len(), 3);
    }

    #[test]
    fn bits_of_a_removed_block_go_with_the_first_miss() {
        let mut frame = frame();
        assert!(!frame.remove(BlockId(2)));
        assert!(frame.covered.any(100..101));
        assert_eq!(frame.hit(&(100..101), held), []);
        assert!(!frame.covered.any(100..101));
        assert!(frame.covered.any(0..1));
        assert!(!frame.remove(BlockId(1)));
        assert!(frame.remove(BlockId(3)));
    }
}
