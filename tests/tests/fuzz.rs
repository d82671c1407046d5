//! The fuzzer itself, and cases of a seed from the clock.

use runtime::selftest::helper::{Found, Work};
use std::process::Command;
use tests::fuzz::Fuzzer;

/// Seconds to spend.
const SECONDS: &str = "8";

#[test]
fn cases_of_a_new_seed_find_nothing() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fuzz"));
    let output = command.args(["--seconds", SECONDS]).output();
    let output = output.expect("the fuzzer starts");
    // The seed is in it.
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("run-Direct"), "{text}");
}

#[test]
fn a_number_names_its_case() {
    let kinds = |seed| {
        let mut fuzzer = Fuzzer::new(seed);
        let case = |n| match fuzzer.case(n) {
            Found::Agree(group) => group,
            Found::Skipped(group) => panic!("{group} skips nothing"),
            Found::Differs { text, .. } => panic!("{text}"),
        };
        (0..24).map(case).collect::<Vec<_>>()
    };
    assert_eq!(kinds(1), kinds(1));
}
