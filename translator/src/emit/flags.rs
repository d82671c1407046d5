//! Flags without materialising them.
//!
//! A condition that follows its definition is one comparison of the definition's
//! operands: `cmp` and `jl` become `icmp slt` and `brif`, which Cranelift fuses
//! into the host's own compare and jump. Everything else goes through the two
//! words of the lazy form, whose provided definitions these overrides equal.

use super::Emitter;
use super::value::{Bool, Val};
use crate::flags::LazyFlags;
use crate::insn::Width;
use crate::machine::Machine;
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::IntCC;
use iced_x86::ConditionCode as C;

impl Emitter<'_> {
    /// `c` on the flags in force, if it follows directly from their definition.
    pub(super) fn fused_condition(&mut self, c: C) -> Option<Bool> {
        match self.regs.flags()? {
            LazyFlags::Sub { a, b, r, w } => self.condition_of_sub(c, a, b, r, w),
            LazyFlags::Logic { r, w } => self.condition_of_logic(c, r, w),
            LazyFlags::Result { r, w, cf, of } => self.condition_of_result(c, r, w, cf, of),
            LazyFlags::Add { .. } | LazyFlags::Sbb { .. } | LazyFlags::Step { .. }
                if matches!(c, C::b | C::ae) =>
            {
                let carry = self.fused_carry()?;
                let cc = if c == C::b {
                    IntCC::NotEqual
                } else {
                    IntCC::Equal
                };
                Some(self.compare(cc, carry, Val::Imm(0)))
            }
            LazyFlags::Add { r, w, .. }
            | LazyFlags::Sbb { r, w, .. }
            | LazyFlags::Step { r, w, .. } => self.condition_of_number(c, r, w),
            LazyFlags::Raw { .. } => None,
        }
    }

    fn condition_of_sub(&mut self, c: C, a: Val, b: Val, r: Val, w: Width) -> Option<Bool> {
        let cc = match c {
            C::b => IntCC::UnsignedLessThan,
            C::ae => IntCC::UnsignedGreaterThanOrEqual,
            C::be => IntCC::UnsignedLessThanOrEqual,
            C::a => IntCC::UnsignedGreaterThan,
            C::e => IntCC::Equal,
            C::ne => IntCC::NotEqual,
            C::l => IntCC::SignedLessThan,
            C::ge => IntCC::SignedGreaterThanOrEqual,
            C::le => IntCC::SignedLessThanOrEqual,
            C::g => IntCC::SignedGreaterThan,
            _ => return self.condition_of_number(c, r, w),
        };
        let signed = matches!(c, C::l | C::ge | C::le | C::g);
        let (a, b) = if signed {
            (self.sext_value(a, w), self.sext_value(b, w))
        } else {
            (a, b)
        };
        Some(self.compare(cc, a, b))
    }

    fn condition_of_logic(&mut self, c: C, r: Val, w: Width) -> Option<Bool> {
        let zero = Val::Imm(0);
        match c {
            C::b | C::o => Some(Bool::Known(false)),
            C::ae | C::no => Some(Bool::Known(true)),
            C::be => self.condition_of_number(C::e, r, w),
            C::a => self.condition_of_number(C::ne, r, w),
            C::l => self.condition_of_number(C::s, r, w),
            C::ge => self.condition_of_number(C::ns, r, w),
            C::le | C::g => {
                let r = self.sext_value(r, w);
                let cc = match c {
                    C::le => IntCC::SignedLessThanOrEqual,
                    _ => IntCC::SignedGreaterThan,
                };
                Some(self.compare(cc, r, zero))
            }
            _ => self.condition_of_number(c, r, w),
        }
    }

    fn condition_of_result(&mut self, c: C, r: Val, w: Width, cf: Val, of: Val) -> Option<Bool> {
        let zero = Val::Imm(0);
        match c {
            C::b => Some(self.compare(IntCC::NotEqual, cf, zero)),
            C::ae => Some(self.compare(IntCC::Equal, cf, zero)),
            C::o => Some(self.compare(IntCC::NotEqual, of, zero)),
            C::no => Some(self.compare(IntCC::Equal, of, zero)),
            C::be | C::a => {
                let carry = self.compare(IntCC::NotEqual, cf, zero);
                let none = self.compare(IntCC::Equal, r, zero);
                let be = self.either_bool(carry, none);
                Some(if c == C::be { be } else { self.not_bool(be) })
            }
            C::l | C::ge | C::le | C::g => {
                let r = self.sext_value(r, w);
                let negative = self.compare(IntCC::SignedLessThan, r, zero);
                let sign = self.bit_value(negative);
                let less = self.compare(IntCC::NotEqual, sign, of);
                let none = self.compare(IntCC::Equal, r, zero);
                Some(match c {
                    C::l => less,
                    C::ge => self.not_bool(less),
                    C::le => self.either_bool(less, none),
                    _ => {
                        let le = self.either_bool(less, none);
                        self.not_bool(le)
                    }
                })
            }
            _ => self.condition_of_number(c, r, w),
        }
    }

    /// The conditions that depend on the result alone.
    fn condition_of_number(&mut self, c: C, r: Val, w: Width) -> Option<Bool> {
        let zero = Val::Imm(0);
        match c {
            C::e => Some(self.compare(IntCC::Equal, r, zero)),
            C::ne => Some(self.compare(IntCC::NotEqual, r, zero)),
            C::s | C::ns => {
                let r = self.sext_value(r, w);
                let cc = match c {
                    C::s => IntCC::SignedLessThan,
                    _ => IntCC::SignedGreaterThanOrEqual,
                };
                Some(self.compare(cc, r, zero))
            }
            C::p | C::np => {
                let low = self.zext_value(r, Width::B);
                let ones = self.popcnt(low);
                let odd = self.and_values(ones, Val::Imm(1));
                let cc = match c {
                    C::p => IntCC::Equal,
                    _ => IntCC::NotEqual,
                };
                Some(self.compare(cc, odd, zero))
            }
            _ => None,
        }
    }

    /// CF as 0 or 1, if it follows directly from the definition in force.
    pub(super) fn fused_carry(&mut self) -> Option<Val> {
        match self.regs.flags()? {
            LazyFlags::Sub { a, b, .. } => {
                let borrow = self.compare(IntCC::UnsignedLessThan, a, b);
                Some(self.bit_value(borrow))
            }
            LazyFlags::Logic { .. } => Some(Val::Imm(0)),
            LazyFlags::Result { cf, .. } | LazyFlags::Step { cf, .. } => Some(cf),
            // Of a full width, the two words are as cheap and may be wanted anyway.
            LazyFlags::Add { w: Width::D, .. } | LazyFlags::Sbb { w: Width::D, .. } => None,
            LazyFlags::Add { a, b, r, w } => Some(self.carry_out(a, b, r, w, false)),
            LazyFlags::Sbb { a, b, r, w } => Some(self.carry_out(a, b, r, w, true)),
            LazyFlags::Raw { .. } => None,
        }
    }

    /// The carry or borrow out of the top bit of `a ± b = r`, 0 or 1.
    fn carry_out(&mut self, a: Val, b: Val, r: Val, w: Width, borrow: bool) -> Val {
        let top = w.bits() - 1;
        let vector = self.carry_vector_of(a, b, r, 1 << top, borrow);
        let bit = self.shr(vector, Val::Imm(top));
        self.and_values(bit, Val::Imm(1))
    }

    /// The carries of `a + b = r` of width `w`, in the places of the lazy form.
    ///
    /// The carry out of each bit is the majority of `a`, `b` and `!r`; with `a`
    /// complemented and `r` not, it is the borrow of `a - b`. Only three bits
    /// are wanted, so a constant operand is masked before it is used.
    pub(super) fn carries_of(&mut self, a: Val, b: Val, r: Val, w: Width, borrow: bool) -> Val {
        let wanted = 0b11 << (w.bits() - 2) | 1 << 3;
        let vector = self.carry_vector_of(a, b, r, wanted, borrow);
        self.place_carries(vector, w)
    }

    /// The `wanted` bits of the vector of carries; others are anything.
    fn carry_vector_of(&mut self, a: Val, b: Val, r: Val, wanted: u32, borrow: bool) -> Val {
        let ones = Val::Imm(u32::MAX);
        let (a, r) = match borrow {
            true => (self.xor_values(a, ones), r),
            false => (a, self.xor_values(r, ones)),
        };
        let (k, v) = match (a, b) {
            (Val::Imm(k), v) | (v, Val::Imm(k)) => (Val::Imm(k & wanted), v),
            _ => (a, b),
        };
        let both = self.and_values(k, v);
        let any = match k {
            Val::Imm(0) => v,
            _ => self.or_values(k, v),
        };
        let passed = self.and_values(any, r);
        self.or_values(both, passed)
    }

    /// Moves a vector of carries of width `w` into the places of the lazy form.
    fn place_carries(&mut self, vector: Val, w: Width) -> Val {
        if w == Width::D {
            return self.and_values(vector, Val::Imm(0xc000_0008));
        }
        let up = self.shl(vector, Val::Imm(32 - w.bits()));
        let top = self.and_values(up, Val::Imm(0xc000_0000));
        let af = self.and_values(vector, Val::Imm(8));
        self.or_values(top, af)
    }

    /// CF and CF xor OF, in bits 31 and 30, of two 0/1 values.
    pub(super) fn place_carry_and_overflow(&mut self, cf: Val, of: Val) -> Val {
        let top = self.shl(cf, Val::Imm(31));
        let differ = self.xor_values(cf, of);
        let next = self.shl(differ, Val::Imm(30));
        self.or_values(top, next)
    }

    /// The `i8` of `c`, for a branch.
    pub(super) fn branch_on(
        &mut self,
        c: Bool,
        taken: cranelift_codegen::ir::Block,
        fallthrough: cranelift_codegen::ir::Block,
    ) {
        let c = self.truth(c);
        self.ins().brif(c, taken, &[], fallthrough, &[]);
    }
}

#[cfg(test)]
mod tests {
    //! On constants the emitter computes instead of emitting, so what it says of
    //! flags can be compared with the arithmetic they stand for.

    use super::super::{Emitter, Job, Scratch};
    use super::*;
    use crate::decode::decode_block;
    use crate::flags::{self, to_eflags};
    use crate::mode::Mode;
    use cranelift_codegen::ir::{Function, Signature};
    use cranelift_codegen::isa::CallConv;
    use proptest::prelude::*;

    const CONDITIONS: [C; 16] = [
        C::o,
        C::no,
        C::b,
        C::ae,
        C::e,
        C::ne,
        C::be,
        C::a,
        C::s,
        C::ns,
        C::p,
        C::np,
        C::l,
        C::ge,
        C::le,
        C::g,
    ];

    /// Whether `c` holds for an EFLAGS image (SDM vol. 1, "Condition Codes").
    fn holds(c: C, image: u32) -> bool {
        let set = |flag| image & flag != 0;
        let (cf, zf, sf) = (set(flags::CF), set(flags::ZF), set(flags::SF));
        let (of, pf) = (set(flags::OF), set(flags::PF));
        match c {
            C::None => true,
            C::o => of,
            C::no => !of,
            C::b => cf,
            C::ae => !cf,
            C::e => zf,
            C::ne => !zf,
            C::be => cf || zf,
            C::a => !(cf || zf),
            C::s => sf,
            C::ns => !sf,
            C::p => pf,
            C::np => !pf,
            C::l => sf != of,
            C::ge => sf == of,
            C::le => zf || sf != of,
            C::g => !zf && sf == of,
        }
    }

    /// The EFLAGS image of a result with the given carry, overflow and auxiliary carry.
    fn image(r: u32, w: Width, cf: bool, of: bool, af: bool) -> u32 {
        let bit = |set: bool, flag: u32| if set { flag } else { 0 };
        bit(cf, flags::CF)
            | bit(of, flags::OF)
            | bit(af, flags::AF)
            | bit(r == 0, flags::ZF)
            | bit(r >> (w.bits() - 1) & 1 != 0, flags::SF)
            | bit((r as u8).count_ones().is_multiple_of(2), flags::PF)
    }

    /// Checks everything the emitter says of a definition against `image`.
    fn check(definition: LazyFlags<Val>, image: u32) -> Result<(), TestCaseError> {
        let block = decode_block(&[0x90; 16], 0, Mode::flat32(), 1).expect("a NOP");
        let signature = Signature::new(CallConv::Tail);
        let job = Job {
            block: &block,
            link_base: 0,
            grouped: true,
            callout_base: 0,
            block_signature: &signature,
            callout_signature: &signature,
        };
        let (mut func, mut scratch) = (Function::new(), Scratch::default());
        let mut emitter = Emitter::new(&mut func, &mut scratch, &job);
        emitter.set_flags(definition);
        for c in CONDITIONS {
            let said = emitter.condition(c);
            let known = matches!(said, Bool::Known(known) if known == holds(c, image));
            prop_assert!(known, "{c:?} of {definition:x?} is {said:?}");
        }
        prop_assert_eq!(emitter.carry(), Val::Imm(image & flags::CF));
        let (Val::Imm(result), Val::Imm(carries)) = emitter.raw_flags() else {
            return Err(TestCaseError::fail("constants were not folded"));
        };
        prop_assert_eq!(to_eflags(result, carries), image, "{:x?}", definition);
        Ok(())
    }

    /// Operands with a good share of equal and extreme ones.
    fn operand() -> impl Strategy<Value = u32> {
        let edges = vec![
            0,
            1,
            7,
            8,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0x8000,
            0xffff,
            0x7fff_ffff,
        ];
        prop_oneof![
            any::<u32>(),
            prop::sample::select(edges.clone()),
            prop::sample::select(edges).prop_map(|v| !v),
        ]
    }

    fn width() -> impl Strategy<Value = Width> {
        prop::sample::select(vec![Width::B, Width::W, Width::D])
    }

    proptest! {
        #[test]
        fn sums(a in operand(), b in operand(), carry in 0..2_u32, w in width()) {
            let (a, b) = (a & w.mask(), b & w.mask());
            let wide = u64::from(a) + u64::from(b) + u64::from(carry);
            let r = wide as u32 & w.mask();
            let of = (a ^ r) & (b ^ r) & (1 << (w.bits() - 1)) != 0;
            let image = image(r, w, wide >> w.bits() != 0, of, (a ^ b ^ r) & 0x10 != 0);
            let (a, b, r) = (Val::Imm(a), Val::Imm(b), Val::Imm(r));
            check(LazyFlags::Add { a, b, r, w }, image)?;
        }

        #[test]
        fn differences(a in operand(), b in operand(), borrow in 0..2_u32, w in width()) {
            let (a, b) = (a & w.mask(), b & w.mask());
            let r = a.wrapping_sub(b).wrapping_sub(borrow) & w.mask();
            let cf = u64::from(a) < u64::from(b) + u64::from(borrow);
            let of = (a ^ b) & (a ^ r) & (1 << (w.bits() - 1)) != 0;
            let image = image(r, w, cf, of, (a ^ b ^ r) & 0x10 != 0);
            let (a, b, r) = (Val::Imm(a), Val::Imm(b), Val::Imm(r));
            let definition = match borrow {
                0 => LazyFlags::Sub { a, b, r, w },
                _ => LazyFlags::Sbb { a, b, r, w },
            };
            check(definition, image)?;
        }

        #[test]
        fn results(r in operand(), cf in 0..2_u32, of in 0..2_u32, w in width()) {
            let r = r & w.mask();
            check(LazyFlags::Logic { r: Val::Imm(r), w }, image(r, w, false, false, false))?;
            let image = image(r, w, cf != 0, of != 0, false);
            let (r, cf, of) = (Val::Imm(r), Val::Imm(cf), Val::Imm(of));
            check(LazyFlags::Result { r, w, cf, of }, image)?;
        }
    }
}
