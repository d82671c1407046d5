//! Bit strings, and the one compare and exchange of eight bytes.
//!
//! BT and its like, with a memory operand and a register, count bits beyond the
//! operand: the doubleword with the bit is found first, by shifts that leave the flags
//! alone, as the access may fault.

use super::Emitter;
use super::asm::{Mem, Size, reg};
use super::effects::access;
use super::exit::field;
use super::memory::Access;
use super::rename::host;
use crate::insn::{Gpr, Insn, Operand, Width};
use crate::state::{CpuState, Masks};
use iced_x86::Mnemonic;
use std::mem::offset_of;

impl Emitter<'_> {
    /// BT, BTS, BTR or BTC of a doubleword in memory by a register.
    pub(super) fn bit_string(&mut self, i: &Insn) -> Option<()> {
        let opcode = match i.mnemonic {
            Mnemonic::Bt => 0xa3,
            Mnemonic::Bts => 0xab,
            Mnemonic::Btr => 0xb3,
            Mnemonic::Btc => 0xbb,
            _ => return None,
        };
        let (Operand::Mem(Width::D), Operand::Gpr(r, Width::D)) = (i.ops[0], i.ops[1]) else {
            return None;
        };
        if i.mem.addr16 {
            return None;
        }
        self.offset(&i.mem, reg::R8);
        let asm = &mut self.asm;
        asm.mov_imm(reg::R9, 5);
        asm.shift_right_signed(reg::R9, host(r), reg::R9);
        asm.lea(Size::D, reg::R8, Mem::indexed(reg::R8, reg::R9, 2));
        let place = self.check_computed(i.mem.seg, access(i), 4)?;
        let mask = offset_of!(CpuState, masks) + offset_of!(Masks, bit);
        self.asm.pext_mem(reg::R11, host(r), field(mask));
        self.asm.op_mem(Size::D, &[0x0f, opcode], reg::R11, place);
        Some(())
    }

    /// CMPXCHG8B: the registers are the host's.
    pub(super) fn cmpxchg8b(&mut self, i: &Insn) -> Option<()> {
        let place = self.check(&i.mem, Access::Write, 8)?;
        self.asm.op_mem(Size::D, &[0x0f, 0xc7], 1, place);
        Some(())
    }
}

/// What these write: EAX and EDX, or flags alone.
pub fn written(i: &Insn) -> u16 {
    match i.mnemonic {
        Mnemonic::Cmpxchg8b => 1 << Gpr::EAX.0 | 1 << Gpr::EDX.0,
        _ => 0,
    }
}
