//! The blocks of each page frame, and which of its bytes they hold.
//!
//! A page with code can hold data as well, or code that overlaps in a thousand
//! ways, and every store to it asks which blocks it hits. A bit for each byte
//! answers "none" without looking at the blocks, and what each block holds stands
//! here, so that a search reads no block: a program that makes code anew, byte by
//! byte, where hundreds of blocks are left over asks thousands of times.
//!
//! The CPU asks, before it troubles the run loop; hence the frames are its own.

use super::BlockId;
use shadow_mmu::PhysAddr;
use std::ops::Range;

/// Bytes of a page frame.
const FRAME_BYTES: usize = 0x1000;

/// Stores beside the code of a frame after which its blocks are dropped: so many, and
/// more for each block.
const LEAST_MISSES: usize = 4096;
const MISSES_PER_BLOCK: usize = 512;

/// All frames with blocks.
#[derive(Default)]
pub struct Frames {
    /// By frame number: 0, or where the frame is in `list`, plus one.
    index: Vec<u32>,
    list: Vec<Frame>,
    free: Vec<u32>,
}

impl Frames {
    /// The frame with this number, if it has blocks.
    #[inline]
    pub fn get(&self, number: u64) -> Option<&Frame> {
        self.list.get(self.place(number)?)
    }

    /// The same, to change.
    #[inline]
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Frame> {
        let place = self.place(number)?;
        self.list.get_mut(place)
    }

    #[inline]
    fn place(&self, number: u64) -> Option<usize> {
        let place = *self.index.get(usize::try_from(number).ok()?)?;
        (place as usize).checked_sub(1)
    }

    /// Adds a block that holds `bytes` of a frame of guest memory.
    pub fn add(&mut self, number: u64, id: BlockId, bytes: Range<usize>) {
        let place = self.place(number).unwrap_or_else(|| {
            let place = self.free.pop().map_or(self.list.len(), |n| n as usize);
            if place == self.list.len() {
                self.list.push(Frame::default());
            }
            let number = number as usize;
            if self.index.len() <= number {
                self.index.resize(number + 1, 0);
            }
            self.index[number] = place as u32 + 1;
            place
        });
        self.list[place].add(id, bytes);
    }

    /// Removes a block from a frame, and the frame if that was the last.
    pub fn remove(&mut self, number: u64, id: BlockId) {
        let Some(place) = self.place(number) else {
            return;
        };
        if self.list[place].remove(id) {
            self.list[place] = Frame::default();
            self.free.push(place as u32);
            self.index[number as usize] = 0;
        }
    }

    /// Removes all and returns their numbers.
    pub fn clear(&mut self) -> Vec<u64> {
        let numbers = (0..).zip(&self.index).filter(|(_, place)| **place != 0);
        let numbers = numbers.map(|(number, _)| number).collect();
        *self = Self::default();
        numbers
    }

    /// Takes note of a store to frames of code. True if it hit a block, or a frame's
    /// blocks are better dropped: then the run loop must look before anything else
    /// runs.
    #[inline]
    pub fn stored(&mut self, start: PhysAddr, len: u32) -> bool {
        let end = start.0 + u64::from(len);
        let (mut at, mut concerns) = (start.0, false);
        while at < end {
            let next = ((at | 0xfff) + 1).min(end);
            let first = (at & 0xfff) as usize;
            let bytes = first..first + (next - at) as usize;
            // One that has lost its blocks need not be watched any more.
            let frame = self.get_mut(at >> 12);
            concerns |= frame.is_none_or(|frame| frame.stored(bytes));
            at = next;
        }
        concerns
    }
}

/// The blocks of one frame.
#[derive(Default)]
pub struct Frame {
    /// By first byte.
    blocks: Vec<Held>,
    /// Most bytes that any of them has held.
    longest: usize,
    covered: Covered,
    /// Stores since a block was added or hit that hit none.
    misses: u32,
}

/// The bytes of the frame that a block holds.
struct Held {
    id: BlockId,
    start: u16,
    end: u16,
}

impl Held {
    fn bytes(&self) -> Range<usize> {
        self.start.into()..self.end.into()
    }

    fn overlaps(&self, bytes: &Range<usize>) -> bool {
        let (start, end) = (usize::from(self.start), usize::from(self.end));
        start < bytes.end && bytes.start < end && start < end
    }
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
        let words = match bytes.is_empty() {
            true => 0..0,
            false => bytes.start / 64..end.div_ceil(64),
        };
        words.map(move |word| {
            let low = bytes.start.saturating_sub(word * 64);
            let high = (end - word * 64).min(64);
            (word, u64::MAX >> (64 - (high - low)) << low)
        })
    }

    fn add(&mut self, bytes: Range<usize>) {
        Self::words(bytes).for_each(|(word, mask)| self.0[word] |= mask);
    }

    fn clear(&mut self, bytes: Range<usize>) {
        Self::words(bytes).for_each(|(word, mask)| self.0[word] &= !mask);
    }

    #[inline]
    fn any(&self, bytes: Range<usize>) -> bool {
        let (word, low) = (bytes.start / 64, bytes.start % 64);
        // Most stores are short and in one word.
        if (1..64).contains(&bytes.len()) && low + bytes.len() <= 64 {
            let mask = (1 << bytes.len()) - 1;
            return self.0.get(word).is_some_and(|bits| bits >> low & mask != 0);
        }
        Self::words(bytes).any(|(word, mask)| self.0[word] & mask != 0)
    }
}

impl Frame {
    /// Adds a block that holds `bytes` of the frame.
    fn add(&mut self, id: BlockId, bytes: Range<usize>) {
        let within = |offset: usize| offset.min(FRAME_BYTES) as u16;
        let (start, end) = (within(bytes.start), within(bytes.end));
        let at = self.blocks.partition_point(|held| held.start <= start);
        self.blocks.insert(at, Held { id, start, end });
        self.longest = self.longest.max(bytes.len());
        self.covered.add(bytes);
        self.misses = 0;
    }

    /// See [`Frames::stored`].
    #[inline]
    fn stored(&mut self, bytes: Range<usize>) -> bool {
        if self.covered.any(bytes) {
            return true;
        }
        self.misses += 1;
        self.is_left_over()
    }

    /// Whether so many stores hit no block that the blocks are better dropped: each
    /// such store costs a small fraction of decoding a block, so this at most doubles
    /// what the guest pays if they are still used.
    pub fn is_left_over(&self) -> bool {
        self.misses as usize >= LEAST_MISSES + MISSES_PER_BLOCK * self.blocks.len()
    }

    /// All blocks.
    pub fn all(&self) -> Vec<BlockId> {
        self.blocks.iter().map(|held| held.id).collect()
    }

    /// Removes a block. True if none is left.
    fn remove(&mut self, id: BlockId) -> bool {
        while let Some(at) = self.blocks.iter().position(|held| held.id == id) {
            let bytes = self.blocks.remove(at).bytes();
            self.covered.clear(bytes.clone());
            for n in self.near(&bytes) {
                self.covered.add(self.blocks[n].bytes());
            }
        }
        self.blocks.is_empty()
    }

    /// The blocks that hold any of `bytes`.
    pub fn hit(&self, bytes: &Range<usize>) -> Vec<BlockId> {
        if !self.covered.any(bytes.clone()) {
            return Vec::new();
        }
        let near = self.blocks.get(self.near(bytes)).unwrap_or_default();
        let hit = near.iter().filter(|held| held.overlaps(bytes));
        hit.map(|held| held.id).collect()
    }

    /// Which blocks may hold any of `bytes`, as none is longer than the longest.
    fn near(&self, bytes: &Range<usize>) -> Range<usize> {
        let index = |limit: usize| {
            self.blocks
                .partition_point(|held| usize::from(held.start) < limit)
        };
        index((bytes.start + 1).saturating_sub(self.longest))..index(bytes.end)
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
        let frame = frame();
        let hits = [
            (9..10, 1),
            (58..61, 2),
            (199..203, 2),
            (64..128, 2),
            (4095..4096, 3),
        ];
        for (bytes, n) in hits {
            assert_eq!(frame.hit(&bytes), [BlockId(n)], "{bytes:?}");
        }
        for bytes in [10..60, 200..204, 4000..4090] {
            assert_eq!(frame.hit(&bytes), [], "{bytes:?}");
        }
        assert_eq!(frame.hit(&(0..4096)).len(), 3);
    }

    #[test]
    fn a_block_without_bytes_is_never_hit() {
        let mut frame = frame();
        frame.add(BlockId(4), 64..64);
        assert_eq!(frame.hit(&(0..4096)).len(), 3);
        assert_eq!(frame.all().len(), 4);
        assert!(!frame.remove(BlockId(4)));
        assert_eq!(frame.hit(&(64..65)), [BlockId(2)]);
    }

    #[test]
    fn bits_of_a_removed_block_go_with_it_unless_others_share_them() {
        let mut frame = frame();
        frame.add(BlockId(4), 190..201);
        assert!(!frame.remove(BlockId(2)));
        assert_eq!(frame.hit(&(199..200)), [BlockId(4)]);
        assert!(!frame.remove(BlockId(4)));
        assert_eq!(frame.hit(&(100..101)), []);
        assert!(!frame.covered.any(100..101));
        assert!(frame.covered.any(0..1));
        assert!(!frame.remove(BlockId(1)));
        assert!(frame.remove(BlockId(3)));
    }
}
