//! `info`, as far as it is about processor, devices and counts.

use super::Monitor;
use super::answer::Answer;
use crate::summary::{self, Summary};
use crate::vm::Vm;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use translator::flags;
use translator::insn::SegReg;

const GENERAL: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
const SEGMENTS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];

/// Where the guest is.
pub fn position(vm: &Vm) -> Answer {
    let cs = vm.cpu.state.segment(SegReg::Cs);
    let (eip, cpl, halted) = (vm.eip(), vm.cpu.sys.cpl, vm.cpu.halted);
    let text = format!(
        "{:04x}:{eip:08x}, CPL {cpl}{}",
        cs.selector,
        if halted { ", halted" } else { "" }
    );
    let data = json!({"cs": cs.selector, "eip": eip, "cpl": cpl, "halted": halted});
    Answer::new(text, data)
}

/// Whether it runs.
pub fn status(vm: &Vm, monitor: &Monitor) -> Answer {
    let state = match (monitor.paused(), monitor.debugged()) {
        (true, _) => "paused",
        (false, true) => "held by the debugger",
        (false, false) if monitor.steps() => "stepping",
        (false, false) => "running",
    };
    let retired = vm.counters.retired();
    let seconds = vm.clock.now_ns() as f64 / 1e9;
    let at = position(vm);
    let text = format!(
        "{state}; {retired} instructions in {seconds:.1} s; at {}",
        at.text
    );
    let data = json!({
        "state": state,
        "instructions": retired,
        "seconds": seconds,
        "at": at.data,
    });
    Answer::new(text, data)
}

/// The registers.
pub fn registers(vm: &Vm) -> Answer {
    let (state, sys) = (&vm.cpu.state, &vm.cpu.sys);
    let mut text = summary::registers(&vm.cpu);
    for (name, seg) in [("ldtr", &sys.ldtr), ("tr", &sys.tr)] {
        let _ = writeln!(
            text,
            "{name} {:04x} base {:08x} limit {:08x} attributes {:04x}",
            seg.selector, seg.base, seg.limit, seg.attributes
        );
    }
    let _ = writeln!(
        text,
        "gdtr base {:08x} limit {:04x}  idtr base {:08x} limit {:04x}\ndr0 {:08x}  dr1 {:08x}  dr2 {:08x}  dr3 {:08x}  dr6 {:08x}  dr7 {:08x}\nefer {:x}",
        sys.gdtr.base,
        sys.gdtr.limit,
        sys.idtr.base,
        sys.idtr.limit,
        sys.dr[0],
        sys.dr[1],
        sys.dr[2],
        sys.dr[3],
        sys.dr[6],
        sys.dr[7],
        sys.efer
    );
    let mut data = Map::new();
    let general = GENERAL.iter().zip(&state.gpr);
    data.extend(general.map(|(name, value)| ((*name).into(), json!(value))));
    for (name, value) in [
        ("eip", state.eip),
        ("eflags", state.eflags_image()),
        ("cr0", sys.cr0),
        ("cr2", sys.cr2),
        ("cr3", sys.cr3),
        ("cr4", sys.cr4),
    ] {
        data.insert(name.into(), json!(value));
    }
    data.insert("cpl".into(), json!(sys.cpl));
    data.insert("efer".into(), json!(sys.efer));
    data.insert("dr".into(), json!(sys.dr));
    let segments = SEGMENTS.iter().zip(&state.seg);
    for (name, seg) in segments.chain([(&"ldtr", &sys.ldtr), (&"tr", &sys.tr)]) {
        let described = json!({
            "selector": seg.selector,
            "base": seg.base,
            "limit": seg.limit,
            "attributes": seg.attributes,
        });
        data.insert((*name).into(), described);
    }
    for (name, table) in [("gdtr", &sys.gdtr), ("idtr", &sys.idtr)] {
        let described = json!({"base": table.base, "limit": table.limit});
        data.insert(name.into(), described);
    }
    Answer::new(text, Value::Object(data))
}

/// The devices.
pub fn devices(vm: &Vm) -> Answer {
    let (mut text, mut data) = (String::new(), Vec::new());
    for ((name, accesses), ports) in vm.cpu.pc.counters().zip(vm.cpu.pc.ports_by_device()) {
        let shown: Vec<String> = ports
            .iter()
            .map(|&(first, last)| match first == last {
                true => format!("{first:03x}"),
                false => format!("{first:03x}-{last:03x}"),
            })
            .collect();
        let (reads, writes) = (accesses.reads, accesses.writes);
        let _ = writeln!(
            text,
            "{name:<28} {reads:>9} r {writes:>9} w  {}",
            shown.join(" ")
        );
        let ports: Vec<Value> = ports.iter().map(|range| json!(range)).collect();
        data.push(json!({"name": name, "reads": reads, "writes": writes, "ports": ports}));
    }
    Answer::new(text, Value::Array(data))
}

/// The interrupt controllers, and what keeps interrupts waiting.
pub fn irq(vm: &Vm) -> Answer {
    let (mut text, mut chips) = (String::new(), Vec::new());
    for (name, chip) in ["master", "slave"].iter().zip(vm.cpu.pc.pic_state()) {
        let _ = writeln!(
            text,
            "8259A {name:<6} requests {:02x}  in service {:02x}  masked {:02x}  level {:02x}  inputs {:02x}  vectors from {:02x}",
            chip.irr, chip.isr, chip.imr, chip.elcr, chip.inputs, chip.vector_base
        );
        chips.push(json!({
            "name": name, "irr": chip.irr, "isr": chip.isr, "imr": chip.imr,
            "elcr": chip.elcr, "inputs": chip.inputs, "vector_base": chip.vector_base,
        }));
    }
    let cpu = &vm.cpu;
    let enabled = cpu.state.eflags & flags::IF != 0;
    let (waiting, apic) = (cpu.pc.interrupt_pending(), cpu.pc.apic_enabled());
    let (nmi, masked) = (cpu.nmi_waits(), cpu.pc.nmi_masked());
    let yes = |on: bool| if on { "yes" } else { "no" };
    let _ = writeln!(
        text,
        "interrupt waiting: {}, EFLAGS.IF: {}, NMI waiting: {}, NMI masked: {}, local APIC: {}\ninterrupts delivered: {}",
        yes(waiting),
        u8::from(enabled),
        yes(nmi),
        yes(masked),
        yes(apic),
        vm.counters.interrupts
    );
    let data = json!({
        "chips": chips, "waiting": waiting, "if": enabled, "nmi_waiting": nmi,
        "nmi_masked": masked, "local_apic": apic, "delivered": vm.counters.interrupts,
    });
    Answer::new(text, data)
}

/// What the VMM did. Opens the ledger, if nobody has so far.
pub fn stats(vm: &mut Vm) -> Answer {
    let summary = Summary::of(vm);
    let mut text = summary.to_string().trim_start().to_owned();
    if !vm.cpu.ledger.is_open() {
        vm.cpu.ledger.open_within();
        text += "Times are kept from now on; ask again for them.\n";
    }
    Answer::new(text, summary.to_json())
}
