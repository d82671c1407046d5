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
//! **User code** has it easier where the host lets programs set the base of GS, which
//! then is that of the user view's mirror, in every ring. With an address-size prefix
//! the host adds up base, index, displacement and what a segment adds modulo 2^32, as
//! the guest does, so nearly every operand is a part of its instruction:
//!
//! ```text
//! add eax, gs:[rbx + 8]                  where the sum above is safe
//! add eax, gs:[ebx + esi*4 - 2000000h]   elsewhere
//! ```
//!
//! Code of other rings keeps to R14, which the seam and transitions load anyway.
//!
//! Invariants: in front of its only or last access no instruction has changed a guest
//! register, and RCX is where it belongs. (Repeated ones: [`super::repeat`].)

use super::asm::{Mem, Reg, Via, reg};
use super::encode::swap;
use super::flags::Flags;
use super::rename::{host, needs_rex};
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
    /// Where the mirror has an operand: in terms of R8 and guest registers.
    pub(super) fn in_mirror(&mut self, m: &MemRef) -> Mem {
        if let Some(place) = self.as_it_is(m) {
            return self.reached(place);
        }
        self.offset(m, reg::R8);
        self.offset_in_mirror(m.seg)
    }

    /// Where the mirror has the operand whose offset is in R8.
    pub(super) fn offset_in_mirror(&mut self, seg: SegReg) -> Mem {
        if !self.block.mode.zero_base(seg) {
            self.add_segment_base(seg);
        }
        let place = self.place(reg::R8);
        self.reached(place)
    }

    /// Where the mirror has the address in a register.
    pub(super) fn place(&self, index: Reg) -> Mem {
        match self.by_gs {
            true => Mem {
                via: Via::Gs,
                ..Mem::at(index, 0)
            },
            false => Mem::indexed(reg::R14, index, 0).plus(MIRROR_DISTANCE as i32),
        }
    }

    /// The operand as a part of the instruction, if it can be. Changes R8.
    fn as_it_is(&mut self, m: &MemRef) -> Option<Mem> {
        let place = match self.by_gs {
            true => self.in_gs(m)?,
            false => self.near(m)?,
        };
        // The bytes of a register that the address is made of must not be swapped.
        if self.swapped_at(place).is_some() {
            return None;
        }
        if !self.block.mode.zero_base(m.seg) {
            self.load_segment_base(m.seg, reg::R8);
        }
        Some(place)
    }

    /// A base register with a small displacement.
    fn near(&self, m: &MemRef) -> Option<Mem> {
        let alone = m.base != Gpr::ZERO && m.index == Gpr::ZERO && !m.addr16;
        let fits = alone && is_near(m.disp) && self.block.mode.zero_base(m.seg);
        fits.then(|| self.place(host(m.base)).plus(m.disp as i32))
    }

    /// Whatever has two registers at most, of which R8 is one where it must be the
    /// segment's base.
    fn in_gs(&self, m: &MemRef) -> Option<Mem> {
        let zero_base = self.block.mode.zero_base(m.seg);
        let base = (m.base != Gpr::ZERO).then(|| host(m.base));
        let index = (m.index != Gpr::ZERO).then(|| (host(m.index), m.shift & 3));
        let (base, index) = match (base, index) {
            (None, Some((x, 0))) if zero_base => (Some(x), None),
            both if zero_base => both,
            (None, index) => (Some(reg::R8), index),
            (Some(base), None) => (Some(reg::R8), Some((base, 0))),
            _ => return None,
        };
        let disp = m.disp as i32;
        let within = match (base, index) {
            (Some(_), None) => is_near(m.disp),
            (None, None) => disp >= 0,
            _ => false,
        };
        let via = if within { Via::Gs } else { Via::GsWrapped };
        let place = Mem {
            base,
            index,
            via,
            ..Mem::at(reg::R8, disp)
        };
        (!m.addr16).then_some(place)
    }

    /// Notes that the current instruction accesses the mirror.
    fn reached(&mut self, place: Mem) -> Mem {
        self.reaches_mirror = true;
        self.swapped = self.swapped_at(place);
        place
    }

    /// The register whose bytes are swapped while the current instruction accesses
    /// `place`.
    fn swapped_at(&self, place: Mem) -> Option<Reg> {
        let i = self.block.insns.get(self.index)?;
        needs_rex(i, Some(place)).then(|| high_byte(i))?
    }

    /// Notes that the current instruction's code, from `start` on, may fault, if it may.
    pub(super) fn note_faulting(&mut self, start: usize, flags: Flags) {
        if std::mem::take(&mut self.reaches_mirror) {
            self.s.faulting.push(Faulting {
                start,
                end: self.asm.here(),
                index: self.index,
                flags,
                swapped: self.swapped.take(),
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

/// A displacement that leads no further out of the mirror than the guards reach.
fn is_near(disp: u32) -> bool {
    (-MAX_DISPLACEMENT..=MAX_DISPLACEMENT).contains(&(disp as i32))
}

/// The register whose high byte is an operand.
fn high_byte(i: &Insn) -> Option<Reg> {
    i.ops.iter().find_map(|op| match op {
        Operand::Gpr(r, Width::B) if r.0 >= Gpr::AH.0 => Some(r.0 & 3),
        _ => None,
    })
}
