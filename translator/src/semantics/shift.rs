//! Shifts and rotations (SDM vol. 1, "Shift and Rotate Instructions").
//!
//! The count is taken modulo 32, and a count of 0 leaves all flags as they are;
//! a constant count settles that without a `select`. Each operation is a closure
//! from the old value and a count to `(result, flag word)`, where the result is
//! right for 0 to 31 and the flag word for 1 to 31. Two wrappers do the rest:
//! [`shift`] for operations that define all flags, [`rotate`] for those that
//! define CF and OF only.
//!
//! The flag word is the lazy form's: CF in bit 31, CF xor OF in bit 30, the other
//! bits ignored. OF is architecturally defined for a count of 1 only; for others
//! the same formula gives what processors do: for left shifts CF xor the sign of
//! the result, for right ones the xor of the result's top two bits.

use super::{Exec, flagops};
use crate::flags::LazyFlags;
use crate::insn::{Insn, Operand, Width};
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// The definitions of this file.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    Some(match i.mnemonic {
        Mnemonic::Shl | Mnemonic::Sal => shl,
        Mnemonic::Shr => shr,
        Mnemonic::Sar => sar,
        Mnemonic::Rol => rol,
        Mnemonic::Ror => ror,
        Mnemonic::Rcl => rcl,
        Mnemonic::Rcr => rcr,
        Mnemonic::Shld => shld,
        Mnemonic::Shrd => shrd,
        _ => return None,
    })
}

/// A shift count modulo 32.
#[derive(Clone, Copy)]
enum Count<V> {
    /// From an immediate.
    Constant(u32),
    /// From CL.
    Dynamic(V),
}

/// Reads operand `n` as a count.
#[inline(always)]
fn count<M: Machine>(m: &mut M, i: &Insn, n: usize) -> Result<Count<M::Val>, M::Fault> {
    if matches!(i.ops[n], Operand::Imm(_)) {
        return Ok(Count::Constant(i.imm & 31));
    }
    let cl = m.read(i, n)?;
    let mask = m.imm(31);
    Ok(Count::Dynamic(m.and(cl, mask)))
}

/// Moves the top bit of a value of width `w` to bit 31.
#[inline(always)]
fn to_top<M: Machine>(m: &mut M, v: M::Val, w: Width) -> M::Val {
    if w == Width::D {
        return v;
    }
    let up = m.imm(32 - w.bits());
    m.shl(v, up)
}

/// Writes the result of a shift by operand `n` and defines all flags.
#[inline(always)]
fn shift<M: Machine>(
    m: &mut M,
    i: &Insn,
    n: usize,
    operation: impl FnOnce(&mut M, M::Val, M::Val) -> (M::Val, M::Val),
) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let count = count(m, i, n)?;
    let old = m.read_for_write(i, 0)?;
    let (r, word) = match count {
        Count::Constant(0) => return m.write(i, 0, old),
        Count::Constant(c) => {
            let c = m.imm(c);
            operation(m, old, c)
        }
        Count::Dynamic(c) => operation(m, old, c),
    };
    m.write(i, 0, r)?;
    if i.flags_dead {
        return Ok(());
    }
    let both = m.imm(0xc000_0000);
    let mut carries = m.and(word, both);
    let mut result = m.sext(r, w);
    if let Count::Dynamic(c) = count {
        let (old_result, old_carries) = m.flags_raw();
        let zero = m.imm(0);
        let nothing = m.eq(c, zero);
        carries = m.select(nothing, old_carries, carries);
        result = m.select(nothing, old_result, result);
    }
    m.set_flags(LazyFlags::Raw { result, carries });
    Ok(())
}

/// Writes the result of a rotation and defines CF and OF.
#[inline(always)]
fn rotate<M: Machine>(
    m: &mut M,
    i: &Insn,
    operation: impl FnOnce(&mut M, M::Val, M::Val) -> (M::Val, M::Val),
) -> Result<(), M::Fault> {
    let count = count(m, i, 1)?;
    let old = m.read_for_write(i, 0)?;
    let (r, mut word) = match count {
        Count::Constant(0) => return m.write(i, 0, old),
        Count::Constant(c) => {
            let c = m.imm(c);
            operation(m, old, c)
        }
        Count::Dynamic(c) => operation(m, old, c),
    };
    m.write(i, 0, r)?;
    if i.flags_dead {
        return Ok(());
    }
    if let Count::Dynamic(c) = count {
        let (_, carries) = m.flags_raw();
        let zero = m.imm(0);
        let nothing = m.eq(c, zero);
        word = m.select(nothing, carries, word);
    }
    flagops::set_carry_and_overflow(m, word);
    Ok(())
}

/// SHL: zeros enter from the right.
#[inline(always)]
pub fn shl<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    shift(m, i, 1, |m, a, c| {
        let one = m.imm(1);
        let r = m.shl(a, c);
        let r = m.zext(r, w);
        // One step before the end the carry is the top bit.
        let before = m.sub(c, one);
        let last = m.shl(a, before);
        (r, to_top(m, last, w))
    })
}

/// SHR: zeros enter from the left.
#[inline(always)]
pub fn shr<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    shift(m, i, 1, |m, a, c| {
        let one = m.imm(1);
        let r = m.shr(a, c);
        let before = m.sub(c, one);
        let last = m.shr(a, before);
        (r, right_flag_word(m, r, last, w))
    })
}

/// SAR: copies of the sign enter from the left, so OF is always clear.
#[inline(always)]
pub fn sar<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    shift(m, i, 1, |m, a, c| {
        let one = m.imm(1);
        let a = m.sext(a, w);
        let r = m.sar(a, c);
        let r = m.zext(r, w);
        let before = m.sub(c, one);
        let last = m.sar(a, before);
        (r, carry_word(m, last))
    })
}

/// Bit 0 of `cf` to bits 31 and 30: CF with OF clear.
#[inline(always)]
fn carry_word<M: Machine>(m: &mut M, cf: M::Val) -> M::Val {
    let (by31, one) = (m.imm(31), m.imm(1));
    let top = m.shl(cf, by31);
    m.sar(top, one)
}

/// The flag word of a shift to the right: CF is bit 0 of `cf`, OF the xor of the
/// top two bits of `r`.
#[inline(always)]
fn right_flag_word<M: Machine>(m: &mut M, r: M::Val, cf: M::Val, w: Width) -> M::Val {
    let (one, bit30) = (m.imm(1), m.imm(0x4000_0000));
    let cf = carry_word(m, cf);
    let aligned = to_top(m, r, w);
    let half = m.shr(aligned, one);
    let of = m.xor(aligned, half);
    let of = m.and(of, bit30);
    m.xor(cf, of)
}

/// Fills 32 bits with copies of `a`, so that rotating them rotates `a`.
#[inline(always)]
fn repeat<M: Machine>(m: &mut M, a: M::Val, w: Width) -> M::Val {
    let copies = match w {
        Width::B => 0x0101_0101,
        Width::W => 0x0001_0001,
        Width::D => return a,
    };
    let copies = m.imm(copies);
    m.mul(a, copies)
}

/// ROL.
#[inline]
pub fn rol<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    rotate(m, i, |m, a, c| {
        let (one, by31, bit30) = (m.imm(1), m.imm(31), m.imm(0x4000_0000));
        let a = repeat(m, a, w);
        let r = m.rotl(a, c);
        // CF is the lowest bit, CF xor OF the top one.
        let cf = m.shl(r, by31);
        let top = m.shr(r, one);
        let top = m.and(top, bit30);
        (m.zext(r, w), m.or(cf, top))
    })
}

/// ROR.
#[inline]
pub fn ror<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    rotate(m, i, |m, a, c| {
        let zero = m.imm(0);
        let a = repeat(m, a, w);
        let left = m.sub(zero, c);
        let r = m.rotl(a, left);
        // CF is the top bit, OF its xor with the one below.
        (m.zext(r, w), r)
    })
}

/// `c` modulo the width with CF: 9 or 17.
#[inline(always)]
fn modulo_with_carry<M: Machine>(m: &mut M, c: M::Val, w: Width) -> M::Val {
    let modulus = m.imm(w.bits() + 1);
    if w == Width::W {
        let once = m.sub(c, modulus);
        let small = m.ult(c, modulus);
        return m.select(small, c, once);
    }
    // c × 57 / 512 is c / 9 for c below 32.
    let (reciprocal, nine_bits) = (m.imm(57), m.imm(9));
    let times = m.mul(c, reciprocal);
    let times = m.shr(times, nine_bits);
    let whole = m.mul(times, modulus);
    m.sub(c, whole)
}

/// CF:`a` of 9 or 17 bits, rotated left by up to as many; CF is the top bit.
#[inline(always)]
fn rotate_with_carry<M: Machine>(m: &mut M, a: M::Val, left: M::Val, w: Width) -> M::Val {
    let (bits, all) = (m.imm(w.bits()), m.imm(w.bits() + 1));
    let carry = m.carry();
    let carry = m.shl(carry, bits);
    let value = m.or(carry, a);
    let right = m.sub(all, left);
    let high = m.shl(value, left);
    let low = m.shr(value, right);
    m.or(high, low)
}

/// RCL: a rotation of CF:destination.
#[inline]
pub fn rcl<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    rotate(m, i, |m, a, c| {
        if w != Width::D {
            let left = modulo_with_carry(m, c, w);
            let rotated = rotate_with_carry(m, a, left, w);
            let up = m.imm(31 - w.bits());
            return (m.zext(rotated, w), m.shl(rotated, up));
        }
        let (one, two, by31) = (m.imm(1), m.imm(2), m.imm(31));
        let carry = m.carry();
        // a << c | carry << (c - 1) | a >> (33 - c), in steps that make a count
        // of 0 or 1 shift everything out.
        let high = m.shl(a, c);
        let middle = m.shl(carry, c);
        let middle = m.shr(middle, one);
        let rest = m.sub(by31, c);
        let low = m.shr(a, two);
        let low = m.shr(low, rest);
        let r = m.or(high, middle);
        let r = m.or(r, low);
        let before = m.sub(c, one);
        (r, m.shl(a, before))
    })
}

/// RCR: a rotation of destination:CF.
#[inline]
pub fn rcr<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    rotate(m, i, |m, a, c| {
        if w != Width::D {
            let (bits, all) = (m.imm(w.bits()), m.imm(w.bits() + 1));
            let right = modulo_with_carry(m, c, w);
            let left = m.sub(all, right);
            let rotated = rotate_with_carry(m, a, left, w);
            let r = m.zext(rotated, w);
            let cf = m.shr(rotated, bits);
            return (r, right_flag_word(m, r, cf, w));
        }
        let (one, two, by31) = (m.imm(1), m.imm(2), m.imm(31));
        let carry = m.carry();
        // a >> c | carry << (32 - c) | a << (33 - c), in steps as in RCL.
        let low = m.shr(a, c);
        let rest = m.sub(by31, c);
        let middle = m.shl(carry, rest);
        let middle = m.shl(middle, one);
        let high = m.shl(a, two);
        let high = m.shl(high, rest);
        let r = m.or(low, middle);
        let r = m.or(r, high);
        let before = m.sub(c, one);
        let cf = m.shr(a, before);
        (r, right_flag_word(m, r, cf, w))
    })
}

/// SHLD: bits of the source enter from the right. With 16 bits and a count above
/// that, the destination's own follow them.
#[inline]
pub fn shld<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let source = m.read(i, 1)?;
    shift(m, i, 2, |m, a, c| {
        let (one, by16, by31) = (m.imm(1), m.imm(16), m.imm(31));
        let (mut upper, mut lower) = (a, source);
        if w == Width::W {
            lower = m.shl(a, by16);
            upper = m.or(lower, source);
        }
        let high = m.shl(upper, c);
        let rest = m.sub(by31, c);
        let low = m.shr(lower, one);
        let low = m.shr(low, rest);
        let mut r = m.or(high, low);
        if w == Width::W {
            r = m.shr(r, by16);
        }
        let before = m.sub(c, one);
        (r, m.shl(upper, before))
    })
}

/// SHRD: bits of the source enter from the left. With 16 bits and a count above
/// that, the destination's own follow them.
#[inline]
pub fn shrd<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let source = m.read(i, 1)?;
    shift(m, i, 2, |m, a, c| {
        let (one, by16, by31) = (m.imm(1), m.imm(16), m.imm(31));
        let (mut lower, mut upper) = (a, source);
        if w == Width::W {
            upper = a;
            let above = m.shl(source, by16);
            lower = m.or(a, above);
        }
        let low = m.shr(lower, c);
        let rest = m.sub(by31, c);
        let high = m.shl(upper, one);
        let high = m.shl(high, rest);
        let r = m.or(low, high);
        let r = m.zext(r, w);
        let before = m.sub(c, one);
        let cf = m.shr(lower, before);
        (r, right_flag_word(m, r, cf, w))
    })
}

#[cfg(test)]
mod tests {
    use super::super::values::run2;
    use crate::flags::{ARITHMETIC, CF, OF, PF, SF, ZF};

    /// CF and OF of the result.
    fn carry_and_overflow(bytes: &[u8], eax: u32, ecx: u32, image: u32) -> (u32, u32) {
        let (eax, flags) = run2(bytes, eax, ecx, image);
        (eax, flags & (CF | OF))
    }

    #[test]
    fn shifts() {
        assert_eq!(
            run2(&[0xd1, 0xe0], 0xc000_0001, 0, 0),
            (0x8000_0002, CF | SF),
            "shl"
        );
        assert_eq!(
            run2(&[0xd1, 0xe0], 0x8000_0000, 0, 0),
            (0, CF | OF | ZF | PF),
            "shl"
        );
        assert_eq!(
            run2(&[0xd1, 0xe8], 0x8000_0001, 0, 0),
            (0x4000_0000, CF | OF | PF),
            "shr"
        );
        assert_eq!(
            run2(&[0xd1, 0xf8], 0x8000_0001, 0, 0),
            (0xc000_0000, CF | SF | PF),
            "sar"
        );
        assert_eq!(
            run2(&[0xc0, 0xe0, 4], 0x11f, 0, 0),
            (0x1f0, CF | SF | PF),
            "shl al, 4"
        );
        assert_eq!(
            run2(&[0x66, 0xd3, 0xf8], 0x8000, 31, 0),
            (0xffff, CF | SF | PF),
            "sar ax, cl"
        );
        assert_eq!(
            run2(&[0xc0, 0xe8, 9], 0xff, 0, CF),
            (0, ZF | PF),
            "shr al, 9"
        );
        assert_eq!(run2(&[0xc0, 0xe0, 8], 0x01, 0, 0).1 & CF, CF, "shl al, 8");
    }

    #[test]
    fn a_count_of_zero_keeps_the_flags() {
        let forms: [&[u8]; 9] = [
            &[0xd3, 0xe0],       // shl
            &[0xd3, 0xe8],       // shr
            &[0xd3, 0xf8],       // sar
            &[0xd3, 0xc0],       // rol
            &[0xd3, 0xc8],       // ror
            &[0xd3, 0xd0],       // rcl
            &[0xd3, 0xd8],       // rcr
            &[0x0f, 0xa5, 0xc8], // shld
            &[0x0f, 0xad, 0xc8], // shrd
        ];
        for bytes in forms {
            for image in [0, ARITHMETIC, CF, OF | ZF] {
                assert_eq!(run2(bytes, 0x89ab_cdef, 0x20, image), (0x89ab_cdef, image));
            }
        }
        assert_eq!(
            run2(&[0xc1, 0xe0, 0x20], 5, 0, ARITHMETIC),
            (5, ARITHMETIC),
            "shl eax, 32"
        );
    }

    #[test]
    fn rotations() {
        assert_eq!(
            carry_and_overflow(&[0xd1, 0xc0], 0x8000_0000, 0, 0),
            (1, CF | OF),
            "rol"
        );
        assert_eq!(
            carry_and_overflow(&[0xd1, 0xc8], 1, 0, 0),
            (0x8000_0000, CF | OF),
            "ror"
        );
        assert_eq!(run2(&[0xc0, 0xc0, 4], 0x12, 0, 0).0, 0x21, "rol al, 4");
        assert_eq!(
            run2(&[0x66, 0xc1, 0xc8, 4], 0x1_1234, 0, 0).0,
            0x1_4123,
            "ror ax, 4"
        );
        // The rotation is by 0, but the count is not: CF is the lowest bit.
        assert_eq!(run2(&[0xc0, 0xc0, 8], 0x01, 0, 0).1 & CF, CF, "rol al, 8");
        assert_eq!(
            run2(&[0xd1, 0xc0], 0, 0, ZF | SF).1,
            ZF | SF,
            "rol keeps ZF and SF"
        );
    }

    #[test]
    fn rotations_through_carry() {
        assert_eq!(
            carry_and_overflow(&[0xd1, 0xd0], 0x8000_0000, 0, CF),
            (1, CF | OF),
            "rcl"
        );
        assert_eq!(
            carry_and_overflow(&[0xd1, 0xd8], 1, 0, CF),
            (0x8000_0000, CF | OF),
            "rcr"
        );
        assert_eq!(
            run2(&[0xc1, 0xd0, 31], 0b111, 0, 0).0,
            0x8000_0001,
            "rcl eax, 31"
        );
        assert_eq!(
            run2(&[0xc1, 0xd8, 31], 0xc000_0001, 0, 0).0,
            0b101,
            "rcr eax, 31"
        );
        for c in [1, 5, 9, 10, 18, 27, 31] {
            let (al, flags) = run2(&[0xd2, 0xd0], 0xa5, c, CF);
            let (back, flags) = run2(&[0xd2, 0xd8], al, c, flags);
            assert_eq!((back, flags & CF), (0xa5, CF), "rcl and rcr al, {c}");
            let (ax, flags) = run2(&[0x66, 0xd3, 0xd0], 0xa5c3, c, CF);
            let (back, flags) = run2(&[0x66, 0xd3, 0xd8], ax, c, flags);
            assert_eq!((back, flags & CF), (0xa5c3, CF), "rcl and rcr ax, {c}");
        }
        assert_eq!(
            run2(&[0xc0, 0xd0, 10], 0x80, 0, 0),
            (0, CF | OF),
            "rcl al, 10 is rcl al, 1"
        );
    }

    #[test]
    fn double_shifts() {
        let shld = &[0x0f, 0xa4, 0xc8, 8];
        assert_eq!(run2(shld, 0x0112_3456, 0xabcd_ef01, 0).0, 0x1234_56ab);
        assert_eq!(run2(shld, 0x0112_3456, 0, 0).1 & CF, CF);
        let shrd = &[0x0f, 0xac, 0xc8, 8];
        assert_eq!(run2(shrd, 0x1234_5680, 0xabcd_ef01, 0).0, 0x0112_3456);
        assert_eq!(run2(shrd, 0x1234_5680, 0, 0).1 & CF, CF);
        assert_eq!(
            run2(&[0x66, 0x0f, 0xa4, 0xc8, 4], 0x1234, 0xabcd, 0).0,
            0x234a,
            "shld ax"
        );
        assert_eq!(
            run2(&[0x66, 0x0f, 0xac, 0xc8, 4], 0x1234, 0xabcd, 0).0,
            0xd123,
            "shrd ax"
        );
        assert_eq!(
            run2(&[0x66, 0x0f, 0xa4, 0xc8, 20], 0x1234, 0xabcd, 0).0,
            0xbcd1,
            "shld ax, 20"
        );
        assert_eq!(
            run2(&[0x0f, 0xa4, 0xc8, 1], 0x4000_0000, 0, 0).1 & OF,
            OF,
            "the sign changes"
        );
    }
}
