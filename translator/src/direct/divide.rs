//! DIV and IDIV of doublewords, which the host carries out once it is sure that
//! they do not fault: the host's divide error must never happen. What might
//! fault is left to the interpreter, which knows.

use super::Emitter;
use super::asm::{Mem, Size, reg};
use super::memory::Access;
use super::rename::host;
use crate::insn::{Insn, Operand, Width};

impl Emitter<'_> {
    /// The divisor, in R9. `None` if it is not a doubleword.
    fn divisor(&mut self, i: &Insn) -> Option<()> {
        match i.ops[0] {
            Operand::Gpr(r, Width::D) => self.asm.mov(Size::D, reg::R9, host(r)),
            Operand::Mem(Width::D) => {
                let m = self.check(&i.mem, Access::Read, 4)?;
                self.asm.load(Size::D, reg::R9, m);
            }
            _ => return None,
        }
        Some(())
    }

    /// DIV: EDX must be below the divisor, which then is not 0.
    pub(super) fn div(&mut self, i: &Insn) -> Option<()> {
        self.divisor(i)?;
        self.reserve(100);
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.mov(Size::Q, reg::R8, reg::RDX);
        asm.not(Size::Q, reg::R8);
        // Divisor − EDX − 1, whose upper half is 0 unless it is negative.
        asm.lea(Size::Q, reg::R8, Mem::indexed(reg::R8, reg::R9, 0));
        asm.rotate_right_wide(reg::RCX, reg::R8, 32);
        asm.mov(Size::D, reg::RCX, reg::RCX);
        self.go_on_if_zero();
        // DIV R9D
        self.asm.op_reg(Size::D, &[0xf7], 6, reg::R9);
        Some(())
    }

    /// IDIV: EDX must be the sign of EAX, and the divisor neither 0 nor −1.
    pub(super) fn idiv(&mut self, i: &Insn) -> Option<()> {
        self.divisor(i)?;
        self.reserve(100);
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.sign_extend(reg::R8, reg::RAX);
        asm.rotate_right_wide(reg::R8, reg::R8, 32);
        asm.not(Size::D, reg::R8);
        let difference = Mem::indexed(reg::R8, reg::RDX, 0).plus(1);
        asm.lea(Size::D, reg::RCX, difference);
        self.go_on_if_zero();
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.lea(Size::D, reg::R8, Mem::at(reg::R9, 1));
        asm.mov_imm(reg::RCX, !1);
        asm.pext(reg::RCX, reg::R8, reg::RCX);
        let bad = asm.jrcxz();
        self.s.near.push((bad, super::Cold::Exit(self.index)));
        self.asm.mov(Size::Q, reg::RCX, reg::R11);
        // IDIV R9D
        self.asm.op_reg(Size::D, &[0xf7], 7, reg::R9);
        Some(())
    }
}
