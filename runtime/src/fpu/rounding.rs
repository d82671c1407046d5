//! What an SSE operation loses by rounding, told from its operands and results.
//!
//! Thunks run with every exception masked, and then overflow and underflow mean
//! something else than when the guest unmasks them (SDM vol. 1, "SIMD
//! Floating-Point Exception Conditions"):
//!
//! - a masked underflow is reported only if the tiny result is also inexact, an
//!   unmasked one by any tiny result;
//! - an unmasked one leaves the result as it would be with an unbounded exponent.
//!   So PE says whether *that* result is inexact, not the infinity or the denormal
//!   number that the masked response makes of it.
//!
//! Whether a result is exact does not depend on the rounding mode, only on
//! whether it has too many bits; so integers tell.

use iced_x86::Mnemonic;

/// Two numbers and what is done to them.
#[derive(Clone, Copy)]
enum Operation {
    Add,
    Sub,
    Mul,
    Div,
    /// The second one, to fewer bits.
    Narrow,
}

/// The layout of an instruction's results.
#[derive(Clone, Copy)]
struct Results {
    /// Bytes of an operand.
    source: usize,
    /// Bytes of a result.
    bytes: usize,
    lanes: usize,
}

/// Whether a result, in `register`, is a denormal number.
pub fn is_tiny(mnemonic: Mnemonic, register: &[u8; 16]) -> bool {
    let Some(results) = results(mnemonic) else {
        return false;
    };
    let mut lanes = register.chunks_exact(results.bytes).take(results.lanes);
    lanes.any(|lane| match results.bytes {
        4 => f32::from_bits(number(lane) as u32).is_subnormal(),
        _ => f64::from_bits(number(lane)).is_subnormal(),
    })
}

/// Whether a result is inexact even with an unbounded exponent; `a` is the
/// destination's old value, `b` the source. With `daz` denormals are zeros.
pub fn is_inexact(mnemonic: Mnemonic, a: &[u8; 16], b: &[u8; 16], daz: bool) -> bool {
    let Some(results) = results(mnemonic) else {
        return false;
    };
    let precision = if results.bytes == 4 { 24 } else { 53 };
    (0..results.lanes).any(|lane| {
        let (operation, x, y) = operands(mnemonic, lane, results, a, b);
        let tiny = if results.source == 4 {
            f32::MIN_POSITIVE.into()
        } else {
            f64::MIN_POSITIVE
        };
        let seen = |v: f64| if daz && v.abs() < tiny { 0.0 } else { v };
        let (Some(x), Some(y)) = (Finite::of(seen(x)), Finite::of(seen(y))) else {
            return false;
        };
        significant_bits(operation, x, y) > precision
    })
}

#[rustfmt::skip]
fn results(mnemonic: Mnemonic) -> Option<Results> {
    use Mnemonic as M;
    let (source, bytes, lanes) = match mnemonic {
        M::Addss | M::Subss | M::Mulss | M::Divss => (4, 4, 1),
        M::Addsd | M::Subsd | M::Mulsd | M::Divsd => (8, 8, 1),
        M::Cvtsd2ss => (8, 4, 1),
        M::Cvtpd2ps => (8, 4, 2),
        M::Addps | M::Subps | M::Mulps | M::Divps
            | M::Addsubps | M::Haddps | M::Hsubps => (4, 4, 4),
        M::Addpd | M::Subpd | M::Mulpd | M::Divpd
            | M::Addsubpd | M::Haddpd | M::Hsubpd => (8, 8, 2),
        _ => return None,
    };
    Some(Results { source, bytes, lanes })
}

/// What makes up the result in `lane`.
fn operands(
    mnemonic: Mnemonic,
    lane: usize,
    results: Results,
    a: &[u8; 16],
    b: &[u8; 16],
) -> (Operation, f64, f64) {
    use Mnemonic as M;
    let value = |from: &[u8; 16], lane: usize| {
        let at = lane % (16 / results.source) * results.source;
        let bits = number(&from[at..at + results.source]);
        match results.source {
            4 => f64::from(f32::from_bits(bits as u32)),
            _ => f64::from_bits(bits),
        }
    };
    let horizontal = |operation| {
        let from = if lane < results.lanes / 2 { a } else { b };
        let first = lane % (results.lanes / 2) * 2;
        (operation, value(from, first), value(from, first + 1))
    };
    let operation = match mnemonic {
        M::Haddps | M::Haddpd => return horizontal(Operation::Add),
        M::Hsubps | M::Hsubpd => return horizontal(Operation::Sub),
        M::Addsubps | M::Addsubpd if lane.is_multiple_of(2) => Operation::Sub,
        M::Subps | M::Subpd | M::Subss | M::Subsd => Operation::Sub,
        M::Mulps | M::Mulpd | M::Mulss | M::Mulsd => Operation::Mul,
        M::Divps | M::Divpd | M::Divss | M::Divsd => Operation::Div,
        M::Cvtsd2ss | M::Cvtpd2ps => return (Operation::Narrow, 0.0, value(b, lane)),
        _ => Operation::Add,
    };
    (operation, value(a, lane), value(b, lane))
}

fn number(little_endian: &[u8]) -> u64 {
    little_endian
        .iter()
        .rev()
        .fold(0, |n, &byte| n << 8 | u64::from(byte))
}

/// A finite number: ± `odd` × 2^`exponent`, `odd` being odd or 0.
#[derive(Clone, Copy)]
struct Finite {
    negative: bool,
    odd: u64,
    exponent: i32,
}

impl Finite {
    fn of(value: f64) -> Option<Self> {
        let bits = value.to_bits();
        let (field, fraction) = (bits >> 52 & 0x7ff, bits & ((1 << 52) - 1));
        let significand = match field {
            0x7ff => return None,
            0 => fraction,
            _ => fraction | 1 << 52,
        };
        let zeros = significand.trailing_zeros() & 63;
        Some(Self {
            negative: value.is_sign_negative(),
            odd: significand >> zeros,
            exponent: field.max(1) as i32 - 1075 + zeros as i32,
        })
    }
}

/// Bits that the exact result needs; more than any format has if it never ends.
fn significant_bits(operation: Operation, x: Finite, y: Finite) -> u32 {
    const ENDLESS: u32 = 1000;
    let length = |n: u128| {
        n.checked_ilog2()
            .map_or(0, |top| top + 1 - n.trailing_zeros())
    };
    match operation {
        Operation::Narrow => length(y.odd.into()),
        Operation::Mul => length(u128::from(x.odd) * u128::from(y.odd)),
        Operation::Div if y.odd == 0 || x.odd.is_multiple_of(y.odd) => 0,
        Operation::Div => ENDLESS,
        Operation::Add | Operation::Sub if x.odd == 0 || y.odd == 0 => 0,
        Operation::Add | Operation::Sub => {
            let low = x.exponent.min(y.exponent);
            // Two numbers so far apart need more bits than there are.
            if x.exponent.max(y.exponent) - low > 70 {
                return ENDLESS;
            }
            let aligned = |f: Finite| u128::from(f.odd) << (f.exponent - low);
            let same = x.negative == y.negative;
            match same == matches!(operation, Operation::Add) {
                true => length(aligned(x) + aligned(y)),
                false => length(aligned(x).abs_diff(aligned(y))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(mnemonic: Mnemonic, a: f64, b: f64) -> bool {
        let register = |v: f64| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&v.to_bits().to_le_bytes());
            bytes
        };
        is_inexact(mnemonic, &register(a), &register(b), false)
    }

    #[test]
    fn overflow_and_underflow_may_be_exact() {
        use Mnemonic::*;
        assert!(!scalar(Addsd, f64::MAX, f64::MAX));
        assert!(scalar(Addsd, f64::MAX, 1.0));
        assert!(!scalar(Mulsd, f64::MIN_POSITIVE, 0.5));
        assert!(scalar(Mulsd, 1.1, 1.1));
        assert!(!scalar(Divsd, f64::MIN_POSITIVE, 8.0));
        assert!(scalar(Divsd, f64::MIN_POSITIVE, 3.0));
        assert!(!scalar(
            Cvtsd2ss,
            0.0,
            1e300_f64.round().min(2f64.powi(900))
        ));
        assert!(scalar(Cvtsd2ss, 0.0, 1.1e300));
        assert!(!scalar(Subsd, f64::INFINITY, 1.0));
    }
}
