//! Ways that direct code is shown, so that it takes them by itself.
//!
//! What the definitions remember of loads and crossings ([`loads`](super::loads),
//! [`crossing`](super::crossing)) is written to the
//! [records](translator::records) of the last ones whenever one succeeds, with what
//! registers add to it: linear addresses, ESP and EIP of SYSENTER, the flags that IRET may
//! load. Who changes one of those registers calls [`forget`].
//!
//! Only what is wholly usual is shown: flat code and stacks, a table entry within its page,
//! and nobody who wants to hear of interrupts.

use super::crossing::{Crossing, global, global_address};
use super::descriptor::{Descriptor, Kind, Selector};
use super::iret::restorable;
use crate::vcpu::Cpu;
use translator::flags::{ARITHMETIC, IF, NT, RF, TF, VM};
use translator::insn::{SegReg, Width};
use translator::mode::Mode;
use translator::records::{
    Crossing as Shown, FastCall, Interrupt, Known, Return, SegmentLoad, load_slot, tail, visible,
};
use translator::state::Segment;

/// Offset of ESP0 and SS0 in a TSS.
const STACK_OF_RING_0: u32 = 4;

/// A register that records rely on has changed.
pub fn forget(cpu: &mut Cpu) {
    cpu.state.records.forget();
}

/// One of the MSRs of SYSENTER has been written, perhaps the one that segments follow from.
pub fn set_sysenter(cpu: &mut Cpu, segments: bool) {
    if segments {
        return forget(cpu);
    }
    // Kernels write ESP when they switch processes.
    let [_, esp, eip] = cpu.sys.sysenter;
    let call = &mut cpu.state.records.sysenter;
    (call.esp, call.eip) = (esp, eip);
}

/// Whether there is direct code that would look.
fn is_looked_at(cpu: &Cpu) -> bool {
    cpu.state.ways[0] != 0
}

/// 8 bytes at a linear address, if they lie in one page.
fn known(descriptor: Descriptor, at: u32) -> Option<Known> {
    let bytes = u64::from(descriptor.low) | u64::from(descriptor.high) << 32;
    (at & 0xfff <= 0xff8).then_some(Known { bytes, at })
}

/// FS or GS has been loaded with `segment`.
pub fn load(cpu: &mut Cpu, segment: &Segment) {
    let selector = Selector(segment.selector);
    if cpu.sys.cpl != 0 || !is_looked_at(cpu) {
        return;
    }
    let descriptor = match selector.is_null() {
        true => Some(Known::default()),
        false => global(cpu, selector.0)
            .filter(|d| d.segment(selector) == *segment)
            .and_then(|d| known(d, global_address(cpu, selector.0))),
    };
    if let Some(descriptor) = descriptor {
        let unlimited = segment.lo == 0 && segment.hi == u32::MAX && segment.writable();
        let form = Mode(0).with_segment(SegReg::Es, unlimited, segment.base == 0);
        cpu.state.records.loads[load_slot(selector.0)] = SegmentLoad {
            descriptor,
            selector: u32::from(selector.0),
            segment: *segment,
            form: form.0,
        };
    }
}

/// Code and stack are flat in this mode.
fn is_flat(mode: u32) -> bool {
    let flat = |seg| Mode(mode).unlimited(seg) && Mode(mode).zero_base(seg);
    let protected = mode & Mode::PROTECTED != 0 && Mode(mode).code32() && Mode(mode).stack32();
    protected && flat(SegReg::Cs) && flat(SegReg::Ss)
}

/// The rings of a crossing that has succeeded, with the descriptors that it looks at.
fn crossing(cpu: &Cpu, way: &Crossing) -> Option<Shown> {
    let usual = is_flat(way.from) && is_flat(way.to) && cpu.log.is_none();
    usual.then_some(Shown {
        from: way.from,
        to: way.to,
        cs: tail(&way.cs),
        ss: tail(&way.ss),
        code: known(way.code, global_address(cpu, way.cs.selector))?,
        stack: known(way.stack, global_address(cpu, way.ss.selector))?,
    })
}

/// INT n has led to ring 0 this way.
pub fn interrupt(cpu: &mut Cpu, vector: u8, way: &Crossing) {
    if !is_looked_at(cpu) {
        return;
    }
    let gate_at = cpu.sys.idtr.base.wrapping_add(u32::from(vector) * 8);
    let stack_at = cpu.sys.tr.base.wrapping_add(STACK_OF_RING_0);
    let masked = match way.gate.kind() {
        Kind::InterruptGate(_) => IF,
        _ => 0,
    };
    if let Some(crossing) = crossing(cpu, way)
        && let Some(gate) = known(way.gate, gate_at)
        && stack_at & 0xfff <= 0xff8
    {
        cpu.state.records.interrupt = Interrupt {
            crossing,
            gate,
            stack_at,
            vector: vector.into(),
            eip: way.gate.gate_offset(Width::D),
            kept: !(TF | NT | RF | VM | masked),
        };
    }
}

/// The flags that an IRETD to ring 3 loads which is shown, arithmetic flags aside; at CPL 0.
pub fn loaded_flags(cpu: &Cpu) -> u32 {
    restorable(cpu, Width::D, 0) & !(ARITHMETIC | RF)
}

/// IRETD has led to ring 3 this way, and loads these flags.
pub fn iret(cpu: &mut Cpu, way: &Crossing, loaded: u32) {
    if is_looked_at(cpu)
        && !cpu.nmi_blocked
        && let Some(crossing) = crossing(cpu, way)
    {
        let data = [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs];
        cpu.state.records.iret = Return {
            crossing,
            data: data.map(|seg| visible(cpu.state.segment(seg))),
            loaded,
        };
    }
}

/// SYSENTER or SYSEXIT has led from mode `from` to what is current now.
pub fn fast(cpu: &mut Cpu, from: u32) {
    if !is_looked_at(cpu) {
        return;
    }
    let to = cpu.state.mode;
    let [cs, ss] = [SegReg::Cs, SegReg::Ss].map(|seg| tail(cpu.state.segment(seg)));
    if !is_flat(from) || !is_flat(to) || cpu.log.is_some() {
        return;
    }
    let (code, stack) = (Known::default(), Known::default());
    let crossing = Shown {
        from,
        to,
        cs,
        ss,
        code,
        stack,
    };
    let [_, esp, eip] = cpu.sys.sysenter;
    let call = FastCall { crossing, esp, eip };
    let records = &mut cpu.state.records;
    match (Mode(from).user(), Mode(to).user()) {
        (true, false) => records.sysenter = call,
        (false, true) => records.sysexit = call,
        _ => {}
    }
}
