//! String instructions without a repeat prefix. (With one, [`super::repeat`] does what
//! the mirror can do, and the runtime works through whole pages at a time.)
//!
//! The direction flag is in the state, not in the host's flags: code is made for
//! the usual direction, up, and the other one is left to the interpreter.

use super::Emitter;
use super::asm::{Mem, Reg, Size, reg};
use super::exit::field;
use super::memory::Access;
use crate::flags;
use crate::insn::{Gpr, Insn, MemRef, Rep, SegReg, Width};
use crate::state::CpuState;
use iced_x86::Mnemonic;
use std::mem::offset_of;

/// Opcodes for byte operands; those for others have bit 0 set.
const MOV_TO_MEMORY: u8 = 0x88;
pub const MOV_FROM_MEMORY: u8 = 0x8a;
const CMP_WITH_MEMORY: u8 = 0x3a;

impl Emitter<'_> {
    /// Emits `i` if it is a string instruction. `None` if it must be a callout.
    pub(super) fn string(&mut self, i: &Insn) -> Option<()> {
        use Mnemonic as M;
        let (from_source, to_destination) = match i.mnemonic {
            M::Lodsb | M::Lodsw | M::Lodsd => (true, None),
            M::Stosb | M::Stosw | M::Stosd => (false, Some(Access::Write)),
            M::Scasb | M::Scasw | M::Scasd => (false, Some(Access::Read)),
            M::Movsb | M::Movsw | M::Movsd => (true, Some(Access::Write)),
            M::Cmpsb | M::Cmpsw | M::Cmpsd => (true, Some(Access::Read)),
            _ => return None,
        };
        // MOVSD and CMPSD are SSE2 instructions, too.
        let is_string = i.ops.contains(&crate::insn::Operand::Implied);
        if !is_string || i.mem.addr16 {
            return None;
        }
        if i.rep != Rep::None {
            return self.repeat(i, from_source, to_destination.is_some());
        }
        self.exit_unless_upwards();
        let (w, step) = (i.width, i.width.bytes() as i32);
        let mut value = reg::RAX;
        if from_source {
            let source = self.check(&at(i.mem.seg, Gpr::ESI), Access::Read, w.bytes())?;
            match to_destination {
                None => self.sized(w, MOV_FROM_MEMORY, reg::RAX, source),
                Some(_) => {
                    self.load_kept(w, source);
                    value = reg::R11;
                }
            }
        }
        if let Some(access) = to_destination {
            let destination = self.check(&at(SegReg::Es, Gpr::EDI), access, w.bytes())?;
            let opcode = match access {
                Access::Write => MOV_TO_MEMORY,
                Access::Read => CMP_WITH_MEMORY,
            };
            if from_source {
                self.take_kept(reg::R11);
            }
            self.sized(w, opcode, value, destination);
            let next = Mem::at(reg::RDI, step);
            self.asm.lea(Size::D, reg::RDI, next);
        }
        if from_source {
            let next = Mem::at(reg::RSI, step);
            self.asm.lea(Size::D, reg::RSI, next);
        }
        Some(())
    }

    /// An instruction with a register and an operand that has been checked.
    pub(super) fn sized(&mut self, w: Width, opcode: u8, r: Reg, m: Mem) {
        if w == Width::W {
            self.asm.raw(&[0x66]);
        }
        let opcode = opcode | u8::from(w != Width::B);
        self.asm.op_mem(Size::D, &[opcode], r, m);
    }

    pub(super) fn exit_unless_upwards(&mut self) {
        let asm = &mut self.asm;
        asm.load(Size::D, reg::R9, field(offset_of!(CpuState, eflags)));
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.mov_imm(reg::RCX, flags::DF);
        asm.pext(reg::RCX, reg::R9, reg::RCX);
        self.go_on_if_zero();
    }
}

fn at(seg: SegReg, base: Gpr) -> MemRef {
    MemRef {
        seg,
        base,
        index: Gpr::ZERO,
        shift: 0,
        addr16: false,
        disp: 0,
    }
}
