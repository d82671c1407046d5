//! Guest memory accesses through the flat shadow tables.
//!
//! An access is a segment check (nothing for a flat segment), two tests that
//! leave by the interval's side exit, and the access itself:
//!
//! ```text
//! entry = table[linear >> 12]      0, or host page − linear page
//! side exit if entry == 0
//! side exit if table[linear + size − 1 >> 12] != entry
//! host  = entry + linear
//! ```
//!
//! Two neighbouring pages have the same entry if and only if they are neighbours
//! on the host too, so an access may cross between them: most of a kernel's
//! memory is like that, and a stack frame that lies across two pages does not
//! leave each time. (The top and the bottom of the address space are neighbours
//! too; their entries differ, as less than 4 GiB of guest memory lies between any
//! two host pages.) What was looked up
//! is remembered by root and offset until the next callout, so the store of a
//! read-modify-write and repeated accesses to a place need no second check, and
//! [`super::plan`] lets one check cover neighbouring places.
//!
//! Invariant: a guest address enters host arithmetic only zero-extended from 32
//! bits, and a permitted entry is used only for the page it was looked up for.

use super::Emitter;
use super::plan::{Access, Range};
use super::value::{Bool, Val};
use crate::insn::{SegReg, Width};
use crate::mode::Mode;
use crate::state::{CpuState, Segment};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use std::mem::{offset_of, size_of};

/// A host address: a base and a displacement inside the same guest page.
#[derive(Clone, Copy)]
pub struct HostAddr {
    base: Value,
    disp: i32,
}

/// A range of guest addresses that has been looked up.
#[derive(Clone, Copy)]
struct Lookup {
    /// The root of the address; `None` for constants.
    root: Option<Value>,
    range: Range,
    host: Value,
}

/// What one segment's register says, as far as it has been loaded or checked.
#[derive(Clone, Copy, Default)]
struct SegmentFacts {
    base: Option<Val>,
    bounds: Option<(Val, Val)>,
    readable: bool,
    writable: bool,
}

/// What the block has learnt about memory since it began or last called out.
#[derive(Default)]
pub struct MemoryFacts {
    lookups: Vec<Lookup>,
    segments: [SegmentFacts; 6],
    read_table: Option<Value>,
    write_table: Option<Value>,
}

impl MemoryFacts {
    /// Forgets everything: the tables or segments may have changed.
    pub fn clear(&mut self) {
        self.lookups.clear();
        self.segments = Default::default();
        self.read_table = None;
        self.write_table = None;
    }
}

impl Emitter<'_> {
    pub(super) fn load_guest(&mut self, seg: SegReg, offset: Val, w: Width, write: bool) -> Val {
        let at = self.host_address(seg, offset, w.bytes(), write);
        let flags = self.flags.guest;
        match w {
            Width::B => {
                let v = self.ins().uload8(types::I32, flags, at.base, at.disp);
                self.fresh_bits(v, 8)
            }
            Width::W => {
                let v = self.ins().uload16(types::I32, flags, at.base, at.disp);
                self.fresh_bits(v, 16)
            }
            Width::D => {
                let v = self.ins().load(types::I32, flags, at.base, at.disp);
                self.fresh(v)
            }
        }
    }

    pub(super) fn store_guest(&mut self, seg: SegReg, offset: Val, w: Width, v: Val) {
        let at = self.host_address(seg, offset, w.bytes(), true);
        let v = self.value(v);
        let flags = self.flags.guest;
        match w {
            Width::B => self.ins().istore8(flags, v, at.base, at.disp),
            Width::W => self.ins().istore16(flags, v, at.base, at.disp),
            Width::D => self.ins().store(flags, v, at.base, at.disp),
        };
        self.stored();
    }

    /// The host address of `len` bytes at `seg:offset`, checked.
    fn host_address(&mut self, seg: SegReg, offset: Val, len: u32, write: bool) -> HostAddr {
        let linear = self.linear_address(seg, offset, len, write);
        self.lookup(linear, len, write)
    }

    /// Segment checks and base.
    fn linear_address(&mut self, seg: SegReg, offset: Val, len: u32, write: bool) -> Val {
        let mode = self.mode;
        if !mode.unlimited(seg) {
            self.check_bounds(seg, offset, len);
        }
        // `unlimited` says nothing about writing through CS.
        let protected = mode.0 & Mode::PROTECTED != 0;
        if protected && (!mode.unlimited(seg) || seg == SegReg::Cs && write) {
            self.check_rights(seg, write);
        }
        if mode.zero_base(seg) {
            return offset;
        }
        let base = match self.memory.segments[seg as usize].base {
            Some(base) => base,
            None => {
                let base =
                    self.load_state(types::I32, segment_field(seg, offset_of!(Segment, base)));
                let base = self.fresh(base);
                self.memory.segments[seg as usize].base = Some(base);
                base
            }
        };
        self.add_values(base, offset)
    }

    /// Highest offset of CS, unless the mode says that there is no limit.
    pub(super) fn limit_of_code(&mut self) -> Option<Val> {
        if self.mode.unlimited(SegReg::Cs) {
            return None;
        }
        let hi = self.load_state(
            types::I32,
            segment_field(SegReg::Cs, offset_of!(Segment, hi)),
        );
        Some(self.fresh(hi))
    }

    /// Leaves unless `lo <= offset` and `offset + len - 1 <= hi` without wrapping.
    fn check_bounds(&mut self, seg: SegReg, offset: Val, len: u32) {
        let (lo, hi) = match self.memory.segments[seg as usize].bounds {
            Some(bounds) => bounds,
            None => {
                let lo = self.load_state(types::I32, segment_field(seg, offset_of!(Segment, lo)));
                let hi = self.load_state(types::I32, segment_field(seg, offset_of!(Segment, hi)));
                let bounds = (self.fresh(lo), self.fresh(hi));
                self.memory.segments[seg as usize].bounds = Some(bounds);
                bounds
            }
        };
        let last = self.add_values(offset, Val::Imm(len - 1));
        let below = self.compare(IntCC::UnsignedLessThan, offset, lo);
        let above = self.compare(IntCC::UnsignedGreaterThan, last, hi);
        let mut bad = self.either_bool(below, above);
        if len > 1 && self.bits_of(offset) > 16 {
            let wraps = self.compare(IntCC::UnsignedLessThan, last, offset);
            bad = self.either_bool(bad, wraps);
        }
        self.exit_if(bad);
    }

    /// Leaves unless the descriptor allows the access.
    fn check_rights(&mut self, seg: SegReg, write: bool) {
        let known = self.memory.segments[seg as usize];
        if known.writable || known.readable && !write {
            return;
        }
        let attributes = segment_field(seg, offset_of!(Segment, attributes));
        let (flags, state) = (self.flags.state, self.state);
        let attributes = self
            .ins()
            .uload16(types::I32, flags, state, attributes as i32);
        let attributes = self.fresh_bits(attributes, 16);
        let code_and_rw = u32::from(Segment::CODE | Segment::READ_WRITE);
        let kind = self.and_values(attributes, Val::Imm(code_and_rw));
        // Writable is data with W; readable is all but code without R.
        let bad = match write {
            true => self.compare(
                IntCC::NotEqual,
                kind,
                Val::Imm(u32::from(Segment::READ_WRITE)),
            ),
            false => self.compare(IntCC::Equal, kind, Val::Imm(u32::from(Segment::CODE))),
        };
        self.exit_if(bad);
        let facts = &mut self.memory.segments[seg as usize];
        facts.writable |= write;
        facts.readable = true;
    }

    /// Looks `len` bytes up in the shadow table.
    fn lookup(&mut self, linear: Val, len: u32, write: bool) -> HostAddr {
        let (root, offset) = match linear {
            Val::Imm(k) => (None, k),
            Val::Sum(root, offset) => (Some(root), offset),
        };
        let number = self.scratch.accesses.len();
        self.scratch.accesses.push(Access {
            epoch: self.callouts.len() as u32,
            root,
            offset,
            len,
            write,
        });
        let known = self.memory.lookups.iter().find(|known| {
            let at = offset.wrapping_sub(known.range.offset);
            known.root == root
                && (known.range.write || !write)
                && at < known.range.len
                && at + len <= known.range.len
        });
        if let Some(known) = known {
            return HostAddr {
                base: known.host,
                disp: offset.wrapping_sub(known.range.offset) as i32,
            };
        }
        let range = self.scratch.plan.range(number);
        let range = range.unwrap_or(Range { offset, len, write });
        let first = match root {
            Some(root) => Val::Sum(root, range.offset),
            None => Val::Imm(range.offset),
        };
        let host = match self.looping.and(self.scratch.plan.window(number)) {
            Some(n) => self.through_window(n, first, range.len, range.write),
            None => self.check_range(first, range.len, range.write),
        };
        self.memory.lookups.push(Lookup { root, range, host });
        self.checks += 1;
        HostAddr {
            base: host,
            disp: offset.wrapping_sub(range.offset) as i32,
        }
    }

    /// The table lookups of one range, with their side exit; returns the host address.
    fn check_range(&mut self, first: Val, len: u32, write: bool) -> Value {
        let table = self.table(write);
        let entry = self.entry(table, first);
        let none = self.ins().icmp_imm_u(IntCC::Equal, entry, 0);
        self.exit_if(Bool::Computed(none));
        let last = self.add_values(first, Val::Imm(len - 1));
        let one_page = match (first, last) {
            (Val::Imm(first), Val::Imm(last)) => first >> 12 == last >> 12,
            _ => len == 1,
        };
        if !one_page {
            let other = self.entry(table, last);
            let apart = self.ins().icmp(IntCC::NotEqual, entry, other);
            self.exit_if(Bool::Computed(apart));
        }
        let wide = match first {
            Val::Imm(k) => self.ins().iconst(types::I64, i64::from(k)),
            Val::Sum(..) => {
                let v = self.value(first);
                self.ins().uextend(types::I64, v)
            }
        };
        self.ins().iadd(entry, wide)
    }

    /// The table's entry for the page of a linear address.
    pub(super) fn entry(&mut self, table: Value, linear: Val) -> Value {
        let flags = self.flags.table;
        if let Val::Imm(k) = linear {
            let offset = (k >> 12) as i32 * 8;
            return self.ins().load(types::I64, flags, table, offset);
        }
        let v = self.value_here(linear);
        let page = self.ins().ushr_imm_u(v, 12);
        let page = self.ins().uextend(types::I64, page);
        let offset = self.ins().ishl_imm_u(page, 3);
        let at = self.ins().iadd(table, offset);
        self.ins().load(types::I64, flags, at, 0)
    }

    pub(super) fn table(&mut self, write: bool) -> Value {
        let (known, field) = match write {
            true => (self.memory.write_table, offset_of!(CpuState, write_table)),
            false => (self.memory.read_table, offset_of!(CpuState, read_table)),
        };
        if let Some(table) = known {
            return table;
        }
        let table = self.load_state(types::I64, field);
        match write {
            true => self.memory.write_table = Some(table),
            false => self.memory.read_table = Some(table),
        }
        match write {
            true => self.survey.writes = true,
            false => self.survey.reads = true,
        }
        table
    }
}

/// Offset in the state of a field of a segment register.
fn segment_field(seg: SegReg, field: usize) -> usize {
    offset_of!(CpuState, seg) + seg as usize * size_of::<Segment>() + field
}

/// The flags of the three kinds of memory generated code touches, which never overlap.
#[derive(Clone, Copy)]
pub struct AccessFlags {
    /// [`CpuState`].
    pub state: MemFlagsData,
    /// Shadow tables, link slots, the jump cache.
    pub table: MemFlagsData,
    /// Guest memory.
    pub guest: MemFlagsData,
}
