//! Broken guest images: whatever they are, the host lives on.
//!
//! Each batch of cases runs in a process of its own, which is this very test
//! program asked for one ignored test, so that a host signal or a hang is seen,
//! and named by the last case begun. `RING1_IMAGES=N` runs N of each kind.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests::images::{Case, mutated_kernel, random_flat, run, sound_kernels};
use tests::machine::TIERS;

/// Cases of each kind unless asked otherwise.
const CASES: u64 = 60;
/// Cases in one process.
const BATCH: u64 = 20;
/// Host time for one batch.
const BATCH_TIMEOUT: Duration = Duration::from_secs(300);
/// Names the batch to the process that runs it: kind and first and last seed.
const BATCH_VARIABLE: &str = "RING1_IMAGE_BATCH";

#[test]
fn mutated_kernels_end_in_a_documented_way() {
    run_batches("mutated");
}

#[test]
fn random_flat_images_end_in_a_documented_way() {
    run_batches("flat");
}

fn run_batches(kind: &str) {
    let asked = std::env::var("RING1_IMAGES").ok();
    let cases = asked.and_then(|n| n.parse().ok()).unwrap_or(CASES);
    let batches = (0..cases).step_by(BATCH as usize);
    let complaints: Vec<String> = batches
        .filter_map(|first| run_in_process(kind, first, cases.min(first + BATCH)).err())
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}

/// Runs cases `first..end` in a process of their own.
fn run_in_process(kind: &str, first: u64, end: u64) -> Result<(), String> {
    let mut child = Command::new(std::env::current_exe().expect("a test program"))
        .args(["--exact", "batch", "--ignored", "--nocapture"])
        .env("RUST_BACKTRACE", "0")
        .env(BATCH_VARIABLE, format!("{kind} {first} {end}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test program runs again");
    let mut stderr = child.stderr.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stderr.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    let deadline = Instant::now() + BATCH_TIMEOUT;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of this process") {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill().expect("a child of this process");
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let _ = child.wait();
    let said = reader.join().expect("the reader reads");
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{status} after\n{}", tail(&said))),
        None => Err(format!("hangs after\n{}", tail(&said))),
    }
}

/// The last lines of `said`.
fn tail(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Not a test: what the processes of the others run.
#[test]
#[ignore = "run by the other tests"]
fn batch() {
    let batch = std::env::var(BATCH_VARIABLE).unwrap_or_default();
    let mut words = batch.split(' ');
    let kind = words.next().unwrap_or_default();
    let bounds: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
    let &[first, end] = bounds.as_slice() else {
        return;
    };
    let kernels = sound_kernels();
    let make = |seed: u64| -> Case {
        match kind {
            "mutated" => mutated_kernel(&kernels[seed as usize % kernels.len()], seed),
            _ => random_flat(seed),
        }
    };
    for seed in first..end {
        let case = make(seed);
        let (name, tier) = TIERS[(seed / 7) as usize % TIERS.len()];
        eprintln!("{} ({name} tier)", case.name);
        let start = Instant::now();
        let end = run(&case, tier).unwrap_or_else(|problem| panic!("{problem}"));
        eprintln!("  {end} ({:.1?})", start.elapsed());
    }
}
