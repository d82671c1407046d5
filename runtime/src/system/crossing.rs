//! Interrupts that lead from ring 3 to ring 0, and the IRETs that lead back, as
//! kernels take them all the time.
//!
//! Their definitions, in [`interrupt`](super::interrupt) and [`iret`](super::iret),
//! read a gate, a TSS and two descriptors, check them in the manual's order, and work
//! out two segments and a mode. All of this follows from the bytes read and from the
//! mode before. So a crossing that has succeeded is remembered with these, and the
//! next one that finds the same in memory, where it looks as the processor does, takes
//! the result. That is a tenth of the work.
//!
//! Whatever is unusual, an absent page, a short table, a frame across pages, a flag
//! that means something here, is the definitions' affair: [`inward`] and [`outward`]
//! then return false and have changed nothing.

use super::descriptor::{Descriptor, Kind, Selector};
use super::flagops::set_flags;
use super::interrupt::Event;
use super::iret::restorable;
use super::shown;
use crate::vcpu::{Cpu, cr4};
use translator::flags::{AC, IF, NT, RF, TF, VM};
use translator::insn::{Gpr, SegReg, Width};
use translator::mode::Mode;
use translator::state::Segment;

/// No mode.
const NONE: u32 = u32::MAX;
/// Highest offset needed of a TSS, a 32-bit one's last.
const TSS_LIMIT: u32 = 0x67;
/// Offset of ESP0 and SS0.
const STACK_OF_RING_0: u32 = 4;
/// Ways back that are remembered, a power of two.
const WAYS_BACK: usize = 4;

/// A crossing: what it was taken by, and what came of it.
#[derive(Clone, Copy)]
pub(super) struct Crossing {
    /// Mode before, and after.
    pub(super) from: u32,
    pub(super) to: u32,
    /// The gate, of an interrupt.
    pub(super) gate: Descriptor,
    /// The descriptors of the new CS and SS.
    pub(super) code: Descriptor,
    pub(super) stack: Descriptor,
    pub(super) cs: Segment,
    pub(super) ss: Segment,
}

/// The crossings that are remembered.
pub struct Crossings {
    /// By vector.
    inward: [Crossing; 256],
    /// By the code selector's lowest index bits.
    outward: [Crossing; WAYS_BACK],
    /// Of SYSENTER and of SYSEXIT, which make up their segments: modes before and after.
    fast: [(u32, u32); 2],
}

impl Default for Crossings {
    fn default() -> Self {
        let blank = Descriptor { low: 0, high: 0 };
        let none = Crossing {
            from: NONE,
            to: NONE,
            gate: blank,
            code: blank,
            stack: blank,
            cs: Segment::default(),
            ss: Segment::default(),
        };
        Self {
            inward: [none; 256],
            outward: [none; WAYS_BACK],
            fast: [(NONE, NONE); 2],
        }
    }
}

fn way_back(selector: u16) -> usize {
    usize::from(selector >> 3) % WAYS_BACK
}

/// Delivers an event in ring 3 to ring 0, if one went the same way before.
pub fn inward(cpu: &mut Cpu, event: Event) -> bool {
    let known = &cpu.crossings.inward[usize::from(event.vector())];
    if known.from != cpu.state.mode || cpu.state.eflags & AC != 0 {
        return false;
    }
    let known = *known;
    let barred = matches!(event, Event::Software(_)) && known.gate.dpl() < 3;
    let Some(esp) = stack_of_ring_0(cpu, &known.ss) else {
        return false;
    };
    if barred || !same_gate(cpu, event, &known.gate) || !same_descriptors(cpu, &known) {
        return false;
    }
    let restarted = if event.is_fault() { RF } else { 0 };
    let frame = [
        event.error_code().unwrap_or_default(),
        cpu.state.eip,
        u32::from(cpu.state.segment(SegReg::Cs).selector),
        cpu.state.eflags_image() | restarted,
        cpu.state.gpr[Gpr::ESP.0 as usize],
        u32::from(cpu.state.segment(SegReg::Ss).selector),
    ];
    let values = match event.error_code() {
        Some(_) => &frame[..],
        None => &frame[1..],
    };
    let top = esp.wrapping_sub(4 * values.len() as u32);
    if !cpu.write_known(top, values) {
        return false;
    }
    let masked = match known.gate.kind() {
        Kind::InterruptGate(_) => IF,
        _ => 0,
    };
    cpu.state.eflags &= !(TF | NT | RF | VM | masked);
    cpu.state.gpr[Gpr::ESP.0 as usize] = top;
    cpu.state.eip = known.gate.gate_offset(Width::D);
    cpu.cross(known.cs, known.ss, 0, known.to);
    if let Event::Software(vector) = event {
        shown::interrupt(cpu, vector, &known);
    }
    true
}

/// ESP0 if SS0 is the one known.
fn stack_of_ring_0(cpu: &Cpu, ss: &Segment) -> Option<u32> {
    let tr = &cpu.sys.tr;
    if super::tss::width(tr) != Width::D || tr.limit < TSS_LIMIT {
        return None;
    }
    let [esp, selector] = cpu.read_known(tr.base.wrapping_add(STACK_OF_RING_0))?;
    (selector as u16 == ss.selector).then_some(esp)
}

fn same_gate(cpu: &Cpu, event: Event, gate: &Descriptor) -> bool {
    let at = u32::from(event.vector()) * 8;
    at + 7 <= u32::from(cpu.sys.idtr.limit)
        && cpu.read_known(cpu.sys.idtr.base.wrapping_add(at)) == Some([gate.low, gate.high])
}

/// Both descriptors are in the GDT as they were.
fn same_descriptors(cpu: &Cpu, known: &Crossing) -> bool {
    global(cpu, known.cs.selector) == Some(known.code)
        && global(cpu, known.ss.selector) == Some(known.stack)
}

/// A descriptor of the GDT, if nothing unusual stands in the way.
pub fn global(cpu: &Cpu, selector: u16) -> Option<Descriptor> {
    let gdtr = &cpu.sys.gdtr;
    if Selector(selector).is_local() || selector | 7 > gdtr.limit {
        return None;
    }
    let [low, high] = cpu.read_known(global_address(cpu, selector))?;
    Some(Descriptor { low, high })
}

/// Linear address of a descriptor of the GDT.
pub fn global_address(cpu: &Cpu, selector: u16) -> u32 {
    cpu.sys.gdtr.base.wrapping_add(u32::from(selector & !7))
}

/// Remembers an event that was delivered through `gate`, in mode `from`.
pub fn remember_inward(cpu: &mut Cpu, event: Event, gate: &Descriptor, from: u32) {
    let through = matches!(
        gate.kind(),
        Kind::InterruptGate(Width::D) | Kind::TrapGate(Width::D)
    );
    if through
        && cpu.sys.cpl == 0
        && Mode(from).user()
        && let Some(crossing) = crossing(cpu, from)
    {
        let gate = *gate;
        cpu.crossings.inward[usize::from(event.vector())] = Crossing { gate, ..crossing };
    }
}

/// Protected mode in which nothing is looked at between instructions.
fn is_plain(mode: Mode) -> bool {
    mode.0 & Mode::PROTECTED != 0 && !mode.interpreted()
}

fn has_flat_stack(mode: Mode) -> bool {
    mode.stack32() && mode.unlimited(SegReg::Ss) && mode.zero_base(SegReg::Ss)
}

/// The crossing that has just been made.
fn crossing(cpu: &Cpu, from: u32) -> Option<Crossing> {
    let to = cpu.mode();
    let [cs, ss] = [SegReg::Cs, SegReg::Ss].map(|seg| *cpu.state.segment(seg));
    let (code, stack) = (global(cpu, cs.selector)?, global(cpu, ss.selector)?);
    // The crossing may have stored to the table.
    let current = code.segment(Selector(cs.selector)) == cs
        && stack.segment(Selector(ss.selector)) == ss
        && (code.attributes() & stack.attributes() & Segment::ACCESSED) != 0;
    let usual = is_plain(Mode(from)) && is_plain(to) && has_flat_stack(to);
    (current && usual).then_some(Crossing {
        from,
        to: to.0,
        gate: Descriptor { low: 0, high: 0 },
        code,
        stack,
        cs,
        ss,
    })
}

/// Returns to ring 3 by IRETD, if one went the same way before.
pub fn outward(cpu: &mut Cpu) -> bool {
    let esp = cpu.state.gpr[Gpr::ESP.0 as usize];
    let Some([eip, cs, image, outer_esp, ss]) = cpu.read_known(esp) else {
        return false;
    };
    let known = &cpu.crossings.outward[way_back(cs as u16)];
    if known.from != cpu.state.mode || known.cs.selector != cs as u16 {
        return false;
    }
    let known = *known;
    let timed = known.to & Mode::TIME_STAMP != 0;
    let same = known.ss.selector == ss as u16 && timed == (cpu.sys.cr4 & cr4::TSD == 0);
    let unusual = (cpu.state.eflags | image) & AC != 0
        || cpu.state.eflags & NT != 0
        || image & (VM | TF) != 0
        || eip > known.cs.hi;
    if !same || unusual || !keeps_segments(cpu) || !same_descriptors(cpu, &known) {
        return false;
    }
    let mask = restorable(cpu, Width::D, image);
    let loaded = shown::loaded_flags(cpu);
    cpu.state.gpr[Gpr::ESP.0 as usize] = outer_esp;
    cpu.state.eip = eip;
    cpu.cross(known.cs, known.ss, 3, known.to);
    set_flags(cpu, image, mask);
    shown::iret(cpu, &known, loaded);
    true
}

/// Makes flat segments, CPL and EIP current: SYSENTER to ring 0, SYSEXIT to ring 3.
pub fn fast(cpu: &mut Cpu, cs: Segment, ss: Segment, cpl: u8, eip: u32) {
    (cpu.state.eip, cpu.branched) = (eip, true);
    let way = usize::from(cpl == 3);
    let (from, to) = (cpu.state.mode, cpu.crossings.fast[way].1);
    let timed = to & Mode::TIME_STAMP != 0;
    let expected = cpl == 0 || timed == (cpu.sys.cr4 & cr4::TSD == 0);
    if cpu.crossings.fast[way].0 == from && expected && cpu.state.eflags & AC == 0 {
        cpu.cross(cs, ss, cpl, to);
        return shown::fast(cpu, from);
    }
    cpu.cross(cs, ss, cpl, from);
    cpu.mode_changed();
    if is_plain(Mode(from)) && is_plain(cpu.mode()) {
        cpu.crossings.fast[way] = (from, cpu.state.mode);
    }
}

/// Ring 3 may have all the data segments that are loaded.
fn keeps_segments(cpu: &Cpu) -> bool {
    let conforming = Segment::CODE | Segment::EXPAND_CONFORM;
    [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs]
        .into_iter()
        .all(|seg| {
            let s = cpu.state.segment(seg);
            s.dpl() == 3 || s.attributes & conforming == conforming || *s == super::segment::null(0)
        })
}

/// Remembers an IRETD that led to an outer ring, from mode `from`.
pub fn remember_outward(cpu: &mut Cpu, from: u32) {
    if cpu.sys.cpl == 3
        && Mode(from).supervisor()
        && has_flat_stack(Mode(from))
        && let Some(crossing) = crossing(cpu, from)
    {
        cpu.crossings.outward[way_back(crossing.cs.selector)] = crossing;
    }
}
