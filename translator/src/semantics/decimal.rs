//! Decimal arithmetic (SDM vol. 1, "Decimal Arithmetic Instructions").
//!
//! All work on AL, in part with AH. The conditions are guest values: each
//! correction is a multiplication of its 0/1 truth value.

use super::Exec;
use crate::exception::Exception;
use crate::flags::LazyFlags;
use crate::insn::{Gpr, Insn, Width};
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// The definitions of this file.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    Some(match i.mnemonic {
        Mnemonic::Daa => daa,
        Mnemonic::Das => das,
        Mnemonic::Aaa => aaa,
        Mnemonic::Aas => aas,
        Mnemonic::Aam => aam,
        Mnemonic::Aad => aad,
        _ => return None,
    })
}

/// 1 if the low digit of AL exceeds 9 or AF is set, else 0.
fn low_digit_is_off<M: Machine>(m: &mut M, al: M::Val) -> M::Val {
    let (one, three, fifteen, nine) = (m.imm(1), m.imm(3), m.imm(15), m.imm(9));
    let (_, carries) = m.flags_raw();
    let af = m.shr(carries, three);
    let af = m.and(af, one);
    let digit = m.and(al, fifteen);
    let above = m.ult(nine, digit);
    let above = m.bit(above);
    m.or(af, above)
}

/// Defines the flags: SF, ZF and PF of AL, AF and CF from 0/1 values, OF clear.
fn set_decimal_flags<M: Machine>(m: &mut M, i: &Insn, al: M::Val, af: M::Val, cf: M::Val) {
    let (one, three, by31) = (m.imm(1), m.imm(3), m.imm(31));
    let result = m.sext(al, Width::B);
    let top = m.shl(cf, by31);
    // CF xor OF is CF.
    let top = m.sar(top, one);
    let af = m.shl(af, three);
    let carries = m.or(top, af);
    m.define_flags(i, LazyFlags::Raw { result, carries });
}

/// 1 if AL exceeds 0x99 or CF is set, else 0.
fn high_digit_is_off<M: Machine>(m: &mut M, al: M::Val) -> M::Val {
    let limit = m.imm(0x99);
    let cf = m.carry();
    let above = m.ult(limit, al);
    let above = m.bit(above);
    m.or(cf, above)
}

/// DAA: adjusts AL after an addition of packed digits.
pub fn daa<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let (six, sixty) = (m.imm(6), m.imm(0x60));
    let al = m.gpr(Gpr::EAX, Width::B);
    let low = low_digit_is_off(m, al);
    let high = high_digit_is_off(m, al);
    let step = m.mul(low, six);
    let r = m.add(al, step);
    let step = m.mul(high, sixty);
    let r = m.add(r, step);
    m.set_gpr(Gpr::EAX, Width::B, r);
    set_decimal_flags(m, i, r, low, high);
    Ok(())
}

/// DAS: adjusts AL after a subtraction of packed digits.
pub fn das<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let (six, sixty) = (m.imm(6), m.imm(0x60));
    let al = m.gpr(Gpr::EAX, Width::B);
    let low = low_digit_is_off(m, al);
    let high = high_digit_is_off(m, al);
    // The first step may borrow too.
    let small = m.ult(al, six);
    let small = m.bit(small);
    let borrow = m.and(low, small);
    let cf = m.or(high, borrow);
    let step = m.mul(low, six);
    let r = m.sub(al, step);
    let step = m.mul(high, sixty);
    let r = m.sub(r, step);
    m.set_gpr(Gpr::EAX, Width::B, r);
    set_decimal_flags(m, i, r, low, cf);
    Ok(())
}

/// AAA: adjusts AX after an addition of unpacked digits.
pub fn aaa<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    ascii_adjust(m, i, 0x106)
}

/// AAS: adjusts AX after a subtraction of unpacked digits.
pub fn aas<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    ascii_adjust(m, i, 0x106_u32.wrapping_neg())
}

/// AAA and AAS: AX moves by `step` if the digit is off; AL keeps a digit.
fn ascii_adjust<M: Machine>(m: &mut M, i: &Insn, step: u32) -> Result<(), M::Fault> {
    let (digits, step) = (m.imm(0xff0f), m.imm(step));
    let ax = m.gpr(Gpr::EAX, Width::W);
    let al = m.gpr(Gpr::EAX, Width::B);
    let off = low_digit_is_off(m, al);
    let step = m.mul(off, step);
    let r = m.add(ax, step);
    let r = m.and(r, digits);
    m.set_gpr(Gpr::EAX, Width::W, r);
    set_decimal_flags(m, i, r, off, off);
    Ok(())
}

/// AAM: AH and AL ← quotient and remainder of AL by the immediate, 10 by default.
pub fn aam<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let (zero, base) = (m.imm(0), m.imm(i.imm));
    let error = m.eq(base, zero);
    m.fault_if(error, Exception::DivideError)?;
    let al = m.gpr(Gpr::EAX, Width::B);
    let (quotient, remainder) = m.divu(zero, al, base);
    m.set_gpr(Gpr::AH, Width::B, quotient);
    m.set_gpr(Gpr::EAX, Width::B, remainder);
    m.define_flags(
        i,
        LazyFlags::Logic {
            r: remainder,
            w: Width::B,
        },
    );
    Ok(())
}

/// AAD: AL ← AL + AH × the immediate, AH ← 0.
pub fn aad<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let base = m.imm(i.imm);
    let ah = m.gpr(Gpr::AH, Width::B);
    let al = m.gpr(Gpr::EAX, Width::B);
    let tens = m.mul(ah, base);
    let sum = m.add(al, tens);
    let r = m.zext(sum, Width::B);
    m.set_gpr(Gpr::EAX, Width::W, r);
    m.define_flags(i, LazyFlags::Logic { r, w: Width::B });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::values::{Values, run2};
    use crate::exception::Exception;
    use crate::flags::{AF, CF, OF, PF, SF, ZF};

    #[test]
    fn packed_digits() {
        assert_eq!(run2(&[0x27], 0xae, 0, 0), (0x14, AF | CF | PF), "daa");
        assert_eq!(run2(&[0x27], 0x79, 0, 0), (0x79, 0), "daa");
        assert_eq!(run2(&[0x27], 0x9a, 0, 0), (0, AF | CF | ZF | PF), "daa");
        assert_eq!(run2(&[0x2f], 0xee, 0, 0), (0x88, AF | CF | SF | PF), "das");
        assert_eq!(
            run2(&[0x2f], 0x02, 0, AF),
            (0xfc, AF | CF | SF | PF),
            "das borrows"
        );
    }

    #[test]
    fn unpacked_digits() {
        let (eax, flags) = run2(&[0x37], 0x0f, 0, 0);
        assert_eq!((eax, flags & (AF | CF)), (0x105, AF | CF), "aaa");
        let (eax, flags) = run2(&[0x37], 0x1_0205, 0, CF);
        assert_eq!((eax, flags & (AF | CF)), (0x1_0205, 0), "aaa");
        let (eax, flags) = run2(&[0x3f], 0x202, 0, AF);
        assert_eq!((eax, flags & (AF | CF)), (0x0c, AF | CF), "aas");
        assert_eq!(run2(&[0xd5, 10], 0x307, 0, 0), (37, 0), "aad");
        assert_eq!(run2(&[0xd4, 10], 37, 0, CF | OF), (0x307, 0), "aam");
    }

    #[test]
    fn aam_by_zero_is_a_divide_error() {
        let fault = Values::new([5; 8]).run(&[0xd4, 0]);
        assert_eq!(fault, Err(Exception::DivideError));
    }
}
