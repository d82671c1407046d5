//! The frequent definitions again, each compiled for one operand form.
//!
//! A definition asks the instruction for the kind and width of its operands every
//! time it runs. The emitter runs it once per block, but the interpreter for every
//! instruction it executes. [`lookup`] gives it functions in which the answers are
//! constants: they hand the definition a copy of the instruction whose operands
//! are rebuilt with literal kinds and widths, and the compiler removes the copy
//! and every question. No meaning is added here.

use super::{Exec, arith, logic, muldiv, shift, stack, transfer};
use crate::insn::{Gpr, Insn, Operand, Rep, Width};
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// Kind and width of an operand, as a constant that can be a generic argument.
type Kind = u8;
/// No operand.
const NONE: Kind = 0;
/// An 8-bit register.
const R8: Kind = 1;
/// A 32-bit register.
const R32: Kind = 2;
/// A byte of memory.
const M8: Kind = 3;
/// A doubleword of memory.
const M32: Kind = 4;
/// An 8-bit immediate.
const I8: Kind = 5;
/// A 32-bit immediate.
const I32: Kind = 6;

/// The kind of `op`, if it is one of these.
fn kind(op: Operand) -> Option<Kind> {
    Some(match op {
        Operand::None => NONE,
        Operand::Gpr(_, Width::B) => R8,
        Operand::Gpr(_, Width::D) => R32,
        Operand::Mem(Width::B) => M8,
        Operand::Mem(Width::D) => M32,
        Operand::Imm(Width::B) => I8,
        Operand::Imm(Width::D) => I32,
        _ => return None,
    })
}

/// `op`, which is of kind `kind`, with kind and width made literal.
#[inline(always)]
fn literal(kind: Kind, op: Operand) -> Operand {
    let register = match op {
        Operand::Gpr(r, _) => r,
        _ => Gpr::ZERO,
    };
    match kind {
        R8 => Operand::Gpr(register, Width::B),
        R32 => Operand::Gpr(register, Width::D),
        M8 => Operand::Mem(Width::B),
        M32 => Operand::Mem(Width::D),
        I8 => Operand::Imm(Width::B),
        I32 => Operand::Imm(Width::D),
        _ => Operand::None,
    }
}

/// Runs `definition` on `i`, whose operands are of kinds `A` and `B`.
#[inline(always)]
fn in_form<M: Machine, const A: Kind, const B: Kind>(
    m: &mut M,
    i: &Insn,
    definition: impl FnOnce(&mut M, &Insn) -> Result<(), M::Fault>,
) -> Result<(), M::Fault> {
    let ops = [literal(A, i.ops[0]), literal(B, i.ops[1]), Operand::None];
    definition(m, &Insn { ops, ..*i })
}

/// The function of a definition for the given kinds, if they are among those
/// listed; without a list, those of most two-operand instructions. (A macro,
/// because a function taken as an argument would not be inlined.)
macro_rules! pick {
    ($kinds:expr, $definition:path, [$(($a:ident, $b:ident)),*]) => {
        match $kinds {
            $(($a, $b) => |m, i| in_form::<M, $a, $b>(m, i, |m, i| $definition(m, i)),)*
            _ => return None,
        }
    };
    ($kinds:expr, $definition:path) => {
        pick!($kinds, $definition, [
            (R32, R32), (R32, I32), (R32, M32), (M32, R32), (M32, I32),
            (R8, R8), (R8, I8), (R8, M8), (M8, R8), (M8, I8)
        ])
    };
}

/// A function for exactly this instruction's operand form, where there is one.
/// It does what [`super::lookup`]'s does, without asking.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    if i.rep != Rep::None || i.ops[2] != Operand::None {
        return None;
    }
    let kinds = (kind(i.ops[0])?, kind(i.ops[1])?);
    Some(match i.mnemonic {
        Mnemonic::Mov => pick!(kinds, transfer::mov),
        Mnemonic::Movzx => pick!(kinds, transfer::movzx, [(R32, R8), (R32, M8)]),
        Mnemonic::Movsx => pick!(kinds, transfer::movsx, [(R32, R8), (R32, M8)]),
        Mnemonic::Add => pick!(kinds, arith::add),
        Mnemonic::Adc => pick!(kinds, arith::adc, [(R32, R32), (R32, I32), (R32, M32)]),
        Mnemonic::Sub => pick!(kinds, arith::sub),
        Mnemonic::Sbb => pick!(kinds, arith::sbb, [(R32, R32), (R32, I32), (R32, M32)]),
        Mnemonic::Cmp => pick!(kinds, arith::cmp),
        Mnemonic::Inc => pick!(kinds, arith::inc, [(R32, NONE), (M32, NONE)]),
        Mnemonic::Dec => pick!(kinds, arith::dec, [(R32, NONE), (M32, NONE)]),
        Mnemonic::And => pick!(kinds, logic::and),
        Mnemonic::Or => pick!(kinds, logic::or),
        Mnemonic::Xor => pick!(kinds, logic::xor),
        Mnemonic::Test => pick!(kinds, logic::test),
        Mnemonic::Shl => pick!(kinds, shift::shl, [(R32, I8), (R32, R8)]),
        Mnemonic::Shr => pick!(kinds, shift::shr, [(R32, I8), (R32, R8)]),
        Mnemonic::Sar => pick!(kinds, shift::sar, [(R32, I8), (R32, R8)]),
        Mnemonic::Imul => pick!(kinds, muldiv::imul_truncated, [(R32, R32), (R32, M32)]),
        Mnemonic::Push => pick!(kinds, stack::push, [(R32, NONE), (M32, NONE), (I32, NONE)]),
        Mnemonic::Pop => pick!(kinds, stack::pop, [(R32, NONE)]),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::values::{CODE, Values};
    use crate::decode::decode_block;
    use crate::flags::CF;
    use crate::insn::Insn;
    use crate::mode::Mode;
    use crate::semantics;

    /// What `exec` makes of a fixed machine.
    fn outcome(exec: semantics::Exec<Values>, insn: &Insn) -> impl PartialEq {
        let gpr = [
            0x2004,
            0x2103,
            0x81ff,
            0x2208,
            0x3000,
            0x2300,
            0x7fff_ffff,
            0x8000_0000,
        ];
        let mut m = Values::with_flags(gpr, CF);
        m.memory[0x2000..0x3100].fill(0xa5);
        let result = exec(&mut m, insn);
        (result, m.gpr, m.memory, m.lazy)
    }

    #[test]
    fn every_form_equals_its_definition() {
        let mut compared = 0;
        // All one-byte opcodes with a ModRM byte for [ebx], and for registers.
        for (opcode, modrm) in (0..=0xffu8).flat_map(|o| (0..=0xff).map(move |m| (o, m))) {
            if modrm & 0xc7 != 0x03 && modrm < 0xc0 {
                continue;
            }
            for bytes in [
                [opcode, modrm, 4, 3, 2, 1, 0, 0],
                [0x0f, opcode, modrm, 4, 3, 2, 1, 0],
            ] {
                let Ok(block) = decode_block(&bytes, CODE, Mode::flat32(), 1) else {
                    continue;
                };
                let insn = &block.insns[0];
                let Some(formed) = super::lookup::<Values>(insn) else {
                    continue;
                };
                let plain = semantics::lookup::<Values>(insn).expect("forms are of definitions");
                assert!(
                    outcome(formed, insn) == outcome(plain, insn),
                    "{:?}",
                    insn.code
                );
                compared += 1;
            }
        }
        assert!(compared > 1000, "{compared}");
    }
}
