//! Bounded memory: what is made, and when it goes again.
//!
//! Code, link slots and callout numbers are given out in a row, never one by one back. So
//! each of these stores is divided into as many *shares*, and what is made between two
//! moments, a *generation*, comes from one share of each. When one of them is used up, the
//! next generation begins, in the shares of the oldest, which goes with all that it made:
//! blocks with code of that time, and blocks decoded then that never got any. What is
//! still wanted is made anew; an eighth of everything, not all of it at once.
//!
//! Invariant: code, slots and callouts of a block are of one generation, which the block
//! names.

use super::frame::Frames;
use super::{BlockId, Cache};
use translator::state::{GATE_BYTES, STUB_BYTES};

/// Generations there are at a time.
pub const GENERATIONS: usize = 8;

/// How much of everything there may be. All follows from the bytes of code, by what the
/// code of kernels and programs takes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    code_bytes: usize,
}

impl Sizes {
    /// Sizes for so many bytes of compiled code.
    pub fn new(code_bytes: usize) -> Self {
        Self { code_bytes }
    }

    /// Link slots in all. A block has two.
    pub(super) fn slots(self) -> usize {
        self.code_bytes / 128 / GENERATIONS * GENERATIONS
    }

    /// Gates in all.
    pub(super) fn gates(self) -> usize {
        self.code_bytes / 512
    }

    /// Callout numbers of a generation.
    pub fn callouts(self) -> usize {
        self.code_bytes / 64 / GENERATIONS
    }

    /// Blocks decoded in a generation.
    fn blocks(self) -> usize {
        self.code_bytes / 256 / GENERATIONS
    }

    /// Bytes of the stubs of all slots.
    pub(super) fn stub_bytes(self) -> usize {
        self.slots() * STUB_BYTES
    }

    /// Bytes of all gates.
    pub(super) fn gate_bytes(self) -> usize {
        self.gates() * GATE_BYTES
    }

    /// Bytes of executable memory.
    pub(super) fn arena_bytes(self) -> usize {
        self.code_bytes + self.stub_bytes() + self.gate_bytes()
    }
}

/// What has run out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exhausted {
    /// There is enough of everything.
    #[default]
    Nothing,
    /// A share: the next generation must begin.
    Share,
    /// Gates, which are not divided: the cache must be cleared.
    Gates,
}

/// The generations of a cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Generations {
    /// Number of the current one, from 0 on.
    pub current: u32,
    /// Blocks that it has decoded.
    decoded: usize,
    most_decoded: usize,
}

impl Generations {
    pub fn new(sizes: Sizes) -> Self {
        Self {
            current: 0,
            decoded: 0,
            most_decoded: sizes.blocks(),
        }
    }

    /// Counts a block. True if there must be no more of them for long.
    pub fn decode(&mut self) -> bool {
        self.decoded += 1;
        self.decoded >= self.most_decoded
    }

    /// The number of a generation's shares.
    fn share(self) -> usize {
        self.current as usize % GENERATIONS
    }

    /// Whether a generation has just lost its shares.
    fn is_over(self, generation: u32) -> bool {
        self.current.wrapping_sub(generation) as usize >= GENERATIONS
    }
}

impl Cache {
    /// The current generation, and the number of its shares.
    pub fn generation(&self) -> (u32, usize) {
        (self.generations.current, self.generations.share())
    }

    /// Notes that something has run out, unless something worse is known.
    pub fn exhaust(&mut self, what: Exhausted) {
        if self.exhausted != Exhausted::Gates {
            self.exhausted = what;
        }
    }

    /// Begins the next generation and drops all that the oldest has left. Returns the
    /// number of its shares, which the caller must empty of callouts.
    pub fn begin_generation(&mut self, code: &mut Frames) -> usize {
        let next = self.generations.current.wrapping_add(1);
        (self.generations.current, self.generations.decoded) = (next, 0);
        let generations = self.generations;
        let old = |(id, block): (BlockId, &super::CachedBlock)| {
            generations.is_over(block.generation).then_some(id)
        };
        let old: Vec<_> = self.iter().filter_map(old).collect();
        old.into_iter().for_each(|id| self.remove(code, id));
        let share = generations.share();
        let gone = self.links.share(share);
        for block in self.blocks.iter_mut() {
            block.incoming = self.links.without(block.incoming, &gone);
        }
        self.links.begin(share);
        self.tail = None;
        self.landings.clear_span(share);
        self.arena.begin_span(share);
        let (links, gates) = (&self.links, &mut self.gates);
        gates.reclaim(links.words());
        self.exhausted = Exhausted::Nothing;
        self.counters.evictions += 1;
        share
    }
}
