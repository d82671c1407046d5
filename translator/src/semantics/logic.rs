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

#[cfg(test)]
mod tests {
    use super::super::values::{Values, run2};
    use crate::flags::{ARITHMETIC, PF, SF, ZF};

    #[test]
    fn results_and_flags() {
        assert_eq!(
            run2(&[0x21, 0xc8], 0xf0, 0x90, ARITHMETIC),
            (0x90, PF),
            "and"
        );
        assert_eq!(
            run2(&[0x08, 0xc8], 0x180, 1, 0),
            (0x181, SF | PF),
            "or al, cl"
        );
        assert_eq!(run2(&[0x31, 0xc8], 5, 5, 0), (0, ZF | PF), "xor eax, ecx");
        assert_eq!(
            run2(&[0x66, 0x31, 0xc0], 0x1_0005, 0, 0),
            (0x1_0000, ZF | PF),
            "xor ax, ax"
        );
        assert_eq!(run2(&[0x85, 0xc8], 8, 0x18, 0), (8, 0), "test");
        assert_eq!(
            run2(&[0xf6, 0xd0], 0x10f, 0, ARITHMETIC),
            (0x1f0, ARITHMETIC),
            "not al"
        );
    }

    #[test]
    fn test_needs_no_write_permission() {
        let mut m = Values::new([0x2000, 0, 0, 0, 0, 0, 0, 0]);
        m.read_only_below = 0x3000;
        m.run(&[0x85, 0x00]).expect("test [eax], eax");
        m.run(&[0x09, 0x00]).expect_err("or [eax], eax");
    }
}
