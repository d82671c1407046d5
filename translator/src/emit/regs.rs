//! Guest registers and flags as SSA values.
//!
//! A register is loaded from [`CpuState`] at its first use, lives as a value
//! from then on and is stored once, where the block ends or calls out. The
//! arithmetic flags stay the definition that made them ([`LazyFlags`]) and are
//! reduced to the two words of the state only there, or where an instruction
//! reads them in a way that does not follow from the definition.

use super::Emitter;
use super::value::Val;
use crate::flags::LazyFlags;
use crate::insn::{Gpr, Width};
use crate::machine::Machine;
use crate::state::CpuState;
use cranelift_codegen::ir::types;
use std::mem::offset_of;

/// What is known of the guest registers at one point of the hot path.
#[derive(Clone, Copy, Default)]
pub struct Registers {
    /// Current values, where they are not only in memory.
    gpr: [Option<Val>; 8],
    /// Bit n: register n differs from memory.
    dirty: u8,
    /// The definition of the flags in force; `None` if it is in memory only.
    flags: Option<LazyFlags<Val>>,
    /// `flags` in the form of the state, once somebody needed it.
    raw: Option<(Val, Val)>,
    /// The flags differ from memory.
    flags_dirty: bool,
}

impl Registers {
    /// Register `n` is `v` and differs from memory.
    pub fn replace(&mut self, n: u8, v: Val) {
        self.gpr[usize::from(n & 7)] = Some(v);
        self.dirty |= 1 << (n & 7);
    }

    /// The flags differ from memory.
    pub fn flags_dirty(&self) -> bool {
        self.flags_dirty
    }

    /// The definition of the flags in force, if it is not in memory only.
    pub fn flags(&self) -> Option<LazyFlags<Val>> {
        self.flags
    }
}

impl Emitter<'_> {
    /// All 32 bits of register `n`.
    pub(super) fn full(&mut self, n: u8) -> Val {
        let n = usize::from(n & 7);
        if let Some(v) = self.regs.gpr[n] {
            return v;
        }
        let v = self.load_state(types::I32, offset_of!(CpuState, gpr) + 4 * n);
        let v = self.fresh(v);
        self.regs.gpr[n] = Some(v);
        self.survey.read |= 1 << n;
        v
    }

    pub(super) fn read_gpr(&mut self, r: Gpr, w: Width) -> Val {
        match (r, w) {
            (Gpr::ZERO, _) => Val::Imm(0),
            (Gpr(n @ 4..), Width::B) => {
                let v = self.full(n - 4);
                let eight = Val::Imm(8);
                let v = self.shr(v, eight);
                self.zext_value(v, Width::B)
            }
            (Gpr(n), w) => {
                let v = self.full(n);
                self.zext_value(v, w)
            }
        }
    }

    pub(super) fn write_gpr(&mut self, r: Gpr, w: Width, v: Val) {
        let (n, keep, shift) = match (r, w) {
            (Gpr::ZERO, _) => return,
            (Gpr(n), Width::D) => (n, 0, 0),
            (Gpr(n), Width::W) => (n, 0xffff_0000, 0),
            (Gpr(n @ 0..4), Width::B) => (n, 0xffff_ff00, 0),
            (Gpr(n), Width::B) => (n - 4, 0xffff_00ff, 8),
        };
        let merged = if w == Width::D {
            v
        } else {
            let old = self.full(n);
            let kept = self.and_values(old, Val::Imm(keep));
            let low = self.zext_value(v, w);
            let placed = self.shl(low, Val::Imm(shift));
            self.or_values(kept, placed)
        };
        self.regs.replace(n, merged);
        self.survey.written |= 1 << (n & 7);
    }

    /// A new definition of the flags.
    pub(super) fn define(&mut self, flags: LazyFlags<Val>) {
        self.regs.flags = Some(flags);
        self.regs.flags_dirty = true;
        self.regs.raw = match flags {
            LazyFlags::Raw { result, carries } => Some((result, carries)),
            _ => None,
        };
    }

    /// The flags in the form of the state.
    pub(super) fn raw_flags(&mut self) -> (Val, Val) {
        if let Some(raw) = self.regs.raw {
            return raw;
        }
        let raw = match self.regs.flags {
            Some(definition) => self.lower_flags(definition),
            None => {
                self.survey.flags_seen = true;
                let result = self.load_state(types::I32, offset_of!(CpuState, flag_result));
                let carries = self.load_state(types::I32, offset_of!(CpuState, flag_carries));
                let (result, carries) = (self.fresh(result), self.fresh(carries));
                self.regs.flags = Some(LazyFlags::Raw { result, carries });
                (result, carries)
            }
        };
        self.regs.raw = Some(raw);
        raw
    }

    /// Stores what differs from memory; the values stay known.
    pub(super) fn flush(&mut self) {
        for n in 0..8 {
            if self.regs.dirty >> n & 1 != 0
                && let Some(v) = self.regs.gpr[n]
            {
                let v = self.value(v);
                self.store_state(v, offset_of!(CpuState, gpr) + 4 * n);
            }
        }
        self.regs.dirty = 0;
        self.flush_flags();
    }

    /// Stores the flags if they differ from memory.
    pub(super) fn flush_flags(&mut self) {
        if !std::mem::take(&mut self.regs.flags_dirty) {
            return;
        }
        let (result, carries) = self.raw_flags();
        let result = self.value(result);
        self.store_state(result, offset_of!(CpuState, flag_result));
        let carries = self.value(carries);
        self.store_state(carries, offset_of!(CpuState, flag_carries));
    }

    /// Stores, in a cold block, what differed from memory at an earlier point.
    pub(super) fn restore(&mut self, then: &Registers) {
        for n in 0..8 {
            if then.dirty >> n & 1 != 0
                && let Some(v) = then.gpr[n]
            {
                let v = self.value_here(v);
                self.store_state(v, offset_of!(CpuState, gpr) + 4 * n);
            }
        }
        let Some(definition) = then.flags.filter(|_| then.flags_dirty) else {
            return;
        };
        // Sums remembered here do not dominate the other cold blocks.
        let (result, carries) = match then.raw {
            Some(raw) => raw,
            None => self.lower_flags(definition),
        };
        let result = self.value_here(result);
        self.store_state(result, offset_of!(CpuState, flag_result));
        let carries = self.value_here(carries);
        self.store_state(carries, offset_of!(CpuState, flag_carries));
    }
}
