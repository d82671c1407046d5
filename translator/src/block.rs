//! A basic block: the unit of decoding, interpretation and compilation.
//!
//! A block is a run of instructions that ends with the first one that transfers
//! control, at a page boundary, or at the length limit. It ends in exactly one
//! [`Terminal`].

use crate::decode::MAX_INSN_BYTES;
use crate::insn::{Insn, SegReg};
use crate::mode::Mode;

/// A decoded basic block; never empty.
#[derive(Clone, Debug)]
pub struct Block {
    /// EIP of the first instruction.
    pub eip: u32,
    /// Mode it was decoded under.
    pub mode: Mode,
    /// The instructions, at least one.
    pub insns: Vec<Insn>,
    /// Total length of the instructions in bytes.
    pub len_bytes: u32,
    /// How the block ends.
    pub terminal: Terminal,
}

impl Block {
    /// Whether the code may jump to `eip` through a link slot: it is in the page
    /// of the block's start, the whole block is, and it is far enough from the
    /// page's end that no instruction there crosses it. What another page maps to
    /// can change without this page's code being touched.
    pub fn may_link_to(&self, eip: u32) -> bool {
        may_link(self.eip, self.len_bytes, self.mode, eip)
    }
}

/// See [`Block::may_link_to`]: of a block by its EIP, length and mode.
pub fn may_link(from: u32, len_bytes: u32, mode: Mode, eip: u32) -> bool {
    let last = from.wrapping_add(len_bytes.wrapping_sub(1));
    let page = |eip: u32| eip >> 12;
    // Behind a slot nobody looks at CS again.
    mode.zero_base(SegReg::Cs)
        && mode.unlimited(SegReg::Cs)
        && page(from) == page(last)
        && page(from) == page(eip)
        && page(eip) == page(eip.wrapping_add(MAX_INSN_BYTES as u32 - 1))
}

impl Block {
    /// See [`moves`].
    pub fn moves(&self) -> bool {
        moves(self.eip, self.len_bytes, self.mode, self.terminal)
    }
}

/// Whether a block is code of a program, which comes to lie at other EIPs each time it is
/// started: then the same bytes a number of pages further on are the same block, as long
/// as their EIPs do not wrap around, and direct code tells which of its constants depend
/// on EIP. A jump with a 16-bit operand goes to the same place from everywhere; that is
/// where no program lies.
pub fn moves(eip: u32, len_bytes: u32, mode: Mode, terminal: Terminal) -> bool {
    let flat = mode.zero_base(SegReg::Cs) && mode.unlimited(SegReg::Cs);
    let behind = eip.wrapping_add(len_bytes);
    let wraps = |target: u32| {
        let distance = target.wrapping_sub(behind) as i32;
        let reached = i64::from(behind) + i64::from(distance);
        target <= 0xffff || reached != i64::from(target)
    };
    let program = mode.user() && mode.code32() && flat && eip > 0xffff;
    program && behind >= eip && !terminal.target().is_some_and(wraps)
}

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// Falls through to the next block (length limit, page end, or before an
    /// instruction that needs a block of its own).
    Next(u32),
    /// Jumps to a fixed EIP.
    Jump(u32),
    /// One of two fixed EIPs.
    Branch {
        /// EIP if the condition holds.
        taken: u32,
        /// EIP if not.
        fallthrough: u32,
    },
    /// Calls a fixed EIP.
    Call {
        /// EIP of the callee.
        target: u32,
        /// EIP pushed.
        ret: u32,
    },
    /// Goes to a computed EIP: indirect JMP or CALL.
    Indirect,
    /// Near RET.
    Return,
    /// Returns to the run loop: a system instruction decided where to go.
    System,
}

impl Terminal {
    /// The same, `by` bytes further on.
    pub fn moved(self, by: u32) -> Self {
        let moved = |eip: u32| eip.wrapping_add(by);
        match self {
            Self::Next(eip) => Self::Next(moved(eip)),
            Self::Jump(eip) => Self::Jump(moved(eip)),
            Self::Branch { taken, fallthrough } => Self::Branch {
                taken: moved(taken),
                fallthrough: moved(fallthrough),
            },
            Self::Call { target, ret } => Self::Call {
                target: moved(target),
                ret: moved(ret),
            },
            Self::Indirect | Self::Return | Self::System => self,
        }
    }

    /// The EIP that the block goes to, always or under a condition, if that is fixed.
    pub fn target(self) -> Option<u32> {
        match self {
            Self::Next(target)
            | Self::Jump(target)
            | Self::Branch { taken: target, .. }
            | Self::Call { target, .. } => Some(target),
            Self::Indirect | Self::Return | Self::System => None,
        }
    }
}
