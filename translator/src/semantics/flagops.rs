//! Flag control (SDM vol. 1, "Flag Control (EFLAG) Instructions"), the
//! instructions that do nothing, and the helpers for definitions that change
//! some arithmetic flags and keep the others.
//!
//! CLI, STI, PUSHF and POPF are system instructions.

use super::Exec;
use crate::flags::{self, LazyFlags};
use crate::insn::{Gpr, Insn, Width};
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// The definitions of this file.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    use Mnemonic as M;
    Some(match i.mnemonic {
        M::Clc => clc,
        M::Stc => stc,
        M::Cmc => cmc,
        M::Cld => cld,
        M::Std => std,
        M::Lahf => lahf,
        M::Sahf => sahf,
        M::Salc => salc,
        // Hints decode as reserved NOPs; nothing is reordered that a fence could put back.
        M::Nop | M::Pause | M::Reservednop | M::Lfence | M::Mfence | M::Sfence => nop,
        _ => return None,
    })
}

/// NOP in its forms, hints and prefetches: a memory operand is not touched.
#[inline]
pub fn nop<M: Machine>(_: &mut M, _: &Insn) -> Result<(), M::Fault> {
    Ok(())
}

/// CLC: CF ← 0.
#[inline]
pub fn clc<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let zero = m.imm(0);
    set_carry(m, i, zero);
    Ok(())
}

/// STC: CF ← 1.
#[inline]
pub fn stc<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let one = m.imm(1);
    set_carry(m, i, one);
    Ok(())
}

/// CMC: CF ← not CF.
#[inline]
pub fn cmc<M: Machine>(m: &mut M, _: &Insn) -> Result<(), M::Fault> {
    let (result, carries) = m.flags_raw();
    // Bit 30 is CF xor OF: both change.
    let both = m.imm(0xc000_0000);
    let carries = m.xor(carries, both);
    m.set_flags(LazyFlags::Raw { result, carries });
    Ok(())
}

/// CLD: DF ← 0.
#[inline]
pub fn cld<M: Machine>(m: &mut M, _: &Insn) -> Result<(), M::Fault> {
    let others = m.imm(!flags::DF);
    let image = m.eflags_other();
    let image = m.and(image, others);
    m.set_eflags_other(image);
    Ok(())
}

/// STD: DF ← 1.
#[inline]
pub fn std<M: Machine>(m: &mut M, _: &Insn) -> Result<(), M::Fault> {
    let df = m.imm(flags::DF);
    let image = m.eflags_other();
    let image = m.or(image, df);
    m.set_eflags_other(image);
    Ok(())
}

/// LAHF: AH ← SF:ZF:0:AF:0:PF:1:CF.
#[inline]
pub fn lahf<M: Machine>(m: &mut M, _: &Insn) -> Result<(), M::Fault> {
    let fixed = m.imm(flags::FIXED);
    let image = m.arithmetic_flags();
    let image = m.or(image, fixed);
    m.set_gpr(Gpr::AH, Width::B, image);
    Ok(())
}

/// SAHF: SF, ZF, AF, PF and CF from AH; OF stays.
#[inline]
pub fn sahf<M: Machine>(m: &mut M, _: &Insn) -> Result<(), M::Fault> {
    let of = m.imm(flags::OF);
    let image = m.arithmetic_flags();
    let of = m.and(image, of);
    let ah = m.gpr(Gpr::AH, Width::B);
    let image = m.or(of, ah);
    m.set_arithmetic_flags(image);
    Ok(())
}

/// SALC: AL ← CF ? 0xff : 0. (Undocumented, in every i386 since the first.)
#[inline]
pub fn salc<M: Machine>(m: &mut M, _: &Insn) -> Result<(), M::Fault> {
    let zero = m.imm(0);
    let carry = m.carry();
    let v = m.sub(zero, carry);
    m.set_gpr(Gpr::EAX, Width::B, v);
    Ok(())
}

/// Sets CF to 0 or 1 and keeps the other flags.
#[inline(always)]
pub(super) fn set_carry<M: Machine>(m: &mut M, i: &Insn, cf: M::Val) {
    if i.flags_dead {
        return;
    }
    let (result, carries) = m.flags_raw();
    // CF is bit 31, CF xor OF bit 30: to keep OF, both change or none.
    let by31 = m.imm(31);
    let top_bit = m.imm(0x8000_0000);
    let one = m.imm(1);
    let top = m.shl(cf, by31);
    let change = m.xor(carries, top);
    let change = m.and(change, top_bit);
    let change = m.sar(change, one);
    let carries = m.xor(carries, change);
    m.set_flags(LazyFlags::Raw { result, carries });
}

/// Sets ZF and keeps the other flags.
pub(super) fn set_zero<M: Machine>(m: &mut M, i: &Insn, zf: M::Bool) {
    if i.flags_dead {
        return;
    }
    let (old, carries) = m.flags_raw();
    // The new result is 0 or 1; SF and the low byte's parity move to `carries`.
    let nonzero = m.not(zf);
    let result = m.bit(nonzero);
    let (eight, by31, low) = (m.imm(8), m.imm(31), m.imm(0xff));
    let sf = m.sign_flag_word(old, carries);
    let sf = m.shr(sf, by31);
    let delta = m.shr(carries, eight);
    let parity = m.xor(old, delta);
    let delta = m.xor(parity, result);
    let delta = m.and(delta, low);
    let delta = m.shl(delta, eight);
    let kept = m.imm(0xc000_0008);
    let carries = m.and(carries, kept);
    let carries = m.or(carries, delta);
    let carries = m.or(carries, sf);
    m.set_flags(LazyFlags::Raw { result, carries });
}

/// Sets CF and OF from bits 31 and 30 of `top` (CF, and CF xor OF) and keeps
/// the other flags, as rotations do. The lower bits of `top` are ignored.
#[inline(always)]
pub(super) fn set_carry_and_overflow<M: Machine>(m: &mut M, top: M::Val) {
    let (result, carries) = m.flags_raw();
    let others = m.imm(0x3fff_ffff);
    let both = m.imm(0xc000_0000);
    let kept = m.and(carries, others);
    let top = m.and(top, both);
    let carries = m.or(kept, top);
    m.set_flags(LazyFlags::Raw { result, carries });
}

#[cfg(test)]
mod tests {
    use super::super::values::{Values, run2};
    use crate::flags::{AF, ARITHMETIC, CF, DF, OF, PF, SF, ZF};

    #[test]
    fn carry_alone_changes() {
        for others in [0, ARITHMETIC & !CF, OF, ZF | PF, SF] {
            assert_eq!(run2(&[0xf9], 0, 0, others).1, others | CF, "stc");
            assert_eq!(run2(&[0xf8], 0, 0, others | CF).1, others, "clc");
            assert_eq!(run2(&[0xf5], 0, 0, others).1, others | CF, "cmc");
            assert_eq!(run2(&[0xf5], 0, 0, others | CF).1, others, "cmc");
        }
    }

    #[test]
    fn direction() {
        let mut m = Values::new([0; 8]);
        m.run(&[0xfd]).expect("std");
        assert_eq!(m.other & DF, DF);
        m.run(&[0xfc]).expect("cld");
        assert_eq!(m.other & DF, 0);
    }

    #[test]
    fn flags_through_ah() {
        assert_eq!(run2(&[0x9f], 0, 0, SF | AF | CF | OF).0, 0x9300, "lahf");
        assert_eq!(run2(&[0x9e], 0xff00, 0, OF).1, ARITHMETIC, "sahf keeps OF");
        assert_eq!(run2(&[0x9e], 0x4000, 0, CF).1, ZF, "sahf");
        assert_eq!(run2(&[0xd6], 0x100, 0, CF).0, 0x1ff, "salc");
    }

    #[test]
    fn nothing_is_touched() {
        let mut m = Values::new([0xffff_0000; 8]);
        m.run(&[0x0f, 0x1f, 0x00]).expect("nop [eax]");
        m.run(&[0x0f, 0x18, 0x00]).expect("prefetchnta [eax]");
        m.run(&[0xf3, 0x0f, 0x1e, 0xfb]).expect("endbr32");
    }
}
