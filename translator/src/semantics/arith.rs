//! Binary integer arithmetic (SDM vol. 1, "Binary Arithmetic Instructions").

use super::Exec;
use crate::flags::LazyFlags;
use crate::insn::Insn;
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// The definitions of this file.
pub fn lookup<M: Machine>(mnemonic: Mnemonic) -> Option<Exec<M>> {
    Some(match mnemonic {
        Mnemonic::Add => add,
        Mnemonic::Sub => sub,
        Mnemonic::Cmp => cmp,
        _ => return None,
    })
}

/// ADD: destination ← destination + source.
#[inline(always)]
pub fn add<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let b = m.read(i, 1)?;
    let a = m.read_for_write(i, 0)?;
    let sum = m.add(a, b);
    let r = m.zext(sum, w);
    m.write(i, 0, r)?;
    m.define_flags(i, LazyFlags::Add { a, b, r, w });
    Ok(())
}

/// SUB: destination ← destination − source.
#[inline(always)]
pub fn sub<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let b = m.read(i, 1)?;
    let a = m.read_for_write(i, 0)?;
    let difference = m.sub(a, b);
    let r = m.zext(difference, w);
    m.write(i, 0, r)?;
    m.define_flags(i, LazyFlags::Sub { a, b, r, w });
    Ok(())
}

/// CMP: flags of destination − source.
#[inline(always)]
pub fn cmp<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let a = m.read(i, 0)?;
    let b = m.read(i, 1)?;
    let difference = m.sub(a, b);
    let r = m.zext(difference, w);
    m.define_flags(i, LazyFlags::Sub { a, b, r, w });
    Ok(())
}
