//! What may differ between two runs of a case, and what does, as a table.
//!
//! The quick question ([`agree`]) is asked of every run, the table ([`rows`]) is
//! made for people only. x87 instruction and data pointers are not compared:
//! compatibility mode and the CPU's maker decide about them.

use crate::selftest::case::Case;
use crate::selftest::state::{DATA_BASE, Outcome, Run, STACK_BASE, State, fxsave};
use crate::selftest::undefined::Undefined;
use std::fmt;

/// EFLAGS bits compared: the arithmetic flags, DF, NT, AC and ID. TF and RF
/// belong to the way of running, IF and IOPL to the kernel.
const COMPARED_FLAGS: u32 = 0x0024_4cd5;
/// Of a page fault's error code: the page is present, instruction fetch.
const PRESENT: u32 = 1;
const FETCH: u32 = 16;
/// Bytes of memory shown at most.
const SHOWN_BYTES: usize = 16;

const ESP: usize = 4;

/// What may differ.
#[derive(Default)]
pub struct Allowed {
    /// Undefined results.
    pub undefined: Undefined,
    /// The last instruction faulted and may have stored part of its data.
    pub partial_stores: bool,
    /// It faulted and may have loaded part of the general registers.
    pub partial_loads: bool,
    /// Its operand has several parts, and any may be the one that faulted: the
    /// page counts, not the address.
    pub any_part: bool,
    /// And the parts lie in two pages that both may not be written.
    pub any_page: bool,
    /// It has two memory operands and either may be the one that faulted.
    pub either_operand: bool,
    /// It has two memory operands, one of which goes round the end of the address
    /// space: it raises #PF for the other or #GP (#SS) for that one.
    pub either_fault: bool,
}

/// A disagreement, for people to read.
pub struct Difference {
    /// The sequence, as short as it can be.
    pub case: Case,
    /// Who ran it, the oracle first.
    pub names: Vec<&'static str>,
    /// What differs, with the value each of them has.
    pub rows: Vec<Row>,
}

/// One thing that is not the same everywhere.
pub struct Row {
    /// Such as `eax`.
    pub what: String,
    /// The values, in the order of [`Difference::names`].
    pub values: Vec<String>,
}

/// Whether two runs are the same in all that is not allowed to differ.
pub fn agree(one: &Run, other: &Run, allowed: &Allowed) -> bool {
    let (a, b) = (&one.state, &other.state);
    let registers = match allowed.partial_loads {
        true => a.gpr[ESP] == b.gpr[ESP],
        false => a.gpr == b.gpr,
    };
    let memory = allowed.partial_stores || one.data == other.data && one.stack == other.stack;
    registers
        && a.eip == b.eip
        && flags(a, allowed) == flags(b, allowed)
        && comparable(one.outcome, allowed) == comparable(other.outcome, allowed)
        && visible(&a.fxsave).eq(visible(&b.fxsave))
        && memory
}

/// What differs between the runs and is not allowed to.
pub fn rows(runs: &[(&str, Run)], allowed: &Allowed) -> Vec<Row> {
    let tables: Vec<Vec<(String, String)>> = runs
        .iter()
        .map(|(_, run)| registers(run, allowed))
        .collect();
    let mut rows = Vec::new();
    for (i, (what, _)) in tables.first().into_iter().flatten().enumerate() {
        let values: Vec<String> = tables.iter().map(|table| table[i].1.clone()).collect();
        if values.iter().any(|value| *value != values[0]) {
            rows.push(Row {
                what: what.clone(),
                values,
            });
        }
    }
    if !allowed.partial_stores {
        let data: Vec<&[u8]> = runs.iter().map(|(_, run)| &run.data[..]).collect();
        let stack: Vec<&[u8]> = runs.iter().map(|(_, run)| &run.stack[..]).collect();
        memory_rows(DATA_BASE, &data, &mut rows);
        memory_rows(STACK_BASE, &stack, &mut rows);
    }
    rows
}

/// Every register by name, as text.
fn registers(run: &Run, allowed: &Allowed) -> Vec<(String, String)> {
    let state = &run.state;
    let outcome = comparable(run.outcome, allowed);
    let mut all = vec![("outcome".to_string(), Shown(outcome).to_string())];
    let names = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
    for (n, (name, value)) in names.iter().zip(state.gpr).enumerate() {
        if n == ESP || !allowed.partial_loads {
            all.push((name.to_string(), format!("{value:08x}")));
        }
    }
    all.push(("eip".into(), format!("{:08x}", state.eip)));
    let flags = flags(state, allowed);
    all.push((
        "eflags".into(),
        format!("{flags:08x} {}", flag_names(flags)),
    ));
    let image = &state.fxsave;
    for (name, at, size) in fields() {
        let bytes = image[at..at + size].iter().rev();
        let text = bytes.map(|b| format!("{b:02x}")).collect();
        all.push((name, text));
    }
    all
}

fn memory_rows(base: u32, all: &[&[u8]], rows: &mut Vec<Row>) {
    let Some(first) = all.first() else {
        return;
    };
    let differs = |i: &usize| all.iter().any(|memory| memory.get(*i) != first.get(*i));
    for i in (0..first.len()).filter(differs).take(SHOWN_BYTES) {
        let byte = |memory: &&[u8]| memory.get(i).map_or("--".into(), |b| format!("{b:02x}"));
        rows.push(Row {
            what: format!("[{:08x}]", base as usize + i),
            values: all.iter().map(byte).collect(),
        });
    }
}

fn flags(state: &State, allowed: &Allowed) -> u32 {
    state.eflags & COMPARED_FLAGS & !allowed.undefined.flags
}

/// An outcome without what may differ. Whether a fetch is told apart depends on
/// execute-disable being in use.
fn comparable(outcome: Outcome, allowed: &Allowed) -> Outcome {
    if let Outcome::Trap {
        vector: 12..=14, ..
    } = outcome
        && allowed.either_fault
    {
        return Outcome::Trap {
            vector: 14,
            error: 0,
            addr: 0,
        };
    }
    let Outcome::Trap {
        vector: 14,
        error,
        addr,
    } = outcome
    else {
        return outcome;
    };
    let (addr, error) = if allowed.any_page {
        (0, error & !PRESENT)
    } else if allowed.either_operand {
        (0, error)
    } else if allowed.any_part {
        (addr & !0xfff, error)
    } else {
        (addr, error)
    };
    Outcome::Trap {
        vector: 14,
        error: error & !FETCH,
        addr,
    }
}

/// The fields of an FXSAVE image that are compared: name, offset, size.
fn fields() -> Vec<(String, usize, usize)> {
    let mut fields = vec![
        ("fcw".to_string(), fxsave::FCW, 2),
        ("fsw".to_string(), fxsave::FSW, 2),
        ("ftw".to_string(), fxsave::FTW, 1),
        ("mxcsr".to_string(), fxsave::MXCSR, 4),
    ];
    for i in 0..8 {
        fields.push((format!("st{i}"), fxsave::ST + 16 * i, 10));
        fields.push((format!("xmm{i}"), fxsave::XMM + 16 * i, 16));
    }
    fields
}

/// The same as one run of bytes.
fn visible(image: &[u8; 512]) -> impl Iterator<Item = &[u8]> {
    let st = (0..8).map(|i| fxsave::ST + 16 * i).map(|at| at..at + 10);
    let fixed = [
        fxsave::FCW..fxsave::FTW + 1,
        fxsave::MXCSR..fxsave::MXCSR + 4,
        fxsave::XMM..fxsave::END,
    ];
    fixed.into_iter().chain(st).map(|range| &image[range])
}

fn flag_names(flags: u32) -> String {
    let table = [
        (0, "CF"),
        (2, "PF"),
        (4, "AF"),
        (6, "ZF"),
        (7, "SF"),
        (10, "DF"),
        (11, "OF"),
        (14, "NT"),
        (18, "AC"),
        (21, "ID"),
    ];
    let set = table.iter().filter(|(bit, _)| flags >> bit & 1 != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

struct Shown(Outcome);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Outcome::Trap {
                vector: 14,
                error,
                addr,
            } => write!(f, "#PF({error:x}) at {addr:08x}"),
            Outcome::Trap { vector, error, .. } => write!(f, "vector {vector} ({error:x})"),
            Outcome::Hung => f.write_str("hung"),
            Outcome::Stopped => f.write_str("stopped"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.case)?;
        let [eax, ecx, edx, ebx, esp, ebp, esi, edi] = self.case.entry.gpr;
        writeln!(
            f,
            "  entry: eax {eax:08x} ecx {ecx:08x} edx {edx:08x} ebx {ebx:08x} \
             esp {esp:08x} ebp {ebp:08x} esi {esi:08x} edi {edi:08x} eflags {:08x}",
            self.case.entry.eflags
        )?;
        let wide = |i: usize| {
            let values = self.rows.iter().map(|row| row.values[i].len());
            values.max().unwrap_or(0).max(self.names[i].len())
        };
        let widths: Vec<usize> = (0..self.names.len()).map(wide).collect();
        let mut line = |what: &str, values: &mut dyn Iterator<Item = &str>| {
            let mut text = format!("    {what:<10}");
            for (value, width) in values.zip(&widths) {
                text += &format!("  {value:<width$}");
            }
            writeln!(f, "{}", text.trim_end())
        };
        line("differs", &mut self.names.iter().copied())?;
        let mut rows = self.rows.iter();
        rows.try_for_each(|row| line(&row.what, &mut row.values.iter().map(String::as_str)))
    }
}
