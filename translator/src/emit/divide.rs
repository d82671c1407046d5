//! Division without a host trap.
//!
//! The host's 64-bit division traps for a divisor of 0 and for MIN ÷ −1. The
//! definitions have left the block before either matters to the guest, but only
//! after the division where the condition is the quotient itself; so the divisor
//! is replaced by 1 where it would trap, and −1 becomes a negation.

use super::Emitter;
use super::value::{Bool, Val};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// The last signed division: its operands and its 64-bit quotient.
pub type LastDivision = Option<((Val, Val, Val), Value)>;

impl Emitter<'_> {
    /// `hi:lo` as one 64-bit value.
    fn dividend(&mut self, hi: Val, lo: Val) -> Value {
        let (hi, lo) = (self.value(hi), self.value(lo));
        let lo = self.ins().uextend(types::I64, lo);
        let hi = self.ins().uextend(types::I64, hi);
        let hi = self.ins().ishl_imm_u(hi, 32);
        self.ins().bor(hi, lo)
    }

    /// `lo - q * d`: the low half of the remainder.
    fn remainder(&mut self, lo: Val, q: Value, d: Val) -> Val {
        let (lo, d) = (self.value(lo), self.value(d));
        let product = self.ins().imul(q, d);
        let rest = self.ins().isub(lo, product);
        self.fresh(rest)
    }

    pub(super) fn divide_unsigned(&mut self, hi: Val, lo: Val, d: Val) -> (Val, Val) {
        let divisor = self.value(d);
        let zero = self.ins().icmp_imm_u(IntCC::Equal, divisor, 0);
        let one = self.constant(1);
        let safe = self.ins().select(zero, one, divisor);
        let quotient = if hi == Val::Imm(0) {
            let lo = self.value(lo);
            self.ins().udiv(lo, safe)
        } else {
            let n = self.dividend(hi, lo);
            let safe = self.ins().uextend(types::I64, safe);
            let wide = self.ins().udiv(n, safe);
            self.ins().ireduce(types::I32, wide)
        };
        let rest = self.remainder(lo, quotient, d);
        (self.fresh(quotient), rest)
    }

    pub(super) fn divide_signed(&mut self, hi: Val, lo: Val, d: Val) -> (Val, Val) {
        let wide = self.signed_quotient(hi, lo, d);
        let quotient = self.ins().ireduce(types::I32, wide);
        let rest = self.remainder(lo, quotient, d);
        (self.fresh(quotient), rest)
    }

    pub(super) fn signed_quotient_overflows(&mut self, hi: Val, lo: Val, d: Val) -> Bool {
        let wide = self.signed_quotient(hi, lo, d);
        let low = self.ins().ireduce(types::I32, wide);
        let back = self.ins().sextend(types::I64, low);
        let lost = Bool::Computed(self.ins().icmp(IntCC::NotEqual, wide, back));
        let zero = self.compare(IntCC::Equal, d, Val::Imm(0));
        self.either_bool(lost, zero)
    }

    fn signed_quotient(&mut self, hi: Val, lo: Val, d: Val) -> Value {
        if let Some((operands, wide)) = self.last_division
            && operands == (hi, lo, d)
        {
            return wide;
        }
        let n = self.dividend(hi, lo);
        let divisor = self.value(d);
        let divisor = self.ins().sextend(types::I64, divisor);
        let next = self.ins().iadd_imm_s(divisor, 1);
        let traps = self.ins().icmp_imm_u(IntCC::UnsignedLessThan, next, 2);
        let one = self.ins().iconst(types::I64, 1);
        let safe = self.ins().select(traps, one, divisor);
        let quotient = self.ins().sdiv(n, safe);
        let minus = self.ins().icmp_imm_s(IntCC::Equal, divisor, -1);
        let negated = self.ins().ineg(n);
        let wide = self.ins().select(minus, negated, quotient);
        self.last_division = Some(((hi, lo, d), wide));
        wide
    }
}
