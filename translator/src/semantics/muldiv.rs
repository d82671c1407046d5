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
