//! Data transfer (SDM vol. 1, "Data Transfer Instructions").

use super::Exec;
use crate::insn::{Insn, Operand};
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// The definitions of this file.
pub fn lookup<M: Machine>(mnemonic: Mnemonic) -> Option<Exec<M>> {
    Some(match mnemonic {
        Mnemonic::Mov => mov,
        _ => return None,
    })
}

/// MOV between registers, memory and immediates. Moves to and from segment,
/// control and debug registers are system instructions.
#[inline(always)]
pub fn mov<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let plain = |op| matches!(op, Operand::Gpr(..) | Operand::Mem(_) | Operand::Imm(_));
    if !(plain(i.ops[0]) && plain(i.ops[1])) {
        return m.callout(i);
    }
    let v = m.read(i, 1)?;
    m.write(i, 0, v)
}
