//! Where the blocks of the cache stand.
//!
//! A boot makes a hundred thousand of them. One allocation for each would cost an
//! eighth of its bytes and, worse, would pin the memory around it: what a block
//! [forgets](super::CachedBlock::forget_ops) could never go back to the host. So blocks
//! stand in chunks, side by side, and their instructions elsewhere.
//!
//! Invariant: a chunk never moves and is never given back before all are, so finding a
//! block takes two looks at memory, as it would with a list of pointers.

use super::{BlockId, CachedBlock};

/// Blocks of a chunk, a power of two.
const CHUNK: usize = 512;

/// See the module's essay.
#[derive(Default)]
pub(super) struct Blocks {
    chunks: Vec<Box<[Option<CachedBlock>; CHUNK]>>,
    /// Numbers given so far.
    given: u32,
    /// Those of them that are free again.
    free: Vec<u32>,
}

impl Blocks {
    #[inline(always)]
    pub fn get(&self, id: BlockId) -> Option<&CachedBlock> {
        let chunk = self.chunks.get(id.0 as usize / CHUNK)?;
        chunk[id.0 as usize % CHUNK].as_ref()
    }

    #[inline(always)]
    pub fn get_mut(&mut self, id: BlockId) -> Option<&mut CachedBlock> {
        self.place(id)?.as_mut()
    }

    #[inline(always)]
    fn place(&mut self, id: BlockId) -> Option<&mut Option<CachedBlock>> {
        let chunk = self.chunks.get_mut(id.0 as usize / CHUNK)?;
        Some(&mut chunk[id.0 as usize % CHUNK])
    }

    /// Adds one and returns its number.
    pub fn add(&mut self, block: CachedBlock) -> BlockId {
        let id = BlockId(self.free.pop().unwrap_or_else(|| self.fresh()));
        if let Some(place) = self.place(id) {
            *place = Some(block);
        }
        id
    }

    /// A number that was never given.
    fn fresh(&mut self) -> u32 {
        let number = self.given;
        if number as usize / CHUNK == self.chunks.len() {
            self.chunks.push(chunk());
        }
        self.given += 1;
        number
    }

    /// Takes one out.
    pub fn take(&mut self, id: BlockId) -> Option<CachedBlock> {
        let block = self.place(id)?.take()?;
        self.free.push(id.0);
        Some(block)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (BlockId, &CachedBlock)> {
        let numbered = (0..).zip(self.chunks.iter().flat_map(|chunk| chunk.iter()));
        numbered.filter_map(|(n, block)| Some((BlockId(n), block.as_ref()?)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut CachedBlock> {
        let places = self.chunks.iter_mut().flat_map(|chunk| chunk.iter_mut());
        places.flatten()
    }
}

/// An empty chunk, which never was on the stack.
fn chunk() -> Box<[Option<CachedBlock>; CHUNK]> {
    let places: Box<[_]> = (0..CHUNK).map(|_| None).collect();
    match places.try_into() {
        Ok(chunk) => chunk,
        Err(_) => unreachable!("it has as many places"),
    }
}
