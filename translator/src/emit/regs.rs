//! Guest registers and flags as SSA values.
//!
//! A register is loaded from [`CpuState`] at its first use, lives as a value
//! from then on and is stored once, where the block ends or calls out. A write to
//! AL, AH or AX is kept beside the register until somebody reads more than that
//! part, so code that works on bytes does not wait for merges. The arithmetic flags stay the definition that made them ([`LazyFlags`]) and are
//! reduced to the two words of the state only there, or where an instruction
//! reads them in a way that does not follow from the definition.

use super::Emitter;
use super::value::Val;
use crate::flags::LazyFlags;
use crate::insn::{Gpr, Width};
use crate::machine::Machine;
use crate::state::CpuState;
use cranelift_codegen::ir::{Value, types};
use std::mem::offset_of;

/// Parts of a register that have been written and not yet merged into it.
#[derive(Clone, Copy, Default)]
struct Parts {
    /// The low byte or the low word, zero-extended.
    low: Option<(Val, Width)>,
    /// The second byte, zero-extended; never beside a low word.
    high: Option<Val>,
}

impl Parts {
    fn any(&self) -> bool {
        self.low.is_some() || self.high.is_some()
    }

    /// The bits of the register that the parts replace.
    fn mask(&self) -> u32 {
        let low = self.low.map_or(0, |(_, w)| w.mask());
        let high = self.high.map_or(0, |_| Width::B.mask() << 8);
        low | high
    }
}

/// What is known of the guest registers at one point of the hot path.
#[derive(Clone, Copy, Default)]
pub struct Registers {
    /// Current values less their parts, where they are not only in memory.
    gpr: [Option<Val>; 8],
    /// What has to be merged into them.
    parts: [Parts; 8],
    /// Bit n: register n differs from memory.
    dirty: u8,
    /// The definition of the flags in force; `None` if it is in memory only.
    flags: Option<LazyFlags<Val>>,
    /// `flags` in the form of the state, once somebody needed it.
    raw: Option<(Val, Val)>,
    /// The flags differ from memory.
    flags_dirty: bool,
    /// `flags` came around a loop: in its first iteration they are in memory only.
    carried: bool,
}

impl Registers {
    /// Register `n` is `v` and differs from memory.
    pub fn replace(&mut self, n: u8, v: Val) {
        self.gpr[usize::from(n & 7)] = Some(v);
        self.parts[usize::from(n & 7)] = Parts::default();
        self.dirty |= 1 << (n & 7);
    }

    /// The flags differ from memory.
    pub fn flags_dirty(&self) -> bool {
        self.flags_dirty
    }

    /// The flags are `flags`, which came around a loop.
    pub fn carry_flags(&mut self, flags: LazyFlags<Val>) {
        self.flags = Some(flags);
        self.raw = None;
        self.flags_dirty = true;
        self.carried = true;
    }

    /// The definition of the flags in force, if they differ from memory.
    pub fn flags_to_store(&self) -> Option<LazyFlags<Val>> {
        self.flags.filter(|_| self.flags_dirty)
    }

    /// The definition of the flags in force, if it is not in memory only.
    pub fn flags(&self) -> Option<LazyFlags<Val>> {
        self.flags
    }
}

impl Emitter<'_> {
    /// All 32 bits of register `n`.
    pub(super) fn full(&mut self, n: u8) -> Val {
        let old = self.base(n);
        let index = usize::from(n & 7);
        let parts = std::mem::take(&mut self.regs.parts[index]);
        if !parts.any() {
            return old;
        }
        let merged = self.merge(old, parts);
        self.regs.gpr[index] = Some(merged);
        merged
    }

    /// Register `n` without the parts beside it.
    fn base(&mut self, n: u8) -> Val {
        let n = usize::from(n & 7);
        if let Some(v) = self.regs.gpr[n] {
            return v;
        }
        let v = self.load_gpr(n);
        self.regs.gpr[n] = Some(v);
        self.survey.read |= 1 << n;
        v
    }

    fn load_gpr(&mut self, n: usize) -> Val {
        let v = self.load_state(types::I32, offset_of!(CpuState, gpr) + 4 * n);
        self.fresh(v)
    }

    fn merge(&mut self, old: Val, parts: Parts) -> Val {
        let mut merged = self.and_values(old, Val::Imm(!parts.mask()));
        if let Some((low, _)) = parts.low {
            merged = self.or_values(merged, low);
        }
        if let Some(high) = parts.high {
            let placed = self.shl(high, Val::Imm(8));
            merged = self.or_values(merged, placed);
        }
        merged
    }

    pub(super) fn read_gpr(&mut self, r: Gpr, w: Width) -> Val {
        match (r, w) {
            (Gpr::ZERO, _) => Val::Imm(0),
            (Gpr(n), Width::D) => self.full(n),
            (Gpr(n), Width::W) => self.low_word(n),
            (Gpr(n @ 4..), Width::B) => self.high_byte(n - 4),
            (Gpr(n), Width::B) => self.low_byte(n),
        }
    }

    fn low_byte(&mut self, n: u8) -> Val {
        let v = match self.regs.parts[usize::from(n & 7)].low {
            Some((v, _)) => v,
            None => self.base(n),
        };
        self.zext_value(v, Width::B)
    }

    fn high_byte(&mut self, n: u8) -> Val {
        let parts = self.regs.parts[usize::from(n & 7)];
        let word = match (parts.high, parts.low) {
            (Some(high), _) => return high,
            (None, Some((word, Width::W))) => word,
            _ => self.base(n),
        };
        let v = self.shr(word, Val::Imm(8));
        self.zext_value(v, Width::B)
    }

    fn low_word(&mut self, n: u8) -> Val {
        let index = usize::from(n & 7);
        let parts = self.regs.parts[index];
        if let Some((word, Width::W)) = parts.low {
            return word;
        }
        if !parts.any() {
            let v = self.base(n);
            return self.zext_value(v, Width::W);
        }
        let (low, high) = (self.low_byte(n), self.high_byte(n));
        let high = self.shl(high, Val::Imm(8));
        let word = self.or_values(low, high);
        self.regs.parts[index] = Parts {
            low: Some((word, Width::W)),
            high: None,
        };
        word
    }

    pub(super) fn write_gpr(&mut self, r: Gpr, w: Width, v: Val) {
        let (n, high) = match (r, w) {
            (Gpr::ZERO, _) => return,
            (Gpr(n), Width::D) => {
                self.survey.written |= 1 << (n & 7);
                return self.regs.replace(n, v);
            }
            (Gpr(n @ 4..), Width::B) => (n - 4, true),
            (Gpr(n), _) => (n, false),
        };
        let v = self.zext_value(v, w);
        let old = self.regs.parts[usize::from(n & 7)];
        let parts = match (old.low, high) {
            _ if w == Width::W => Parts {
                low: Some((v, w)),
                high: None,
            },
            // A byte of a word that is apart already.
            (Some((word, Width::W)), _) => {
                let (keep, shift) = if high { (0xff, 8) } else { (0xff00, 0) };
                let kept = self.and_values(word, Val::Imm(keep));
                let placed = self.shl(v, Val::Imm(shift));
                Parts {
                    low: Some((self.or_values(kept, placed), Width::W)),
                    high: None,
                }
            }
            (low, true) => Parts { low, high: Some(v) },
            (_, false) => Parts {
                low: Some((v, w)),
                high: old.high,
            },
        };
        self.regs.parts[usize::from(n & 7)] = parts;
        self.regs.dirty |= 1 << (n & 7);
        self.survey.written |= 1 << (n & 7);
    }

    /// A new definition of the flags.
    pub(super) fn define(&mut self, flags: LazyFlags<Val>) {
        self.regs.flags = Some(flags);
        self.regs.flags_dirty = true;
        self.regs.carried = false;
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
                self.survey.flags_read = true;
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
        let dirty = self.regs.dirty;
        for n in (0..8).filter(|n| dirty >> n & 1 != 0) {
            let v = self.full(n);
            let v = self.value(v);
            self.store_state(v, offset_of!(CpuState, gpr) + 4 * usize::from(n));
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
    pub(super) fn restore(&mut self, then: &Registers, budget: Option<Value>) {
        for n in (0..8).filter(|n| then.dirty >> n & 1 != 0) {
            let base = match then.gpr[n] {
                Some(v) => v,
                // Not loaded by then: only parts of it had been written.
                None => self.load_gpr(n),
            };
            let v = self.merge(base, then.parts[n]);
            let v = self.value_here(v);
            self.store_state(v, offset_of!(CpuState, gpr) + 4 * n);
        }
        let Some(definition) = then.flags_to_store() else {
            return;
        };
        if then.carried {
            return self.restore_carried(definition, budget);
        }
        // Sums remembered here do not dominate the other cold blocks.
        let (result, carries) = match then.raw {
            Some(raw) => raw,
            None => self.lower_flags(definition),
        };
        self.store_flags_here(result, carries);
    }

    /// Stores the two words of the flags, in a cold block.
    pub(super) fn store_flags_here(&mut self, result: Val, carries: Val) {
        let result = self.value_here(result);
        self.store_state(result, offset_of!(CpuState, flag_result));
        let carries = self.value_here(carries);
        self.store_state(carries, offset_of!(CpuState, flag_carries));
    }
}
