//! The translation cache: decoded blocks, their compiled code, and the links
//! between them.
//!
//! A block is found by its location: guest-physical address of the first byte,
//! EIP and mode ([`Key`]). In front of that hash map stand two direct-mapped
//! caches by EIP: one of block numbers for the run loop, one of host addresses
//! that compiled indirect jumps probe ([`CpuState::jump_cache`]). Their keys
//! carry a tag that stands for mode and fetch translations, so a change
//! of any of them needs no flush.
//!
//! Invariants: a frame that holds bytes of a live block is write-protected as
//! code in the shadow MMU; a dropped block is reachable from no map, cache or
//! link slot; only the run loop, never running code, drops blocks.

pub mod arena;
mod block;
mod blocks;
mod codes;
pub mod copies;
pub mod disk;
pub mod frame;
mod gates;
pub mod generations;
mod install;
pub mod links;
pub mod overwrites;
mod pages;
mod twins;

use crate::debug::perf::Perf;
use crate::interp::Op;
use crate::native::landing::Landings;
use crate::volatile::{self, Calm};
use arena::Arena;
pub use block::{CachedBlock, Compiled, Warmth};
use blocks::Blocks;
use codes::Codes;
use frame::{Frame, Frames};
use gates::Gates;
use generations::{Exhausted, GENERATIONS, Generations, Sizes};
use links::Links;
use overwrites::Overwrites;
use pages::CodePages;
use shadow_mmu::PhysAddr;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use translator::block::Block;
use translator::state::{
    ALL_JUMP_ENTRIES, JUMP_WINDOWS, JumpEntry, TAG_STEP, jump_index, jump_window,
};
use twins::Twins;

/// Number of a block in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockId(pub u32);

/// The location descriptor: what a block is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Guest-physical address of the first byte.
    pub phys: u64,
    /// EIP.
    pub eip: u32,
    /// Mode bits.
    pub mode: u32,
}

/// Mixes the few words of a [`Key`]; quality beyond that is not needed.
#[derive(Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u64(u64::from(b)));
    }
    fn write_u32(&mut self, v: u32) {
        self.write_u64(u64::from(v));
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0.rotate_left(23) ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A map by few words.
pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<KeyHasher>>;

/// Counts of what the cache did.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheCounters {
    /// Blocks decoded.
    pub blocks: u64,
    /// Blocks compiled and installed.
    pub compiled: u64,
    /// Those of them that access memory through mirrors.
    pub mirrored: u64,
    /// Blocks whose code was found on disk.
    pub loaded: u64,
    /// Blocks that were taken from another address.
    pub moved: u64,
    /// Guest instructions in the compiled blocks.
    pub compiled_insns: u64,
    /// Guest bytes in the compiled blocks.
    pub compiled_guest_bytes: u64,
    /// Host bytes of the compiled blocks.
    pub compiled_host_bytes: u64,
    /// Blocks dropped because their bytes were written.
    pub invalidated: u64,
    /// Generations that were dropped to make room.
    pub evictions: u64,
    /// Times everything was dropped.
    pub flushes: u64,
    /// Links made.
    pub links: u64,
}

/// The cache.
pub struct Cache {
    blocks: Blocks,
    by_key: Map<Key, BlockId>,
    twins: Twins,
    overwrites: Overwrites,
    /// Where code pages are.
    pub pages: CodePages,
    /// Where compiled code is.
    pub codes: Codes,
    recent: Box<[(u64, BlockId)]>,
    jumps: Box<[JumpEntry]>,
    arena: Arena,
    /// How much there may be of everything.
    pub sizes: Sizes,
    generations: Generations,
    /// Routines that are kept, by host address.
    routines: Vec<Range<u64>>,
    /// What is written for perf.
    perf: Option<Box<Perf>>,
    /// The link slots.
    pub links: Links,
    /// Host address of what their stubs call.
    unlinked: u64,
    /// How the code placed last ends.
    tail: Option<Tail>,
    /// Ways to other pages.
    pub gates: Gates,
    /// Where code continues after a fault of the host.
    pub landings: Landings,
    /// What ran out: the run loop must make room.
    pub exhausted: Exhausted,
    /// Number of the current slice of the budget.
    pub slice: u64,
    /// Counts.
    pub counters: CacheCounters,
}

/// A jump that code ends with.
struct Tail {
    slot: u32,
    eip: u32,
    owner: BlockId,
}

/// No block has this number.
const NOWHERE: BlockId = BlockId(u32::MAX);

impl Cache {
    /// An empty cache. `fixed` are routines that are never dropped, what unlinked slots
    /// lead to first and what closed gates call second; their addresses are returned in
    /// order.
    ///
    /// # Errors
    /// The host refuses executable memory.
    pub fn new(sizes: Sizes, fixed: &[&[u8]]) -> std::io::Result<(Self, Vec<u64>)> {
        let mut arena = Arena::new(sizes.arena_bytes())?;
        let addresses: Vec<u64> = fixed.iter().filter_map(|code| arena.add(code)).collect();
        let routine = |n: usize| addresses.get(n).copied().unwrap_or(0);
        let (unlinked, closed) = (routine(0), routine(1));
        let stubs = arena.set_aside(sizes.stub_bytes()).unwrap_or(0);
        let gates = arena.set_aside(sizes.gate_bytes()).unwrap_or(0);
        let spans = arena.divide(GENERATIONS);
        let routines = addresses.iter().zip(fixed);
        let routines = routines.map(|(&at, code)| at..at + code.len() as u64);
        let cache = Self {
            blocks: Blocks::default(),
            by_key: Map::default(),
            twins: Twins::default(),
            overwrites: Overwrites::default(),
            pages: CodePages::default(),
            codes: Codes::default(),
            recent: vec![(u64::MAX, NOWHERE); ALL_JUMP_ENTRIES].into_boxed_slice(),
            jumps: vec![JumpEntry::default(); ALL_JUMP_ENTRIES].into_boxed_slice(),
            sizes,
            generations: Generations::new(sizes),
            routines: routines.collect(),
            perf: None,
            landings: Landings::new(arena.start(), spans),
            arena,
            links: Links::new(sizes.slots(), unlinked, stubs),
            unlinked,
            tail: None,
            gates: Gates::new(sizes.gates(), gates, closed),
            exhausted: Exhausted::Nothing,
            slice: 0,
            counters: CacheCounters::default(),
        };
        Ok((cache, addresses))
    }

    /// Has perf told of all code from now on, and of the routines by these names.
    ///
    /// # Errors
    /// The host refuses memory of the kind that perf needs.
    pub fn tell_perf(&mut self, mut perf: Perf, names: &[&str]) -> std::io::Result<()> {
        if perf.wants_no_file() {
            self.arena.without_file()?;
        }
        for (routine, name) in self.routines.iter().zip(names) {
            let len = (routine.end - routine.start) as usize;
            let code = self.arena.get(routine.start, len);
            if let Some(code) = code.filter(|code| !code.is_empty()) {
                perf.code(name, routine.start, code);
            }
        }
        self.perf = Some(Box::new(perf));
        Ok(())
    }

    /// Host address of the jump cache, for generated code.
    pub fn jump_cache_address(&self) -> u64 {
        self.jumps.as_ptr() as u64
    }

    /// Probes the run loop's cache of recent blocks.
    #[inline(always)]
    pub fn recent(&self, eip: u32, tag: u32) -> Option<BlockId> {
        let (key, id) = self.recent[entry(eip, tag)];
        (key == jump_key(eip, tag)).then_some(id)
    }

    /// Enters a block into the run loop's cache of recent blocks.
    pub fn remember(&mut self, eip: u32, tag: u32, id: BlockId) {
        self.recent[entry(eip, tag)] = (jump_key(eip, tag), id);
    }

    /// Enters compiled code into the cache that indirect jumps probe.
    #[inline(always)]
    pub fn remember_code(&mut self, eip: u32, tag: u32, code: u64) {
        self.jumps[entry(eip, tag)] = JumpEntry {
            key: jump_key(eip, tag),
            code,
        };
    }

    /// Empties the direct-mapped caches, and closes what a tag opens.
    pub fn forget_recent(&mut self) {
        self.pages.clear();
        self.codes.clear();
        self.recent.fill((u64::MAX, NOWHERE));
        self.jumps.fill(JumpEntry::default());
        self.gates.close_all(&mut self.arena);
    }

    /// The block with this number.
    #[inline(always)]
    pub fn get(&self, id: BlockId) -> Option<&CachedBlock> {
        self.blocks.get(id)
    }

    /// The block with this number, to change.
    #[inline(always)]
    pub fn get_mut(&mut self, id: BlockId) -> Option<&mut CachedBlock> {
        self.blocks.get_mut(id)
    }

    /// All live blocks.
    pub fn iter(&self) -> impl Iterator<Item = (BlockId, &CachedBlock)> {
        self.blocks.iter()
    }

    /// Finds a block by location.
    pub fn find(&self, key: &Key) -> Option<BlockId> {
        self.by_key.get(key).copied()
    }

    /// Adds a block. The caller has protected its frames as code.
    pub fn insert(
        &mut self,
        code: &mut Frames,
        key: Key,
        crosses_to: Option<PhysAddr>,
        block: &Block,
    ) -> BlockId {
        let mut cached = CachedBlock::new(key, self.counters.blocks, crosses_to, block);
        for frame in frames(key.phys, crosses_to) {
            let price = self.overwrites.price(frame, &cached.bytes_in(frame));
            cached.price = cached.price.max(price);
        }
        let id = self.enter(cached);
        self.may_have_twins(id);
        if let Some(cached) = self.blocks.get(id) {
            for frame in frames(key.phys, crosses_to) {
                code.add(frame, id, cached.bytes_in(frame));
            }
        }
        id
    }

    /// Gives a block a number, by which its location leads to it.
    fn enter(&mut self, mut cached: CachedBlock) -> BlockId {
        cached.generation = self.generations.current;
        if self.generations.decode() {
            self.exhaust(Exhausted::Share);
        }
        let key = cached.key;
        let id = self.blocks.add(cached);
        self.by_key.insert(key, id);
        self.counters.blocks += 1;
        id
    }

    /// Has the run loop look before each run of a block just added.
    pub fn make_asking(&mut self, id: BlockId) {
        if let Some(block) = self.get_mut(id) {
            (block.asks, block.unusual) = (true, true);
            block.compiled = Compiled::Never;
        }
    }

    /// Drops the blocks that contain any of the written bytes. Returns whether
    /// the frame still holds code.
    pub fn invalidate(&mut self, code: &mut Frames, start: PhysAddr, len: u32) -> bool {
        let frame = start.0 >> 12;
        let Some(in_frame) = code.get(frame) else {
            return false;
        };
        let first = (start.0 & 0xfff) as usize;
        let doomed = in_frame.hit(&(first..first + len as usize));
        if doomed.is_empty() && in_frame.is_left_over() {
            // Data now, most likely.
            let all = in_frame.all();
            all.into_iter().for_each(|id| self.remove(code, id));
            return false;
        }
        self.counters.invalidated += doomed.len() as u64;
        for id in doomed {
            if let Some(block) = self.get(id) {
                let held = block.bytes_in(frame);
                let hit = held.start.max(first)..held.end.min(first + len as usize);
                self.overwrites.count(frame, &hit, self.slice);
            }
            self.remove(code, id);
        }
        code.get(frame).is_some()
    }

    /// How many bytes from `phys` on a block may hold: up to those that are
    /// overwritten often, or to the end of the page.
    pub fn room_at(&self, phys: u64) -> usize {
        self.overwrites.stable(phys)
    }

    /// A volatile instruction has run unchanged for long: if that pays its price, what
    /// ends with it is decoded anew.
    #[cold]
    pub fn calmed(&mut self, code: &mut Frames, calm: &Calm) {
        let phys = calm.phys;
        let first = (phys & 0xfff) as usize;
        let end = first + calm.len;
        let second = calm
            .second
            .map(|second| (second >> 12, 0..end.saturating_sub(0x1000)));
        let parts = [Some((phys >> 12, first..end.min(0x1000))), second];
        let parts = || parts.iter().flatten();
        if parts().any(|(frame, bytes)| calm.runs < self.overwrites.price(*frame, bytes)) {
            return;
        }
        for (frame, bytes) in parts() {
            self.overwrites.forgive(*frame, bytes);
        }
        let all = code.get(phys >> 12).map(Frame::all).unwrap_or_default();
        for id in all {
            let last = self.get(id).and_then(|block| block.ops.last());
            if last.and_then(|op| volatile::address(op.insn())) == Some(phys) {
                self.remove(code, id);
            }
        }
    }

    /// Drops a block that has paid its price, so that it is decoded as usual code.
    #[cold]
    pub fn forgive(&mut self, code: &mut Frames, id: BlockId) {
        if let Some(block) = self.blocks.get(id) {
            for frame in frames(block.key.phys, block.crosses_to()) {
                self.overwrites.forgive(frame, &block.bytes_in(frame));
            }
            self.remove(code, id);
        }
    }

    /// Drops one block.
    pub fn remove(&mut self, code: &mut Frames, id: BlockId) {
        let Some(mut block) = self.blocks.take(id) else {
            return;
        };
        self.by_key.remove(&block.key);
        // The frames know nothing of twins.
        if block.origin.is_none() {
            for frame in frames(block.key.phys, block.crosses_to()) {
                code.remove(frame, id);
            }
        }
        self.unlink(block.incoming);
        for index in entries(block.key.eip) {
            if self.recent[index].1 == id {
                self.recent[index] = (u64::MAX, NOWHERE);
            }
        }
        if let Compiled::At(code) = block.compiled {
            self.forget_code(&block.key, code);
        }
        self.part(id, &mut block)
            .into_iter()
            .for_each(|twin| self.remove(code, twin));
    }

    /// Drops all blocks that may contain the byte at a linear address, whatever the
    /// frame of its page: addresses agree in their offsets within it.
    pub fn remove_containing(&mut self, code: &mut Frames, linear: u32) {
        let offset = linear as usize & 0xfff;
        // A stand-in holds no bytes.
        let stands = |op: &Op| volatile::address(op.insn()).map(|at| at as usize & 0xfff);
        let holds = |block: &CachedBlock| {
            block.ops.last().and_then(stands) == Some(offset)
                || frames(block.key.phys, block.crosses_to())
                    .any(|frame| block.bytes_in(frame).contains(&offset))
        };
        let doomed = self.iter().filter(|(_, b)| holds(b));
        let doomed: Vec<_> = doomed.map(|(id, _)| id).collect();
        doomed.into_iter().for_each(|id| self.remove(code, id));
    }

    /// Drops everything and returns the frames that held code.
    pub fn clear(&mut self, code: &mut Frames) -> Vec<PhysAddr> {
        let frames = code.clear().into_iter();
        let frames = frames.map(|f| PhysAddr(f << 12)).collect();
        self.blocks = Blocks::default();
        self.by_key.clear();
        self.twins.clear();
        self.links.clear();
        self.gates.clear();
        self.tail = None;
        self.landings.clear();
        self.overwrites.clear();
        self.forget_recent();
        let (_, share) = self.generation();
        self.links.begin(share);
        self.arena.begin_span(share);
        self.exhausted = Exhausted::Nothing;
        self.counters.flushes += 1;
        frames
    }
}

/// Index into the direct-mapped caches.
#[inline(always)]
fn entry(eip: u32, tag: u32) -> usize {
    jump_window(tag) + jump_index(eip)
}

/// All indices that an EIP has, under any tag.
fn entries(eip: u32) -> impl Iterator<Item = usize> {
    (0..JUMP_WINDOWS as u32).map(move |n| entry(eip, n * TAG_STEP))
}

/// Key of the direct-mapped caches.
#[inline(always)]
fn jump_key(eip: u32, tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(eip)
}

/// The frames a block has bytes in.
fn frames(phys: u64, crosses_to: Option<PhysAddr>) -> impl Iterator<Item = u64> {
    std::iter::once(phys >> 12).chain(crosses_to.map(|p| p.0 >> 12))
}
