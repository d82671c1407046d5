//! Fuzzes the CPU for a while: `fuzz [--seconds N] [--seed S] [--count N]`.
//!
//! Prints its seed, each finding, and at the end how much was done in how much
//! processor time. A finding is run again with the `--seed` it names and a count
//! of 1. The exit status is 1 if there was a finding.

use runtime::selftest::helper::{Report, Tally, oversee, serve};
use std::collections::BTreeMap;
use std::ops::Range;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tests::fuzz::{Fuzzer, TURNS};

/// Findings after which there is no point in going on.
const ENOUGH: usize = 40;
/// What a helper is told first.
const HELPER: &str = "--helper";
/// Units of `/proc/self/stat` in a second (proc(5), `_SC_CLK_TCK` of Linux).
const TICKS: f64 = 100.0;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        let text = words.get(at + 1)?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    };
    let seed = number("--seed").unwrap_or_else(seed_of_the_clock);
    if words.first().is_some_and(|word| word == HELPER) {
        let range = number("--from").unwrap_or(0)..number("--to").unwrap_or(0);
        // Without a listener there is nothing left to do.
        let _ = serve(&mut Fuzzer::new(seed), range);
        return ExitCode::SUCCESS;
    }
    let seconds = number("--seconds").unwrap_or(match number("--count") {
        Some(_) => u64::MAX,
        None => 10,
    });
    let count = number("--count").unwrap_or(u64::MAX);
    match fuzz(seed, count, Duration::from_secs(seconds)) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Runs up to `count` cases of `seed` and returns the number of findings.
fn fuzz(seed: u64, count: u64, time: Duration) -> usize {
    println!("seed {seed:#x}");
    let started = Instant::now();
    let mut groups = BTreeMap::<String, Tally>::new();
    let mut findings = 0;
    let program = std::env::current_exe().expect("a program has a name");
    let command = |part: Range<u64>| {
        let mut command = Command::new(&program);
        let (from, to) = (part.start.to_string(), part.end.to_string());
        let words = [
            HELPER,
            "--seed",
            &seed.to_string(),
            "--from",
            &from,
            "--to",
            &to,
        ];
        command.args(words);
        command
    };
    let mut on = |report: Report| {
        match report {
            Report::Tally(tallies) => {
                for (group, tally) in tallies {
                    groups.entry(group).or_default().agree += tally.agree;
                }
            }
            Report::Differs { index, text, .. } => {
                findings += 1;
                found(seed, index, &text);
            }
            Report::Died { index, how } => {
                findings += 1;
                found(seed, index, &format!("the helper was {how}"));
            }
        }
        findings < ENOUGH && started.elapsed() < time
    };
    oversee(0..count, &command, &mut on).expect("the program runs again");
    for (group, tally) in &groups {
        println!("{group:<20} {:>10} cases", tally.agree);
    }
    let hours = processor_seconds().unwrap_or(0.0) / 3600.0;
    println!("{findings} findings in {hours:.3} CPU-hours");
    findings
}

/// Cases take their turns by number, so a case keeps its place in the turn.
fn found(seed: u64, index: u64, text: &str) {
    let (again, turn) = (seed.wrapping_add(index - index % TURNS), index % TURNS);
    println!(
        "\n{} ({}): {text}\n  again: fuzz --seed {again:#x} --count {}\n",
        index,
        Fuzzer::kind(index),
        turn + 1
    );
}

/// Processor time of helpers that have ended.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let words: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |n: usize| words.get(n)?.parse::<f64>().ok();
    Some((ticks(13)? + ticks(14)?) / TICKS)
}

fn seed_of_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros() as u64)
}
