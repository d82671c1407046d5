//! The single-step trap: random sequences run with TF set, on the host CPU and in
//! the interpreter, which must trap at the same instructions in the same states.
//!
//! This also looks at the states between the instructions of a sequence, of which
//! `ring1 selftest` sees the last one alone.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use runtime::config::Tier;
use runtime::selftest::case::{Case, Family, Oracle};
use runtime::selftest::difference::{Allowed, agree, rows};
use runtime::selftest::generate::Generator;
use runtime::selftest::guest::Guest;
use runtime::selftest::silicon::Silicon;
use runtime::selftest::state::{Outcome, Run, State};

const SEQUENCES: u64 = 6_000;
/// Steps of a sequence.
const LIMIT: usize = 1_000;

/// A state as a run that left no memory behind.
fn run(state: &State) -> Run {
    Run {
        state: *state,
        outcome: Outcome::END,
        data: Vec::new(),
        stack: Vec::new(),
    }
}

/// The number of the first step that differs.
fn first_difference(case: &Case, host: &[State], guest: &[State]) -> Option<usize> {
    let mut allowed = Allowed::default();
    for step in 0..host.len().max(guest.len()) {
        let (Some(h), Some(g)) = (host.get(step), guest.get(step)) else {
            return Some(step);
        };
        // A fault may have loaded or stored part of what POPA and ENTER do.
        allowed.partial_loads = step + 1 == host.len();
        if !agree(&run(h), &run(g), &allowed) {
            return Some(step);
        }
        // The last but one is that of the instruction which raised the exception.
        if let Some(insn) = case.instruction_at(h.eip).filter(|_| step + 2 < host.len()) {
            allowed.undefined.step(&insn, Some(h));
        }
        if allowed.undefined.everything {
            return None;
        }
    }
    None
}

#[test]
fn every_step_is_the_host_cpus() {
    let Some(mut cpu) = Silicon::new() else {
        return;
    };
    let mut guest = Guest::new(Tier::Interp).expect("a machine");
    let generator = Generator::new(&Family::ALL);
    let (mut steps, mut wrong) = (0, Vec::new());
    for seed in 0..SEQUENCES {
        let family = Family::ALL[seed as usize % Family::ALL.len()];
        // The host's way back from each trap makes null selectors plain ones.
        if family == Family::Segments {
            continue;
        }
        let case = generator.case_of(family, seed);
        let host = Oracle::trace(&mut cpu, &case, LIMIT);
        let own = guest.trace(&case, LIMIT);
        steps += host.len();
        if let Some(step) = first_difference(&case, &host, &own) {
            let sides = [("host", host.get(step)), ("interp", own.get(step))];
            let runs: Vec<(&str, Run)> = sides
                .into_iter()
                .filter_map(|(name, state)| Some((name, run(state?))))
                .collect();
            let lines: Vec<String> = rows(&runs, &Allowed::default())
                .iter()
                .map(|row| format!("  {}: {}", row.what, row.values.join(", ")))
                .collect();
            wrong.push(format!("step {step}: {case}{}", lines.join("\n")));
        }
        if wrong.len() >= 8 {
            break;
        }
    }
    println!("{steps} steps");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
