//! Selectors, shown and loaded.
//!
//! A load of DS or ES is the runtime's affair but in one case, which is by far the most
//! frequent: a kernel gives them the data segment of programs whenever it is entered and
//! again when it is left, and most often they have it. Where the register has the selector
//! already and the descriptor is the one of the last such load ([`FlatLoad`]), nothing
//! would change. That the segment is flat, which a block knows from its mode, leaves
//! selector and attributes as all there is to compare.

use super::asm::{Mem, Size, reg};
use super::exit::field;
use super::memory::Access;
use super::special::stack;
use super::{Emitter, Next};
use crate::insn::{Gpr, Insn, Operand, SegReg, Width};
use crate::mode::Mode;
use crate::state::{CpuState, FlatLoad, Segment};
use std::mem::{offset_of, size_of};

impl Emitter<'_> {
    /// MOV from a segment register to a general one, or of a selector to DS or ES.
    pub(super) fn mov_selector(&mut self, i: &Insn) -> Option<Next> {
        match (i.ops[0], i.ops[1]) {
            (Operand::Gpr(r, w), Operand::Seg(seg)) => {
                self.load_selector(seg);
                if w == Width::W {
                    self.asm.raw(&[0x66]);
                }
                self.asm.mov(Size::D, super::rename::host(r), reg::R11);
                Some(Next::Insn)
            }
            (Operand::Seg(seg), Operand::Gpr(r, _)) => {
                if let Some(way) = self.way_of_load(seg) {
                    return Some(self.load_from_register(i, way, r));
                }
                self.may_be_same(seg)?;
                let selector = super::rename::host(r);
                self.asm.zero_extend_word(reg::R8, selector);
                self.load_same(seg);
                Some(Next::Insn)
            }
            (Operand::Seg(seg), Operand::Mem(Width::W)) => {
                let way = self.way_of_load(seg)?;
                self.load_from_memory(i, way)
            }
            _ => None,
        }
    }

    /// POP to a segment register.
    pub(super) fn pop_selector(&mut self, i: &Insn, seg: SegReg) -> Option<Next> {
        if let Some(way) = self.way_of_load(seg) {
            return self.load_from_stack(i, way);
        }
        self.may_be_same(seg)?;
        if !i.stack32 || i.width != Width::D {
            return None;
        }
        let top = self.check(&stack(Gpr::ESP, 0), Access::Read, 4)?;
        // MOVZX R8D, word [top]
        self.asm.op_mem(Size::D, &[0x0f, 0xb7], reg::R8, top);
        self.load_same(seg);
        self.move_esp(4);
        Some(Next::Insn)
    }

    /// The selector of a segment register, to R11.
    pub(super) fn load_selector(&mut self, seg: SegReg) {
        let at = selector(seg);
        // MOVZX R11D, word [selector]
        self.asm.op_mem(Size::D, &[0x0f, 0xb7], reg::R11, field(at));
    }

    /// Code may look whether a load changes the register.
    fn may_be_same(&self, seg: SegReg) -> Option<()> {
        self.at_cpl0()?;
        let mode = self.block.mode;
        let protected = mode.0 & Mode::PROTECTED != 0;
        let flat = mode.zero_base(seg) && mode.unlimited(seg);
        let data = matches!(seg, SegReg::Ds | SegReg::Es);
        (protected && flat && data).then_some(())
    }

    /// Has the runtime load a register unless R8 is the selector that it has.
    fn load_same(&mut self, seg: SegReg) {
        let other = self.refused(Access::Write);
        self.reserve(60);
        self.restore_flags();
        let asm = &mut self.asm;
        asm.load(Size::D, reg::R9, field(selector(seg)));
        asm.rotate_right_wide(reg::R9, reg::R9, 32);
        let key = Mem::indexed(reg::R8, reg::R9, 0);
        asm.lea(Size::Q, reg::R8, key);
        self.go_on_if_r8_is(known(offset_of!(FlatLoad, key)), other);
        let last_byte = known(offset_of!(FlatLoad, last_byte));
        self.asm.load(Size::D, reg::R8, last_byte);
        self.check_linear(Access::Read, 8, false, other);
        let descriptor = Mem::indexed(reg::R8, reg::R9, 0).plus(-7);
        self.asm.load(Size::Q, reg::R8, descriptor);
        self.restore_flags();
        self.reserve(60);
        self.go_on_if_r8_is(known(offset_of!(FlatLoad, descriptor)), other);
    }
}

/// Where a segment register's selector is, and its attributes behind it.
fn selector(seg: SegReg) -> usize {
    let segment = offset_of!(CpuState, seg) + seg as usize * size_of::<Segment>();
    segment + offset_of!(Segment, selector)
}

/// A field of the load known.
fn known(offset: usize) -> Mem {
    field(offset_of!(CpuState, flat_load) + offset)
}
