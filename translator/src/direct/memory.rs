//! Guest memory accesses through the flat shadow tables, flags untouched.
//!
//! ```text
//! lea  r8d, [the guest's operand]
//! mov  r9d, 12                  page number
//! shrx r9d, r8d, r9d
//! mov  r11, rcx
//! mov  rcx, [table + r9*8]      entry: 0, or host page − linear page
//! jrcxz bad
//! mov  r9, rcx
//! mov  ecx, 3                   the low bits, for 4 bytes
//! pext ecx, r8d, ecx
//! jrcxz ok                      aligned: in one page
//! jmp  crossing                 else look closer, out of line
//! bad: jmp exit
//! ok:  mov rcx, r11
//! ```
//!
//! Then the operand is `[r8 + r9]`. Every access exposes the guest's flags, as it
//! may fault, so they stay in EFLAGS throughout: JRCXZ tests without them.
//!
//! Two neighbouring pages have the same entry if and only if they are neighbours
//! on the host too, so an unaligned access is right if both its ends have the same.
//!
//! Invariant: a guest address enters host arithmetic only zero-extended from 32
//! bits, and a permitted entry is used only for the page it was looked up for.

use super::asm::{Mem, Reg, Size, reg};
use super::exit::field;
use super::rename::host;
use super::{Cold, Emitter};
use crate::insn::{Gpr, MemRef, SegReg};
use crate::state::{CpuState, Segment};
use std::mem::{offset_of, size_of};

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only reads.
    Read,
    /// Writes, perhaps after reading.
    Write,
}

/// Where an access that has been checked is.
pub const CHECKED: Mem = Mem::indexed(reg::R8, reg::R9, 0);

impl Emitter<'_> {
    /// Checks an operand of `bytes` bytes, a power of two; it is at [`CHECKED`]
    /// then. `None` if the mode says too little about its segment.
    pub(super) fn check(&mut self, m: &MemRef, access: Access, bytes: u32) -> Option<()> {
        self.linear_address(m, access)?;
        self.check_linear(access, bytes);
        Some(())
    }

    /// Puts the offset of an operand into a register.
    pub(super) fn offset(&mut self, m: &MemRef, to: Reg) {
        let disp = m.disp as i32;
        let index = (m.index != Gpr::ZERO).then(|| (host(m.index), m.shift & 3));
        let base = (m.base != Gpr::ZERO).then(|| host(m.base));
        match (base, index) {
            (None, None) => self.asm.mov_imm(to, m.disp),
            (Some(base), None) if disp == 0 => self.asm.mov(Size::D, to, base),
            _ => self.asm.lea(Size::D, to, Mem { base, index, disp }),
        }
        if m.addr16 {
            self.asm.zero_extend_word(to, to);
        }
    }

    /// Puts the linear address of an operand into R8.
    fn linear_address(&mut self, m: &MemRef, access: Access) -> Option<()> {
        let mode = self.block.mode;
        if !mode.unlimited(m.seg) || access == Access::Write && m.seg == SegReg::Cs {
            return None;
        }
        self.offset(m, reg::R8);
        if !mode.zero_base(m.seg) {
            let base = offset_of!(CpuState, seg)
                + m.seg as usize * size_of::<Segment>()
                + offset_of!(Segment, base);
            self.asm.load(Size::D, reg::R9, field(base));
            let sum = Mem::indexed(reg::R8, reg::R9, 0);
            self.asm.lea(Size::D, reg::R8, sum);
        }
        Some(())
    }

    /// Looks up the address in R8: leaves the entry in R9, or leaves the block.
    fn check_linear(&mut self, access: Access, bytes: u32) {
        let asm = &mut self.asm;
        asm.mov_imm(reg::R9, 12);
        asm.shrx(reg::R9, reg::R8, reg::R9);
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.load(Size::Q, reg::RCX, entry(access, reg::R9));
        let bad = asm.jrcxz();
        asm.mov(Size::Q, reg::R9, reg::RCX);
        let (ok, crossing) = if bytes > 1 {
            asm.mov_imm(reg::RCX, bytes - 1);
            asm.pext(reg::RCX, reg::R8, reg::RCX);
            (asm.jrcxz(), Some(asm.jump()))
        } else {
            (asm.jump_short(), None)
        };
        asm.land(bad);
        let exit = asm.jump();
        asm.land(ok);
        let back = asm.here();
        asm.mov(Size::Q, reg::RCX, reg::R11);
        let index = self.index;
        self.cold.push((exit, Cold::Exit(index)));
        if let Some(branch) = crossing {
            let crossing = Cold::Crossing {
                index,
                access,
                bytes,
                back,
            };
            self.cold.push((branch, crossing));
        }
    }

    /// Out of line: an unaligned access. Goes back if the pages of its two ends
    /// have the same entry. R10 may hold a value.
    pub(super) fn crossing(&mut self, index: usize, access: Access, bytes: u32, back: usize) {
        let asm = &mut self.asm;
        let spill = field(offset_of!(CpuState, spill));
        asm.store(Size::Q, spill, reg::R10);
        let last = Mem::at(reg::R8, bytes as i32 - 1);
        asm.lea(Size::D, reg::RCX, last);
        asm.mov_imm(reg::R10, 12);
        asm.shrx(reg::RCX, reg::RCX, reg::R10);
        asm.load(Size::Q, reg::RCX, entry(access, reg::RCX));
        asm.not(Size::Q, reg::RCX);
        let difference = Mem {
            disp: 1,
            ..Mem::indexed(reg::RCX, reg::R9, 0)
        };
        asm.lea(Size::Q, reg::RCX, difference);
        asm.load(Size::Q, reg::R10, spill);
        let same = asm.jrcxz();
        let exit = asm.jump();
        asm.land(same);
        asm.jump_to(back);
        self.cold.push((exit, Cold::Exit(index)));
    }
}

/// The table's entry for the page whose number is in `page`.
fn entry(access: Access, page: Reg) -> Mem {
    let table = match access {
        Access::Read => reg::R14,
        Access::Write => reg::R13,
    };
    Mem::indexed(table, page, 3)
}
