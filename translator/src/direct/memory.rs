//! Guest memory accesses through the flat shadow tables, flags untouched.
//!
//! ```text
//! lea  r8d, [the operand's last byte]
//! mov  r11, rcx
//! pext ecx, r8d, [0FFCh]        for 4 bytes: is it in the page's first 4?
//! jrcxz crossing                then look closer, out of line
//! pext r9d, r8d, [0FFFFF000h]   page number
//! mov  rcx, [table + r9*8]      entry: 0, or host page − linear page
//! jrcxz bad
//! mov  r9, rcx
//! mov  rcx, r11
//! ```
//!
//! Then the operand is `[r8 + r9 - 3]`. Every access exposes the guest's flags, as
//! it may fault, so they stay in EFLAGS throughout: JRCXZ tests without them.
//!
//! Where the flags can be had again ([`super::flags`]), ordinary tests and branches
//! do the same in less.
//!
//! Two neighbouring pages have the same entry if and only if they are neighbours
//! on the host too, so an access across a boundary is right if both its ends have
//! the same.
//!
//! **Groups.** A check looks ahead: what the instructions behind it will access by
//! the same registers, at most [`MAX_SPAN`] bytes away, is checked with it, and a
//! pointer to the host's memory is kept, in R10 or in the state. Those accesses are
//! then a displacement from the pointer, whatever became of the registers. ESP is
//! followed through PUSH and POP. A callout may change the tables and ends all
//! groups. A range that fails though its parts would not makes a side exit too
//! many; a block that suffers is compiled again without looking ahead.
//!
//! Invariant: a guest address enters host arithmetic only zero-extended from 32
//! bits, and a permitted entry is used only for the page it was looked up for.

use super::asm::{Mem, Reg, Size, reg};
use super::effects::Effects;
use super::exit::{NOT_ZERO, ZERO, field};
use super::flags::{Flags, Recipe};
use super::rename::host;
use super::stores::Refused;
use super::{Cold, Emitter};
use crate::insn::{Gpr, MemRef, SegReg};
use crate::state::{CpuState, Masks, POINTERS, Segment, WRITE_TABLE_DISTANCE};
use std::mem::{offset_of, size_of};

/// Longest range that one check covers, a power of two.
pub const MAX_SPAN: u32 = 256;

/// Instructions that a check looks ahead.
const LOOK_AHEAD: usize = 16;

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only reads.
    Read,
    /// Writes, perhaps after reading.
    Write,
}

/// What an address is a fixed distance from: registers as of some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Root {
    /// The segment, if its base is not known to be 0.
    seg: Option<SegReg>,
    base: Gpr,
    base_version: u16,
    index: Gpr,
    index_version: u16,
    shift: u8,
}

/// Bytes from `low` to `high` after a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    low: i32,
    high: i32,
    access: Access,
}

/// Where the pointer of a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    R10,
    State(usize),
}

/// A checked range with a pointer to its last byte.
#[derive(Clone, Copy, Debug)]
struct Group {
    root: Root,
    range: Range,
    place: Place,
    /// Accesses that are still expected.
    expected: usize,
}

/// What is known of registers and checked memory at one point of a block.
#[derive(Default)]
pub struct Known {
    versions: [u16; 9],
    /// What has been added to ESP since its version began.
    esp: i32,
    groups: Vec<Group>,
    next_pointer: usize,
}

impl Known {
    /// Begins a block.
    pub fn start(&mut self) {
        self.groups.clear();
        (self.versions, self.esp, self.next_pointer) = ([0; 9], 0, 0);
    }

    /// Forgets all, as after a callout.
    pub fn forget(&mut self) {
        self.groups.clear();
        self.write(0x1ff);
    }

    /// Takes note of what an instruction has done to registers.
    pub fn after(&mut self, effects: Option<Effects>) {
        match effects {
            Some(e) => {
                self.esp = self.esp.wrapping_add(e.esp);
                self.write(e.written);
            }
            None => self.write(0x1ff),
        }
    }

    fn write(&mut self, registers: u16) {
        for (n, version) in self.versions.iter_mut().enumerate() {
            *version += registers >> n & 1;
        }
        if registers & 1 << Gpr::ESP.0 != 0 {
            self.esp = 0;
        }
    }

    fn version(&self, r: Gpr) -> u16 {
        self.versions.get(usize::from(r.0)).copied().unwrap_or(0)
    }

    /// A place for the pointer of a new group.
    fn place(&mut self) -> Place {
        let busy = |g: &Group| g.place == Place::R10 && g.expected > 0;
        let place = match self.groups.iter().any(busy) {
            false => Place::R10,
            true => {
                self.next_pointer = (self.next_pointer + 1) % POINTERS;
                Place::State(self.next_pointer)
            }
        };
        self.groups.retain(|g| g.place != place);
        place
    }
}

impl Emitter<'_> {
    /// Checks an operand of `bytes` bytes and says where it is: in terms of R8
    /// and R9, or R10. `None` if the mode says too little about its segment.
    pub(super) fn check(&mut self, m: &MemRef, access: Access, bytes: u32) -> Option<Mem> {
        let mode = self.block.mode;
        if !mode.unlimited(m.seg) || access == Access::Write && m.seg == SegReg::Cs {
            return None;
        }
        if self.mirrored {
            return (bytes <= MAX_SPAN).then(|| self.in_mirror(m));
        }
        if m.addr16 || bytes > MAX_SPAN {
            let refused = self.refused(access);
            return (bytes <= MAX_SPAN).then(|| self.check_bytes(m, access, bytes, refused));
        }
        let root = self.root(m);
        let low = self.distance(m);
        let range = Range {
            low,
            high: low.wrapping_add(bytes as i32),
            access,
        };
        if let Some(place) = self.shared(&root, &range) {
            return Some(place);
        }
        let (wider, expected) = self.look_ahead(&root, range);
        let last = wider.high.wrapping_sub(1);
        let m = MemRef {
            disp: m.disp.wrapping_add(wider.low.wrapping_sub(low) as u32),
            ..*m
        };
        let refused = match (expected, wider.access) {
            (0, access) => self.refused(access),
            (_, Access::Read) if wider == range => Refused::Exit,
            _ => Refused::Shared,
        };
        let checked = self.check_bytes(&m, wider.access, wider.len(), refused);
        let from_last = low.wrapping_sub(last);
        if expected == 0 {
            return Some(checked.plus(low.wrapping_sub(wider.low)));
        }
        let place = self.s.known.place();
        let pointer = match place {
            Place::R10 => reg::R10,
            Place::State(_) => reg::R8,
        };
        let sum = Mem::indexed(reg::R8, reg::R9, 0);
        self.asm.lea(Size::Q, pointer, sum);
        if let Place::State(n) = place {
            self.asm.store(Size::Q, pointer_field(n), pointer);
        }
        self.s.known.groups.push(Group {
            root,
            range: wider,
            place,
            expected,
        });
        Some(Mem::at(pointer, from_last))
    }

    /// The place of a range that a group covers.
    fn shared(&mut self, root: &Root, range: &Range) -> Option<Mem> {
        let covers = |g: &&mut Group| g.root == *root && g.range.covers(range);
        let group = self.s.known.groups.iter_mut().find(covers)?;
        group.expected = group.expected.saturating_sub(1);
        let from_last = range.low.wrapping_sub(group.range.high.wrapping_sub(1));
        Some(match group.place {
            Place::R10 => Mem::at(reg::R10, from_last),
            Place::State(n) => {
                self.asm.load(Size::Q, reg::R8, pointer_field(n));
                Mem::at(reg::R8, from_last)
            }
        })
    }

    fn root(&self, m: &MemRef) -> Root {
        Root {
            seg: (!self.block.mode.zero_base(m.seg)).then_some(m.seg),
            base: m.base,
            base_version: self.s.known.version(m.base),
            index: m.index,
            index_version: self.s.known.version(m.index),
            shift: m.shift & 3,
        }
    }

    /// Distance of an operand from its root.
    fn distance(&self, m: &MemRef) -> i32 {
        let esp = if m.base == Gpr::ESP {
            self.s.known.esp
        } else {
            0
        };
        esp.wrapping_add(m.disp as i32)
    }

    /// Widens `range` by what the instructions behind this one access from the
    /// same root, and counts these accesses.
    fn look_ahead(&self, root: &Root, range: Range) -> (Range, usize) {
        let (mut wider, mut count) = (range, 0);
        if !self.grouped {
            return (wider, count);
        }
        let registers = 1 << root.base.0 | 1 << root.index.0;
        let mut esp = self.s.known.esp;
        let behind = self.s.traits.iter().skip(self.index);
        for (n, i) in behind.take(LOOK_AHEAD).enumerate() {
            if let Some((m, access, bytes)) = i.access.filter(|_| n > 0) {
                let same = m.base == root.base
                    && m.index == root.index
                    && m.shift & 3 == root.shift
                    && !m.addr16
                    && (!self.block.mode.zero_base(m.seg)).then_some(m.seg) == root.seg
                    && !(access == Access::Write && m.seg == SegReg::Cs);
                let from = if m.base == Gpr::ESP { esp } else { 0 };
                let low = from.wrapping_add(m.disp as i32);
                if same && let Some(joined) = wider.join(low, bytes, access, root.base) {
                    wider = joined;
                    count += 1;
                }
            }
            let Some(e) = i.effects else { break };
            if e.written & registers & 0xff != 0 {
                break;
            }
            esp = esp.wrapping_add(e.esp);
        }
        (wider, count)
    }

    /// Puts the offset of an operand into a register.
    pub(super) fn offset(&mut self, m: &MemRef, to: Reg) {
        let disp = m.disp as i32;
        let index = (m.index != Gpr::ZERO).then(|| (host(m.index), m.shift & 3));
        let base = (m.base != Gpr::ZERO).then(|| host(m.base));
        match (base, index) {
            (None, None) => self.asm.mov_imm(to, m.disp),
            (Some(base), None) if disp == 0 => self.asm.mov(Size::D, to, base),
            _ => {
                let address = Mem {
                    base,
                    index,
                    ..Mem::at(to, disp)
                };
                self.asm.lea(Size::D, to, address);
            }
        }
        if m.addr16 {
            self.asm.zero_extend_word(to, to);
        }
    }

    /// Checks `bytes` bytes; leaves the address of the last in R8 and the entry in
    /// R9, or leaves the block. Returns where the first is.
    fn check_bytes(&mut self, m: &MemRef, access: Access, bytes: u32, refused: Refused) -> Mem {
        let to_last = bytes as i32 - 1;
        let zero_base = self.block.mode.zero_base(m.seg);
        if m.addr16 {
            self.offset(m, reg::R8);
            let last = Mem::at(reg::R8, to_last);
            self.asm.lea(Size::D, reg::R8, last);
        } else {
            let disp = m.disp.wrapping_add(to_last as u32);
            self.offset(&MemRef { disp, ..*m }, reg::R8);
        }
        if !zero_base {
            self.add_segment_base(m.seg);
        }
        let constant = m.base == Gpr::ZERO && m.index == Gpr::ZERO && zero_base;
        let within = (m.disp & 0xfff) + bytes <= 0x1000;
        let may_cross = bytes > 1 && !(constant && within);
        self.check_linear(access, bytes, may_cross, refused);
        Mem::indexed(reg::R8, reg::R9, 0).plus(-to_last)
    }

    /// Checks an operand whose offset is in R8.
    pub(super) fn check_computed(
        &mut self,
        seg: SegReg,
        access: Access,
        bytes: u32,
    ) -> Option<Mem> {
        let mode = self.block.mode;
        if !mode.unlimited(seg) || access == Access::Write && seg == SegReg::Cs {
            return None;
        }
        if self.mirrored {
            return Some(self.offset_in_mirror(seg));
        }
        let to_last = bytes as i32 - 1;
        self.asm.lea(Size::D, reg::R8, Mem::at(reg::R8, to_last));
        if !mode.zero_base(seg) {
            self.add_segment_base(seg);
        }
        let refused = self.refused(access);
        self.check_linear(access, bytes, bytes > 1, refused);
        Some(Mem::indexed(reg::R8, reg::R9, 0).plus(-to_last))
    }

    /// Adds a segment's base to the offset in R8. Changes R9.
    pub(super) fn add_segment_base(&mut self, seg: SegReg) {
        self.load_segment_base(seg, reg::R9);
        let sum = Mem::indexed(reg::R8, reg::R9, 0);
        self.asm.lea(Size::D, reg::R8, sum);
    }

    /// Loads a segment's base.
    pub(super) fn load_segment_base(&mut self, seg: SegReg, to: Reg) {
        let base = offset_of!(CpuState, seg)
            + seg as usize * size_of::<Segment>()
            + offset_of!(Segment, base);
        self.asm.load(Size::D, to, field(base));
    }

    /// Checks `bytes` bytes, the last of which is at the linear address in R8; leaves the
    /// entry in R9.
    pub(super) fn check_linear(
        &mut self,
        access: Access,
        bytes: u32,
        may_cross: bool,
        refused: Refused,
    ) {
        self.save_flags();
        self.reserve(80);
        if let Some(recipe) = self.recipe() {
            return self.check_losing_flags(access, bytes, may_cross, refused, recipe);
        }
        let index = self.index;
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::R11, reg::RCX);
        let crossing = may_cross.then(|| {
            asm.pext_mem(reg::RCX, reg::R8, above(bytes));
            asm.jrcxz()
        });
        asm.pext_mem(reg::R9, reg::R8, page());
        asm.load(Size::Q, reg::RCX, entry(access, reg::R9));
        let bad = asm.jrcxz();
        asm.mov(Size::Q, reg::R9, reg::RCX);
        let back = asm.here();
        asm.mov(Size::Q, reg::RCX, reg::R11);
        if let Some(branch) = crossing {
            let crossing = Cold::Crossing {
                index,
                access,
                bytes,
                refused,
                back,
            };
            self.s.near.push((branch, crossing));
        }
        self.s.near.push((bad, refused.cold(index)));
    }

    /// The same where a recipe has the flags.
    fn check_losing_flags(
        &mut self,
        access: Access,
        bytes: u32,
        may_cross: bool,
        refused: Refused,
        recipe: Recipe,
    ) {
        let index = self.index;
        let asm = &mut self.asm;
        asm.pext_mem(reg::R9, reg::R8, page());
        asm.load(Size::Q, reg::R9, entry(access, reg::R9));
        let crossing = may_cross.then(|| {
            // TEST R8D, mask
            asm.op_reg(Size::D, &[0xf7], 0, reg::R8);
            asm.raw(&(0x1000 - bytes.next_power_of_two()).to_le_bytes());
            asm.jump_if(ZERO)
        });
        let back = asm.here();
        // TEST R9, R9
        asm.op_reg(Size::Q, &[0x85], reg::R9, reg::R9);
        let bad = asm.jump_if(ZERO);
        if let Some(branch) = crossing {
            let crossing = Cold::LostCrossing {
                index,
                recipe,
                access,
                bytes,
                refused,
                back,
            };
            self.s.cold.push((branch, crossing));
        }
        let exit = Cold::LostExit {
            index,
            recipe,
            refused,
        };
        self.s.cold.push((bad, exit));
        self.flags = Flags::Lost(recipe);
    }

    /// Out of line: as [`Emitter::crossing`], with R9 the last byte's entry.
    pub(super) fn crossing_losing_flags(
        &mut self,
        access: Access,
        bytes: u32,
        back: usize,
        exit: Cold,
    ) {
        let asm = &mut self.asm;
        let first = Mem::at(reg::R8, 1 - bytes as i32);
        asm.lea(Size::D, reg::R11, first);
        asm.pext_mem(reg::R11, reg::R11, page());
        asm.load(Size::Q, reg::R11, entry(access, reg::R11));
        // CMP R11, R9
        asm.op_reg(Size::Q, &[0x3b], reg::R11, reg::R9);
        let different = asm.jump_if(NOT_ZERO);
        asm.jump_to(back);
        self.s.cold.push((different, exit));
    }

    /// Out of line: the last byte is at a page's begin. Goes back if the pages of
    /// both ends have the same entry.
    pub(super) fn crossing(&mut self, access: Access, bytes: u32, back: usize, exit_to: Cold) {
        let asm = &mut self.asm;
        let first = Mem::at(reg::R8, 1 - bytes as i32);
        asm.lea(Size::D, reg::RCX, first);
        asm.pext_mem(reg::RCX, reg::RCX, page());
        asm.pext_mem(reg::R9, reg::R8, page());
        asm.load(Size::Q, reg::R9, entry(access, reg::R9));
        asm.load(Size::Q, reg::RCX, entry(access, reg::RCX));
        // Both may be 0, for which RCX is looked at first.
        let bad = asm.jrcxz();
        asm.not(Size::Q, reg::RCX);
        let difference = Mem {
            disp: 1,
            ..Mem::indexed(reg::RCX, reg::R9, 0)
        };
        asm.lea(Size::Q, reg::RCX, difference);
        let same = asm.jrcxz();
        asm.land(bad);
        let exit = asm.jump();
        asm.land(same);
        asm.jump_to(back);
        self.s.cold.push((exit, exit_to));
    }
}

impl Range {
    fn len(&self) -> u32 {
        self.high.wrapping_sub(self.low) as u32
    }

    fn covers(&self, other: &Range) -> bool {
        let from = other.low.wrapping_sub(self.low);
        let fits = from >= 0 && i64::from(from) + i64::from(other.len()) <= i64::from(self.len());
        fits && (self.access == Access::Write || other.access == Access::Read)
    }

    /// The range widened by an access, if one check can cover it all.
    fn join(self, low: i32, bytes: u32, access: Access, base: Gpr) -> Option<Range> {
        let high = low.wrapping_add(bytes as i32);
        // Distances from the range's first byte.
        let from = low.wrapping_sub(self.low).min(0);
        let to = high.wrapping_sub(self.low).max(self.len() as i32);
        let span = i64::from(to) - i64::from(from);
        if span > i64::from(MAX_SPAN) || from < -(MAX_SPAN as i32) {
            return None;
        }
        let first = self.low.wrapping_add(from);
        // Constant addresses share a check within their page only.
        if base == Gpr::ZERO && i64::from(first as u32 & 0xfff) + span > 0x1000 {
            return None;
        }
        let access = match (self.access, access) {
            (Access::Read, Access::Read) => Access::Read,
            _ => Access::Write,
        };
        Some(Range {
            low: first,
            high: first.wrapping_add(span as i32),
            access,
        })
    }
}

/// The mask of a page number.
fn page() -> Mem {
    field(offset_of!(CpuState, masks) + offset_of!(Masks, page))
}

/// The mask of the bits that are 0 in the last byte's address if `bytes` bytes may
/// cross into its page.
fn above(bytes: u32) -> Mem {
    let n = bytes.next_power_of_two().trailing_zeros() as usize;
    field(offset_of!(CpuState, masks) + offset_of!(Masks, above) + 4 * n)
}

fn pointer_field(n: usize) -> Mem {
    field(offset_of!(CpuState, pointers) + 8 * n)
}

/// The table's entry for the page whose number is in `page`.
fn entry(access: Access, page: Reg) -> Mem {
    let table = match access {
        Access::Read => 0,
        Access::Write => WRITE_TABLE_DISTANCE as i32,
    };
    Mem::indexed(reg::R14, page, 3).plus(table)
}
