//! `info tlb` and `info shadow`: what the shadow MMU knows now. Shadow tables are this
//! machine's TLB, only larger: what they lack is walked for when it is accessed.

use super::answer::{Answer, Outcome};
use super::commands::address;
use crate::vm::Vm;
use serde_json::{Value, json};
use shadow_mmu::LinearAddr;
use std::fmt::Write;

/// Most runs of pages in the text; JSON has [`MOST_IN_JSON`].
const MOST_IN_TEXT: usize = 100;
/// See [`MOST_IN_TEXT`].
const MOST_IN_JSON: usize = 4096;

/// Pages in a row, in linear and physical memory, with the same rights.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u32,
    pages: u32,
    phys: u64,
    /// Reads and writes of the supervisor, and of the user.
    rights: [bool; 4],
}

fn letters(rights: [bool; 4]) -> String {
    let letter = |on: bool, letter: char| if on { letter } else { '-' };
    let [sr, sw, ur, uw] = rights;
    [
        letter(sr, 'r'),
        letter(sw, 'w'),
        ' ',
        letter(ur, 'r'),
        letter(uw, 'w'),
    ]
    .iter()
    .collect()
}

/// The entries of a page in the current space: where it is, and its rights.
fn entry(vm: &Vm, page: u32) -> Option<(u64, [bool; 4])> {
    let at = LinearAddr(page << 12);
    let [sr, sw, ur, uw] = vm.cpu.shadow_entries(at);
    let some = [sr, sw, ur, uw].into_iter().flatten().next()?;
    Some((
        some,
        [sr.is_some(), sw.is_some(), ur.is_some(), uw.is_some()],
    ))
}

fn runs(vm: &Vm) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for page in 0..1 << 20 {
        let Some((phys, rights)) = entry(vm, page) else {
            continue;
        };
        match runs.last_mut() {
            Some(run)
                if run.first + run.pages == page
                    && run.phys + u64::from(run.pages) * 0x1000 == phys
                    && run.rights == rights =>
            {
                run.pages += 1;
            }
            _ => runs.push(Run {
                first: page,
                pages: 1,
                phys,
                rights,
            }),
        }
    }
    runs
}

/// `info tlb`, with or without an address.
pub fn tlb(vm: &Vm, at: &str) -> Outcome {
    if !at.is_empty() {
        return one(vm, address(vm, at)?);
    }
    let runs = runs(vm);
    let pages: u64 = runs.iter().map(|run| u64::from(run.pages)).sum();
    let mut text = String::from("linear             physical  supervisor user\n");
    let mut data = Vec::new();
    for (n, run) in runs.iter().take(MOST_IN_JSON).enumerate() {
        let first = run.first << 12;
        let last = first + (run.pages - 1) * 0x1000 + 0xfff;
        if n < MOST_IN_TEXT {
            let (phys, rights) = (run.phys, letters(run.rights));
            let _ = writeln!(text, "{first:08x}-{last:08x}  {phys:08x}  {rights}");
        }
        data.push(json!({
            "linear": first, "pages": run.pages, "physical": run.phys,
            "supervisor": {"read": run.rights[0], "write": run.rights[1]},
            "user": {"read": run.rights[2], "write": run.rights[3]},
        }));
    }
    if runs.len() > MOST_IN_TEXT {
        let _ = writeln!(text, "… {} runs more", runs.len() - MOST_IN_TEXT);
    }
    let _ = writeln!(text, "{pages} pages in {} runs", runs.len());
    let data = json!({"pages": pages, "runs": runs.len(), "first_runs": data});
    Ok(Answer::new(text, data))
}

/// What is known of one address, and what the guest's tables say.
fn one(vm: &Vm, at: LinearAddr) -> Outcome {
    let known = entry(vm, at.0 >> 12);
    let offset = u64::from(at.0 & 0xfff);
    let guest = vm.cpu.mmu.peek(at).map(|phys| phys.0);
    let shadow = known.map(|(phys, _)| phys + offset);
    let rights = letters(known.map_or([false; 4], |(_, rights)| rights));
    let hex =
        |phys: Option<u64>| phys.map_or("not present".to_owned(), |phys| format!("{phys:08x}"));
    let text = format!(
        "{:08x}: in the guest's tables {}, in the shadow tables {}, supervisor and user {rights}",
        at.0,
        hex(guest),
        hex(shadow)
    );
    let data = json!({"linear": at.0, "guest": guest, "shadow": shadow, "rights": rights});
    Ok(Answer::new(text, data))
}

/// `info shadow`.
pub fn counts(vm: &Vm) -> Answer {
    let c = vm.cpu.mmu.counters();
    let rows = [
        ("hidden_faults", c.hidden_faults),
        ("true_faults", c.true_faults),
        ("entries_set", c.entries_set),
        ("entries_dropped", c.entries_dropped),
        ("page_table_stores", c.page_table_stores),
        ("directory_stores", c.directory_stores),
        ("code_stores", c.code_stores),
        ("traces_begun", c.traces_begun),
        ("traces_let_go", c.traces_let_go),
        ("mirrored", c.mirrored),
        ("switches", c.switches),
        ("spaces_created", c.spaces_created),
        ("spaces_evicted", c.spaces_evicted),
        ("invlpgs", c.invlpgs),
        ("flushes", c.flushes),
        ("code_protected", c.code_protected),
    ];
    let mut text = format!("current space {:>19}\n", vm.cpu.mmu.space_id());
    for (name, count) in rows {
        let _ = writeln!(text, "{:<20} {count:>12}", name.replace('_', " "));
    }
    let rows = rows
        .iter()
        .map(|(name, count)| ((*name).into(), json!(count)));
    let space = ("current_space".into(), json!(vm.cpu.mmu.space_id()));
    Answer::new(
        text,
        Value::Object(std::iter::once(space).chain(rows).collect()),
    )
}
