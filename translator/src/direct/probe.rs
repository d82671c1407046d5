//! Jumps through the jump cache: to computed addresses, and to other pages, as what
//! those map to can change without this page's code being touched.
//!
//! A key is EIP and tag in one word ([`JumpEntry`]), so the target is right in mode
//! and address space if one comparison says so. Where a recipe has the flags the
//! comparison is a CMP; elsewhere it goes by JRCXZ, which looks at no flag.

use super::asm::{Mem, Reg, Size, reg};
use super::exit::{NOT_ZERO, field};
use super::flags::Recipe;
use super::{Cold, Emitter, relocation};
use crate::compile::Numbered;
use crate::state::{CpuState, JUMP_SHIFT, JumpEntry, Masks};
use std::mem::offset_of;

/// How code is gone to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// For good.
    Jump,
    /// To come back to this EIP.
    Call(u32),
}

impl Emitter<'_> {
    /// Continues at `target`, or at the EIP in R8.
    pub(super) fn probe(&mut self, target: Option<u32>, hop: Hop) {
        let checked = hop != Hop::Jump || target.is_none_or(|eip| self.is_backward(eip));
        self.reserve(110);
        match self.recipe() {
            Some(recipe) => self.probe_losing_flags(target, hop, checked, recipe),
            None => self.probe_sparing_flags(target, hop, checked),
        }
    }

    fn probe_losing_flags(&mut self, target: Option<u32>, hop: Hop, checked: bool, recipe: Recipe) {
        if checked {
            self.check_budget_losing_flags(recipe, target);
        }
        // The recipe changes R9.
        let entry = self.entry(target, reg::R11);
        let asm = &mut self.asm;
        // The tag, to the upper half: ADD R8, [tag].
        asm.op_mem(Size::Q, &[0x03], reg::R8, tag());
        // CMP R8, [key]
        asm.op_mem(Size::Q, &[0x3b], reg::R8, key(entry));
        self.relocate_entry(target);
        let missed = self.asm.jump_if(NOT_ZERO);
        self.asm.raw(recipe.code());
        self.hop(hop, target, entry);
        self.s.cold.push((missed, Cold::LostMiss(recipe)));
    }

    fn probe_sparing_flags(&mut self, target: Option<u32>, hop: Hop, checked: bool) {
        if checked {
            self.check_budget(target);
        } else {
            self.asm.mov(Size::Q, reg::R11, reg::RCX);
        }
        let entry = self.entry(target, reg::R9);
        let asm = &mut self.asm;
        asm.load(Size::Q, reg::RCX, tag());
        asm.lea(Size::Q, reg::R8, Mem::indexed(reg::R8, reg::RCX, 0));
        asm.load(Size::Q, reg::RCX, key(entry));
        self.relocate_entry(target);
        let missed = self.unless_equal();
        self.hop(hop, target, entry);
        self.s.cold.push((missed, Cold::Miss));
    }

    /// Has the EIP in R8, and its entry where this says.
    fn entry(&mut self, target: Option<u32>, offset: Reg) -> Mem {
        let asm = &mut self.asm;
        asm.load(Size::Q, reg::R10, field(offset_of!(CpuState, jump_cache)));
        if let Some(eip) = target {
            asm.mov_imm(reg::R8, eip);
            self.relocate(Numbered::Target);
            return Mem::at(reg::R10, relocation::entry(eip) as i32).widened();
        }
        // `jump_index`, times 16.
        asm.rotate_right(offset, reg::R8, JUMP_SHIFT as u8);
        asm.lea(Size::D, offset, Mem::indexed(reg::R8, offset, 0));
        let mask = offset_of!(CpuState, masks) + offset_of!(Masks, entry);
        asm.pdep_mem(offset, offset, field(mask));
        Mem::indexed(reg::R10, offset, 0)
    }

    fn hop(&mut self, hop: Hop, target: Option<u32>, entry: Mem) {
        let code = entry.plus(offset_of!(JumpEntry, code) as i32);
        match hop {
            Hop::Jump => self.asm.jump_mem(code),
            Hop::Call(back) => {
                self.asm.push_imm(back);
                self.relocate(Numbered::Eip);
                self.asm.call_mem(code);
            }
        }
        self.relocate_entry(target);
    }

    /// The displacement just emitted is that of a fixed target's entry.
    fn relocate_entry(&mut self, target: Option<u32>) {
        if target.is_some() {
            self.relocate(Numbered::Entry);
        }
    }
}

fn key(entry: Mem) -> Mem {
    entry.plus(offset_of!(JumpEntry, key) as i32)
}

/// The tag, as the upper half of a quadword.
fn tag() -> Mem {
    field(offset_of!(CpuState, reserved))
}
