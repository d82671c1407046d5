//! EFLAGS: bit names, and the lazy, tagless form of the arithmetic flags.
//!
//! Computing six flags after every ADD would double the work of most blocks,
//! and nearly all of it is thrown away. The state keeps two words instead, from
//! which each flag is a branch-free function (the form Bochs uses):
//!
//! - `result`: the result, sign-extended from its width to 32 bits;
//! - `carries`: bit 31 is CF, bit 30 is CF xor OF, bit 3 is AF; bits 8–15 are
//!   xored into the low byte of `result` before its parity is taken, and bit 0
//!   into the sign. The last two are zero except when flags are loaded from an
//!   image (POPF, SAHF, a shift by zero …), where no number has the wanted
//!   combination. All other bits are zero.
//!
//! ZF = (result = 0) · SF = result₃₁ xor carries₀ · CF = carries₃₁ ·
//! OF = carries₃₁ xor carries₃₀ · AF = carries₃ ·
//! PF = even parity of (result xor carries≫8) & 0xff.

use crate::insn::Width;

/// Carry flag.
pub const CF: u32 = 1 << 0;
/// Parity flag.
pub const PF: u32 = 1 << 2;
/// Auxiliary carry flag.
pub const AF: u32 = 1 << 4;
/// Zero flag.
pub const ZF: u32 = 1 << 6;
/// Sign flag.
pub const SF: u32 = 1 << 7;
/// Trap flag.
pub const TF: u32 = 1 << 8;
/// Interrupt enable flag.
pub const IF: u32 = 1 << 9;
/// Direction flag.
pub const DF: u32 = 1 << 10;
/// Overflow flag.
pub const OF: u32 = 1 << 11;
/// I/O privilege level, two bits.
pub const IOPL: u32 = 3 << 12;
/// Nested task.
pub const NT: u32 = 1 << 14;
/// Resume flag.
pub const RF: u32 = 1 << 16;
/// Virtual-8086 mode.
pub const VM: u32 = 1 << 17;
/// Alignment check.
pub const AC: u32 = 1 << 18;
/// Virtual interrupt flag.
pub const VIF: u32 = 1 << 19;
/// Virtual interrupt pending.
pub const VIP: u32 = 1 << 20;
/// CPUID is available when this bit can be changed.
pub const ID: u32 = 1 << 21;
/// The six arithmetic flags, kept lazily.
pub const ARITHMETIC: u32 = CF | PF | AF | ZF | SF | OF;
/// Bit 1, which always reads as one.
pub const FIXED: u32 = 1 << 1;

/// A definition of arithmetic flags, with the values that define them.
///
/// `a`, `b` and `r` are zero-extended from `w`.
#[derive(Clone, Copy, Debug)]
pub enum LazyFlags<V> {
    /// `r = a + b`, or with carry in (ADC).
    Add {
        /// First operand.
        a: V,
        /// Second operand.
        b: V,
        /// Result.
        r: V,
        /// Operand width.
        w: Width,
    },
    /// `r = a - b` without borrow in: SUB, CMP, NEG, CMPXCHG, SCAS, CMPS.
    Sub {
        /// Minuend.
        a: V,
        /// Subtrahend.
        b: V,
        /// Result.
        r: V,
        /// Operand width.
        w: Width,
    },
    /// `r = a - b - CF`.
    Sbb {
        /// Minuend.
        a: V,
        /// Subtrahend.
        b: V,
        /// Result.
        r: V,
        /// Operand width.
        w: Width,
    },
    /// A logical result: CF, OF and AF are cleared.
    Logic {
        /// Result.
        r: V,
        /// Operand width.
        w: Width,
    },
    /// SF, ZF and PF from `r`, CF and OF from 0/1 values, AF cleared.
    Result {
        /// Result.
        r: V,
        /// Operand width.
        w: Width,
        /// CF, 0 or 1.
        cf: V,
        /// OF, 0 or 1.
        of: V,
    },
    /// INC or DEC: the bits that carried or borrowed are those set in `on` and
    /// clear in `off`; CF is kept.
    Step {
        /// Operand of INC, result of DEC.
        on: V,
        /// Result of INC, operand of DEC.
        off: V,
        /// Result.
        r: V,
        /// Operand width.
        w: Width,
        /// CF, 0 or 1.
        cf: V,
    },
    /// The two words of the lazy form themselves.
    Raw {
        /// See the module's essay.
        result: V,
        /// See the module's essay.
        carries: V,
    },
}

/// Packs the lazy form into EFLAGS bits.
#[inline]
pub fn to_eflags(result: u32, carries: u32) -> u32 {
    let cf = carries >> 31;
    let of = cf ^ (carries >> 30 & 1);
    let af = carries >> 3 & 1;
    let sf = (result >> 31) ^ (carries & 1);
    let zf = u32::from(result == 0);
    let pf = u32::from(((result ^ carries >> 8) as u8).count_ones() & 1 == 0);
    cf | pf << 2 | af << 4 | zf << 6 | sf << 7 | of << 11
}

/// The lazy form, as `(result, carries)`, of the arithmetic bits of an EFLAGS image.
#[inline]
pub fn from_eflags(image: u32) -> (u32, u32) {
    let cf = image & 1;
    let of = image >> 11 & 1;
    let af = image >> 4 & 1;
    let sf = image >> 7 & 1;
    let zf = image >> 6 & 1;
    let pf = image >> 2 & 1;
    // result is 0 (even parity, positive) or 1 (odd parity, positive).
    let result = zf ^ 1;
    let parity_of_result = zf;
    let parity_delta = parity_of_result ^ pf;
    let carries = cf << 31 | (cf ^ of) << 30 | parity_delta << 8 | af << 3 | sf;
    (result, carries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_survives_the_lazy_form() {
        for bits in 0..64u32 {
            let image = (bits & 1)
                | (bits >> 1 & 1) << 2
                | (bits >> 2 & 1) << 4
                | (bits >> 3 & 1) << 6
                | (bits >> 4 & 1) << 7
                | (bits >> 5 & 1) << 11;
            let (result, carries) = from_eflags(image);
            assert_eq!(to_eflags(result, carries), image, "image {image:#x}");
        }
    }
}
