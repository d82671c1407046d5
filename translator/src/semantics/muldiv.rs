//! Multiplication and division (SDM vol. 1, "Binary Arithmetic Instructions").
//!
//! The forms with one operand work on the double-width accumulator: AX, DX:AX or
//! EDX:EAX. Up to 16 bits a product or dividend fits one value; 32-bit forms use
//! pairs. DIV and IDIV raise #DE for a zero divisor and a quotient out of range,
//! before anything changes. They leave the flags, which the SDM calls undefined.

use super::Exec;
use crate::exception::Exception;
use crate::flags::LazyFlags;
use crate::insn::{Gpr, Insn, Operand, Width};
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// The definitions of this file.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    Some(match i.mnemonic {
        Mnemonic::Mul => mul,
        Mnemonic::Imul if i.ops[1] == Operand::None => imul,
        Mnemonic::Imul => imul_truncated,
        Mnemonic::Div => div,
        Mnemonic::Idiv => idiv,
        _ => return None,
    })
}

/// Writes a product to the accumulator: `low` holds all of it up to 16 bits,
/// else `high` the upper half.
#[inline(always)]
fn write_product<M: Machine>(m: &mut M, w: Width, low: M::Val, high: M::Val) {
    match w {
        Width::B => m.set_gpr(Gpr::EAX, Width::W, low),
        Width::W | Width::D => {
            m.set_gpr(Gpr::EAX, w, low);
            m.set_gpr(Gpr::EDX, w, high);
        }
    }
}

/// CF and OF tell that the product does not fit; SF, ZF and PF follow its lower half.
#[inline(always)]
fn product_flags<M: Machine>(m: &mut M, i: &Insn, w: Width, low: M::Val, lost: M::Bool) {
    if i.flags_dead {
        return;
    }
    let by31 = m.imm(31);
    let cf = m.bit(lost);
    // CF equals OF, so bit 30 of the lazy form is clear.
    let carries = m.shl(cf, by31);
    let result = m.sext(low, w);
    m.set_flags(LazyFlags::Raw { result, carries });
}

/// MUL: unsigned.
#[inline]
pub fn mul<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let b = m.read(i, 0)?;
    let a = m.gpr(Gpr::EAX, w);
    let low = m.mul(a, b);
    let high = if w == Width::D {
        m.mulhu(a, b)
    } else {
        let half = m.imm(w.bits());
        m.shr(low, half)
    };
    write_product(m, w, low, high);
    let zero = m.imm(0);
    let fits = m.eq(high, zero);
    let lost = m.not(fits);
    product_flags(m, i, w, low, lost);
    Ok(())
}

/// IMUL with one operand: signed.
#[inline]
pub fn imul<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let b = m.read(i, 0)?;
    let a = m.gpr(Gpr::EAX, w);
    let (low, high, lost) = signed_product(m, a, b, w);
    write_product(m, w, low, high);
    product_flags(m, i, w, low, lost);
    Ok(())
}

/// IMUL with two or three operands: the lower half of the signed product.
#[inline]
pub fn imul_truncated<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let two = i.ops[2] == Operand::None;
    let a = m.read(i, if two { 0 } else { 1 })?;
    let b = m.read(i, if two { 1 } else { 2 })?;
    let (low, _, lost) = signed_product(m, a, b, w);
    m.write(i, 0, low)?;
    product_flags(m, i, w, low, lost);
    Ok(())
}

/// The signed product (all of it in the first value up to 16 bits, the lower half
/// above), its upper half, and whether it does not fit the lower half.
#[inline(always)]
fn signed_product<M: Machine>(
    m: &mut M,
    a: M::Val,
    b: M::Val,
    w: Width,
) -> (M::Val, M::Val, M::Bool) {
    if w == Width::D {
        let by31 = m.imm(31);
        let low = m.mul(a, b);
        let high = m.mulhs(a, b);
        let sign = m.sar(low, by31);
        let fits = m.eq(high, sign);
        let lost = m.not(fits);
        return (low, high, lost);
    }
    let half = m.imm(w.bits());
    let a = m.sext(a, w);
    let b = m.sext(b, w);
    let product = m.mul(a, b);
    let high = m.shr(product, half);
    let kept = m.sext(product, w);
    let fits = m.eq(kept, product);
    let lost = m.not(fits);
    (product, high, lost)
}

/// Writes quotient and remainder: AL and AH, or (E)AX and (E)DX.
#[inline(always)]
fn write_quotient<M: Machine>(m: &mut M, w: Width, quotient: M::Val, remainder: M::Val) {
    m.set_gpr(Gpr::EAX, w, quotient);
    let r = if w == Width::B { Gpr::AH } else { Gpr::EDX };
    m.set_gpr(r, w, remainder);
}

/// The dividend of up to 16 bits width in one value, zero-extended.
#[inline(always)]
fn narrow_dividend<M: Machine>(m: &mut M, w: Width) -> M::Val {
    let ax = m.gpr(Gpr::EAX, Width::W);
    if w == Width::B {
        return ax;
    }
    let by16 = m.imm(16);
    let dx = m.gpr(Gpr::EDX, Width::W);
    let dx = m.shl(dx, by16);
    m.or(ax, dx)
}

/// DIV: unsigned.
///
/// QUIRK: the flags, which are undefined, are left alone, as by a Pentium II. Of a 486
/// without CPUID, kernels conclude from that after dividing 5 by 2 that it is Cyrix's.
#[inline]
pub fn div<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let divisor = m.read(i, 0)?;
    let upper = m.gpr(if w == Width::B { Gpr::AH } else { Gpr::EDX }, w);
    // The quotient fits if and only if the upper half is below the divisor; that
    // is false for a zero divisor too.
    let fits = m.ult(upper, divisor);
    let error = m.not(fits);
    m.fault_if(error, Exception::DivideError)?;
    let (high, low) = if w == Width::D {
        (upper, m.gpr(Gpr::EAX, w))
    } else {
        (m.imm(0), narrow_dividend(m, w))
    };
    let (quotient, remainder) = m.divu(high, low, divisor);
    write_quotient(m, w, quotient, remainder);
    Ok(())
}

/// IDIV: signed; the remainder has the dividend's sign.
#[inline]
pub fn idiv<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let divisor = m.read(i, 0)?;
    let divisor = m.sext(divisor, w);
    let (high, low) = if w == Width::D {
        (m.gpr(Gpr::EDX, w), m.gpr(Gpr::EAX, w))
    } else {
        let by31 = m.imm(31);
        let low = narrow_dividend(m, w);
        let low = if w == Width::B {
            m.sext(low, Width::W)
        } else {
            low
        };
        (m.sar(low, by31), low)
    };
    let error = m.divs_overflows(high, low, divisor);
    m.fault_if(error, Exception::DivideError)?;
    let (quotient, remainder) = m.divs(high, low, divisor);
    if w != Width::D {
        let kept = m.sext(quotient, w);
        let fits = m.eq(kept, quotient);
        let error = m.not(fits);
        m.fault_if(error, Exception::DivideError)?;
    }
    write_quotient(m, w, quotient, remainder);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::values::{Values, run};
    use crate::exception::Exception;
    use crate::flags::{CF, OF};

    /// EAX and EDX after an instruction with ECX as its operand; CF and OF.
    fn with_ecx(bytes: &[u8], eax: u32, edx: u32, ecx: u32) -> (u32, u32, u32) {
        let (gpr, flags) = run(bytes, [eax, ecx, edx, 0, 0, 0, 0, 0], 0);
        (gpr[0], gpr[2], flags & (CF | OF))
    }

    /// The exception of the same.
    fn fault(bytes: &[u8], eax: u32, edx: u32, ecx: u32) -> Option<Exception> {
        Values::new([eax, ecx, edx, 0, 0, 0, 0, 0]).run(bytes).err()
    }

    #[test]
    fn products() {
        let lost = CF | OF;
        assert_eq!(
            with_ecx(&[0xf7, 0xe1], u32::MAX, 0, u32::MAX),
            (1, 0xffff_fffe, lost),
            "mul"
        );
        assert_eq!(with_ecx(&[0xf7, 0xe1], 3, 9, 4), (12, 0, 0), "mul");
        assert_eq!(
            with_ecx(&[0x66, 0xf7, 0xe1], 0x8000, 0, 4),
            (0, 2, lost),
            "mul cx"
        );
        assert_eq!(
            with_ecx(&[0xf6, 0xe1], 0x1_0080, 7, 2),
            (0x1_0100, 7, lost),
            "mul cl"
        );
        assert_eq!(
            with_ecx(&[0xf7, 0xe9], u32::MAX, 0, 5),
            (-5i32 as u32, u32::MAX, 0),
            "imul"
        );
        assert_eq!(
            with_ecx(&[0xf6, 0xe9], 0x80, 0, 0xff),
            (0x80, 0, lost),
            "imul cl"
        );
        assert_eq!(
            with_ecx(&[0x66, 0xf7, 0xe9], 0xfffe, 0, 3),
            (0xfffa, 0xffff, 0),
            "imul cx"
        );
        assert_eq!(
            with_ecx(&[0x0f, 0xaf, 0xc1], 0x8000_0000, 0, 2),
            (0, 0, lost)
        );
        assert_eq!(
            with_ecx(&[0x6b, 0xc1, 0xfd], 0, 0, 7),
            (-21i32 as u32, 0, 0),
            "imul eax, ecx, -3"
        );
    }

    #[test]
    fn quotients() {
        assert_eq!(with_ecx(&[0xf7, 0xf1], 5, 1, 2), (0x8000_0002, 1, 0), "div");
        assert_eq!(
            with_ecx(&[0x66, 0xf7, 0xf1], 5, 1, 2),
            (0x8002, 1, 0),
            "div cx"
        );
        assert_eq!(
            with_ecx(&[0xf6, 0xf1], 0x1_0107, 9, 2),
            (0x1_0183, 9, 0),
            "div cl"
        );
        let minus = |n: i32| n.wrapping_neg() as u32;
        assert_eq!(
            with_ecx(&[0xf7, 0xf9], minus(7), u32::MAX, 2),
            (minus(3), minus(1), 0),
            "idiv"
        );
        assert_eq!(
            with_ecx(&[0x66, 0xf7, 0xf9], 0xfff9, 0xffff, 2),
            (0xfffd, 0xffff, 0)
        );
        assert_eq!(
            with_ecx(&[0xf6, 0xf9], 0xff80, 0, 1),
            (0x80, 0, 0),
            "idiv cl"
        );
    }

    #[test]
    fn divide_errors() {
        let error = Some(Exception::DivideError);
        assert_eq!(fault(&[0xf7, 0xf1], 1, 0, 0), error, "div by 0");
        assert_eq!(fault(&[0xf7, 0xf1], 0, 2, 2), error, "div overflows");
        assert_eq!(fault(&[0xf6, 0xf1], 0x200, 0, 2), error, "div cl overflows");
        assert_eq!(fault(&[0xf7, 0xf9], 1, 0, 0), error, "idiv by 0");
        assert_eq!(
            fault(&[0xf7, 0xf9], 0x8000_0000, u32::MAX, u32::MAX),
            error,
            "idiv overflows"
        );
        assert_eq!(fault(&[0xf6, 0xf9], 0x80, 0, 1), error, "idiv cl: 128");
        assert_eq!(
            fault(&[0x66, 0xf7, 0xf9], 0, 0x8000, 0xffff),
            error,
            "idiv cx: 2^31"
        );
        assert_eq!(
            fault(&[0xf7, 0xf9], 0x8000_0000, u32::MAX, 1),
            None,
            "idiv: -2^31"
        );
    }
}
