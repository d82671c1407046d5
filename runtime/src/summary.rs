//! The table at the end: what the VMM did, and where the time went.
//!
//! A summary is headings with rows of a name and a figure. It is written as a table for
//! people or as JSON for programs, from the same rows: a name in the table is a key in
//! the JSON, in lower case, its unit behind it.

use crate::config::{StatsFormat, VmConfig};
use crate::ledger::{Balance, Entry};
use crate::vcpu::Cpu;
use crate::vm::Vm;
use serde_json::{Map, Value, json};
use std::fmt::{self, Display, Formatter, Write};
use std::io;
use std::sync::atomic::Ordering;

/// Cycles of a null system call in the literature, native and under a software
/// VMM, on a 3.8 GHz Pentium 4 (Adams & Agesen, ASPLOS 2006).
const LITERATURE_CYCLES: (u32, u32) = (242, 2308);

/// A figure with its unit.
#[derive(Clone, Debug, PartialEq)]
enum Figure {
    Count(u64),
    Percent(f64),
    Seconds(f64),
    Ns(f64),
    Ratio(f64),
    Accesses { reads: u64, writes: u64 },
    About(u64),
}

impl Display for Figure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = match self {
            Figure::Count(n) => n.to_string(),
            Figure::Percent(n) => format!("{n:.2} %"),
            Figure::Seconds(n) => format!("{n:.3} s"),
            Figure::Ns(n) => format!("{n:.0} ns"),
            Figure::Ratio(n) => format!("{n:.1}"),
            Figure::Accesses { reads, writes } => format!("{reads} r {writes} w"),
            Figure::About(n) => format!("about {n}"),
        };
        f.pad(&text)
    }
}

impl Figure {
    /// The figure without its unit, and what its key says of that.
    fn to_json(&self) -> (&'static str, Value) {
        match *self {
            Figure::Count(n) | Figure::About(n) => ("", n.into()),
            Figure::Percent(n) => ("_percent", n.into()),
            Figure::Seconds(n) => ("_s", n.into()),
            Figure::Ns(n) => ("_ns", n.into()),
            Figure::Ratio(n) => ("", n.into()),
            Figure::Accesses { reads, writes } => ("", json!({"reads": reads, "writes": writes})),
        }
    }
}

/// A name as a key: `per guest instruction` is `per_guest_instruction`.
fn key(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("_")
}

struct Section {
    heading: &'static str,
    rows: Vec<(String, Figure)>,
}

/// Everything that was counted.
pub struct Summary {
    sections: Vec<Section>,
    balance: Option<Balance>,
}

/// A table under construction.
#[derive(Default)]
struct Table(Vec<Section>);

impl Table {
    fn row(&mut self, name: &str, figure: Figure) {
        if let Some(section) = self.0.last_mut() {
            section.rows.push((name.into(), figure));
        }
    }

    fn count(&mut self, name: &str, count: u64) {
        self.row(name, Figure::Count(count));
    }

    fn heading(&mut self, heading: &'static str) {
        let rows = Vec::new();
        self.0.push(Section { heading, rows });
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for section in &self.sections {
            writeln!(f, "{}", section.heading)?;
            for (name, figure) in &section.rows {
                writeln!(f, "  {name:<34} {figure:>16}")?;
            }
        }
        self.balance
            .as_ref()
            .map_or(Ok(()), |balance| accounts(f, balance))
    }
}

/// Accounts with a smaller part of the whole are added up, in the table.
const SMALL: f64 = 0.0005;

/// A line of the ledger: name, how often, cycles, cycles each time, part of the whole.
fn account(f: &mut Formatter<'_>, whole: u64, name: &str, count: u64, cycles: u64) -> fmt::Result {
    let each = cycles / count.max(1);
    let share = 100.0 * cycles as f64 / whole.max(1) as f64;
    writeln!(
        f,
        "{name:<34} {count:>13} {cycles:>16} {each:>10} {share:>8.2} %"
    )
}

/// The ledger: kinds with their sums, below each the accounts of the kind.
fn accounts(f: &mut Formatter<'_>, balance: &Balance) -> fmt::Result {
    let whole = balance.cycles;
    let is_large = |entry: &&Entry| entry.cycles as f64 >= SMALL * whole as f64;
    writeln!(
        f,
        "{:<34} {:>13} {:>16} {:>10} {:>10}",
        "Time", "times", "cycles", "each", "share"
    )?;
    for kind in balance.kinds() {
        let all = balance.entries.iter();
        let of_kind: Vec<&Entry> = all.filter(|entry| entry.kind == kind.kind).collect();
        let (large, small): (Vec<_>, Vec<_>) = of_kind.into_iter().partition(is_large);
        account(
            f,
            whole,
            &format!("  {}", kind.kind),
            kind.count,
            kind.cycles,
        )?;
        for entry in &large {
            let name = format!("    {}", entry.name);
            account(f, whole, &name, entry.count, entry.cycles)?;
        }
        if !small.is_empty() && small.len() + large.len() > 1 {
            let (count, cycles) = small.iter().fold((0, 0), |(count, cycles), entry| {
                (count + entry.count, cycles + entry.cycles)
            });
            let name = format!("    {} more", small.len());
            account(f, whole, &name, count, cycles)?;
        }
    }
    let (seconds, own) = (balance.seconds(whole), balance.own_cycles);
    writeln!(f, "  {:<45} {whole:>16}, {seconds:.3} s", "all")?;
    writeln!(
        f,
        "  {:<45} {own:>16}",
        "of these the ledger's own, at least"
    )
}

impl Summary {
    /// Counts of a machine that stands.
    pub fn of(vm: &Vm) -> Self {
        let mut t = Table::default();
        execution(&mut t, vm);
        translation(&mut t, vm);
        memory(&mut t, vm);
        events(&mut t, vm);
        system_calls(&mut t, vm);
        let devices: Vec<String> = vm.cpu.pc.counters().map(|(name, _)| name.into()).collect();
        Self {
            sections: t.0,
            balance: vm.cpu.ledger.balance(&devices),
        }
    }

    /// Writes it as a configuration has it: to its file, or to `out` if it names none.
    ///
    /// # Errors
    /// The host's.
    pub fn write(&self, config: &VmConfig, out: &mut dyn io::Write) -> io::Result<()> {
        let text = match config.stats_format {
            StatsFormat::Text => self.to_string(),
            StatsFormat::Json => format!("{:#}\n", self.to_json()),
        };
        match &config.stats_file {
            Some(path) => std::fs::write(path, text),
            None => out.write_all(text.as_bytes()),
        }
    }

    /// The same as JSON: an object for each heading, and the ledger.
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        for section in &self.sections {
            let rows = section.rows.iter().map(|(name, figure)| {
                let (unit, value) = figure.to_json();
                (key(name) + unit, value)
            });
            all.insert(key(section.heading), Value::Object(rows.collect()));
        }
        if let Some(balance) = &self.balance {
            all.insert("time".into(), ledger(balance));
        }
        Value::Object(all)
    }
}

fn ledger(balance: &Balance) -> Value {
    let accounts = balance.entries.iter().map(|entry| {
        json!({"kind": entry.kind, "name": entry.name, "count": entry.count, "cycles": entry.cycles})
    });
    json!({
        "cycles": balance.cycles,
        "cycles_per_second": balance.hz,
        "seconds": balance.seconds(balance.cycles),
        "ledger_cycles": balance.own_cycles,
        "accounts": accounts.collect::<Value>(),
    })
}

fn execution(t: &mut Table, vm: &Vm) {
    let c = &vm.counters;
    t.heading("Execution");
    t.count("guest instructions", c.retired());
    let share = Figure::Percent(100.0 * c.compiled_share());
    t.row("in compiled code", share);
    t.count("blocks interpreted", c.interpreted_blocks);
    t.count("entries into compiled code", c.compiled_entries);
    t.count("side exits", c.side_exits);
    t.count("of these host faults", c.host_faults);
    t.count("time slices", c.slices);
    t.row("idle", Figure::Seconds(c.idle_ns as f64 / 1e9));
}

fn translation(t: &mut Table, vm: &Vm) {
    let c = &vm.cache.counters;
    let decode_ns = vm.decoding.ns();
    let in_cranelift = vm.tiers.counters.compile_ns.load(Ordering::Relaxed);
    let compile_ns = in_cranelift + vm.tiers.re_encoding.ns();
    let per = |ns: u64, insns: u64| Figure::Ns(ns as f64 / insns.max(1) as f64);
    let seconds = |ns: u64| Figure::Seconds(ns as f64 / 1e9);
    let bytes = c.compiled_host_bytes as f64 / c.compiled_insns.max(1) as f64;
    t.heading("Translation");
    t.count("blocks decoded", c.blocks);
    t.count("blocks compiled", c.compiled);
    t.count("of these for mirrors", c.mirrored);
    t.count("blocks loaded from disk", c.loaded);
    t.count("blocks moved from other addresses", c.moved);
    t.count("blocks dropped, code was written", c.invalidated);
    t.count("generations dropped, for room", c.evictions);
    t.count("cache flushes", c.flushes);
    t.count("links", c.links);
    t.row("time decoding", seconds(decode_ns));
    t.row(
        "decoding, per guest instruction",
        per(decode_ns, vm.counters.decoded_insns),
    );
    t.row("time compiling", seconds(compile_ns));
    t.row(
        "compiling, per guest instruction",
        per(compile_ns, c.compiled_insns),
    );
    t.row("host code bytes per instruction", Figure::Ratio(bytes));
}

fn memory(t: &mut Table, vm: &Vm) {
    t.heading("Memory");
    let c = vm.cpu.mmu.counters();
    t.count("hidden faults", c.hidden_faults);
    t.count("shadow fills, entries", c.entries_set);
    t.count("page runs mirrored", c.mirrored);
    t.count("time slices in settled spaces", c.settled_slices);
    t.count("true faults", c.true_faults);
    t.count(
        "page-table stores traced",
        c.page_table_stores + c.directory_stores,
    );
    t.count("stores into code pages", c.code_stores);
    t.count("address spaces created", c.spaces_created);
    t.count("address-space switches", c.switches);
    t.count("INVLPG", c.invlpgs);
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
    t.count("all", total);
    for (count, mnemonic) in kinds.into_iter().take(MOST_CALLOUTS) {
        t.count(&format!("{mnemonic:?}").to_uppercase(), count);
    }
}

fn events(t: &mut Table, vm: &Vm) {
    callouts(t, vm);
    t.heading("Events");
    t.count("interrupts", vm.counters.interrupts);
    for (vector, &count) in vm
        .counters
        .exceptions
        .iter()
        .enumerate()
        .filter(|(_, n)| **n > 0)
    {
        t.count(&format!("exceptions, vector {vector}"), count);
    }
    for (name, accesses) in vm.cpu.pc.counters() {
        if accesses.reads + accesses.writes > 0 {
            t.row(
                &format!("port {name}"),
                Figure::Accesses {
                    reads: accesses.reads,
                    writes: accesses.writes,
                },
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
            t.count(name, value.into());
        }
    }
    let (native, software) = LITERATURE_CYCLES;
    t.count("literature: native system call", native.into());
    t.row("literature: software VMM", Figure::About(software.into()));
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
