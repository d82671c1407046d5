//! What the cache knows of one block: the decoded instructions, how often and in what
//! form it runs, and where it hangs on others.

use super::copies::CopyId;
use super::{BlockId, Key};
use crate::interp::Op;
use crate::mirrored::MirrorUse;
use shadow_mmu::PhysAddr;
use std::ops::Range;
use translator::block::{Block, Terminal};
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

/// A cached block.
pub struct CachedBlock {
    /// Where it is found.
    pub key: Key,
    /// Never used for another block: tells late compilations of a dropped one.
    pub serial: u64,
    /// Second page it reaches into, if it crosses a page boundary.
    pub crosses_to: Option<PhysAddr>,
    /// The decoded block.
    pub ops: Box<[Op]>,
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
    /// Debug events surround its one instruction, or it asks.
    pub special: bool,
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
    pub(super) twins: Vec<BlockId>,
    /// Where its code is kept for its twins.
    pub copy: Option<CopyId>,
    /// Slots that lead here.
    pub(super) incoming: Vec<u32>,
    /// Slots of its own: first and count.
    pub(super) outgoing: (u32, u32),
    /// Number of its first instruction among the callouts, once it was compiled.
    pub first_callout: u32,
}

impl CachedBlock {
    /// The block again, as the compiler takes it.
    pub fn block(&self) -> Block {
        Block {
            eip: self.key.eip,
            mode: Mode(self.key.mode),
            insns: self.ops.iter().map(|op| *op.insn()).collect(),
            len_bytes: self.len_bytes,
            terminal: self.terminal,
        }
    }

    /// Slots of its own: first and count. None if it was never to be compiled.
    pub fn slots(&self) -> Option<Range<u32>> {
        let (first, count) = self.outgoing;
        (count > 0).then(|| first..first + count)
    }

    /// Slots that lead here; some may be of blocks that are gone.
    pub fn slots_here(&self) -> &[u32] {
        &self.incoming
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
        match self.crosses_to {
            // Two linear pages may be one frame.
            Some(second) if second.0 >> 12 == first => 0..0x1000,
            _ if first == frame => start..end.min(0x1000),
            _ => 0..end.saturating_sub(0x1000),
        }
    }
}
