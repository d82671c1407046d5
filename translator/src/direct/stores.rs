//! Stores that the table does not permit, and how the code goes on behind them.
//!
//! Most loads are refused once, before the runtime has filled the table. Stores to a
//! page with code in it are refused every time, since each must be looked at; to leave
//! the block for every one of them would be half of what they cost. So a check of a
//! store alone leads to a callout that carries the instruction out, and from there
//! back behind it.
//!
//! What the block knows must be true there: R10 is kept, the pointers in memory are,
//! flags and registers are as the instruction leaves them. If it has taken entries
//! from the tables, the runtime does not come back but goes on at EIP
//! ([`STORE`] tells it to look). Excluded are instructions that make a pointer
//! of what they check, and those behind which the vector state is taken to be loaded.

use super::asm::{Branch, Size, reg};
use super::exit::field;
use super::memory::Access;
use super::{Cold, Emitter};
use crate::compile::Numbered;
use crate::insn::{Flow, Insn};
use crate::state::CpuState;
use std::mem::offset_of;

/// In the number of a callout: the code behind it relies on the tables.
pub const STORE: u64 = 1 << 31;

/// Where a check leads that fails.
#[derive(Clone, Copy, Debug)]
pub enum Refused {
    /// To the interpreter.
    Exit,
    /// The same; the range is wider than the access.
    Shared,
    /// To the runtime and back, by number of the resumption.
    Store(usize),
}

impl Refused {
    /// The code to go to for the instruction numbered `index`.
    pub fn cold(self, index: usize) -> Cold {
        match self {
            Refused::Exit => Cold::Exit(index),
            Refused::Shared => Cold::SharedExit(index),
            Refused::Store(resume) => Cold::Store { index, resume },
        }
    }
}

/// How a store goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resume {
    /// Behind the instruction, if it may.
    back: Option<usize>,
    /// The callout, once it has been emitted.
    callout: Option<usize>,
}

impl Emitter<'_> {
    /// Where a check of the current instruction alone leads.
    pub(super) fn refused(&mut self, access: Access) -> Refused {
        match access {
            Access::Read => Refused::Exit,
            Access::Write => {
                self.stores = true;
                Refused::Store(self.s.resumes.len())
            }
        }
    }

    /// Notes where `i` ends, if it stores.
    pub(super) fn note_store(&mut self, i: &Insn) {
        if std::mem::take(&mut self.stores) {
            let may = i.flow == Flow::Next && !self.vector_loaded;
            self.s.resumes.push(Resume {
                back: may.then(|| self.asm.here()),
                callout: None,
            });
        }
    }

    /// Out of line: has the store numbered `index` carried out. RCX is in R11.
    pub(super) fn store_refused(&mut self, branch: Branch, index: usize, resume: usize) {
        let Some(Resume {
            back: Some(back),
            callout,
        }) = self.s.resumes.get(resume).copied()
        else {
            return self.out_of_line(branch, Cold::Exit(index));
        };
        if let Some(callout) = callout {
            return self.asm.land_at(branch, callout);
        }
        self.asm.land(branch);
        self.s.resumes[resume].callout = Some(self.asm.here());
        self.mark_insn(index);
        let rest = (self.block.insns.len() - index - 1) as u32;
        let number = self.callout_base.wrapping_add(index as u32) | STORE as u32;
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::RCX, reg::R11);
        asm.mov_imm(reg::R8, number);
        self.relocate(Numbered::Callout);
        let asm = &mut self.asm;
        asm.mov_imm(reg::R9, rest);
        let kept = field(offset_of!(CpuState, kept_pointer));
        asm.store(Size::Q, kept, reg::R10);
        asm.call_mem(field(offset_of!(CpuState, direct_callout)));
        asm.load(Size::Q, reg::R10, kept);
        asm.jump_to(back);
    }
}
