//! [`Machine`] on CLIF: each operation by name, the work in the files beside.

use super::Emitter;
use super::value::{Bool, Val};
use crate::exception::Exception;
use crate::flags::LazyFlags;
use crate::insn::{Gpr, Insn, MemRef, SegReg, Width};
use crate::machine::Machine;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};
use iced_x86::ConditionCode;
use std::convert::Infallible;

impl Emitter<'_> {
    fn unary(&mut self, a: Val, bits: u32, emit: impl FnOnce(&mut Self, Value) -> Value) -> Val {
        let a = self.value(a);
        let v = emit(self, a);
        self.fresh_bits(v, bits)
    }

    fn binary(
        &mut self,
        a: Val,
        b: Val,
        emit: impl FnOnce(&mut Self, Value, Value) -> Value,
    ) -> Val {
        let (a, b) = (self.value(a), self.value(b));
        let v = emit(self, a, b);
        self.fresh(v)
    }
}

impl Machine for Emitter<'_> {
    type Val = Val;
    type Bool = Bool;
    type Fault = Infallible;

    fn imm(&mut self, value: u32) -> Val {
        Val::Imm(value)
    }

    fn gpr(&mut self, r: Gpr, w: Width) -> Val {
        self.read_gpr(r, w)
    }

    fn set_gpr(&mut self, r: Gpr, w: Width, v: Val) {
        self.write_gpr(r, w, v);
    }

    fn add(&mut self, a: Val, b: Val) -> Val {
        self.add_values(a, b)
    }

    fn sub(&mut self, a: Val, b: Val) -> Val {
        self.sub_values(a, b)
    }

    fn mul(&mut self, a: Val, b: Val) -> Val {
        match (a, b) {
            (Val::Imm(x), Val::Imm(y)) => Val::Imm(x.wrapping_mul(y)),
            _ => self.binary(a, b, |m, a, b| m.ins().imul(a, b)),
        }
    }

    fn mulhu(&mut self, a: Val, b: Val) -> Val {
        self.binary(a, b, |m, a, b| m.ins().umulhi(a, b))
    }

    fn mulhs(&mut self, a: Val, b: Val) -> Val {
        self.binary(a, b, |m, a, b| m.ins().smulhi(a, b))
    }

    fn divu(&mut self, hi: Val, lo: Val, d: Val) -> (Val, Val) {
        self.divide_unsigned(hi, lo, d)
    }

    fn divs(&mut self, hi: Val, lo: Val, d: Val) -> (Val, Val) {
        self.divide_signed(hi, lo, d)
    }

    fn divs_overflows(&mut self, hi: Val, lo: Val, d: Val) -> Bool {
        self.signed_quotient_overflows(hi, lo, d)
    }

    fn and(&mut self, a: Val, b: Val) -> Val {
        self.and_values(a, b)
    }

    fn or(&mut self, a: Val, b: Val) -> Val {
        self.or_values(a, b)
    }

    fn xor(&mut self, a: Val, b: Val) -> Val {
        self.xor_values(a, b)
    }

    fn shl(&mut self, a: Val, count: Val) -> Val {
        match (a, count) {
            (Val::Imm(x), Val::Imm(k)) => Val::Imm(x.wrapping_shl(k)),
            (a, Val::Imm(k)) if k & 31 == 0 => a,
            (a, Val::Imm(k)) => {
                let bits = (self.bits_of(a) + (k & 31)).min(32);
                self.unary(a, bits, |m, a| m.ins().ishl_imm_u(a, i64::from(k & 31)))
            }
            _ => self.binary(a, count, |m, a, count| m.ins().ishl(a, count)),
        }
    }

    fn shr(&mut self, a: Val, count: Val) -> Val {
        match (a, count) {
            (Val::Imm(x), Val::Imm(k)) => Val::Imm(x.wrapping_shr(k)),
            (a, Val::Imm(k)) if k & 31 == 0 => a,
            (a, Val::Imm(k)) => match self.bits_of(a).saturating_sub(k & 31) {
                0 => Val::Imm(0),
                bits => self.unary(a, bits, |m, a| m.ins().ushr_imm_u(a, i64::from(k & 31))),
            },
            _ => self.binary(a, count, |m, a, count| m.ins().ushr(a, count)),
        }
    }

    fn sar(&mut self, a: Val, count: Val) -> Val {
        match (a, count) {
            (Val::Imm(x), Val::Imm(k)) => Val::Imm((x as i32).wrapping_shr(k) as u32),
            (a, Val::Imm(k)) if k & 31 == 0 => a,
            _ => self.binary(a, count, |m, a, count| m.ins().sshr(a, count)),
        }
    }

    fn rotl(&mut self, a: Val, count: Val) -> Val {
        match (a, count) {
            (Val::Imm(x), Val::Imm(k)) => Val::Imm(x.rotate_left(k & 31)),
            (a, Val::Imm(k)) if k & 31 == 0 => a,
            _ => self.binary(a, count, |m, a, count| m.ins().rotl(a, count)),
        }
    }

    fn clz(&mut self, a: Val) -> Val {
        self.unary(a, 6, |m, a| m.ins().clz(a))
    }

    fn ctz(&mut self, a: Val) -> Val {
        self.unary(a, 6, |m, a| m.ins().ctz(a))
    }

    fn popcnt(&mut self, a: Val) -> Val {
        match a {
            Val::Imm(k) => Val::Imm(k.count_ones()),
            a => self.unary(a, 6, |m, a| m.ins().popcnt(a)),
        }
    }

    fn bswap(&mut self, a: Val) -> Val {
        self.unary(a, 32, |m, a| m.ins().bswap(a))
    }

    fn zext(&mut self, a: Val, w: Width) -> Val {
        self.zext_value(a, w)
    }

    fn sext(&mut self, a: Val, w: Width) -> Val {
        self.sext_value(a, w)
    }

    fn eq(&mut self, a: Val, b: Val) -> Bool {
        self.compare(IntCC::Equal, a, b)
    }

    fn ult(&mut self, a: Val, b: Val) -> Bool {
        self.compare(IntCC::UnsignedLessThan, a, b)
    }

    fn slt(&mut self, a: Val, b: Val) -> Bool {
        self.compare(IntCC::SignedLessThan, a, b)
    }

    fn not(&mut self, a: Bool) -> Bool {
        self.not_bool(a)
    }

    fn both(&mut self, a: Bool, b: Bool) -> Bool {
        self.both_bools(a, b)
    }

    fn either(&mut self, a: Bool, b: Bool) -> Bool {
        self.either_bool(a, b)
    }

    fn bit(&mut self, a: Bool) -> Val {
        self.bit_value(a)
    }

    fn select(&mut self, c: Bool, yes: Val, no: Val) -> Val {
        self.select_value(c, yes, no)
    }

    fn load(&mut self, seg: SegReg, offset: Val, w: Width) -> Result<Val, Infallible> {
        Ok(self.load_guest(seg, offset, w, false))
    }

    fn load_for_write(&mut self, seg: SegReg, offset: Val, w: Width) -> Result<Val, Infallible> {
        Ok(self.load_guest(seg, offset, w, true))
    }

    fn store(&mut self, seg: SegReg, offset: Val, w: Width, v: Val) -> Result<(), Infallible> {
        self.store_guest(seg, offset, w, v);
        Ok(())
    }

    fn set_flags(&mut self, f: LazyFlags<Val>) {
        self.define(f);
    }

    fn flags_raw(&mut self) -> (Val, Val) {
        self.raw_flags()
    }

    fn eflags_other(&mut self) -> Val {
        self.read_eflags()
    }

    fn set_eflags_other(&mut self, v: Val) {
        self.write_eflags(v);
    }

    fn fault_if(&mut self, c: Bool, _: Exception) -> Result<(), Infallible> {
        // The interpreter redoes the instruction and raises the exception.
        self.exit_if(c);
        Ok(())
    }

    fn code_limit(&mut self) -> Option<Val> {
        self.limit_of_code()
    }

    fn goto(&mut self, eip: u32) {
        self.go_to(eip);
    }

    fn goto_if(&mut self, c: Bool, taken: u32, fallthrough: u32) {
        self.go_to_if(c, taken, fallthrough);
    }

    fn goto_val(&mut self, eip: Val) {
        self.go_to_value(eip);
    }

    fn callout(&mut self, i: &Insn) -> Result<(), Infallible> {
        self.call_out(i);
        Ok(())
    }

    /// Base and index first and the displacement last, so that it stays an
    /// offset from a root that other accesses share.
    fn effective_address(&mut self, m: &MemRef) -> Val {
        let base = self.read_gpr(m.base, Width::D);
        let index = self.read_gpr(m.index, Width::D);
        let root = self.scaled_sum(base, index, m.shift);
        let address = self.add_values(root, Val::Imm(m.disp));
        match m.addr16 {
            true => self.zext_value(address, Width::W),
            false => address,
        }
    }

    fn condition(&mut self, c: ConditionCode) -> Bool {
        match self.fused_condition(c) {
            Some(c) => c,
            None => {
                let (result, carries) = self.raw_flags();
                self.condition_of(c, result, carries)
            }
        }
    }

    fn carry(&mut self) -> Val {
        match self.fused_carry() {
            Some(cf) => cf,
            None => {
                let (_, carries) = self.raw_flags();
                self.shr(carries, Val::Imm(31))
            }
        }
    }

    fn lower_flags(&mut self, f: LazyFlags<Val>) -> (Val, Val) {
        match f {
            LazyFlags::Raw { result, carries } => (result, carries),
            LazyFlags::Add { a, b, r, w } => {
                let carries = self.carries_of(a, b, r, w, false);
                (self.sext_value(r, w), carries)
            }
            LazyFlags::Sub { a, b, r, w } | LazyFlags::Sbb { a, b, r, w } => {
                let carries = self.carries_of(a, b, r, w, true);
                (self.sext_value(r, w), carries)
            }
            LazyFlags::Logic { r, w } => (self.sext_value(r, w), Val::Imm(0)),
            LazyFlags::Step { on, off, r, w, cf } => self.lower_step(on, off, r, w, cf),
            LazyFlags::Result { r, w, cf, of } => {
                let carries = self.place_carry_and_overflow(cf, of);
                (self.sext_value(r, w), carries)
            }
        }
    }
}
