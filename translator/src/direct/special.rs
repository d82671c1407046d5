//! Instructions that the general rule does not fit: those with implicit memory
//! operands, and control transfers.
//!
//! In every one the checks come first and the effects after, so that a side exit
//! leaves an instruction boundary behind. A value is carried over a second check in
//! [`CpuState::spill`], or in the mirror, where that takes no lookup, in R11.

use super::asm::{Mem, Reg, Size, reg};
use super::effects::Traits;
use super::exit::field;
use super::memory::Access;
use super::probe::Hop;
use super::rename::host;
use super::string::MOV_FROM_MEMORY;
use super::{Cold, Emitter, Next};
use crate::compile::Numbered;
use crate::flags;
use crate::insn::{Flow, Gpr, Insn, MemRef, Operand, SegReg, Width};
use crate::state::{CpuState, CpuidAnswer};
use iced_x86::{Code, Mnemonic};
use std::mem::offset_of;

/// The top of the stack, or the doubleword above the one at `disp` below it.
pub(super) fn stack(base: Gpr, disp: i32) -> MemRef {
    MemRef {
        seg: SegReg::Ss,
        base,
        index: Gpr::ZERO,
        shift: 0,
        addr16: false,
        disp: disp as u32,
    }
}

impl Emitter<'_> {
    /// Emits `i` if it is one of those here. `None` if it must be a callout.
    pub(super) fn special(&mut self, i: &Insn, traits: &Traits) -> Option<Next> {
        match i.mnemonic {
            Mnemonic::Nop | Mnemonic::Endbr32 => {}
            Mnemonic::Lea => self.lea(i)?,
            Mnemonic::Push => self.push(i)?,
            Mnemonic::Pop => return self.pop(i),
            Mnemonic::Leave => self.leave_frame(i)?,
            // Orders and hints mean nothing to a CPU that runs in order.
            Mnemonic::Pause | Mnemonic::Lfence | Mnemonic::Mfence | Mnemonic::Sfence => {}
            Mnemonic::Rdtsc | Mnemonic::Rdtscp => self.rdtsc(i)?,
            Mnemonic::Cpuid => self.cpuid(),
            Mnemonic::Cli => self.cli()?,
            Mnemonic::Cld => self.change_eflags(flags::DF, false),
            Mnemonic::Std => self.change_eflags(flags::DF, true),
            Mnemonic::Pushfd => self.pushf(i)?,
            Mnemonic::Mov => return self.mov_selector(i),
            Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => self.bit_string(i)?,
            Mnemonic::Cmpxchg8b => self.cmpxchg8b(i)?,
            Mnemonic::Div => self.div(i)?,
            Mnemonic::Idiv => self.idiv(i)?,
            _ if traits.native => self.vector(i)?,
            _ if i.flow == Flow::Next => self.string(i)?,
            _ => return self.transfer_insn(i),
        }
        Some(Next::Insn)
    }

    fn transfer_insn(&mut self, i: &Insn) -> Option<Next> {
        match (i.flow, i.mnemonic) {
            (Flow::Jump, _) => self.transfer(i.imm),
            (Flow::Branch, Mnemonic::Loop) => self.loop_(i)?,
            (Flow::Branch, Mnemonic::Jecxz) => self.jecxz(i)?,
            (Flow::Branch, _) => self.jcc(i)?,
            (Flow::Call, _) => self.call(i)?,
            (Flow::IndirectJump | Flow::IndirectCall, _) => self.indirect(i)?,
            (Flow::Return, _) => self.return_(i)?,
            (Flow::System, Mnemonic::Sti) => self.sti(i)?,
            (Flow::System, Mnemonic::Clac | Mnemonic::Stac) => self.set_ac(i)?,
            (Flow::System, Mnemonic::Popfd) => self.popf(i)?,
            (Flow::System, _) => return self.cross(i),
            _ => return None,
        }
        Some(Next::Ended)
    }

    /// RDTSC and RDTSCP, which CR4.TSD may deny to all but ring 0.
    fn rdtsc(&mut self, i: &Insn) -> Option<()> {
        if !self.block.mode.time_stamp() {
            return None;
        }
        let asm = &mut self.asm;
        asm.raw(&[0x0f, 0x31]);
        asm.rotate_right_wide(reg::R8, reg::RDX, 32);
        asm.lea(Size::Q, reg::R8, Mem::indexed(reg::R8, reg::RAX, 0));
        asm.load(Size::Q, reg::R9, field(offset_of!(CpuState, tsc_offset)));
        asm.lea(Size::Q, reg::R8, Mem::indexed(reg::R8, reg::R9, 0));
        asm.mov(Size::D, reg::RAX, reg::R8);
        asm.rotate_right_wide(reg::R8, reg::R8, 32);
        asm.mov(Size::D, reg::RDX, reg::R8);
        if i.mnemonic == Mnemonic::Rdtscp {
            asm.load(Size::D, reg::RCX, field(offset_of!(CpuState, tsc_aux)));
        }
        Some(())
    }

    /// CPUID, if it is asked what it was asked last.
    fn cpuid(&mut self) {
        let known = field(offset_of!(CpuState, cpuid));
        let answer = known.plus(offset_of!(CpuidAnswer, answer) as i32);
        let other = self.refused(Access::Write);
        self.reserve(90);
        self.restore_flags();
        let asm = &mut self.asm;
        asm.rotate_right_wide(reg::R8, reg::RCX, 32);
        asm.lea(Size::Q, reg::R8, Mem::indexed(reg::R8, reg::RAX, 0));
        let question = known.plus(offset_of!(CpuidAnswer, question) as i32);
        self.go_on_if_r8_is(question, other);
        let registers = [reg::RAX, reg::RBX, reg::RCX, reg::RDX];
        for (n, to) in registers.into_iter().enumerate() {
            self.asm.load(Size::D, to, answer.plus(4 * n as i32));
        }
    }

    fn lea(&mut self, i: &Insn) -> Option<()> {
        match i.ops[0] {
            Operand::Gpr(r, Width::D) => self.offset(&i.mem, host(r)),
            Operand::Gpr(r, Width::W) => {
                self.offset(&i.mem, reg::R8);
                self.asm.raw(&[0x66]);
                self.asm.mov(Size::D, host(r), reg::R8);
            }
            _ => return None,
        }
        Some(())
    }

    /// Checks the doubleword below the top of the stack.
    pub(super) fn check_push(&mut self) -> Option<Mem> {
        self.check(&stack(Gpr::ESP, -4), Access::Write, 4)
    }

    pub(super) fn move_esp(&mut self, by: i32) {
        let esp = host(Gpr::ESP);
        self.asm.lea(Size::D, esp, Mem::at(esp, by));
    }

    fn push_imm(&mut self, value: u32) -> Option<()> {
        let top = self.check_push()?;
        self.asm.store_imm(top, value);
        self.move_esp(-4);
        Some(())
    }

    /// Pushes the EIP to return to.
    pub(super) fn push_eip(&mut self, value: u32) -> Option<()> {
        let top = self.check_push()?;
        self.asm.store_imm(top, value);
        self.relocate(Numbered::Eip);
        self.move_esp(-4);
        Some(())
    }

    fn push(&mut self, i: &Insn) -> Option<()> {
        if !i.stack32 || i.width != Width::D {
            return None;
        }
        match i.ops[0] {
            Operand::Imm(_) => return self.push_imm(i.imm),
            Operand::Gpr(r, Width::D) => {
                let top = self.check_push()?;
                self.asm.store(Size::D, top, host(r));
            }
            Operand::Seg(seg) => {
                let top = self.check_push()?;
                self.load_selector(seg);
                self.asm.store(Size::D, top, reg::R11);
            }
            Operand::Mem(Width::D) => {
                let place = self.check(&i.mem, Access::Read, 4)?;
                self.load_kept(Width::D, place);
                let top = self.check_push()?;
                self.take_kept(reg::R11);
                self.asm.store(Size::D, top, reg::R11);
            }
            _ => return None,
        }
        self.move_esp(-4);
        Some(())
    }

    /// Loads what is at `place` and keeps it over another check. In the mirror, that
    /// spares R11.
    pub(super) fn load_kept(&mut self, w: Width, place: Mem) {
        match self.mirrored {
            true => self.sized(w, MOV_FROM_MEMORY, reg::R11, place),
            false => {
                self.sized(w, MOV_FROM_MEMORY, reg::R8, place);
                self.asm.store(Size::D, spill(), reg::R8);
            }
        }
    }

    /// Has what was kept in a register.
    pub(super) fn take_kept(&mut self, to: Reg) {
        match (self.mirrored, to) {
            (true, reg::R11) => {}
            (true, _) => self.asm.mov(Size::D, to, reg::R11),
            (false, _) => self.asm.load(Size::D, to, spill()),
        }
    }

    fn pop(&mut self, i: &Insn) -> Option<Next> {
        if let Operand::Seg(seg) = i.ops[0] {
            return self.pop_selector(i, seg);
        }
        let Operand::Gpr(r, Width::D) = i.ops[0] else {
            return None;
        };
        if !i.stack32 {
            return None;
        }
        let top = self.check(&stack(Gpr::ESP, 0), Access::Read, 4)?;
        self.asm.load(Size::D, host(r), top);
        if r != Gpr::ESP {
            self.move_esp(4);
        }
        Some(Next::Insn)
    }

    fn leave_frame(&mut self, i: &Insn) -> Option<()> {
        if i.code != Code::Leaved || !i.stack32 {
            return None;
        }
        let top = self.check(&stack(Gpr::EBP, 0), Access::Read, 4)?;
        let (esp, ebp) = (host(Gpr::ESP), host(Gpr::EBP));
        self.asm.load(Size::D, reg::R8, top);
        self.asm.lea(Size::D, esp, Mem::at(ebp, 4));
        self.asm.mov(Size::D, ebp, reg::R8);
        Some(())
    }

    fn jcc(&mut self, i: &Insn) -> Option<()> {
        if !i.code.is_jcc_short_or_near() {
            return None;
        }
        // The condition's number is its encoding plus one.
        let condition = (i.code.condition_code() as u8).wrapping_sub(1);
        self.reserve(50);
        if self.is_checked(i.imm) {
            // A loop, most often: what repeats it stands first.
            self.jump_if(condition ^ 1, i.next_eip);
            self.transfer(i.imm);
        } else {
            self.jump_if(condition, i.imm);
            self.transfer(i.next_eip);
        }
        Some(())
    }

    fn loop_(&mut self, i: &Insn) -> Option<()> {
        if i.code != Code::Loop_rel8_32_ECX {
            return None;
        }
        let count = Mem::at(reg::RCX, -1);
        self.asm.lea(Size::D, reg::RCX, count);
        self.branch_on_ecx(i.next_eip, i.imm);
        Some(())
    }

    fn jecxz(&mut self, i: &Insn) -> Option<()> {
        if i.code != Code::Jecxz_rel8_32 {
            return None;
        }
        self.branch_on_ecx(i.imm, i.next_eip);
        Some(())
    }

    /// Goes to `zero` if ECX is 0, else to `other`.
    fn branch_on_ecx(&mut self, zero: u32, other: u32) {
        let is_zero = self.asm.jrcxz();
        self.s.near.push((is_zero, Cold::Transfer(zero)));
        self.transfer(other);
    }

    fn indirect(&mut self, i: &Insn) -> Option<()> {
        let calls = i.flow == Flow::IndirectCall;
        if calls && !i.stack32 {
            return None;
        }
        match i.ops[0] {
            Operand::Gpr(r, Width::D) if !calls => self.asm.mov(Size::D, reg::R8, host(r)),
            Operand::Mem(Width::D) if !calls => {
                let place = self.check(&i.mem, Access::Read, 4)?;
                self.asm.load(Size::D, reg::R8, place);
            }
            // The target may be ESP, which the push moves.
            Operand::Gpr(r, Width::D) if self.mirrored => {
                self.asm.mov(Size::D, reg::R11, host(r));
            }
            Operand::Gpr(r, Width::D) => self.asm.store(Size::D, spill(), host(r)),
            Operand::Mem(Width::D) => {
                let place = self.check(&i.mem, Access::Read, 4)?;
                self.load_kept(Width::D, place);
            }
            _ => return None,
        }
        if calls {
            self.push_eip(i.next_eip)?;
            self.take_kept(reg::R8);
            self.probe(Hop::Call(i.next_eip));
            self.after_call(i.next_eip);
        } else {
            self.probe(Hop::Jump);
        }
        Some(())
    }
}

fn spill() -> Mem {
    field(offset_of!(CpuState, spill))
}
