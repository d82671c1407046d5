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
        let last = self.eip.wrapping_add(self.len_bytes.wrapping_sub(1));
        let page = |eip: u32| eip >> 12;
        // Behind a slot nobody looks at CS again.
        self.mode.zero_base(SegReg::Cs)
            && self.mode.unlimited(SegReg::Cs)
            && page(self.eip) == page(last)
            && page(self.eip) == page(eip)
            && page(eip) == page(eip.wrapping_add(MAX_INSN_BYTES as u32 - 1))
    }
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
