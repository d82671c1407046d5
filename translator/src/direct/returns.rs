//! Calls and returns, in pairs on the host's own stack.
//!
//! A guest CALL pushes the guest's return EIP on the host's stack and is a host CALL;
//! behind that stands the jump to the block at the return EIP. A guest RET looks
//! whether the EIP it has loaded is the one on the host's stack, and if so is a host
//! RET: one comparison instead of a probe of the jump cache, and the host predicts it
//! as a return.
//!
//! ```text
//! push  the return EIP            cmp  r8d, [rsp+8]
//! call  the callee's block        jne  unpaired
//! jmp   the block at that EIP     ret  8
//! ```
//!
//! Nothing on that stack outlives a stay in direct code, whose *leaving* drops it
//! all. Blocks are dropped, and mode and address space change, only outside, so what
//! a host RET leads to is as right as it was when the call was made. A RET that finds
//! another EIP (after a longjmp, a switch of threads, a computed jump by PUSH and
//! RET) drops everything too, and goes through the jump cache.
//!
//! At the bottom lies a frame that belongs to no call: a RET to the EIP that it
//! happens to name leaves, and the run loop goes on there.
//!
//! Calls backward, to other pages and to computed addresses look at the budget, and of
//! calls forward in one page there are no more than it has bytes. So no more than a
//! slice's frames are ever there, and some for each page.

use super::asm::{Assembler, Mem, Size, reg};
use super::exit::{NOT_SIGN, NOT_ZERO, field, host_stack};
use super::flags::{Flags, Recipe};
use super::memory::Access;
use super::special::stack;
use super::{Cold, Emitter};
use crate::compile::{ExitKind, Numbered};
use crate::insn::{Gpr, Insn};
use crate::state::{CpuState, JUMP_SHIFT, JumpEntry, Masks};
use iced_x86::Code;
use std::mem::offset_of;

impl Emitter<'_> {
    pub(super) fn call(&mut self, i: &Insn) -> Option<()> {
        if !i.stack32 || i.code != Code::Call_rel32_32 {
            return None;
        }
        let back = i.next_eip;
        self.push_eip(back)?;
        if i.imm == back {
            // Only to have EIP on the stack: nobody will return.
            self.transfer(back);
            return Some(());
        }
        let push = |emitter: &mut Self| {
            emitter.asm.push_imm(back);
            emitter.relocate(Numbered::Eip);
        };
        self.go(i.imm, push, Assembler::call);
        self.after_call(back);
        Some(())
    }

    /// What a call comes back to.
    pub(super) fn after_call(&mut self, back: u32) {
        self.flags = Flags::Live;
        self.transfer(back);
    }

    pub(super) fn return_(&mut self, i: &Insn) -> Option<()> {
        let dropped = match i.code {
            Code::Retnd => 0,
            Code::Retnd_imm16 => i.imm as i32,
            _ => return None,
        };
        if !i.stack32 {
            return None;
        }
        let top = self.check(&stack(Gpr::ESP, 0), Access::Read, 4)?;
        self.asm.load(Size::D, reg::R8, top);
        self.move_esp(4 + dropped);
        self.reserve(50);
        let expected = Mem::at(reg::RSP, 8);
        if let Some(recipe) = self.recipe() {
            // CMP R8D, [expected]
            self.asm.op_mem(Size::D, &[0x3b], reg::R8, expected);
            let unpaired = self.asm.jump_if(NOT_ZERO);
            self.asm.raw(recipe.code());
            self.s.cold.push((unpaired, Cold::LostUnpaired(recipe)));
        } else {
            let unpaired = self.unless_r8_is(Size::D, expected);
            self.s.cold.push((unpaired, Cold::Unpaired));
        }
        self.asm.ret_dropping(8);
        Some(())
    }

    /// A RET to the EIP in R8 which is not that of the last call.
    pub(super) fn unpaired(&mut self, recipe: Option<Recipe>) {
        match recipe {
            Some(recipe) => self.asm.raw(recipe.code()),
            None => self.asm.mov(Size::Q, reg::RCX, reg::R11),
        }
        let routine = field(offset_of!(CpuState, direct_return));
        self.asm.jump_mem(routine);
    }
}

/// The routine for that: forgets all calls and goes on by the jump cache.
pub fn unpaired() -> Vec<u8> {
    let mut asm = Assembler::default();
    asm.load(Size::Q, reg::RSP, host_stack());
    asm.mov(Size::Q, reg::R9, reg::RAX);
    // LAHF; SETO AL
    asm.raw(&[0x9f, 0x0f, 0x90, 0xc0]);
    asm.mov(Size::D, reg::R10, reg::RAX);
    // TEST R13, R13
    asm.op_reg(Size::Q, &[0x85], reg::R13, reg::R13);
    let spent = asm.jump_if(NOT_SIGN);
    asm.rotate_right(reg::R11, reg::R8, JUMP_SHIFT as u8);
    asm.lea(Size::D, reg::R11, Mem::indexed(reg::R8, reg::R11, 0));
    let mask = offset_of!(CpuState, masks) + offset_of!(Masks, entry);
    asm.pdep_mem(reg::R11, reg::R11, field(mask));
    // ADD R11, [the cache]
    let cache = field(offset_of!(CpuState, jump_cache));
    asm.op_mem(Size::Q, &[0x03], reg::R11, cache);
    asm.mov(Size::D, reg::RAX, reg::R8);
    // ADD RAX, [tag]; CMP RAX, [key]
    let tag = field(offset_of!(CpuState, reserved));
    asm.op_mem(Size::Q, &[0x03], reg::RAX, tag);
    let key = Mem::at(reg::R11, offset_of!(JumpEntry, key) as i32);
    asm.op_mem(Size::Q, &[0x3b], reg::RAX, key);
    let missed = asm.jump_if(NOT_ZERO);
    restore(&mut asm);
    asm.jump_mem(Mem::at(reg::R11, offset_of!(JumpEntry, code) as i32));
    for (branch, kind) in [(missed, ExitKind::Next), (spent, ExitKind::Budget)] {
        asm.land(branch);
        restore(&mut asm);
        asm.store(Size::D, field(offset_of!(CpuState, eip)), reg::R8);
        asm.mov_imm(reg::R8, kind as u32);
        asm.jump_mem(field(offset_of!(CpuState, direct_leave)));
    }
    asm.bytes
}

/// RAX and flags, from R9 and R10.
fn restore(asm: &mut Assembler) {
    asm.mov(Size::D, reg::RAX, reg::R10);
    // ADD AL, 7F sets OF if AL is 1; SAHF.
    asm.raw(&[0x04, 0x7f, 0x9e]);
    asm.mov(Size::Q, reg::RAX, reg::R9);
}
