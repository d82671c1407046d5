//! Guest values while a block is being emitted.
//!
//! At `opt_level=none` Cranelift folds nothing, and every CLIF instruction costs
//! compile time, so the folding that guest code needs is done here, where it is
//! cheap: constants stay constants, a constant offset stays beside its root
//! until somebody needs the sum (a run of pushes never does, because a load or
//! store takes the offset as its displacement), and a comparison stays a
//! comparison until a branch or a select consumes it.

use super::Emitter;
use crate::insn::Width;
use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// A 32-bit guest value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Val {
    /// A constant.
    Imm(u32),
    /// An SSA value plus a constant, modulo 2^32.
    Sum(Value, u32),
}

/// A truth value.
#[derive(Clone, Copy, Debug)]
pub enum Bool {
    /// Known while emitting.
    Known(bool),
    /// A comparison nobody has consumed yet.
    Compare(IntCC, Val, Val),
    /// An `i8` that is 0 or 1.
    Computed(Value),
}

/// Sums that have been materialised on the hot path and can be used again.
const REMEMBERED_SUMS: usize = 16;

/// The known upper bounds of values and the sums already computed.
#[derive(Default)]
pub struct Facts {
    /// By value number: how many low bits can be set; 0 stands for unknown.
    bits: Vec<u8>,
    sums: Vec<(Value, u32, Value)>,
}

impl Facts {
    /// Forgets everything, for the next function.
    pub fn clear(&mut self) {
        self.bits.clear();
        self.sums.clear();
    }

    /// Forgets the sums: what is emitted next need not be dominated by them.
    pub fn forget_sums(&mut self) {
        self.sums.clear();
    }

    fn bits(&self, v: Value) -> u32 {
        match self.bits.get(v.as_u32() as usize) {
            Some(&bits) if bits != 0 => u32::from(bits),
            _ => 32,
        }
    }

    fn set_bits(&mut self, v: Value, bits: u32) {
        let index = v.as_u32() as usize;
        if self.bits.len() <= index {
            self.bits.resize(index + 1, 0);
        }
        self.bits[index] = bits as u8;
    }
}

impl Emitter<'_> {
    /// The SSA value of `v`, computed here if need be.
    ///
    /// Only for the hot path: a sum computed in a cold block would not dominate
    /// its later uses. Cold blocks use [`Emitter::value_here`].
    pub(super) fn value(&mut self, v: Val) -> Value {
        match v {
            Val::Imm(k) => self.constant(k),
            Val::Sum(root, 0) => root,
            Val::Sum(root, offset) => {
                let known = |&&(r, o, _): &&(Value, u32, Value)| (r, o) == (root, offset);
                if let Some(&(_, _, sum)) = self.scratch.facts.sums.iter().rev().find(known) {
                    return sum;
                }
                let sum = self.value_here(v);
                if self.scratch.facts.sums.len() == REMEMBERED_SUMS {
                    self.scratch.facts.sums.remove(0);
                }
                self.scratch.facts.sums.push((root, offset, sum));
                sum
            }
        }
    }

    /// As [`Emitter::value`], without remembering the result.
    pub(super) fn value_here(&mut self, v: Val) -> Value {
        match v {
            Val::Imm(k) => self.constant(k),
            Val::Sum(root, 0) => root,
            Val::Sum(root, offset) => {
                let offset = self.constant(offset);
                self.ins().iadd(root, offset)
            }
        }
    }

    /// An `i32` constant.
    pub(super) fn constant(&mut self, k: u32) -> Value {
        self.ins().iconst(types::I32, i64::from(k))
    }

    /// A fresh SSA value as a guest value.
    pub(super) fn fresh(&mut self, v: Value) -> Val {
        Val::Sum(v, 0)
    }

    /// A fresh SSA value of which only the low `bits` can be set.
    pub(super) fn fresh_bits(&mut self, v: Value, bits: u32) -> Val {
        self.scratch.facts.set_bits(v, bits);
        Val::Sum(v, 0)
    }

    /// How many low bits of `v` can be set.
    pub(super) fn bits_of(&self, v: Val) -> u32 {
        match v {
            Val::Imm(k) => 32 - k.leading_zeros(),
            Val::Sum(root, 0) => self.scratch.facts.bits(root),
            Val::Sum(..) => 32,
        }
    }

    pub(super) fn add_values(&mut self, a: Val, b: Val) -> Val {
        match (a, b) {
            (Val::Imm(x), Val::Imm(y)) => Val::Imm(x.wrapping_add(y)),
            (Val::Sum(r, o), Val::Imm(k)) | (Val::Imm(k), Val::Sum(r, o)) => {
                Val::Sum(r, o.wrapping_add(k))
            }
            (Val::Sum(r, o), Val::Sum(s, p)) => {
                let sum = self.ins().iadd(r, s);
                Val::Sum(sum, o.wrapping_add(p))
            }
        }
    }

    pub(super) fn sub_values(&mut self, a: Val, b: Val) -> Val {
        match (a, b) {
            (Val::Imm(x), Val::Imm(y)) => Val::Imm(x.wrapping_sub(y)),
            (Val::Sum(r, o), Val::Imm(k)) => Val::Sum(r, o.wrapping_sub(k)),
            (Val::Imm(k), Val::Sum(r, o)) => {
                let k = self.constant(k.wrapping_sub(o));
                let difference = self.ins().isub(k, r);
                self.fresh(difference)
            }
            (Val::Sum(r, o), Val::Sum(s, p)) if r == s => Val::Imm(o.wrapping_sub(p)),
            (Val::Sum(r, o), Val::Sum(s, p)) => {
                let difference = self.ins().isub(r, s);
                Val::Sum(difference, o.wrapping_sub(p))
            }
        }
    }

    pub(super) fn and_values(&mut self, a: Val, b: Val) -> Val {
        match (a, b) {
            _ if a == b => a,
            (Val::Imm(x), Val::Imm(y)) => Val::Imm(x & y),
            (v, Val::Imm(k)) | (Val::Imm(k), v) => {
                let bits = self.bits_of(v);
                let reach = low_bits(bits);
                if k & reach == 0 {
                    return Val::Imm(0);
                }
                if k & reach == reach {
                    return v;
                }
                let v = self.value(v);
                let k = k & reach;
                let mask = self.constant(k);
                let masked = self.ins().band(v, mask);
                self.fresh_bits(masked, 32 - k.leading_zeros())
            }
            _ => {
                let bits = self.bits_of(a).min(self.bits_of(b));
                let (a, b) = (self.value(a), self.value(b));
                let v = self.ins().band(a, b);
                self.fresh_bits(v, bits)
            }
        }
    }

    pub(super) fn or_values(&mut self, a: Val, b: Val) -> Val {
        match (a, b) {
            _ if a == b => a,
            (Val::Imm(x), Val::Imm(y)) => Val::Imm(x | y),
            (v, Val::Imm(0)) | (Val::Imm(0), v) => v,
            (_, Val::Imm(u32::MAX)) | (Val::Imm(u32::MAX), _) => Val::Imm(u32::MAX),
            _ => {
                let bits = self.bits_of(a).max(self.bits_of(b));
                let (a, b) = (self.value(a), self.value(b));
                let v = self.ins().bor(a, b);
                self.fresh_bits(v, bits)
            }
        }
    }

    pub(super) fn xor_values(&mut self, a: Val, b: Val) -> Val {
        match (a, b) {
            _ if a == b => Val::Imm(0),
            (Val::Imm(x), Val::Imm(y)) => Val::Imm(x ^ y),
            (v, Val::Imm(0)) | (Val::Imm(0), v) => v,
            (v, Val::Imm(u32::MAX)) | (Val::Imm(u32::MAX), v) => {
                let v = self.value(v);
                let v = self.ins().bnot(v);
                self.fresh(v)
            }
            _ => {
                let bits = self.bits_of(a).max(self.bits_of(b));
                let (a, b) = (self.value(a), self.value(b));
                let v = self.ins().bxor(a, b);
                self.fresh_bits(v, bits)
            }
        }
    }

    pub(super) fn zext_value(&mut self, v: Val, w: Width) -> Val {
        if w == Width::D {
            return v;
        }
        self.and_values(v, Val::Imm(w.mask()))
    }

    pub(super) fn sext_value(&mut self, v: Val, w: Width) -> Val {
        let narrow = match w {
            Width::D => return v,
            Width::W => types::I16,
            Width::B => types::I8,
        };
        if let Val::Imm(k) = v {
            let up = 32 - w.bits();
            return Val::Imm(((k << up) as i32 >> up) as u32);
        }
        if self.bits_of(v) < w.bits() {
            return v;
        }
        let v = self.value(v);
        let low = self.ins().ireduce(narrow, v);
        let v = self.ins().sextend(types::I32, low);
        self.fresh(v)
    }

    /// A comparison, folded if both sides are known.
    pub(super) fn compare(&mut self, cc: IntCC, a: Val, b: Val) -> Bool {
        if let (Val::Imm(x), Val::Imm(y)) = (a, b) {
            return Bool::Known(holds(cc, x, y));
        }
        if a == b {
            return Bool::Known(holds(cc, 0, 0));
        }
        Bool::Compare(cc, a, b)
    }

    /// The `i8` of a truth value.
    pub(super) fn truth(&mut self, b: Bool) -> Value {
        match b {
            Bool::Known(known) => self.ins().iconst(types::I8, i64::from(known)),
            Bool::Compare(cc, a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                self.ins().icmp(cc, a, b)
            }
            Bool::Computed(v) => v,
        }
    }

    pub(super) fn not_bool(&mut self, b: Bool) -> Bool {
        match b {
            Bool::Known(known) => Bool::Known(!known),
            Bool::Compare(cc, a, b) => Bool::Compare(cc.complement(), a, b),
            Bool::Computed(v) => {
                let one = self.ins().iconst(types::I8, 1);
                Bool::Computed(self.ins().bxor(v, one))
            }
        }
    }

    pub(super) fn both_bools(&mut self, a: Bool, b: Bool) -> Bool {
        match (a, b) {
            (Bool::Known(false), _) | (_, Bool::Known(false)) => Bool::Known(false),
            (Bool::Known(true), c) | (c, Bool::Known(true)) => c,
            _ => {
                let (a, b) = (self.truth(a), self.truth(b));
                Bool::Computed(self.ins().band(a, b))
            }
        }
    }

    pub(super) fn either_bool(&mut self, a: Bool, b: Bool) -> Bool {
        match (a, b) {
            (Bool::Known(true), _) | (_, Bool::Known(true)) => Bool::Known(true),
            (Bool::Known(false), c) | (c, Bool::Known(false)) => c,
            _ => {
                let (a, b) = (self.truth(a), self.truth(b));
                Bool::Computed(self.ins().bor(a, b))
            }
        }
    }

    pub(super) fn bit_value(&mut self, b: Bool) -> Val {
        if let Bool::Known(known) = b {
            return Val::Imm(u32::from(known));
        }
        let v = self.truth(b);
        let v = self.ins().uextend(types::I32, v);
        self.fresh_bits(v, 1)
    }

    pub(super) fn select_value(&mut self, c: Bool, yes: Val, no: Val) -> Val {
        match c {
            Bool::Known(true) => yes,
            Bool::Known(false) => no,
            _ if yes == no => yes,
            _ => {
                let bits = self.bits_of(yes).max(self.bits_of(no));
                let (yes, no) = (self.value(yes), self.value(no));
                let c = self.truth(c);
                let v = self.ins().select(c, yes, no);
                self.fresh_bits(v, bits)
            }
        }
    }
}

/// A mask of the low `bits` bits.
fn low_bits(bits: u32) -> u32 {
    match bits {
        0 => 0,
        bits => u32::MAX >> (32 - bits.min(32)),
    }
}

/// Whether `a cc b`.
fn holds(cc: IntCC, a: u32, b: u32) -> bool {
    let (sa, sb) = (a as i32, b as i32);
    match cc {
        IntCC::Equal => a == b,
        IntCC::NotEqual => a != b,
        IntCC::UnsignedLessThan => a < b,
        IntCC::UnsignedLessThanOrEqual => a <= b,
        IntCC::UnsignedGreaterThan => a > b,
        IntCC::UnsignedGreaterThanOrEqual => a >= b,
        IntCC::SignedLessThan => sa < sb,
        IntCC::SignedLessThanOrEqual => sa <= sb,
        IntCC::SignedGreaterThan => sa > sb,
        IntCC::SignedGreaterThanOrEqual => sa >= sb,
    }
}
