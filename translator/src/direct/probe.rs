//! Jumps to computed addresses, through the jump cache.
//!
//! A key is EIP and tag in one word ([`JumpEntry`]), so the target is right in mode
//! and address space if one comparison says so. Where a recipe has the flags the
//! comparison is a CMP; elsewhere it goes by JRCXZ, which looks at no flag.

use super::asm::{Assembler, Mem, Reg, Size, reg};
use super::exit::{NOT_ZERO, field};
use super::flags::Recipe;
use super::{Cold, Emitter};
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
    /// Continues at the EIP in R8.
    pub(super) fn probe(&mut self, hop: Hop) {
        self.reserve(110);
        match self.recipe() {
            Some(recipe) => self.probe_losing_flags(hop, recipe),
            None => self.probe_sparing_flags(hop),
        }
    }

    fn probe_losing_flags(&mut self, hop: Hop, recipe: Recipe) {
        self.check_budget_losing_flags(recipe);
        // The recipe changes R9.
        let entry = entry(&mut self.asm, reg::R11);
        let asm = &mut self.asm;
        // The tag, to the upper half: ADD R8, [tag].
        asm.op_mem(Size::Q, &[0x03], reg::R8, tag());
        // CMP R8, [key]
        asm.op_mem(Size::Q, &[0x3b], reg::R8, key(entry));
        let missed = self.asm.jump_if(NOT_ZERO);
        self.asm.raw(recipe.code());
        self.hop(hop, entry);
        self.s.cold.push((missed, Cold::LostMiss(recipe)));
    }

    fn probe_sparing_flags(&mut self, hop: Hop) {
        self.check_budget(None);
        let entry = find_entry(&mut self.asm);
        let missed = self.unless_equal();
        self.hop(hop, entry);
        self.s.cold.push((missed, Cold::Miss));
    }

    fn hop(&mut self, hop: Hop, entry: Mem) {
        match hop {
            Hop::Jump => self.asm.jump_mem(code(entry)),
            Hop::Call(back) => {
                self.asm.push_imm(back);
                self.relocate(Numbered::Eip);
                self.asm.call_mem(code(entry));
            }
        }
    }
}

/// Where the entry for the EIP in R8 is.
fn entry(asm: &mut Assembler, offset: Reg) -> Mem {
    let cache = field(offset_of!(CpuState, jump_cache));
    asm.load(Size::Q, reg::R10, cache);
    // `jump_index`, times 16.
    asm.rotate_right(offset, reg::R8, JUMP_SHIFT as u8);
    asm.lea(Size::D, offset, Mem::indexed(reg::R8, offset, 0));
    let mask = offset_of!(CpuState, masks) + offset_of!(Masks, entry);
    asm.pdep_mem(offset, offset, field(mask));
    Mem::indexed(reg::R10, offset, 0)
}

/// The same without a look at the flags; leaves the key wanted in R8 and the one that is
/// there in RCX. Changes R9 and R10.
pub(super) fn find_entry(asm: &mut Assembler) -> Mem {
    let entry = entry(asm, reg::R9);
    asm.load(Size::Q, reg::RCX, tag());
    asm.lea(Size::Q, reg::R8, Mem::indexed(reg::R8, reg::RCX, 0));
    asm.load(Size::Q, reg::RCX, key(entry));
    entry
}

fn key(entry: Mem) -> Mem {
    entry.plus(offset_of!(JumpEntry, key) as i32)
}

/// Where the code of an entry is.
pub(super) fn code(entry: Mem) -> Mem {
    entry.plus(offset_of!(JumpEntry, code) as i32)
}

/// The tag, as the upper half of a quadword.
fn tag() -> Mem {
    field(offset_of!(CpuState, reserved))
}
