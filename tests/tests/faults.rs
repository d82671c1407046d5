//! Fault paths: every memory operand of every instruction across every edge, on
//! every tier, against the host CPU.
//!
//! `RING1_FAULT_SEEDS=N` goes through all of them N times, with other registers,
//! addressing forms and repeat counts each time.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use runtime::config::Tier;
use runtime::selftest::generate::faults::Faults;
use runtime::selftest::guest::Guest;
use runtime::selftest::judge::{Judge, Side, Verdict};
use std::collections::BTreeMap;

/// Kinds of differences shown before a test gives up.
const SHOWN: usize = 12;

/// Judges every `stride`-th case.
fn judge_all(tier: Tier, stride: usize) {
    let Some(mut judge) = Judge::new() else {
        return;
    };
    let mut guest = Guest::new(tier).expect("a machine");
    let faults = Faults::new();
    let seeds = std::env::var("RING1_FAULT_SEEDS").ok();
    let seeds: u64 = seeds.and_then(|text| text.parse().ok()).unwrap_or(1);
    let (mut run, mut skipped) = (0, 0);
    let mut differences = BTreeMap::new();
    for (seed, number) in (0..seeds).flat_map(|s| (0..faults.count()).map(move |n| (s, n))) {
        if !(number + seed).is_multiple_of(stride as u64) || differences.len() >= SHOWN {
            continue;
        }
        let Some(case) = faults.case(number, seed) else {
            continue;
        };
        run += 1;
        let side = Side {
            name: "tier",
            subject: &mut guest,
        };
        match judge.check(&case, &mut [side]) {
            Verdict::Agree => {}
            Verdict::Skipped => skipped += 1,
            Verdict::Differ(difference) => {
                let code = difference.case.instructions()[0].code();
                let text = format!("number {number}, seed {seed}: {difference}");
                differences.entry(code as u32).or_insert(text);
            }
        }
    }
    println!(
        "{tier:?}: {run} cases of {}, {skipped} say nothing",
        faults.count()
    );
    let reports: Vec<String> = differences.into_values().collect();
    assert!(reports.is_empty(), "{}", reports.join("\n"));
    assert!(skipped * 100 < run, "too many cases say nothing");
}

#[test]
fn operands_at_edges_in_the_interpreter() {
    judge_all(Tier::Interp, 1);
}

#[test]
fn operands_at_edges_in_direct_code() {
    judge_all(Tier::Direct, 1);
}

#[test]
fn operands_at_edges_in_mirrored_code() {
    judge_all(Tier::Mirror, 1);
}

#[test]
fn operands_at_edges_in_compiled_code() {
    judge_all(Tier::Cranelift, 7);
}
