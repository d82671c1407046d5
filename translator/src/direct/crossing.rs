//! System calls and their ways back: SYSENTER, SYSEXIT, INT n and IRETD.
//!
//! The routines here are [ways](super::way) between ring 3 and ring 0. What the processor
//! would look at in memory (gate, TSS, descriptors) is compared with what it was when the
//! runtime came this way; where it is the same, so are the segments and the mode.
//!
//! Flags that mean something to the crossing, or that are looked at between instructions,
//! are the runtime's affair: AC, NT, TF, VM, and any interrupt that waits.

use super::asm::{Mem, Size, reg};
use super::exit::{NOT_ZERO, field};
use super::way::{AND, Routine, SHL, SHR, Way, fetches, gpr, record, saved_flags};
use super::{Emitter, Next};
use crate::flags::{AC, IF, NT, RF, TF, VM};
use crate::insn::{Insn, SegReg, Width};
use crate::mode::Mode;
use crate::records::{Crossing, Ring, TAIL};
use crate::state::{CpuState, Segment, WRITE_TABLE_DISTANCE};
use iced_x86::Mnemonic;
use std::mem::{offset_of, size_of};

/// Bytes of a frame with an outer stack.
const FRAME: u32 = 20;

/// The flags that LAHF leaves in AX.
const LOW_FLAGS_IN_AX: u32 = 0xd500;

/// Number of the bit OF.
const OVERFLOW: u8 = 11;

impl Emitter<'_> {
    /// A crossing that the block's mode lets succeed. `None` for all others.
    pub(super) fn cross(&mut self, i: &Insn) -> Option<Next> {
        let way = self.way_of_crossing(i)?;
        Some(self.call_out_by(i, way, |emitter| {
            if way == Way::Interrupt {
                emitter.asm.mov_imm(reg::R11, i.imm);
                emitter.continue_behind(i);
            }
        }))
    }

    fn way_of_crossing(&self, i: &Insn) -> Option<Way> {
        let mode = self.block.mode;
        let protected = mode.0 & Mode::PROTECTED != 0;
        let (user, supervisor) = (protected && mode.user(), protected && mode.supervisor());
        match i.mnemonic {
            Mnemonic::Sysenter if user => Some(Way::Sysenter),
            Mnemonic::Int if user => Some(Way::Interrupt),
            Mnemonic::Sysexit if supervisor => Some(Way::Sysexit),
            Mnemonic::Iretd if supervisor && i.width == Width::D => Some(Way::Iret),
            _ => None,
        }
    }

    /// STAC and CLAC, which end a block.
    pub(super) fn set_ac(&mut self, i: &Insn) -> Option<()> {
        self.at_cpl0()?;
        self.restore_flags();
        let way = match i.mnemonic {
            Mnemonic::Stac => Way::Stac,
            _ => Way::Clac,
        };
        self.asm.call_mem(field(way.offset()));
        self.transfer(i.next_eip);
        Some(())
    }
}

/// A field of a crossing.
fn part(crossing: Mem, offset: usize) -> Mem {
    crossing.plus(offset as i32)
}

/// Begins a routine: refuses all but the recorded mode, and the flags.
fn begin(crossing: Mem, barred: u32) -> Routine {
    let mut routine = Routine::begin();
    let mode = field(offset_of!(CpuState, mode));
    routine.asm.load(Size::D, reg::RAX, mode);
    let from = part(crossing, offset_of!(Crossing, from));
    routine.require(Size::D, reg::RAX, from);
    routine.require_clear(field(offset_of!(CpuState, eflags)), barred);
    routine
}

/// Refuses unless both descriptors are as they were. RCX is the table.
fn require_descriptors(routine: &mut Routine, crossing: Mem) {
    for known in [offset_of!(Crossing, code), offset_of!(Crossing, stack)] {
        routine.require_known(part(crossing, known));
    }
}

/// The new mode to EAX, its tag to EDX.
fn find_tag(routine: &mut Routine, crossing: Mem, ring: Ring) {
    let to = part(crossing, offset_of!(Crossing, to));
    routine.asm.load(Size::D, reg::RAX, to);
    routine.find_tag(fetches(ring));
}

/// Loads CS and SS, and makes mode, tag and view of the ring current; EDX is the tag.
fn enter(routine: &mut Routine, crossing: Mem, ring: Ring) {
    let asm = &mut routine.asm;
    let tails = [
        (SegReg::Cs, offset_of!(Crossing, cs)),
        (SegReg::Ss, offset_of!(Crossing, ss)),
    ];
    for (seg, from) in tails {
        asm.load(Size::Q, reg::RAX, part(crossing, from));
        asm.store(Size::Q, tail(seg), reg::RAX);
    }
    let to = part(crossing, offset_of!(Crossing, to));
    asm.load(Size::D, reg::RAX, to);
    routine.adopt();
    routine.switch_view(ring as usize);
}

/// Where the limit of a segment register is; selector and attributes are behind it.
fn tail(seg: SegReg) -> Mem {
    let segment = offset_of!(CpuState, seg) + seg as usize * size_of::<Segment>();
    field(segment + TAIL)
}

/// Where its selector and attributes are.
fn visible(seg: SegReg) -> Mem {
    tail(seg).plus(4)
}

/// MOVZX ECX, the selector of a segment register.
fn load_selector(routine: &mut Routine, seg: SegReg) {
    let asm = &mut routine.asm;
    asm.op_mem(Size::D, &[0x0f, 0xb7], reg::RCX, visible(seg));
}

/// Refuses unless the low word of ECX is the selector of a recorded tail.
fn require_selector(routine: &mut Routine, tail: Mem) {
    // CMP CX, [selector]
    routine.asm.raw(&[0x66]);
    let selector = tail.plus(4);
    routine.asm.op_mem(Size::D, &[0x3b], reg::RCX, selector);
    routine.unless(NOT_ZERO);
}

/// SYSENTER.
pub fn sysenter() -> Vec<u8> {
    let crossing = record!(sysenter.crossing);
    let mut routine = begin(crossing, AC);
    find_tag(&mut routine, crossing, Ring::Supervisor);
    let asm = &mut routine.asm;
    clear_flags(asm, VM | IF | RF);
    asm.load(Size::D, reg::R12, record!(sysenter.esp));
    asm.load(Size::D, reg::R8, record!(sysenter.eip));
    enter(&mut routine, crossing, Ring::Supervisor);
    routine.go_on()
}

/// AND dword [eflags], all but these.
fn clear_flags(asm: &mut super::asm::Assembler, bits: u32) {
    let eflags = field(offset_of!(CpuState, eflags));
    asm.op_mem(Size::D, &[0x81], AND, eflags);
    asm.raw(&(!bits).to_le_bytes());
}

/// SYSEXIT, to ECX and EDX.
pub fn sysexit() -> Vec<u8> {
    let crossing = record!(sysexit.crossing);
    let mut routine = begin(crossing, AC);
    find_tag(&mut routine, crossing, Ring::User);
    let asm = &mut routine.asm;
    asm.load(Size::D, reg::R12, gpr(reg::RCX));
    asm.load(Size::D, reg::R8, gpr(reg::RDX));
    enter(&mut routine, crossing, Ring::User);
    routine.go_on()
}

/// INT n; R11 is n, R10 the EIP behind it.
pub fn interrupt() -> Vec<u8> {
    let crossing = record!(interrupt.crossing);
    let mut routine = begin(crossing, AC);
    routine.require(Size::D, reg::R11, record!(interrupt.vector));
    routine.supervisor_table();
    routine.require_known(record!(interrupt.gate));
    require_descriptors(&mut routine, crossing);
    find_stack(&mut routine);
    find_tag(&mut routine, crossing, Ring::Supervisor);
    routine.supervisor_table();
    routine.entry(reg::RCX, reg::R11, WRITE_TABLE_DISTANCE);
    push_frame(&mut routine);
    let asm = &mut routine.asm;
    asm.load(Size::D, reg::RCX, record!(interrupt.kept));
    // AND [eflags], ECX
    let eflags = field(offset_of!(CpuState, eflags));
    asm.op_mem(Size::D, &[0x21], reg::RCX, eflags);
    asm.mov(Size::D, reg::R12, reg::R11);
    asm.load(Size::D, reg::R8, record!(interrupt.eip));
    enter(&mut routine, crossing, Ring::Supervisor);
    routine.go_on()
}

/// The address of the frame on the stack of ring 0, to R11; refuses if SS0 is another than
/// it was, or the frame crosses pages. RCX is the table.
fn find_stack(routine: &mut Routine) {
    routine
        .asm
        .load(Size::D, reg::RDX, record!(interrupt.stack_at));
    routine.entry(reg::RCX, reg::RDX, 0);
    let asm = &mut routine.asm;
    asm.load(Size::Q, reg::RAX, Mem::indexed(reg::RAX, reg::RDX, 0));
    let top = Mem::at(reg::RAX, -(FRAME as i32));
    asm.lea(Size::D, reg::R11, top);
    asm.rotate_right_wide(reg::RCX, reg::RAX, 32);
    require_selector(routine, record!(interrupt.crossing.ss));
    routine.require_in_page(reg::R11, FRAME);
}

/// Stores the frame at R11, whose page has the entry in RAX. Changes R10 and RCX.
fn push_frame(routine: &mut Routine) {
    let asm = &mut routine.asm;
    asm.lea(Size::Q, reg::RAX, Mem::indexed(reg::RAX, reg::R11, 0));
    let slot = |n: i32| Mem::at(reg::RAX, 4 * n);
    asm.store(Size::D, slot(0), reg::R10);
    load_selector(routine, SegReg::Cs);
    let asm = &mut routine.asm;
    asm.store(Size::D, slot(1), reg::RCX);
    asm.load(Size::D, reg::R10, saved_flags());
    asm.mov(Size::D, reg::RCX, reg::R10);
    asm.group1_imm(AND, reg::RCX, LOW_FLAGS_IN_AX);
    asm.shift_imm(SHR, reg::RCX, 8);
    asm.group1_imm(AND, reg::R10, 1);
    asm.shift_imm(SHL, reg::R10, OVERFLOW);
    // OR ECX, R10D; OR ECX, [eflags]
    asm.op_reg(Size::D, &[0x0b], reg::RCX, reg::R10);
    let eflags = field(offset_of!(CpuState, eflags));
    asm.op_mem(Size::D, &[0x0b], reg::RCX, eflags);
    asm.store(Size::D, slot(2), reg::RCX);
    asm.store(Size::D, slot(3), reg::R12);
    load_selector(routine, SegReg::Ss);
    routine.asm.store(Size::D, slot(4), reg::RCX);
}

/// IRETD.
pub fn iret() -> Vec<u8> {
    let crossing = record!(iret.crossing);
    let mut routine = begin(crossing, AC | NT);
    let waiting = field(offset_of!(CpuState, interrupt_waiting));
    routine.compare_imm(waiting, 0);
    routine.unless(NOT_ZERO);
    let data = [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs];
    for (n, seg) in data.into_iter().enumerate() {
        routine.asm.load(Size::D, reg::RAX, visible(seg));
        let kept = record!(iret.data).plus(4 * n as i32);
        routine.require(Size::D, reg::RAX, kept);
    }
    find_frame(&mut routine);
    routine.supervisor_table();
    require_descriptors(&mut routine, crossing);
    find_tag(&mut routine, crossing, Ring::User);
    let asm = &mut routine.asm;
    asm.load(Size::D, reg::R8, slot(0));
    asm.load(Size::D, reg::R12, slot(3));
    load_image(&mut routine);
    enter(&mut routine, crossing, Ring::User);
    routine.go_on()
}

/// A doubleword of the frame that IRETD pops.
fn slot(n: i32) -> Mem {
    Mem::at(reg::R10, 4 * n)
}

/// The host address of the frame, to R10; refuses if it is not as it was.
fn find_frame(routine: &mut Routine) {
    routine.require_in_page(reg::R12, FRAME);
    routine.entry(reg::R14, reg::R12, 0);
    let frame = Mem::indexed(reg::RAX, reg::R12, 0);
    routine.asm.lea(Size::Q, reg::R10, frame);
    routine.asm.load(Size::D, reg::RCX, slot(1));
    require_selector(routine, record!(iret.crossing.cs));
    routine.asm.load(Size::D, reg::RCX, slot(4));
    require_selector(routine, record!(iret.crossing.ss));
    routine.require_clear(slot(2), VM | TF | AC);
}

/// EFLAGS from the frame. EDX stays.
fn load_image(routine: &mut Routine) {
    let asm = &mut routine.asm;
    asm.load(Size::D, reg::RCX, slot(2));
    // AX as SAHF and ADD AL, 7F want it.
    asm.mov(Size::D, reg::RAX, reg::RCX);
    asm.shift_imm(SHL, reg::RAX, 8);
    asm.group1_imm(AND, reg::RAX, LOW_FLAGS_IN_AX);
    asm.mov(Size::D, reg::R11, reg::RCX);
    asm.shift_imm(SHR, reg::R11, OVERFLOW);
    asm.group1_imm(AND, reg::R11, 1);
    // OR EAX, R11D
    asm.op_reg(Size::D, &[0x0b], reg::RAX, reg::R11);
    asm.store(Size::D, saved_flags(), reg::RAX);
    asm.load(Size::D, reg::RAX, record!(iret.loaded));
    // AND ECX, EAX; NOT EAX; AND EAX, [eflags]; OR EAX, ECX
    asm.op_reg(Size::D, &[0x23], reg::RCX, reg::RAX);
    asm.not(Size::D, reg::RAX);
    let eflags = field(offset_of!(CpuState, eflags));
    asm.op_mem(Size::D, &[0x23], reg::RAX, eflags);
    asm.op_reg(Size::D, &[0x0b], reg::RAX, reg::RCX);
    asm.store(Size::D, eflags, reg::RAX);
}
