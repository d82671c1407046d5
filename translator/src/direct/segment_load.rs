//! Loads of FS and GS that have been made before.
//!
//! A kernel has data of its own under one of them, so it loads its selector on every entry
//! and the program's on every return, null most often. The register then changes, and the
//! mode with it. Where the load is one that the runtime has made at CPL 0 and the
//! descriptor is still the same, the routine does it: in the same block if the mode stays,
//! else behind the instruction under the new tag.

use super::asm::{Mem, Size, reg};
use super::exit::{NOT_ZERO, ZERO, field};
use super::memory::Access;
use super::special::stack;
use super::way::{AND, Routine, SHL, SHR, Way, fetches, record};
use super::{Emitter, Next};
use crate::compile::Numbered;
use crate::insn::{Gpr, Insn, SegReg, Width};
use crate::mode::Mode;
use crate::records::{LOADS, Ring, SegmentLoad};
use crate::state::{CpuState, Segment};
use std::mem::{offset_of, size_of};

/// In R11, above the selector: what the instruction adds to ESP.
const POPS: u8 = 16;

impl Emitter<'_> {
    /// The routine for loads of `seg`, if this block may use it.
    pub(super) fn way_of_load(&self, seg: SegReg) -> Option<Way> {
        self.at_cpl0()?;
        let protected = self.block.mode.0 & Mode::PROTECTED != 0;
        match seg {
            SegReg::Fs if protected => Some(Way::LoadFs),
            SegReg::Gs if protected => Some(Way::LoadGs),
            _ => None,
        }
    }

    /// MOV of a register to FS or GS.
    pub(super) fn load_from_register(&mut self, i: &Insn, way: Way, r: Gpr) -> Next {
        self.call_out_by(i, way, |emitter| {
            let selector = super::rename::host(r);
            emitter.asm.zero_extend_word(reg::R11, selector);
            emitter.continue_behind(i);
        })
    }

    /// MOV of a word in memory to FS or GS.
    pub(super) fn load_from_memory(&mut self, i: &Insn, way: Way) -> Option<Next> {
        let place = self.check(&i.mem, Access::Read, 2)?;
        // MOVZX R11D, word [place]
        self.asm.op_mem(Size::D, &[0x0f, 0xb7], reg::R11, place);
        Some(self.call_out_by(i, way, |emitter| emitter.continue_behind(i)))
    }

    /// POP to FS or GS.
    pub(super) fn load_from_stack(&mut self, i: &Insn, way: Way) -> Option<Next> {
        if !i.stack32 || i.width != Width::D {
            return None;
        }
        let top = self.check(&stack(Gpr::ESP, 0), Access::Read, 4)?;
        // MOVZX R11D, word [top]
        self.asm.op_mem(Size::D, &[0x0f, 0xb7], reg::R11, top);
        let popping = Mem::at(reg::R11, 4 << POPS);
        self.asm.lea(Size::D, reg::R11, popping);
        Some(self.call_out_by(i, way, |emitter| emitter.continue_behind(i)))
    }

    /// Says where to go on if the mode changes, or after an interrupt.
    pub(super) fn continue_behind(&mut self, i: &Insn) {
        self.asm.mov_imm(reg::R10, i.next_eip);
        self.relocate(Numbered::Eip);
    }
}

/// The routine: R11 is the selector and [`POPS`], R10 the EIP behind the instruction.
pub fn routine(seg: SegReg) -> Vec<u8> {
    let mut routine = Routine::begin();
    find_record(&mut routine);
    // TEST EAX, all but RPL: a null selector has no descriptor.
    let asm = &mut routine.asm;
    asm.op_reg(Size::D, &[0xf7], 0, reg::RAX);
    asm.raw(&0xfffc_u32.to_le_bytes());
    let null = asm.jump_if(ZERO);
    routine.supervisor_table();
    routine.require_known(known(offset_of!(SegmentLoad, descriptor)));
    routine.asm.land(null);
    make_mode(&mut routine, seg);
    let other = routine.asm.jump_if(NOT_ZERO);
    set_register(&mut routine, seg);
    routine.restore();
    routine.asm.ret();
    routine.asm.land(other);
    routine.find_tag(fetches(Ring::Supervisor));
    routine.asm.mov(Size::D, reg::R8, reg::R10);
    set_register(&mut routine, seg);
    routine.adopt();
    routine.go_on()
}

/// Leaves the address of the record in R11, what is added to ESP in the upper half of
/// R10, and the selector in EAX.
fn find_record(routine: &mut Routine) {
    const WORDS: usize = size_of::<SegmentLoad>() / 8;
    const { assert!(size_of::<SegmentLoad>().is_multiple_of(8)) };
    let asm = &mut routine.asm;
    asm.zero_extend_word(reg::RAX, reg::R11);
    asm.shift_imm(SHR, reg::R11, POPS);
    asm.rotate_right_wide(reg::R11, reg::R11, 32);
    asm.lea(Size::Q, reg::R10, Mem::indexed(reg::R10, reg::R11, 0));
    // `load_slot`
    asm.mov(Size::D, reg::R11, reg::RAX);
    asm.shift_imm(SHR, reg::R11, 3);
    asm.group1_imm(AND, reg::R11, LOADS as u32 - 1);
    // IMUL R11D, R11D, words
    asm.op_reg(Size::D, &[0x69], reg::R11, reg::R11);
    asm.raw(&(WORDS as u32).to_le_bytes());
    let record = Mem {
        index: Some((reg::R11, 3)),
        ..record!(loads)
    };
    asm.lea(Size::Q, reg::R11, record);
    routine.require(Size::D, reg::RAX, known(offset_of!(SegmentLoad, selector)));
}

/// The mode after the load, to EAX; ZF says that it is the one before. Changes ECX and EDX.
fn make_mode(routine: &mut Routine, seg: SegReg) {
    let asm = &mut routine.asm;
    asm.load(Size::D, reg::RAX, known(offset_of!(SegmentLoad, form)));
    asm.shift_imm(SHL, reg::RAX, seg as u8);
    asm.load(Size::D, reg::RDX, field(offset_of!(CpuState, mode)));
    asm.mov(Size::D, reg::RCX, reg::RDX);
    asm.group1_imm(AND, reg::RCX, !(SegmentLoad::FORM << seg as u8));
    // OR EAX, ECX; CMP EAX, EDX
    asm.op_reg(Size::D, &[0x0b], reg::RAX, reg::RCX);
    asm.op_reg(Size::D, &[0x3b], reg::RAX, reg::RDX);
}

/// Loads the register and moves ESP. Changes R9 and R10.
fn set_register(routine: &mut Routine, seg: SegReg) {
    const { assert!(size_of::<Segment>() == 20) };
    let asm = &mut routine.asm;
    let from = offset_of!(SegmentLoad, segment);
    let to = offset_of!(CpuState, seg) + seg as usize * size_of::<Segment>();
    for (size, at) in [(Size::Q, 0), (Size::Q, 8), (Size::D, 16)] {
        asm.load(size, reg::R9, known(from + at));
        asm.store(size, field(to + at), reg::R9);
    }
    asm.rotate_right_wide(reg::R10, reg::R10, 32);
    let esp = Mem::indexed(reg::R12, reg::R10, 0);
    asm.lea(Size::D, reg::R12, esp);
}

/// A field of the record.
fn known(offset: usize) -> Mem {
    Mem::at(reg::R11, offset as i32)
}
