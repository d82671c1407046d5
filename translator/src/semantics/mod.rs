//! What every instruction means, once.
//!
//! [`lookup`] maps an instruction to its definition. Instructions without a
//! generic definition (system instructions, x87, SSE, repeated strings) map to
//! nothing here: [`system`] hands them to the runtime's concrete one.
//!
//! The files follow the SDM's grouping (vol. 1, "Instruction Set Summary").
//! Where the SDM leaves a flag undefined, the definition takes the cheapest value
//! that a real CPU produces.

pub mod arith;
pub mod bits;
pub mod branch;
pub mod decimal;
pub mod flagops;
pub mod logic;
pub mod muldiv;
pub mod shift;
pub mod stack;
pub mod string;
pub mod transfer;

use crate::insn::{Gpr, Insn, Operand, Rep, Width};
use crate::machine::Machine;
use iced_x86::ConditionCode;

/// A definition, for one machine.
pub type Exec<M> = fn(&mut M, &Insn) -> Result<(), <M as Machine>::Fault>;

/// The instruction is carried out by the runtime.
pub fn system<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    m.callout(i)
}

/// The generic definition of an instruction, if it has one; otherwise it is
/// carried out by [`system`].
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    if i.rep != Rep::None || i.ops.iter().any(needs_runtime) {
        return None;
    }
    arith::lookup(i)
        .or_else(|| transfer::lookup(i))
        .or_else(|| logic::lookup(i))
        .or_else(|| branch::lookup(i))
        .or_else(|| stack::lookup(i))
        .or_else(|| shift::lookup(i))
        .or_else(|| bits::lookup(i))
        .or_else(|| muldiv::lookup(i))
        .or_else(|| string::lookup(i))
        .or_else(|| flagops::lookup(i))
        .or_else(|| decimal::lookup(i))
}

/// Operands that only the runtime can reach: segment, control and debug
/// registers, far pointers, x87, MMX and SSE registers.
fn needs_runtime(op: &Operand) -> bool {
    matches!(
        op,
        Operand::Far
            | Operand::Seg(_)
            | Operand::Cr(_)
            | Operand::Dr(_)
            | Operand::St(_)
            | Operand::Mm(_)
            | Operand::Xmm(_)
    )
}

/// The sixteen conditions in the order of their encoding, for definitions that
/// take the condition as a constant.
const CONDITIONS: [ConditionCode; 16] = [
    ConditionCode::o,
    ConditionCode::no,
    ConditionCode::b,
    ConditionCode::ae,
    ConditionCode::e,
    ConditionCode::ne,
    ConditionCode::be,
    ConditionCode::a,
    ConditionCode::s,
    ConditionCode::ns,
    ConditionCode::p,
    ConditionCode::np,
    ConditionCode::l,
    ConditionCode::ge,
    ConditionCode::le,
    ConditionCode::g,
];

/// Writes operand 0 and a register that the instruction also changes.
///
/// If operand 0 is memory it comes first, as the register may be part of its
/// address; if it is a register it comes last, as it wins when both are the same.
#[inline(always)]
fn write_with_register<M: Machine>(
    m: &mut M,
    i: &Insn,
    v: M::Val,
    (r, w): (Gpr, Width),
    other: M::Val,
) -> Result<(), M::Fault> {
    if matches!(i.ops[0], Operand::Mem(_)) {
        m.write(i, 0, v)?;
        m.set_gpr(r, w, other);
        return Ok(());
    }
    m.set_gpr(r, w, other);
    m.write(i, 0, v)
}
