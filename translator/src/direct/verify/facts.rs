//! What the verifier knows of registers at one point of the code.
//!
//! A lookup, a probe of the jump cache and a call are known by their shapes, whose
//! instructions stand together; whatever is written to a register outside of them
//! takes the permission away.

use super::super::way::Way;
use super::wide::{Rebasing, Wide};
use super::{calls_block, writes};
use crate::state::{CpuState, JumpEntry, Masks, POINTERS};
use iced_x86::{Code, FlowControl, Instruction, InstructionInfo, Register};
use std::mem::offset_of;

/// A permitted entry, or a pointer made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    /// It permits stores.
    pub(super) writable: bool,
    /// Distance to the last byte that was checked.
    pub(super) to_last: i64,
}

/// What a register permits.
pub(super) type Permission = Option<Pointer>;

/// What is known of the registers of a lookup.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// RCX holds an entry.
    pub(super) entry: Permission,
    /// … which is not zero.
    pub(super) not_zero: Permission,
    /// R9 holds an entry.
    pub(super) r9_entry: Permission,
    /// … which has just been compared with 0.
    pub(super) tested: Permission,
    /// R9 holds one that is not zero, and R8 the address it was looked up for.
    pub(super) found: Permission,
    /// R8 and R10 are pointers, and those kept in the state.
    pub(super) r8: Permission,
    pub(super) r10: Permission,
    pub(super) kept: [Permission; POINTERS],
    /// R10 is the address of the jump cache, a register the offset of an entry.
    pub(super) cache: bool,
    pub(super) offset: Option<Register>,
    /// The instruction before pushed a constant.
    pub(super) pushed: bool,
    pub(super) wide: Wide,
    pub(super) rebasing: Rebasing,
}

impl Facts {
    /// What is known after `h`.
    pub(super) fn after(self, h: &Instruction, info: &InstructionInfo) -> Facts {
        let written = |r: Register| {
            let mut all = info.used_registers().iter();
            all.any(|u| u.register().full_register() == r && writes(u.access()))
        };
        let mut next = self;
        // Each step of a lookup follows the one before at once.
        (next.entry, next.not_zero, next.tested) = (None, None, None);
        if written(Register::R9) {
            next.r9_entry = None;
        }
        if written(Register::R8) || written(Register::R9) {
            next.found = None;
        }
        if written(Register::R8) {
            next.r8 = None;
        }
        if written(Register::R10) {
            (next.r10, next.cache) = (None, false);
        }
        if self.offset.is_some_and(written) {
            next.offset = None;
        }
        next.pushed = h.code() == Code::Pushq_imm32;
        if calls_block(h) {
            return Facts::default();
        }
        if h.flow_control() == FlowControl::IndirectCall {
            let field = h.memory_displacement64();
            let way = Way::ALL.iter().any(|way| way.offset() as u64 == field);
            next = Facts {
                r10: self.r10.filter(|_| !way),
                ..Facts::default()
            };
            if h.memory_displacement64() == offset_of!(CpuState, vector_enter) as u64 {
                next.kept = self.kept;
            }
        }
        if h.flow_control() == FlowControl::IndirectCall {
            next.wide = Wide::default();
        } else if writes(info.op0_access()) {
            next.wide = self.wide.after(h);
        }
        match h.code() {
            Code::Mov_r64_rm64 => self.load(h, &mut next),
            Code::Mov_rm64_r64 => {
                if let Some(n) = pointer(h) {
                    next.kept[n] = match h.op1_register() {
                        Register::R8 => self.r8,
                        Register::R10 => self.r10,
                        _ => None,
                    };
                }
            }
            Code::Jrcxz_rel8_64 => next.not_zero = self.entry,
            Code::Test_rm64_r64 if h.op0_register() == Register::R9 => {
                next.tested = self.r9_entry;
            }
            Code::Je_rel32_64 => {
                next.found = next.found.or(self.tested);
            }
            Code::Lea_r64_m => self.lea(h, &mut next),
            Code::VEX_Pdep_r32_r32_rm32 => {
                let mask = offset_of!(CpuState, masks) + offset_of!(Masks, entry);
                let masked =
                    h.memory_base() == Register::R15 && h.memory_displacement64() == mask as u64;
                next.offset = masked.then(|| h.op0_register().full_register());
            }
            _ => {}
        }
        next
    }

    /// The operand is a word of a jump-cache entry.
    pub(super) fn is_entry(&self, h: &Instruction) -> bool {
        let field = h.memory_displacement64() as usize;
        let words = [offset_of!(JumpEntry, key), offset_of!(JumpEntry, code)];
        let within = self.offset == Some(h.memory_index())
            && h.memory_index_scale() == 1
            && words.contains(&field);
        self.cache && within && h.memory_base() == Register::R10
    }

    fn load(&self, h: &Instruction, next: &mut Facts) {
        let (to, from) = (h.op0_register(), h.op1_register());
        if to == Register::RCX && h.memory_base() == Register::R14 {
            next.entry = Some(Pointer {
                writable: h.memory_displacement64() != 0,
                to_last: 0,
            });
        }
        if to == Register::R9 && h.memory_base() == Register::R14 {
            next.r9_entry = Some(Pointer {
                writable: h.memory_displacement64() != 0,
                to_last: 0,
            });
        }
        if to == Register::R10 && h.memory_base() == Register::R15 {
            next.cache = h.memory_displacement64() == offset_of!(CpuState, jump_cache) as u64;
        }
        if to == Register::R9 && from == Register::RCX {
            next.found = self.not_zero;
        }
        if to == Register::R8
            && let Some(n) = pointer(h)
        {
            next.r8 = self.kept[n];
        }
    }

    /// A pointer made of address and entry, or of another pointer.
    fn lea(&self, h: &Instruction, next: &mut Facts) {
        let from = match (h.memory_base(), h.memory_index()) {
            (Register::R8, Register::R9) if h.memory_index_scale() == 1 => self.found,
            (Register::R8, Register::None) => self.r8,
            (Register::R10, Register::None) => self.r10,
            _ => None,
        };
        let by = h.memory_displacement64() as i64;
        let made = from.map(|p| Pointer {
            to_last: p.to_last - by,
            ..p
        });
        match h.op0_register() {
            Register::R8 => next.r8 = made,
            Register::R10 => next.r10 = made,
            _ => {}
        }
    }
}

/// Which of the pointers kept in the state `h` loads or stores.
fn pointer(h: &Instruction) -> Option<usize> {
    let first = offset_of!(CpuState, pointers) as u64;
    let from = h.memory_displacement64().checked_sub(first)?;
    let n = (from / 8) as usize;
    (h.memory_base() == Register::R15 && from % 8 == 0 && n < POINTERS).then_some(n)
}
