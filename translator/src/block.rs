//! A basic block: the unit of decoding, interpretation and compilation.
//!
//! A block is a run of instructions that ends with the first one that transfers
//! control, at a page boundary, or at the length limit. It ends in exactly one
//! [`Terminal`].

use crate::insn::Insn;
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
