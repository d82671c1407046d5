//! The seam between what an instruction means and how it is carried out.
//!
//! A definition in [`crate::semantics`] is a function generic over [`Machine`].
//! The runtime's interpreter implements the trait on values (`Val = u32`), the
//! emitter on CLIF (`Val = Value`); the definition cannot tell which. Hence the
//! rules for definitions:
//!
//! - no host `if` on guest values: use [`Machine::select`], a fault condition
//!   ([`Machine::fault_if`]) or a control transfer;
//! - read everything, compute, write, then set flags; every `?` is a place where
//!   the architecture may fault, and nothing the guest can see may have changed
//!   before the last `?` (hence [`Machine::load_for_write`]);
//! - values narrower than 32 bits are kept zero-extended ("clean") when they are
//!   returned by [`Machine::gpr`], [`Machine::load`] and passed in
//!   [`LazyFlags`]; `set_gpr` and `store` ignore the upper bits.

use crate::exception::Exception;
use crate::flags::{self, LazyFlags};
use crate::insn::{Gpr, Insn, MemRef, Operand, SegReg, Width};
use iced_x86::ConditionCode;

/// What definitions are written against.
///
/// Arithmetic is modulo 2^32. Shift counts are taken modulo 32.
#[allow(missing_docs)] // Names of required arithmetic are their own documentation.
pub trait Machine {
    /// A 32-bit guest value.
    type Val: Copy;
    /// A truth value.
    type Bool: Copy;
    /// What stops an instruction before it retires.
    type Fault;

    // Constants and registers.
    fn imm(&mut self, value: u32) -> Self::Val;
    /// Reads a register, zero-extended.
    fn gpr(&mut self, r: Gpr, w: Width) -> Self::Val;
    /// Writes the low `w` of `v`; the rest of the register stays.
    fn set_gpr(&mut self, r: Gpr, w: Width, v: Self::Val);

    // Arithmetic.
    fn add(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    fn sub(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    fn mul(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    /// High half of the unsigned 64-bit product.
    fn mulhu(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    /// High half of the signed 64-bit product.
    fn mulhs(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    /// Unsigned `(quotient, remainder)` of `hi:lo / d`; the low halves of the
    /// 64-bit results, any value if `d` is 0 (never a host trap).
    fn divu(&mut self, hi: Self::Val, lo: Self::Val, d: Self::Val) -> (Self::Val, Self::Val);
    /// Signed `(quotient, remainder)` of `hi:lo / d`, same conventions; any
    /// value on overflow.
    fn divs(&mut self, hi: Self::Val, lo: Self::Val, d: Self::Val) -> (Self::Val, Self::Val);
    /// The signed 64-bit quotient of `hi:lo / d` does not fit 32 signed bits, or `d` is 0.
    fn divs_overflows(&mut self, hi: Self::Val, lo: Self::Val, d: Self::Val) -> Self::Bool;
    fn and(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    fn or(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    fn xor(&mut self, a: Self::Val, b: Self::Val) -> Self::Val;
    fn shl(&mut self, a: Self::Val, count: Self::Val) -> Self::Val;
    fn shr(&mut self, a: Self::Val, count: Self::Val) -> Self::Val;
    fn sar(&mut self, a: Self::Val, count: Self::Val) -> Self::Val;
    fn rotl(&mut self, a: Self::Val, count: Self::Val) -> Self::Val;
    /// Count of leading zeros, 32 for 0.
    fn clz(&mut self, a: Self::Val) -> Self::Val;
    /// Count of trailing zeros, 32 for 0.
    fn ctz(&mut self, a: Self::Val) -> Self::Val;
    fn popcnt(&mut self, a: Self::Val) -> Self::Val;
    fn bswap(&mut self, a: Self::Val) -> Self::Val;
    /// Zero-extends the low `w`.
    fn zext(&mut self, a: Self::Val, w: Width) -> Self::Val;
    /// Sign-extends the low `w`.
    fn sext(&mut self, a: Self::Val, w: Width) -> Self::Val;

    // Truth values.
    fn eq(&mut self, a: Self::Val, b: Self::Val) -> Self::Bool;
    fn ult(&mut self, a: Self::Val, b: Self::Val) -> Self::Bool;
    fn slt(&mut self, a: Self::Val, b: Self::Val) -> Self::Bool;
    fn not(&mut self, a: Self::Bool) -> Self::Bool;
    fn both(&mut self, a: Self::Bool, b: Self::Bool) -> Self::Bool;
    fn either(&mut self, a: Self::Bool, b: Self::Bool) -> Self::Bool;
    /// 1 or 0.
    fn bit(&mut self, a: Self::Bool) -> Self::Val;
    fn select(&mut self, c: Self::Bool, yes: Self::Val, no: Self::Val) -> Self::Val;

    // Memory. `offset` is an offset in the segment.
    fn load(&mut self, seg: SegReg, offset: Self::Val, w: Width) -> Result<Self::Val, Self::Fault>;
    /// A load that faults as a store would: for read-modify-write.
    fn load_for_write(
        &mut self,
        seg: SegReg,
        offset: Self::Val,
        w: Width,
    ) -> Result<Self::Val, Self::Fault>;
    fn store(
        &mut self,
        seg: SegReg,
        offset: Self::Val,
        w: Width,
        v: Self::Val,
    ) -> Result<(), Self::Fault>;

    // Flags.
    /// Defines all six arithmetic flags.
    fn set_flags(&mut self, f: LazyFlags<Self::Val>);
    /// The two words of the lazy form: see [`crate::flags`].
    fn flags_raw(&mut self) -> (Self::Val, Self::Val);
    /// EFLAGS bits other than the arithmetic ones (DF, IF …).
    fn eflags_other(&mut self) -> Self::Val;
    /// Replaces EFLAGS bits other than the arithmetic ones. Only for bits that
    /// neither change the mode nor unmask interrupts: DF, AC, ID.
    fn set_eflags_other(&mut self, v: Self::Val);

    // Faults, control transfers, callouts.
    /// The highest offset of CS, or `None` if every offset is inside.
    fn code_limit(&mut self) -> Option<Self::Val>;
    /// Raises `e` if `c` holds; the instruction has had no effect yet.
    fn fault_if(&mut self, c: Self::Bool, e: Exception) -> Result<(), Self::Fault>;
    /// Continues at a fixed EIP. Ends the block.
    fn goto(&mut self, eip: u32);
    /// Continues at one of two fixed EIPs. Ends the block.
    fn goto_if(&mut self, c: Self::Bool, taken: u32, fallthrough: u32);
    /// Continues at a computed EIP. Ends the block.
    fn goto_val(&mut self, eip: Self::Val);
    /// Runs the instruction in the runtime's concrete definition: system
    /// instructions, x87, SSE, repeated strings.
    fn callout(&mut self, i: &Insn) -> Result<(), Self::Fault>;

    // Provided: composites of the above. An override must equal the body.

    /// The offset a memory operand denotes.
    #[inline(always)]
    fn effective_address(&mut self, m: &MemRef) -> Self::Val {
        let mut ea = self.imm(m.disp);
        if m.index != Gpr::ZERO {
            let index = self.gpr(m.index, Width::D);
            let count = self.imm(u32::from(m.shift));
            let scaled = self.shl(index, count);
            ea = self.add(ea, scaled);
        }
        if m.base != Gpr::ZERO {
            let base = self.gpr(m.base, Width::D);
            ea = self.add(ea, base);
        }
        if m.addr16 {
            self.zext(ea, Width::W)
        } else {
            ea
        }
    }

    /// Reads operand `n`: a register, immediate or memory.
    #[inline(always)]
    fn read(&mut self, i: &Insn, n: usize) -> Result<Self::Val, Self::Fault> {
        match i.ops[n] {
            Operand::Gpr(r, w) => Ok(self.gpr(r, w)),
            Operand::Mem(w) => {
                let ea = self.effective_address(&i.mem);
                self.load(i.mem.seg, ea, w)
            }
            Operand::Imm2 => Ok(self.imm(i.imm2)),
            _ => Ok(self.imm(i.imm)),
        }
    }

    /// Reads operand `n`, which will be written: memory must be writable.
    #[inline(always)]
    fn read_for_write(&mut self, i: &Insn, n: usize) -> Result<Self::Val, Self::Fault> {
        match i.ops[n] {
            Operand::Mem(w) => {
                let ea = self.effective_address(&i.mem);
                self.load_for_write(i.mem.seg, ea, w)
            }
            _ => self.read(i, n),
        }
    }

    /// Writes operand `n`.
    #[inline(always)]
    fn write(&mut self, i: &Insn, n: usize, v: Self::Val) -> Result<(), Self::Fault> {
        match i.ops[n] {
            Operand::Gpr(r, w) => {
                self.set_gpr(r, w, v);
                Ok(())
            }
            Operand::Mem(w) => {
                let ea = self.effective_address(&i.mem);
                self.store(i.mem.seg, ea, w, v)
            }
            _ => Ok(()),
        }
    }

    /// ESP or SP, as the stack segment says.
    #[inline(always)]
    fn stack_pointer(&mut self, i: &Insn) -> Self::Val {
        self.gpr(Gpr::ESP, if i.stack32 { Width::D } else { Width::W })
    }

    /// Sets ESP or SP.
    #[inline(always)]
    fn set_stack_pointer(&mut self, i: &Insn, v: Self::Val) {
        self.set_gpr(Gpr::ESP, if i.stack32 { Width::D } else { Width::W }, v);
    }

    /// `v` modulo the stack-address size.
    #[inline(always)]
    fn stack_offset(&mut self, i: &Insn, v: Self::Val) -> Self::Val {
        if i.stack32 { v } else { self.zext(v, Width::W) }
    }

    /// Pushes a value of width `w`.
    #[inline(always)]
    fn push(&mut self, i: &Insn, w: Width, v: Self::Val) -> Result<(), Self::Fault> {
        let sp = self.stack_pointer(i);
        let size = self.imm(w.bytes());
        let new = self.sub(sp, size);
        let new = self.stack_offset(i, new);
        self.store(SegReg::Ss, new, w, v)?;
        self.set_stack_pointer(i, new);
        Ok(())
    }

    /// #GP(0) if `taken` holds and `target` lies beyond the limit of CS.
    #[inline(always)]
    fn check_target(&mut self, taken: Self::Bool, target: Self::Val) -> Result<(), Self::Fault> {
        let Some(limit) = self.code_limit() else {
            return Ok(());
        };
        let beyond = self.ult(limit, target);
        let beyond = self.both(taken, beyond);
        self.fault_if(beyond, Exception::GeneralProtection(0))
    }

    /// Pops a value of width `w`.
    #[inline(always)]
    fn pop(&mut self, i: &Insn, w: Width) -> Result<Self::Val, Self::Fault> {
        let sp = self.stack_pointer(i);
        let v = self.load(SegReg::Ss, sp, w)?;
        let size = self.imm(w.bytes());
        let new = self.add(sp, size);
        self.set_stack_pointer(i, new);
        Ok(v)
    }

    /// Defines the arithmetic flags of `i`, unless nothing can see them.
    /// Definitions use this rather than [`Machine::set_flags`].
    #[inline(always)]
    fn define_flags(&mut self, i: &Insn, f: LazyFlags<Self::Val>) {
        if !i.flags_dead {
            self.set_flags(f);
        }
    }

    /// The two words of the lazy form that `f` stands for: see [`crate::flags`].
    #[inline(always)]
    fn lower_flags(&mut self, f: LazyFlags<Self::Val>) -> (Self::Val, Self::Val) {
        match f {
            LazyFlags::Raw { result, carries } => (result, carries),
            LazyFlags::Add { a, b, r, w } => {
                // Carry out of each bit: (a & b) | ((a | b) & !r).
                let both = self.and(a, b);
                let any = self.or(a, b);
                let ones = self.imm(u32::MAX);
                let not_r = self.xor(r, ones);
                let passed = self.and(any, not_r);
                let carries = self.or(both, passed);
                self.carry_vector(carries, r, w)
            }
            LazyFlags::Sub { a, b, r, w } | LazyFlags::Sbb { a, b, r, w } => {
                // Borrow out of each bit: (!a & b) | (!(a ^ b) & r).
                let ones = self.imm(u32::MAX);
                let not_a = self.xor(a, ones);
                let lent = self.and(not_a, b);
                let differ = self.xor(a, b);
                let same = self.xor(differ, ones);
                let passed = self.and(same, r);
                let carries = self.or(lent, passed);
                self.carry_vector(carries, r, w)
            }
            LazyFlags::Logic { r, w } => {
                let result = self.sext(r, w);
                let carries = self.imm(0);
                (result, carries)
            }
            LazyFlags::Step { on, off, r, w, cf } => self.lower_step(on, off, r, w, cf),
            LazyFlags::Result { r, w, cf, of } => {
                let result = self.sext(r, w);
                let by31 = self.imm(31);
                let by30 = self.imm(30);
                let top = self.shl(cf, by31);
                let differ = self.xor(cf, of);
                let next = self.shl(differ, by30);
                let carries = self.or(top, next);
                (result, carries)
            }
        }
    }

    /// The two words for [`LazyFlags::Step`].
    #[inline(always)]
    fn lower_step(
        &mut self,
        on: Self::Val,
        off: Self::Val,
        r: Self::Val,
        w: Width,
        cf: Self::Val,
    ) -> (Self::Val, Self::Val) {
        let ones = self.imm(u32::MAX);
        let clear = self.xor(off, ones);
        let carries = self.and(on, clear);
        let aligned = if w == Width::D {
            carries
        } else {
            let up = self.imm(32 - w.bits());
            self.shl(carries, up)
        };
        // OF is the carry out of the top bit (now bit 31) xor the carry into it
        // (bit 30); bit 30 of the lazy form is CF xor OF.
        let (one, by31, by30) = (self.imm(1), self.imm(31), self.imm(30));
        let half = self.shr(aligned, one);
        let of = self.xor(half, aligned);
        let cf30 = self.shl(cf, by30);
        let next = self.xor(of, cf30);
        let bit30 = self.imm(0x4000_0000);
        let next = self.and(next, bit30);
        let bit3 = self.imm(1 << 3);
        let af = self.and(carries, bit3);
        let cf31 = self.shl(cf, by31);
        let carries = self.or(cf31, next);
        let carries = self.or(carries, af);
        (self.sext(r, w), carries)
    }

    /// Moves a vector of carries of width `w` into the places of the lazy form.
    #[inline(always)]
    fn carry_vector(
        &mut self,
        carries: Self::Val,
        r: Self::Val,
        w: Width,
    ) -> (Self::Val, Self::Val) {
        let result = self.sext(r, w);
        // Bit 31 holds the carry out of the top bit, bit 30 the carry into it;
        // the lazy form's bit 30 is CF xor OF, which is that carry in.
        let mask = self.imm(0xc000_0000);
        let aligned = if w == Width::D {
            carries
        } else {
            let up = self.imm(32 - w.bits());
            self.shl(carries, up)
        };
        let top = self.and(aligned, mask);
        let af_mask = self.imm(1 << 3);
        let af = self.and(carries, af_mask);
        let carries = self.or(top, af);
        (result, carries)
    }

    /// CF as 0 or 1.
    #[inline(always)]
    fn carry(&mut self) -> Self::Val {
        let (_, carries) = self.flags_raw();
        let by31 = self.imm(31);
        self.shr(carries, by31)
    }

    /// The arithmetic flags as EFLAGS bits.
    fn arithmetic_flags(&mut self) -> Self::Val {
        let (result, carries) = self.flags_raw();
        let one = self.imm(1);
        let mut image = self.carry();
        for (condition, bit) in [
            (ConditionCode::p, flags::PF),
            (ConditionCode::e, flags::ZF),
            (ConditionCode::s, flags::SF),
            (ConditionCode::o, flags::OF),
        ] {
            let c = self.condition_of(condition, result, carries);
            let c = self.bit(c);
            let shift = self.imm(bit.trailing_zeros());
            let c = self.shl(c, shift);
            image = self.or(image, c);
        }
        let three = self.imm(3);
        let four = self.imm(4);
        let af = self.shr(carries, three);
        let af = self.and(af, one);
        let af = self.shl(af, four);
        self.or(image, af)
    }

    /// Loads the arithmetic flags from EFLAGS bits.
    fn set_arithmetic_flags(&mut self, image: Self::Val) {
        let bit = |m: &mut Self, n: u32| {
            let count = m.imm(n);
            let one = m.imm(1);
            let v = m.shr(image, count);
            m.and(v, one)
        };
        let (cf, pf, af) = (bit(self, 0), bit(self, 2), bit(self, 4));
        let (zf, sf, of) = (bit(self, 6), bit(self, 7), bit(self, 11));
        let one = self.imm(1);
        let result = self.xor(zf, one);
        let at = |m: &mut Self, v: Self::Val, n: u32, acc: Self::Val| {
            let count = m.imm(n);
            let v = m.shl(v, count);
            m.or(acc, v)
        };
        let differ = self.xor(cf, of);
        let parity_delta = self.xor(zf, pf);
        let carries = at(self, cf, 31, sf);
        let carries = at(self, differ, 30, carries);
        let carries = at(self, parity_delta, 8, carries);
        let carries = at(self, af, 3, carries);
        self.set_flags(LazyFlags::Raw { result, carries });
    }

    /// A condition code on the current flags.
    #[inline(always)]
    fn condition(&mut self, c: ConditionCode) -> Self::Bool {
        let (result, carries) = self.flags_raw();
        self.condition_of(c, result, carries)
    }

    /// A condition code on flags in the lazy form.
    #[inline(always)]
    fn condition_of(
        &mut self,
        c: ConditionCode,
        result: Self::Val,
        carries: Self::Val,
    ) -> Self::Bool {
        use ConditionCode as C;
        let zero = self.imm(0);
        match c {
            C::o | C::no => {
                // OF = carries31 xor carries30: the sum carries into bit 31.
                let bit30 = self.imm(1 << 30);
                let sum = self.add(carries, bit30);
                let of = self.slt(sum, zero);
                if c == C::o { of } else { self.not(of) }
            }
            C::b => self.slt(carries, zero),
            C::ae => {
                let cf = self.slt(carries, zero);
                self.not(cf)
            }
            C::e => self.eq(result, zero),
            C::ne => {
                let zf = self.eq(result, zero);
                self.not(zf)
            }
            C::be | C::a => {
                let cf = self.slt(carries, zero);
                let zf = self.eq(result, zero);
                let be = self.either(cf, zf);
                if c == C::be { be } else { self.not(be) }
            }
            C::s | C::ns => {
                let sf = self.sign_flag_word(result, carries);
                let sf = self.slt(sf, zero);
                if c == C::s { sf } else { self.not(sf) }
            }
            C::p | C::np => {
                let eight = self.imm(8);
                let delta = self.shr(carries, eight);
                let low = self.xor(result, delta);
                let low = self.zext(low, Width::B);
                let ones = self.popcnt(low);
                let one = self.imm(1);
                let odd = self.and(ones, one);
                let even = self.eq(odd, zero);
                if c == C::p { even } else { self.not(even) }
            }
            C::l | C::ge | C::le | C::g => {
                // SF xor OF; OF sits in bit 31 of carries ^ carries << 1.
                let one = self.imm(1);
                let up = self.shl(carries, one);
                let of = self.xor(carries, up);
                let sf = self.sign_flag_word(result, carries);
                let differ = self.xor(sf, of);
                let less = self.slt(differ, zero);
                match c {
                    C::l => less,
                    C::ge => self.not(less),
                    _ => {
                        let zf = self.eq(result, zero);
                        let le = self.either(less, zf);
                        if c == C::le { le } else { self.not(le) }
                    }
                }
            }
            C::None => self.eq(zero, zero),
        }
    }

    /// A word whose bit 31 is SF.
    #[inline(always)]
    fn sign_flag_word(&mut self, result: Self::Val, carries: Self::Val) -> Self::Val {
        let by31 = self.imm(31);
        let delta = self.shl(carries, by31);
        self.xor(result, delta)
    }
}
