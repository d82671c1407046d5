//! Instructions that the general rule does not fit: those with implicit memory
//! operands, and control transfers.
//!
//! In every one the checks come first and the effects after, so that a side exit
//! leaves an instruction boundary behind. R10 carries a value over a second check.

use super::asm::{Mem, Reg, Size, reg};
use super::memory::{Access, CHECKED};
use super::rename::host;
use super::{Cold, Emitter, Next};
use crate::insn::{Flow, Gpr, Insn, MemRef, Operand, SegReg, Width};
use iced_x86::{Code, Mnemonic};

/// The top of the stack, or the doubleword above the one at `disp` below it.
fn stack(base: Gpr, disp: i32) -> MemRef {
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
    pub(super) fn special(&mut self, i: &Insn) -> Option<Next> {
        match i.mnemonic {
            Mnemonic::Nop => {}
            Mnemonic::Lea => self.lea(i)?,
            Mnemonic::Push => self.push(i)?,
            Mnemonic::Pop => self.pop(i)?,
            Mnemonic::Leave => self.leave_frame(i)?,
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
            _ => return None,
        }
        Some(Next::Ended)
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

    /// Stores a doubleword on the stack and moves ESP.
    fn push_with(&mut self, store: impl FnOnce(&mut Self)) -> Option<()> {
        self.check(&stack(Gpr::ESP, -4), Access::Write, 4)?;
        store(self);
        self.move_esp(-4);
        Some(())
    }

    fn move_esp(&mut self, by: i32) {
        let esp = host(Gpr::ESP);
        self.asm.lea(Size::D, esp, Mem::at(esp, by));
    }

    fn push_reg(&mut self, r: Reg) -> Option<()> {
        self.push_with(|e| e.asm.store(Size::D, CHECKED, r))
    }

    fn push_imm(&mut self, value: u32) -> Option<()> {
        self.push_with(|e| e.asm.store_imm(CHECKED, value))
    }

    /// The operand's value is in the returned register.
    fn read_operand(&mut self, i: &Insn) -> Option<Reg> {
        match i.ops[0] {
            Operand::Gpr(r, Width::D) => Some(host(r)),
            Operand::Mem(Width::D) => {
                self.check(&i.mem, Access::Read, 4)?;
                self.asm.load(Size::D, reg::R10, CHECKED);
                Some(reg::R10)
            }
            _ => None,
        }
    }

    fn push(&mut self, i: &Insn) -> Option<()> {
        if !i.stack32 || i.width != Width::D {
            return None;
        }
        match i.ops[0] {
            Operand::Imm(_) => self.push_imm(i.imm),
            _ => {
                let r = self.read_operand(i)?;
                self.push_reg(r)
            }
        }
    }

    fn pop(&mut self, i: &Insn) -> Option<()> {
        let Operand::Gpr(r, Width::D) = i.ops[0] else {
            return None;
        };
        if !i.stack32 {
            return None;
        }
        self.check(&stack(Gpr::ESP, 0), Access::Read, 4)?;
        self.move_esp(4);
        self.asm.load(Size::D, host(r), CHECKED);
        Some(())
    }

    fn leave_frame(&mut self, i: &Insn) -> Option<()> {
        if i.code != Code::Leaved || !i.stack32 {
            return None;
        }
        self.check(&stack(Gpr::EBP, 0), Access::Read, 4)?;
        let (esp, ebp) = (host(Gpr::ESP), host(Gpr::EBP));
        self.asm.lea(Size::D, esp, Mem::at(ebp, 4));
        self.asm.load(Size::D, ebp, CHECKED);
        Some(())
    }

    fn jcc(&mut self, i: &Insn) -> Option<()> {
        if !i.code.is_jcc_short_or_near() {
            return None;
        }
        // The condition's number is its encoding plus one.
        let condition = (i.code.condition_code() as u8).wrapping_sub(1);
        let taken = self.asm.jump_if(condition);
        self.cold.push((taken, Cold::Transfer(i.imm)));
        self.transfer(i.next_eip);
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
        let not_zero = self.asm.jump();
        self.asm.land(is_zero);
        self.cold.push((not_zero, Cold::Transfer(other)));
        self.transfer(zero);
    }

    fn call(&mut self, i: &Insn) -> Option<()> {
        if !i.stack32 || i.code != Code::Call_rel32_32 {
            return None;
        }
        self.push_imm(i.next_eip)?;
        self.transfer(i.imm);
        Some(())
    }

    fn indirect(&mut self, i: &Insn) -> Option<()> {
        let target = self.read_operand(i)?;
        if i.flow == Flow::IndirectCall {
            if !i.stack32 {
                return None;
            }
            // The target may be ESP, which the push moves.
            if target != reg::R10 {
                self.asm.mov(Size::D, reg::R10, target);
            }
            self.push_imm(i.next_eip)?;
            self.asm.mov(Size::D, reg::R8, reg::R10);
        } else {
            self.asm.mov(Size::D, reg::R8, target);
        }
        self.probe();
        Some(())
    }

    fn return_(&mut self, i: &Insn) -> Option<()> {
        let dropped = match i.code {
            Code::Retnd => 0,
            Code::Retnd_imm16 => i.imm as i32,
            _ => return None,
        };
        if !i.stack32 {
            return None;
        }
        self.check(&stack(Gpr::ESP, 0), Access::Read, 4)?;
        self.asm.load(Size::D, reg::R8, CHECKED);
        self.move_esp(4 + dropped);
        self.probe();
        Some(())
    }
}
