//! Bitwise logic (SDM vol. 1, "Logical Instructions"), and TEST.

use super::Exec;
use crate::flags::LazyFlags;
use crate::insn::Insn;
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// The definitions of this file.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    Some(match i.mnemonic {
        Mnemonic::And => and,
        Mnemonic::Or => or,
        Mnemonic::Xor => xor,
        Mnemonic::Not => not,
        Mnemonic::Test => test,
        _ => return None,
    })
}

/// AND: destination ← destination and source.
#[inline(always)]
pub fn and<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let b = m.read(i, 1)?;
    let a = m.read_for_write(i, 0)?;
    let r = m.and(a, b);
    m.write(i, 0, r)?;
    m.define_flags(i, LazyFlags::Logic { r, w });
    Ok(())
}

/// OR: destination ← destination or source.
#[inline(always)]
pub fn or<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let b = m.read(i, 1)?;
    let a = m.read_for_write(i, 0)?;
    let r = m.or(a, b);
    m.write(i, 0, r)?;
    m.define_flags(i, LazyFlags::Logic { r, w });
    Ok(())
}

/// XOR: destination ← destination xor source.
#[inline(always)]
pub fn xor<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    // XOR of a register with itself is the idiom for zero.
    if i.ops[0] == i.ops[1] {
        let r = m.imm(0);
        m.write(i, 0, r)?;
        m.define_flags(i, LazyFlags::Logic { r, w });
        return Ok(());
    }
    let b = m.read(i, 1)?;
    let a = m.read_for_write(i, 0)?;
    let r = m.xor(a, b);
    m.write(i, 0, r)?;
    m.define_flags(i, LazyFlags::Logic { r, w });
    Ok(())
}

/// NOT: destination ← its complement. No flags.
#[inline]
pub fn not<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let ones = m.imm(i.op_width(0).mask());
    let a = m.read_for_write(i, 0)?;
    let r = m.xor(a, ones);
    m.write(i, 0, r)
}

/// TEST: flags of first and second.
#[inline(always)]
pub fn test<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let a = m.read(i, 0)?;
    let b = m.read(i, 1)?;
    let r = m.and(a, b);
    m.define_flags(i, LazyFlags::Logic { r, w });
    Ok(())
}
