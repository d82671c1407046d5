//! What the cache knows of one block: the decoded instructions, how often and in what
//! form it runs, and where it hangs on others. There are a hundred thousand of these, so
//! what few blocks have takes little room in the others.

use super::copies::CopyId;
use super::links::Chain;
use super::{BlockId, Key};
use crate::interp::Op;
use crate::mirrored::MirrorUse;
use shadow_mmu::PhysAddr;
use std::ops::Range;
use translator::block::{Block, Terminal, may_link};
use translator::insn::Insn;
use translator::mode::Mode;

/// How far the compiled form of a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiled {
    /// Not asked for.
    No,
    /// Waiting for the worker.
    Queued,
    /// The compiler cannot do it: stays interpreted.
    Never,
    /// Host address of the code.
    At(u64),
}

/// How often a block has been interpreted, and how often it must be.
#[derive(Clone, Copy, Debug)]
pub struct Warmth {
    /// [`CachedBlock::heat`].
    pub heat: u32,
    /// [`CachedBlock::price`].
    pub price: u32,
}

/// Stands for no second frame.
const NO_FRAME: u32 = u32::MAX;

/// A cached block.
pub struct CachedBlock {
    /// Where it is found.
    pub key: Key,
    /// Never used for another block: tells late compilations of a dropped one.
    pub serial: u64,
    /// When its code was made, or, if it has none, it was decoded.
    pub(super) generation: u32,
    /// Number of the second frame it reaches into, or [`NO_FRAME`].
    second: u32,
    /// What the interpreter runs; empty while [forgotten](CachedBlock::forget_ops).
    pub(crate) ops: Box<[Op]>,
    /// How many instructions it has.
    pub insns: u32,
    /// How it ends.
    pub terminal: Terminal,
    /// Length in guest bytes.
    pub len_bytes: u32,
    /// Times it was entered by the interpreter.
    pub heat: u32,
    /// Runs it must show before it is treated as usual code, if its bytes have
    /// been overwritten too often; else 0.
    pub price: u32,
    /// The run loop looks before it runs: a debugger has a breakpoint here,
    /// or its entries are logged.
    pub asks: bool,
    /// The interpreter looks before it runs it: debug events surround its one
    /// instruction, it asks, or its instructions are forgotten.
    pub unusual: bool,
    /// Times its compiled code left in the middle.
    pub side_exits: u32,
    /// Times of these that it could not have the vector state.
    pub vector_exits: u32,
    /// Its heat is not its own: it was known from an earlier run, or at another address.
    pub kept: bool,
    /// Slices of the budget that ended before it.
    pub samples: u32,
    /// Whether its code uses the mirror.
    pub mirror: MirrorUse,
    /// Its compiled form.
    pub compiled: Compiled,
    /// The block that it is the twin of.
    pub(super) origin: Option<BlockId>,
    /// Its twins.
    pub(super) twins: Family,
    /// Where its code is kept for its twins.
    pub copy: Option<CopyId>,
    /// The first of the slots that lead here, in a list that [`super::links`] keeps.
    pub(super) incoming: Chain,
    /// Slots of its own: first and count.
    pub(super) outgoing: (u32, u32),
    /// Number of its first instruction among the callouts, once it was compiled.
    pub first_callout: u32,
}

/// Twins of a block: most have none.
#[derive(Default)]
pub(super) struct Family(Option<Box<Several>>);

#[derive(Default)]
struct Several(Vec<BlockId>);

impl Family {
    pub fn add(&mut self, twin: BlockId) {
        self.0.get_or_insert_default().0.push(twin);
    }

    pub fn remove(&mut self, twin: BlockId) {
        if let Some(twins) = &mut self.0 {
            twins.0.retain(|&other| other != twin);
        }
    }

    pub fn take(&mut self) -> Vec<BlockId> {
        self.0.take().map_or_else(Vec::new, |twins| twins.0)
    }
}

impl CachedBlock {
    /// A block just decoded.
    pub(super) fn new(key: Key, serial: u64, crosses_to: Option<PhysAddr>, block: &Block) -> Self {
        Self {
            key,
            serial,
            generation: 0,
            second: crosses_to.map_or(NO_FRAME, |second| (second.0 >> 12) as u32),
            ops: crate::interp::ops(&block.insns),
            insns: block.insns.len() as u32,
            terminal: block.terminal,
            len_bytes: block.len_bytes,
            heat: 0,
            price: 0,
            asks: false,
            unusual: block.mode.single(),
            side_exits: 0,
            vector_exits: 0,
            kept: false,
            samples: 0,
            mirror: MirrorUse::default(),
            compiled: match block.mode.interpreted() {
                true => Compiled::Never,
                false => Compiled::No,
            },
            origin: None,
            twins: Family::default(),
            copy: None,
            incoming: Chain::default(),
            outgoing: (0, 0),
            first_callout: 0,
        }
    }

    /// It is about to be interpreted once more.
    #[inline(always)]
    pub(crate) fn warm(&mut self) -> Warmth {
        self.heat = self.heat.saturating_add(1);
        Warmth {
            heat: self.heat,
            price: self.price,
        }
    }

    /// The same block `by` bytes further on, at `key`, of which nothing is known yet.
    pub(super) fn twin(&self, key: Key, serial: u64, origin: BlockId) -> Self {
        let by = key.eip.wrapping_sub(self.key.eip);
        Self {
            key,
            serial,
            ops: self.ops.iter().map(|op| op.moved(by)).collect(),
            terminal: self.terminal.moved(by),
            compiled: match self.compiled {
                Compiled::Never => Compiled::Never,
                _ => Compiled::No,
            },
            kept: true,
            samples: 0,
            origin: Some(origin),
            twins: Family::default(),
            copy: None,
            incoming: Chain::default(),
            outgoing: (0, 0),
            ..*self
        }
    }

    /// Second page it reaches into, if it crosses a page boundary.
    pub fn crosses_to(&self) -> Option<PhysAddr> {
        (self.second != NO_FRAME).then(|| PhysAddr(u64::from(self.second) << 12))
    }

    /// Forgets its instructions, unless they are more than its bytes say:
    /// [`crate::again`] decodes them when they are wanted.
    pub fn forget_ops(&mut self) {
        if !self.is_peculiar() {
            self.ops = Box::default();
            self.unusual = true;
        }
    }

    /// Gives it the instructions back that it has forgotten.
    pub(crate) fn recall_ops(&mut self, insns: &[Insn]) {
        self.ops = crate::interp::ops(insns);
        self.unusual = false;
    }

    /// The block as the compiler takes it, if its instructions are not forgotten.
    pub(crate) fn block(&self) -> Option<Block> {
        let insns: Vec<_> = self.ops.iter().map(|op| *op.insn()).collect();
        (!insns.is_empty()).then(|| self.block_of(insns))
    }

    /// The block, of its instructions.
    pub(crate) fn block_of(&self, insns: Vec<Insn>) -> Block {
        Block {
            eip: self.key.eip,
            mode: Mode(self.key.mode),
            insns,
            len_bytes: self.len_bytes,
            terminal: self.terminal,
        }
    }

    /// Slots of its own: first and count. None if it was never to be compiled.
    pub fn slots(&self) -> Option<Range<u32>> {
        let (first, count) = self.outgoing;
        (count > 0).then(|| first..first + count)
    }

    /// See [`Block::may_link_to`].
    pub fn may_link_to(&self, eip: u32) -> bool {
        let Key {
            eip: from, mode, ..
        } = self.key;
        may_link(from, self.len_bytes, Mode(mode), eip)
    }

    /// Whether `eip` is that of one of its bytes.
    pub fn reaches(&self, eip: u32) -> bool {
        eip.wrapping_sub(self.key.eip) < self.len_bytes
    }

    /// Whether debug events surround its one instruction.
    pub fn is_single(&self) -> bool {
        Mode(self.key.mode).single()
    }

    /// The bytes of page frame number `frame` that belong to it.
    pub(super) fn bytes_in(&self, frame: u64) -> Range<usize> {
        let start = (self.key.phys & 0xfff) as usize;
        let end = start + self.len_bytes as usize;
        let first = self.key.phys >> 12;
        match self.crosses_to() {
            // Two linear pages may be one frame.
            Some(second) if second.0 >> 12 == first => 0..0x1000,
            _ if first == frame => start..end.min(0x1000),
            _ => 0..end.saturating_sub(0x1000),
        }
    }
}
