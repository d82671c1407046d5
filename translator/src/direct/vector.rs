//! x87, MMX, SSE to SSE4.2, AES and PCLMULQDQ, which run as they are. What of them
//! the host lacks the guest lacks too.
//!
//! Their registers have no other home while they are used: XMM0–7, MXCSR and the
//! x87 stack are the guest's own from the first such instruction of a run to the
//! point where the run loop or a callout gets control ([`super::exit`]). The
//! first one in a block asks whether that is so, and if not calls a routine that
//! loads them, or leaves to the interpreter: the guest may not use the unit now
//! (CR0.TS, CR0.EM, CR4.OSFXSR), or has unmasked an exception. Only while all are
//! masked is anything here run, so none ever becomes a signal of the host.
//! Instructions that could change that are callouts, FLDCW excepted, which looks
//! at the new mask.
//!
//! A block in which that keeps failing is compiled again with callouts instead.

use super::asm::{Mem, Size, reg};
use super::effects::access;
use super::exit::{NOT_ZERO, field};
use super::flags::Flags;
use super::stores::Refused;
use super::{Cold, Emitter};
use crate::encoding;
use crate::insn::{Insn, Operand};
use crate::state::CpuState;
use iced_x86::Mnemonic;
use std::mem::offset_of;

/// All x87 exceptions.
const X87_MASKS: u32 = 0x3f;

/// The instruction can run as it is.
pub fn is_native(i: &Insn) -> bool {
    let vector = |op: &Operand| matches!(op, Operand::Xmm(_) | Operand::Mm(_) | Operand::St(_));
    let facts = encoding::of(i.code);
    let may_be = i.ops.iter().any(vector) || facts.is_x87();
    (may_be || is_conversion(i.mnemonic) || i.mnemonic == Mnemonic::Emms)
        && facts.is_plain_unit()
        && !is_excluded(i)
}

/// From memory to a general register.
fn is_conversion(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Cvtss2si | M::Cvtsd2si | M::Cvttss2si | M::Cvttsd2si
    )
}

/// Instructions that move images of the state, store under a mask, or have registers
/// that are no operands.
fn is_excluded(i: &Insn) -> bool {
    use Mnemonic as M;
    matches!(
        i.mnemonic,
        M::Fninit
            | M::Fldenv
            | M::Frstor
            | M::Fnstenv
            | M::Fnsave
            | M::Fxsave
            | M::Fxrstor
            | M::Fneni
            | M::Fndisi
            | M::Fnsetpm
            | M::Wait
            | M::Maskmovq
            | M::Maskmovdqu
            | M::Pcmpestri
            | M::Pcmpestrm
            | M::Pcmpistri
            | M::Pcmpistrm
    )
}

/// Memory as the first operand is only read.
pub fn reads_first_operand(i: &Insn) -> bool {
    use Mnemonic as M;
    matches!(
        i.mnemonic,
        M::Fld
            | M::Fild
            | M::Fbld
            | M::Fldcw
            | M::Fadd
            | M::Fiadd
            | M::Fsub
            | M::Fisub
            | M::Fsubr
            | M::Fisubr
            | M::Fmul
            | M::Fimul
            | M::Fdiv
            | M::Fidiv
            | M::Fdivr
            | M::Fidivr
            | M::Fcom
            | M::Fcomp
            | M::Ficom
            | M::Ficomp
    )
}

/// It reads or writes arithmetic flags, or may leave in the middle.
pub fn uses_flags(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Comiss
            | M::Comisd
            | M::Ucomiss
            | M::Ucomisd
            | M::Ptest
            | M::Fldcw
            | M::Fcomi
            | M::Fcomip
            | M::Fucomi
            | M::Fucomip
            | M::Fcmovb
            | M::Fcmove
            | M::Fcmovbe
            | M::Fcmovu
            | M::Fcmovnb
            | M::Fcmovne
            | M::Fcmovnbe
            | M::Fcmovnu
    )
}

/// 16-byte operands that need no alignment.
fn may_be_unaligned(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(mnemonic, M::Movups | M::Movupd | M::Movdqu | M::Lddqu)
}

impl Emitter<'_> {
    /// Emits a vector or x87 instruction. `None` if it must be a callout.
    pub(super) fn vector(&mut self, i: &Insn) -> Option<()> {
        if !self.native_vectors {
            return None;
        }
        self.enter_vector();
        let bytes = i.ops.iter().find_map(|op| match op {
            Operand::Mem(w) => Some(w.bytes()),
            Operand::Wide(bytes) => Some(u32::from(*bytes)),
            _ => None,
        });
        let mut place = None;
        if let Some(bytes) = bytes.filter(|&bytes| bytes > 0) {
            let aligned = bytes == 16 && !may_be_unaligned(i.mnemonic);
            let m = self.check(&i.mem, access(i), bytes)?;
            // The host's own check is in the mirror as good.
            let check = aligned && !self.mirrored;
            place = Some(if check { self.aligned(m) } else { m });
        }
        if i.mnemonic == Mnemonic::Fldcw {
            place = Some(self.only_masking(place?));
        }
        self.encode(i, place)?;
        self.remember_x87(i);
        Some(())
    }

    /// Has the vector state loaded, unless an instruction before has.
    fn enter_vector(&mut self) {
        if std::mem::replace(&mut self.vector_loaded, true) {
            return;
        }
        self.restore_flags();
        self.reserve(60);
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.load(Size::Q, reg::RCX, field(offset_of!(CpuState, vector_away)));
        let loaded = asm.jrcxz();
        let away = asm.jump();
        asm.land(loaded);
        let back = asm.here();
        asm.mov(Size::Q, reg::RCX, reg::R11);
        let index = self.index;
        self.s.cold.push((away, Cold::Vector { index, back }));
    }

    /// Out of line: loads the vector state, or leaves.
    pub(super) fn load_vector(&mut self, index: usize, back: usize) {
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::RCX, reg::R11);
        asm.call_mem(field(offset_of!(CpuState, vector_enter)));
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.mov(Size::Q, reg::RCX, reg::R8);
        let loaded = asm.jrcxz();
        asm.mov(Size::Q, reg::RCX, reg::R11);
        self.leave_without_vector(index);
        self.asm.land(loaded);
        self.asm.jump_to(back);
    }

    /// Leaves unless the operand is aligned to 16 bytes.
    fn aligned(&mut self, m: Mem) -> Mem {
        self.reserve(50);
        let asm = &mut self.asm;
        let here = Mem::at(reg::R8, 0);
        asm.lea(Size::Q, reg::R8, m);
        if let Some(recipe) = self.recipe() {
            // TEST R8B, 15
            self.asm.raw(&[0x41, 0xf6, 0xc0, 15]);
            let unaligned = self.asm.jump_if(NOT_ZERO);
            let index = self.index;
            let refused = Refused::Exit;
            let exit = Cold::LostExit {
                index,
                recipe,
                refused,
            };
            self.s.cold.push((unaligned, exit));
            self.flags = Flags::Lost(recipe);
            return here;
        }
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.mov_imm(reg::RCX, 15);
        asm.pext(reg::RCX, reg::R8, reg::RCX);
        self.go_on_if_zero();
        here
    }

    /// Leaves unless the control word to be loaded masks all exceptions.
    fn only_masking(&mut self, m: Mem) -> Mem {
        self.reserve(60);
        let here = match self.mirrored {
            true => m,
            false => {
                self.asm.lea(Size::Q, reg::R8, m);
                Mem::at(reg::R8, 0)
            }
        };
        // MOVZX R9D, word [here]
        self.asm.op_mem(Size::D, &[0x0f, 0xb7], reg::R9, here);
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.mov_imm(reg::RCX, X87_MASKS);
        asm.not(Size::D, reg::R9);
        asm.pext(reg::RCX, reg::R9, reg::RCX);
        self.go_on_if_zero();
        here
    }
}
