//! What every instruction means, once.
//!
//! [`lookup`] maps an instruction to its definition. Instructions without a
//! generic definition (system instructions, x87, SSE, repeated strings) map to
//! nothing here: [`system`] hands them to the runtime's concrete one.

pub mod arith;
pub mod transfer;

use crate::insn::{Insn, Rep};
use crate::machine::Machine;

/// A definition, for one machine.
pub type Exec<M> = fn(&mut M, &Insn) -> Result<(), <M as Machine>::Fault>;

/// The instruction is carried out by the runtime.
pub fn system<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    m.callout(i)
}

/// The generic definition of an instruction, if it has one; otherwise it is
/// carried out by [`system`].
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    if i.rep != Rep::None {
        return None;
    }
    arith::lookup(i.mnemonic).or_else(|| transfer::lookup(i.mnemonic))
}
