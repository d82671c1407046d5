//! Accesses without lookups, for code that is hot.
//!
//! Behind the tables of a view lies its mirror ([`MIRROR_DISTANCE`]), in which the
//! host's MMU does what a lookup does. So `add eax, [ebx+8]` becomes
//!
//! ```text
//! add eax, [r14 + rbx + MIRROR_DISTANCE + 8]
//! ```
//!
//! That is exact, because the guest's registers are the host's: if the host faults,
//! its signal handler finds the *landing* of the instruction, which says how to leave
//! the block as any side exit does. Most often that is a matter of EIP and budget and
//! takes no code; where something stood before the access, there is code to undo it.
//! Operands that cross pages, are misaligned, or are locked need no thought.
//!
//! Only a base register with a small displacement can be used as it is: whatever may
//! exceed 32 bits is computed in R8 first, modulo 2^32. A displacement may lead up to
//! [`MAX_DISPLACEMENT`] out of the mirror, where the host has guards.
//!
//! Invariants: in front of its only or last access no instruction has changed a guest
//! register, and RCX is where it belongs. (Repeated ones: [`super::repeat`].)

use super::asm::{Mem, Reg, reg};
use super::encode::swap;
use super::flags::Flags;
use super::rename::host;
use super::repeat::Rebased;
use super::{Cold, Emitter};
use crate::compile::{ExitKind, Landing, WayOut};
use crate::emit::loc;
use crate::insn::{Gpr, Insn, MemRef, Operand, SegReg, Width};
use crate::state::MIRROR_DISTANCE;

/// Displacements beyond may be wrapped-round addresses.
pub const MAX_DISPLACEMENT: i32 = 1 << 20;

/// Code of one instruction that accesses the mirror.
#[derive(Clone, Copy)]
pub struct Faulting {
    start: usize,
    end: usize,
    /// Number of the instruction.
    index: usize,
    /// Where the guest's flags are before it.
    flags: Flags,
    /// The register whose bytes are swapped while it accesses.
    swapped: Option<Reg>,
    /// The pointers that are the host's while it accesses.
    rebased: Rebased,
}

impl Emitter<'_> {
    /// Where the mirror has an operand: in terms of R14 and R8, or a guest register.
    pub(super) fn in_mirror(&mut self, m: &MemRef) -> Mem {
        self.reaches_mirror = true;
        let zero_base = self.block.mode.zero_base(m.seg);
        let disp = m.disp as i32;
        let near = (-MAX_DISPLACEMENT..=MAX_DISPLACEMENT).contains(&disp);
        let plain = m.base != Gpr::ZERO && m.index == Gpr::ZERO && !m.addr16;
        let current = self.block.insns.get(self.index);
        if plain && near && zero_base && current.is_none_or(|i| swapped(i).is_none()) {
            return place(host(m.base)).plus(disp);
        }
        self.offset(m, reg::R8);
        self.offset_in_mirror(m.seg)
    }

    /// Where the mirror has the operand whose offset is in R8.
    pub(super) fn offset_in_mirror(&mut self, seg: SegReg) -> Mem {
        self.reaches_mirror = true;
        if !self.block.mode.zero_base(seg) {
            self.add_segment_base(seg);
        }
        place(reg::R8)
    }

    /// Notes that the code of `i`, from `start` on, may fault, if it may.
    pub(super) fn note_faulting(&mut self, i: &Insn, start: usize, flags: Flags) {
        if std::mem::take(&mut self.reaches_mirror) {
            self.s.faulting.push(Faulting {
                start,
                end: self.asm.here(),
                index: self.index,
                flags,
                swapped: swapped(i),
                rebased: Rebased::default(),
            });
        }
    }

    /// Notes that a part of the current instruction's code, from `start` on, may fault
    /// while pointers are the host's.
    pub(super) fn note_range(&mut self, start: usize, rebased: Rebased) {
        self.s.faulting.push(Faulting {
            start,
            end: self.asm.here(),
            index: self.index,
            flags: self.flags,
            swapped: None,
            rebased,
        });
    }

    /// Lists the landings, and emits what code they need.
    pub(super) fn landings(&mut self) {
        for n in 0..self.s.faulting.len() {
            let faulting = self.s.faulting[n];
            let Some(insn) = self.block.insns.get(faulting.index) else {
                continue;
            };
            let undoes = matches!(faulting.flags, Flags::Lost(_))
                || faulting.swapped.is_some()
                || faulting.rebased != Rebased::default()
                || self.x87_due_at(faulting.index);
            let way_out = match undoes {
                true => WayOut::Code(self.asm.here() as u32),
                false => WayOut::Here {
                    eip: insn.eip.wrapping_sub(self.block.eip),
                    rest: (self.block.insns.len() - faulting.index) as u32,
                },
            };
            let (start, end) = (faulting.start as u32, faulting.end as u32);
            let landing = Landing {
                start,
                end,
                way_out,
            };
            self.code.landings.push(landing);
            if undoes {
                self.land_before(faulting, insn);
            }
        }
    }

    fn land_before(&mut self, faulting: Faulting, insn: &Insn) {
        let index = faulting.index;
        self.mark(loc::exit(ExitKind::Interpret, index).bits(), insn.eip);
        swap(&mut self.asm, faulting.swapped);
        faulting.rebased.undo(&mut self.asm);
        if let Flags::Lost(recipe) = faulting.flags {
            self.asm.raw(recipe.code());
        }
        self.leave_before(index, insn.eip, Cold::Landing);
    }
}

/// Where the mirror has the address in a register.
pub fn place(index: Reg) -> Mem {
    Mem::indexed(reg::R14, index, 0).plus(MIRROR_DISTANCE as i32)
}

/// The register whose bytes are swapped around an instruction with a memory operand.
fn swapped(i: &Insn) -> Option<Reg> {
    i.ops.iter().find_map(|op| match op {
        Operand::Gpr(r, Width::B) if r.0 >= Gpr::AH.0 => Some(r.0 & 3),
        _ => None,
    })
}
