//! The tiers against the host CPU: hand-written cases and the grid. Random
//! sequences are `ring1 selftest`'s.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use iced_x86::Mnemonic;
use runtime::config::Tier;
use runtime::selftest::case::{Case, Family};
use runtime::selftest::guest::Guest;
use runtime::selftest::judge::{Judge, Side, Verdict};
use std::collections::BTreeMap;
use tests::cases;

/// Kinds of differences shown before a test gives up.
const SHOWN: usize = 12;

/// Judges every case and fails with the first differences.
fn judge_all(tier: Tier, cases: impl Iterator<Item = (&'static str, Case)>) {
    let Some(mut judge) = Judge::new() else {
        return;
    };
    let mut guest = Guest::new(tier).expect("a machine");
    let (mut agree, mut skipped, mut differences) = (0, 0, BTreeMap::new());
    for (name, case) in cases {
        let side = Side {
            name: "tier",
            subject: &mut guest,
        };
        match judge.check(&case, &mut [side]) {
            Verdict::Agree => agree += 1,
            Verdict::Skipped => skipped += 1,
            Verdict::Differ(difference) => {
                let report = format!("{name}: {difference}");
                differences.entry(kind(&difference.case)).or_insert(report);
            }
        }
        if differences.len() >= SHOWN {
            break;
        }
    }
    let share = 100.0 * guest.share_compiled();
    println!("{tier:?}: {agree} agree, {skipped} say nothing, {share:.1} % compiled");
    let reports: Vec<String> = differences.into_values().collect();
    assert!(reports.is_empty(), "{}", reports.join("\n"));
}

/// Differences of the same instructions are probably one fault.
fn kind(case: &Case) -> Vec<Mnemonic> {
    let instructions = case.instructions();
    instructions.iter().map(|insn| insn.mnemonic()).collect()
}

fn number(variable: &str, default: u64) -> u64 {
    let value = std::env::var(variable).ok();
    value.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn written(vector: bool) -> impl Iterator<Item = (&'static str, Case)> {
    let all = cases::all().into_iter();
    let wanted = all.filter(move |named| Family::VECTOR.contains(&named.case.family) == vector);
    wanted.map(|named| (named.name, named.case))
}

fn grid() -> impl Iterator<Item = (&'static str, Case)> {
    cases::grid().map(|case| ("grid", case))
}

#[test]
fn written_cases_in_the_interpreter() {
    judge_all(Tier::Interp, written(false));
}

#[test]
fn written_cases_in_compiled_code() {
    judge_all(Tier::Cranelift, written(false));
}

#[test]
fn written_cases_in_direct_code() {
    judge_all(Tier::Direct, written(false));
}

#[test]
fn written_cases_in_mirrored_code() {
    judge_all(Tier::Mirror, written(false));
}

#[test]
fn grid_in_the_interpreter() {
    judge_all(Tier::Interp, grid());
}

/// One operand pair in 24, so that every operation is met with several.
#[test]
fn grid_in_compiled_code() {
    let stride = number("RING1_GRID_STRIDE", 24) as usize;
    judge_all(Tier::Cranelift, grid().step_by(stride.max(1)));
}

#[test]
fn grid_in_direct_code() {
    judge_all(Tier::Direct, grid());
}

#[test]
fn grid_in_mirrored_code() {
    judge_all(Tier::Mirror, grid());
}

#[test]
fn written_vector_cases_in_the_interpreter() {
    judge_all(Tier::Interp, written(true));
}

#[test]
fn written_vector_cases_in_compiled_code() {
    judge_all(Tier::Cranelift, written(true));
}

#[test]
fn written_vector_cases_in_direct_code() {
    judge_all(Tier::Direct, written(true));
}

#[test]
fn written_vector_cases_in_mirrored_code() {
    judge_all(Tier::Mirror, written(true));
}
