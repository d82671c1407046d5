//! System instructions that only move bits of EFLAGS.
//!
//! Kernels mask and unmask interrupts around everything. At CPL 0, which a block
//! knows from its mode, CLI, STI, PUSHF and POPF need no rule looked at but these:
//!
//! - IF may be set here only while no interrupt waits
//!   ([`CpuState::interrupt_waiting`]); else the callout does it, which leaves.
//! - After STI an interrupt must wait for one more instruction. Code that leaves at
//!   that very EIP is noticed by [`CpuState::sti_eip`].
//! - POPF does only what changes neither mode nor privilege: everything but IF and
//!   the arithmetic flags must be as it is, else the callout does it.

use super::asm::{Assembler, Mem, Size, reg};
use super::exit::{NOT_ZERO, ZERO, field};
use super::flags::Flags;
use super::memory::Access;
use super::special::stack;
use super::{Cold, Emitter};
use crate::compile::Numbered;
use crate::flags;
use crate::insn::{Gpr, Insn, Width};
use crate::state::CpuState;
use std::mem::offset_of;

/// What POPF may set at CPL 0, arithmetic flags and IF aside.
const GUARDED: u32 = flags::TF | flags::DF | flags::IOPL | flags::NT | flags::AC | flags::ID;

/// AH as LAHF leaves it: five flags, and where they are in EFLAGS.
const LOW_FLAGS_IN_AX: u32 = 0xd500;
const LOW_FLAGS: u32 = 0xd5;

impl Emitter<'_> {
    /// Sets or clears bits of EFLAGS that are not arithmetic flags.
    pub(super) fn change_eflags(&mut self, bit: u32, set: bool) {
        let place = field(offset_of!(CpuState, eflags));
        if let Some(recipe) = self.recipe() {
            let (extension, value) = if set { (1, bit) } else { (4, !bit) };
            // OR or AND dword [eflags], value
            self.asm.op_mem(Size::D, &[0x81], extension, place);
            self.asm.raw(&value.to_le_bytes());
            self.flags = Flags::Lost(recipe);
            return;
        }
        sparing_flags(&mut self.asm, bit, set);
    }

    /// CLI.
    pub(super) fn cli(&mut self) -> Option<()> {
        self.at_cpl0()?;
        self.change_eflags(flags::IF, false);
        Some(())
    }

    /// STI, which ends a block.
    pub(super) fn sti(&mut self, i: &Insn) -> Option<()> {
        self.at_cpl0()?;
        self.reserve(60);
        self.restore_flags();
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.load(Size::D, reg::RCX, waiting());
        let some = self.unless_zero();
        self.s.cold.push((some, Cold::CallOut(self.index)));
        self.change_eflags(flags::IF, true);
        let shadowed = field(offset_of!(CpuState, sti_eip));
        self.asm.store_imm(shadowed, i.next_eip);
        self.relocate(Numbered::Eip);
        self.transfer(i.next_eip);
        Some(())
    }

    /// PUSHFD. RF and VM are pushed as 0.
    pub(super) fn pushf(&mut self, i: &Insn) -> Option<()> {
        if !i.stack32 || i.width != Width::D {
            return None;
        }
        self.reserve(90);
        let asm = &mut self.asm;
        asm.mov(Size::D, reg::R9, reg::RAX);
        // LAHF; SETO AL
        asm.raw(&[0x9f, 0x0f, 0x90, 0xc0]);
        asm.mov(Size::D, reg::R8, reg::RAX);
        asm.mov(Size::D, reg::RAX, reg::R9);
        // The five low flags to R11, OF to R8, the others to R9.
        asm.mov_imm(reg::R9, LOW_FLAGS_IN_AX);
        asm.pext(reg::R11, reg::R8, reg::R9);
        asm.mov_imm(reg::R9, LOW_FLAGS);
        asm.pdep(reg::R11, reg::R11, reg::R9);
        asm.mov_imm(reg::R9, flags::OF);
        asm.pdep(reg::R8, reg::R8, reg::R9);
        asm.lea(Size::D, reg::R8, Mem::indexed(reg::R8, reg::R11, 0));
        asm.load(Size::D, reg::R9, field(offset_of!(CpuState, eflags)));
        asm.mov_imm(reg::R11, !(flags::VM | flags::RF));
        asm.pext(reg::R9, reg::R9, reg::R11);
        asm.pdep(reg::R9, reg::R9, reg::R11);
        asm.lea(Size::D, reg::R8, Mem::indexed(reg::R8, reg::R9, 0));
        asm.store(Size::D, spill(), reg::R8);
        let top = self.check_push()?;
        self.asm.load(Size::D, reg::R11, spill());
        self.asm.store(Size::D, top, reg::R11);
        self.move_esp(-4);
        Some(())
    }

    /// POPFD, which ends a block.
    pub(super) fn popf(&mut self, i: &Insn) -> Option<()> {
        self.at_cpl0()?;
        if !i.stack32 || i.width != Width::D {
            return None;
        }
        let top = self.check(&stack(Gpr::ESP, 0), Access::Read, 4)?;
        let eflags = field(offset_of!(CpuState, eflags));
        let asm = &mut self.asm;
        asm.load(Size::D, reg::R8, top);
        // From here on the arithmetic flags are those that R8 has.
        asm.mov(Size::D, reg::R11, reg::RCX);
        asm.load(Size::D, reg::R9, eflags);
        // XOR R9D, R8D; TEST R9D, GUARDED
        asm.op_reg(Size::D, &[0x33], reg::R9, reg::R8);
        test(asm, GUARDED);
        let other = asm.jump_if(NOT_ZERO);
        test(asm, flags::IF);
        let same = asm.jump_if(ZERO);
        // CMP dword [waiting], 0
        asm.op_mem(Size::D, &[0x83], 7, waiting());
        asm.raw(&[0]);
        let some = asm.jump_if(NOT_ZERO);
        // XOR dword [eflags], IF
        asm.op_mem(Size::D, &[0x81], 6, eflags);
        asm.raw(&flags::IF.to_le_bytes());
        asm.land(same);
        self.move_esp(4);
        self.load_image();
        for branch in [other, some] {
            self.s.cold.push((branch, Cold::CallOut(self.index)));
        }
        self.flags = Flags::Live;
        self.transfer(i.next_eip);
        Some(())
    }

    /// Arithmetic flags from the image in R8.
    fn load_image(&mut self) {
        let asm = &mut self.asm;
        asm.mov(Size::D, reg::R9, reg::RAX);
        asm.mov(Size::D, reg::RAX, reg::R8);
        asm.shift_imm(4, reg::RAX, 8);
        // OF to AL.
        asm.shift_imm(5, reg::R8, 11);
        asm.group1_imm(4, reg::R8, 1);
        asm.op_reg(Size::D, &[0x0b], reg::RAX, reg::R8);
        // ADD AL, 7F sets OF if AL is 1; SAHF.
        asm.raw(&[0x04, 0x7f, 0x9e]);
        asm.mov(Size::D, reg::RAX, reg::R9);
    }

    pub(super) fn at_cpl0(&self) -> Option<()> {
        self.block.mode.supervisor().then_some(())
    }

    /// Out of line: the runtime does it after all. RCX is in R11.
    pub(super) fn late_callout(&mut self, index: usize) {
        let block = self.block;
        if let Some(insn) = block.insns.get(index) {
            self.asm.mov(Size::D, reg::RCX, reg::R11);
            (self.index, self.flags) = (index, Flags::Live);
            self.call_out(insn);
        }
    }
}

/// Sets or clears a bit of EFLAGS in the state, and touches no flag of the host. Changes R8
/// and R9.
pub fn sparing_flags(asm: &mut Assembler, bit: u32, set: bool) {
    let place = field(offset_of!(CpuState, eflags));
    asm.load(Size::D, reg::R8, place);
    asm.mov_imm(reg::R9, !bit);
    asm.pext(reg::R8, reg::R8, reg::R9);
    asm.pdep(reg::R8, reg::R8, reg::R9);
    if set {
        asm.lea(Size::D, reg::R8, Mem::at(reg::R8, bit as i32));
    }
    asm.store(Size::D, place, reg::R8);
}

/// TEST R9D, bits.
fn test(asm: &mut Assembler, bits: u32) {
    asm.op_reg(Size::D, &[0xf7], 0, reg::R9);
    asm.raw(&bits.to_le_bytes());
}

fn waiting() -> Mem {
    field(offset_of!(CpuState, interrupt_waiting))
}

fn spill() -> Mem {
    field(offset_of!(CpuState, spill))
}
