//! What every instruction means, once.
//!
//! [`lookup`] maps an instruction to its definition. Instructions without a
//! generic definition (system instructions, x87, SSE, repeated strings) map to
//! nothing here: [`system`] hands them to the runtime's concrete one.
//!
//! The files follow the SDM's grouping (vol. 1, "Instruction Set Summary").
//! Where the SDM leaves a flag undefined, the definition takes the cheapest value
//! that a real CPU produces. [`forms`] has the frequent definitions once more, each
//! compiled for one operand form, for machines that run them instruction by
//! instruction.

pub mod arith;
pub mod bits;
pub mod branch;
pub mod crc;
pub mod decimal;
pub mod flagops;
pub mod forms;
pub mod logic;
pub mod muldiv;
pub mod shift;
pub mod stack;
pub mod string;
pub mod transfer;

#[cfg(test)]
mod values;

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
        .or_else(|| crc::lookup(i))
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

#[cfg(test)]
mod tests {
    use super::values::Values;
    use super::*;
    use crate::decode::decode_block;
    use crate::mode::Mode;

    fn is_generic(bytes: &[u8]) -> bool {
        let block = decode_block(bytes, 0, Mode::flat32(), 1).expect("a whole instruction");
        lookup::<Values>(&block.insns[0]).is_some()
    }

    #[test]
    fn what_only_the_runtime_can_do_has_no_generic_definition() {
        let left: [(&str, &[u8]); 12] = [
            ("mov ds, ax", &[0x8e, 0xd8]),
            ("mov eax, cr0", &[0x0f, 0x20, 0xc0]),
            ("mov eax, dr7", &[0x0f, 0x21, 0xf8]),
            ("push es", &[0x06]),
            ("pop es", &[0x07]),
            ("pushf", &[0x9c]),
            ("rep movsb", &[0xf3, 0xa4]),
            ("repne scasb", &[0xf2, 0xae]),
            ("jmp far [eax]", &[0xff, 0x28]),
            ("jmp far word [eax]", &[0x66, 0xff, 0x28]),
            ("movsd xmm0, [eax]", &[0xf2, 0x0f, 0x10, 0x00]),
            ("cli", &[0xfa]),
        ];
        for (name, bytes) in left {
            assert!(!is_generic(bytes), "{name}");
        }
        assert!(is_generic(&[0xa5]), "movsd");
        assert!(is_generic(&[0xff, 0x20]), "jmp [eax]");
    }
}
