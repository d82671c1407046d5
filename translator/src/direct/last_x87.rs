//! Which x87 instruction was the last one, and where its operand was.
//!
//! The host's FPU remembers addresses, but they are the host's. The guest's are
//! noted for the runtime, which makes of them what environments show. That costs
//! little, since nothing inside a block can see them:
//!
//! - *which instruction it was* is a number, stored where the block is left: before
//!   its last instruction, before callouts, and out of line in the side exits;
//! - *where its operand was* follows from registers for as long as they keep their
//!   values. So the offset is stored in the same places, or before an instruction
//!   that changes one of the registers.
//!
//! A block mostly has several x87 instructions to one such place, and a loop one
//! of them in each turn.
//!
//! Invariant: whenever the runtime gets control, [`CpuState`] has what the guest
//! has run since it had control before; segment registers have not changed since.

use super::Emitter;
use super::asm::{Size, reg};
use super::effects::Traits;
use super::exit::field;
use crate::compile::Numbered;
use crate::insn::{Flow, Gpr, Insn, Operand};
use crate::state::CpuState;
use iced_x86::{CpuidFeature, Mnemonic};
use std::mem::offset_of;

/// What the state does not have yet: positions of instructions in the block.
#[derive(Clone, Copy, Debug, Default)]
pub struct Due {
    /// The last x87 instruction.
    last: Option<usize>,
    /// The last one with a memory operand.
    operand: Option<usize>,
}

/// The x87 instruction is remembered as the last one: it reports exceptions and
/// does not just set the unit up.
pub fn is_remembered(i: &Insn) -> bool {
    use Mnemonic as M;
    let sets_up = matches!(
        i.mnemonic,
        M::Fninit
            | M::Fldcw
            | M::Fldenv
            | M::Frstor
            | M::Fnstenv
            | M::Fnsave
            | M::Fnstcw
            | M::Fnstsw
            | M::Fnclex
    );
    let of_x87 = |f: &CpuidFeature| {
        matches!(
            f,
            CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387
        )
    };
    !sets_up && i.code.cpuid_features().iter().any(of_x87)
}

impl Emitter<'_> {
    /// Before `i`: stores what could not be had afterwards.
    pub(super) fn note_x87_before(&mut self, i: &Insn, traits: &Traits) {
        if i.flow != Flow::Next {
            self.note_x87();
        } else if self
            .x87
            .operand
            .is_some_and(|n| self.makes_address(n, traits.changed()))
        {
            self.note_operand(self.x87.operand);
            self.x87.operand = None;
        }
        if let Some(before) = self.s.x87_before.get_mut(self.index) {
            *before = self.x87;
        }
    }

    /// After `i` has been emitted as a vector or x87 instruction.
    pub(super) fn remember_x87(&mut self, i: &Insn) {
        if !is_remembered(i) {
            return;
        }
        self.x87.last = Some(self.index);
        let in_memory = |op: &Operand| matches!(op, Operand::Mem(_) | Operand::Wide(_));
        if i.ops.iter().any(in_memory) {
            self.x87.operand = Some(self.index);
        }
    }

    /// Stores all that is due, as the block is left or calls out.
    pub(super) fn note_x87(&mut self) {
        let due = std::mem::take(&mut self.x87);
        self.note(due);
    }

    /// In the side exit before instruction `index`: stores what was due there.
    pub(super) fn note_x87_at(&mut self, index: usize) {
        let due = self.s.x87_before.get(index).copied();
        self.note(due.unwrap_or_default());
    }

    /// Whether anything was due there.
    pub(super) fn x87_due_at(&self, index: usize) -> bool {
        let due = self.s.x87_before.get(index);
        due.is_some_and(|due| due.operand.is_some() || due.last.is_some())
    }

    fn note(&mut self, due: Due) {
        self.note_operand(due.operand);
        if let Some(number) = due.last.map(|n| self.number(n)) {
            let place = field(offset_of!(CpuState, last_x87));
            self.asm.store_imm(place, number);
            self.relocate(Numbered::Callout);
        }
    }

    /// Stores where the operand of instruction `n` is, by registers as they were.
    fn note_operand(&mut self, n: Option<usize>) {
        let Some((n, i)) = n.and_then(|n| Some((n, self.block.insns.get(n)?))) else {
            return;
        };
        let (m, number) = (i.mem, self.number(n));
        self.reserve(60);
        self.offset(&m, reg::R9);
        let place = field(offset_of!(CpuState, last_x87_offset));
        self.asm.store(Size::D, place, reg::R9);
        let place = field(offset_of!(CpuState, last_x87_operand));
        self.asm.store_imm(place, number);
        self.relocate(Numbered::Callout);
    }

    /// The number by which the runtime knows instruction `n`.
    fn number(&self, n: usize) -> u32 {
        self.callout_base.wrapping_add(n as u32)
    }

    /// The address in instruction `n` is made of one of these registers.
    fn makes_address(&self, n: usize, changed: u16) -> bool {
        let Some(m) = self.block.insns.get(n).map(|x87| x87.mem) else {
            return false;
        };
        let parts = (1u16 << m.base.0 | 1 << m.index.0) & !(1 << Gpr::ZERO.0);
        parts & changed != 0
    }
}
