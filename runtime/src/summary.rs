//! The table at the end: what the VMM did.

use crate::vcpu::Cpu;
use crate::vm::Vm;
use std::fmt::{self, Display, Formatter, Write};
use std::sync::atomic::Ordering;

/// Cycles of a null system call in the literature, native and under a software
/// VMM, on a 3.8 GHz Pentium 4 (Adams & Agesen, ASPLOS 2006).
const LITERATURE_CYCLES: (u32, u32) = (242, 2308);

/// Everything that was counted, as text.
pub struct Summary(String);

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A table under construction. Writing to a `String` cannot fail.
struct Table(String);

impl Table {
    fn row(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "  {name:<34} {value:>16}");
    }

    fn heading(&mut self, name: &str) {
        let _ = writeln!(self.0, "{name}");
    }
}

impl Summary {
    /// Counts of a machine that has stopped.
    pub fn of(vm: &mut Vm) -> Self {
        let mut t = Table(String::from("\n"));
        execution(&mut t, vm);
        translation(&mut t, vm);
        memory(&mut t, vm);
        events(&mut t, vm);
        system_calls(&mut t, vm);
        Self(t.0)
    }
}

fn execution(t: &mut Table, vm: &Vm) {
    let c = &vm.counters;
    t.heading("Execution");
    t.row("guest instructions", c.retired());
    t.row(
        "in compiled code",
        format!("{:.2} %", 100.0 * c.compiled_share()),
    );
    t.row("blocks interpreted", c.interpreted_blocks);
    t.row("entries into compiled code", c.compiled_entries);
    t.row("side exits", c.side_exits);
    t.row("of these host faults", c.host_faults);
    t.row("time slices", c.slices);
    t.row("idle", format!("{:.3} s", c.idle_ns as f64 / 1e9));
}

fn translation(t: &mut Table, vm: &Vm) {
    let c = &vm.cache.counters;
    let decode_ns = vm.decoding.ns();
    let in_cranelift = vm.tiers.counters.compile_ns.load(Ordering::Relaxed);
    let compile_ns = in_cranelift + vm.tiers.re_encoding.ns();
    let per = |ns: u64, insns: u64| format!("{:.0} ns", ns as f64 / insns.max(1) as f64);
    let seconds = |ns: u64| format!("{:.3} s", ns as f64 / 1e9);
    let bytes = c.compiled_host_bytes as f64 / c.compiled_insns.max(1) as f64;
    t.heading("Translation");
    t.row("blocks decoded", c.blocks);
    t.row("blocks compiled", c.compiled);
    t.row("blocks loaded from disk", c.loaded);
    t.row("blocks moved from other addresses", c.moved);
    t.row("again, for mirrors", vm.counters.mirrored_blocks);
    t.row("blocks dropped, code was written", c.invalidated);
    t.row("cache flushes", c.flushes);
    t.row("links", c.links);
    t.row("time decoding", seconds(decode_ns));
    t.row(
        "per guest instruction",
        per(decode_ns, vm.counters.decoded_insns),
    );
    t.row("time compiling", seconds(compile_ns));
    t.row("per guest instruction", per(compile_ns, c.compiled_insns));
    t.row("host code bytes per instruction", format!("{bytes:.1}"));
}

fn memory(t: &mut Table, vm: &Vm) {
    t.heading("Memory");
    let c = vm.cpu.mmu.counters();
    t.row("hidden faults", c.hidden_faults);
    t.row("shadow fills, entries", c.entries_set);
    t.row("page runs mirrored", c.mirrored);
    t.row("true faults", c.true_faults);
    t.row(
        "page-table stores traced",
        c.page_table_stores + c.directory_stores,
    );
    t.row("stores into code pages", c.code_stores);
    t.row("address spaces created", c.spaces_created);
    t.row("address-space switches", c.switches);
    t.row("INVLPG", c.invlpgs);
}

/// Most kinds of callouts listed.
const MOST_CALLOUTS: usize = 12;

fn callouts(t: &mut Table, vm: &Vm) {
    let counts = &vm.cpu.callout_counts;
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return;
    }
    let mut kinds: Vec<(u64, iced_x86::Mnemonic)> = iced_x86::Mnemonic::values()
        .map(|m| (counts.get(m as usize).copied().unwrap_or(0), m))
        .filter(|(count, _)| *count > 0)
        .collect();
    kinds.sort_unstable_by_key(|&(count, _)| std::cmp::Reverse(count));
    t.heading("Callouts from compiled code");
    t.row("all", total);
    for (count, mnemonic) in kinds.into_iter().take(MOST_CALLOUTS) {
        t.row(&format!("{mnemonic:?}").to_uppercase(), count);
    }
}

fn events(t: &mut Table, vm: &Vm) {
    callouts(t, vm);
    t.heading("Events");
    t.row("interrupts", vm.counters.interrupts);
    for (vector, &count) in vm
        .counters
        .exceptions
        .iter()
        .enumerate()
        .filter(|(_, n)| **n > 0)
    {
        t.row(&format!("exceptions, vector {vector}"), count);
    }
    for (name, accesses) in vm.cpu.pc.counters() {
        if accesses.reads + accesses.writes > 0 {
            t.row(
                &format!("port {name}"),
                format!("{} r {} w", accesses.reads, accesses.writes),
            );
        }
    }
}

/// The default guest reports what it measured (see `samples/guests/README.md`).
fn system_calls(t: &mut Table, vm: &Vm) {
    const NAMES: [&str; 6] = [
        "INT 80h, least",
        "INT 80h, median",
        "SYSENTER, least",
        "SYSENTER, median",
        "page fault, median",
        "process switch, median",
    ];
    let reports = vm.cpu.pc.reports();
    if reports.is_empty() {
        return;
    }
    t.heading("Cycles, measured by the guest");
    for &(key, value) in reports {
        if let Some(name) = NAMES.get((key as usize).wrapping_sub(1)) {
            t.row(name, value);
        }
    }
    let (native, software) = LITERATURE_CYCLES;
    t.row("literature: native system call", native);
    t.row("literature: software VMM", format!("about {software}"));
}

/// The registers, as text, for reports of a guest's death.
pub fn registers(cpu: &Cpu) -> String {
    let s = &cpu.state;
    let mut text = String::new();
    for (n, name) in ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"]
        .iter()
        .enumerate()
    {
        let _ = write!(
            text,
            "{name} {:08x}{}",
            s.gpr[n],
            if n % 4 == 3 { "\n" } else { "  " }
        );
    }
    let _ = writeln!(
        text,
        "eip {:08x}  eflags {:08x}  cpl {}",
        s.eip,
        s.eflags_image(),
        cpu.sys.cpl
    );
    let r = &cpu.sys;
    let _ = writeln!(
        text,
        "cr0 {:08x}  cr2 {:08x}  cr3 {:08x}  cr4 {:08x}",
        r.cr0, r.cr2, r.cr3, r.cr4
    );
    for (seg, name) in s.seg.iter().zip(["es", "cs", "ss", "ds", "fs", "gs"]) {
        let _ = writeln!(
            text,
            "{name} {:04x} base {:08x} limit {:08x} attributes {:04x}",
            seg.selector, seg.base, seg.limit, seg.attributes
        );
    }
    text
}
