//! `ring1 selftest` as a user runs it: a budget of random sequences with a new
//! seed each time, and what becomes of a helper that dies.
//!
//! A failure prints the seed and the command that repeats it. `RING1_SEQUENCES`
//! multiplies the budget.

use runtime::selftest::helper::{Report, Tally, oversee};
use std::process::Command;

/// Runs the command; its output and whether it found nothing.
fn selftest(arguments: &[&str]) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ring1"));
    let output = command.arg("selftest").args(arguments).output();
    let output = output.expect("ring1 starts");
    let text = [output.stdout, output.stderr].map(|t| String::from_utf8_lossy(&t).into_owned());
    (text.concat(), output.status.success())
}

fn times(budget: u64) -> String {
    let factor = std::env::var("RING1_SEQUENCES").ok();
    let factor = factor.and_then(|text| text.parse().ok()).unwrap_or(1);
    format!("--count={}", budget * factor)
}

#[test]
fn interpreter_and_direct_code_do_what_the_host_cpu_does() {
    let (output, fine) = selftest(&[&times(100_000), "--tier=interp,direct,mirror"]);
    println!("{output}");
    assert!(fine, "{output}");
}

#[test]
fn compiled_code_does_what_the_host_cpu_does() {
    let (output, fine) = selftest(&[&times(10_000), "--tier=cranelift"]);
    println!("{output}");
    assert!(fine, "{output}");
}

#[test]
fn without_the_host_cpu_the_tiers_are_compared() {
    let (output, fine) = selftest(&["--count=1500", "--without-host", "--seed=1"]);
    assert!(fine, "{output}");
    assert!(output.contains("by each other"), "{output}");
    let (again, _) = selftest(&["--count=1500", "--without-host", "--seed=1"]);
    let table = |text: &str| text.lines().take(19).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(table(&output), table(&again));
}

#[test]
fn nonsense_is_refused() {
    let (output, fine) = selftest(&["--family=abc"]);
    assert!(!fine && output.contains("one of arith, logic"), "{output}");
}

/// A helper whose case number 3 kills it after two that were told of.
fn mortal(part: std::ops::Range<u64>) -> Command {
    let script = match part.contains(&3) {
        true => r"printf '\003\0\0\0\0\0\0\0' >&0; echo 'tally 2 a 2 0'; kill -SEGV $$".into(),
        false => format!("echo tally {} b {} 0", part.end, part.end - part.start),
    };
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    command
}

#[test]
fn a_deadly_case_is_named_and_the_others_run() {
    let mut reports = Vec::new();
    oversee(0..10, &mortal, &mut |report| {
        reports.push(report);
        true
    })
    .expect("helpers start");
    let tally = |group: &str, agree| {
        let tally = Tally { agree, skipped: 0 };
        Report::Tally([(group.to_string(), tally)].into())
    };
    let died = Report::Died {
        index: 3,
        how: "killed by signal 11".into(),
    };
    assert_eq!(reports, [tally("a", 2), died, tally("b", 1), tally("b", 6)]);
}
