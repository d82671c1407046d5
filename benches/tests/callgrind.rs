//! The hot paths of interpreter and dispatcher cost no more instructions than
//! they did.
//!
//! valgrind's callgrind counts the host instructions of each path of the program
//! `hot_paths`, and `callgrind.txt` says how many there were. Time would need a
//! quiet host; counts are the same in every run. They are not the same with
//! another compiler, or other optimisation, so they are compared only with the
//! compiler that the file names, in the dev profile, without incremental
//! compilation, which inlines less: in what `.ci/run` builds. Code that ring1 makes is
//! counted too, once valgrind is told that code may change
//! (`--smc-check=all`: it lies in a memory file, which passes for code that does
//! not). Cranelift code is left out: it runs neither in `auto` nor in valgrind,
//! which hides the vDSO that rustix looks for.
//!
//! `CARGO_INCREMENTAL=0 BLESS=1` writes the file anew.

use runtime::native::direct_supported;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Part of the count by which a path may grow.
const GROWTH: f64 = 0.05;
/// Part of it that a path may lose before the file must be told, lest the gain
/// be lost again unseen.
const GAIN: f64 = 0.10;
const PROGRAM: &str = env!("CARGO_BIN_EXE_hot_paths");

/// Instructions by path.
type Counts = BTreeMap<String, u64>;

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/callgrind.txt")
}

/// What a program prints; `None` if it cannot be run.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn compiler() -> String {
    let text = output(Command::new("rustc").arg("--version"));
    text.unwrap_or_default().trim().to_owned()
}

/// Instructions of one path.
fn count(path: &str) -> u64 {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--smc-check=all"]);
    command.args(["--callgrind-out-file=/dev/null", "--collect-atstart=no"]);
    command.args(["--toggle-collect=hot_paths::measured*", PROGRAM, path]);
    let text = output(&mut command).unwrap_or_default();
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count
        .filter(|&count| count > 0)
        .unwrap_or_else(|| panic!("callgrind counted nothing of {path}:\n{text}"))
}

/// All paths that this host has, counted.
fn counts() -> Counts {
    let names = output(&mut Command::new(PROGRAM)).unwrap_or_default();
    let here = |name: &&str| direct_supported() || !name.starts_with("dispatcher");
    let names = names.lines().filter(here);
    names.map(|name| (name.to_owned(), count(name))).collect()
}

/// The compiler and the counts that a file has.
fn parse(text: &str) -> (String, Counts) {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut compiler = String::new();
    let mut counts = Counts::new();
    for line in lines {
        match line.trim_start().split_once(' ') {
            Some(("compiler", name)) => compiler = name.to_owned(),
            Some((count, name)) => {
                let count = count.parse().expect("a line begins with a count");
                counts.insert(name.to_owned(), count);
            }
            None => {}
        }
    }
    (compiler, counts)
}

fn written(compiler: &str, counts: &Counts) -> String {
    let mut text = String::from("# Host instructions of each hot path: callgrind.rs\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "compiler {compiler}");
    for (name, count) in counts {
        let _ = writeln!(text, "{count:>9} {name}");
    }
    text
}

/// What is wrong with the counts.
fn complaints(before: &Counts, now: &Counts) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, &count) in now {
        let Some(&old) = before.get(name) else {
            complaints.push(format!("{name} is new: BLESS=1"));
            continue;
        };
        let change = count as f64 / old as f64 - 1.0;
        let figures = format!(
            "{name}: {old} before, {count} now, {:+.1} %",
            change * 100.0
        );
        if change > GROWTH {
            complaints.push(format!("{figures}: slower"));
        } else if change < -GAIN {
            complaints.push(format!("{figures}: faster, keep it with BLESS=1"));
        }
    }
    complaints
}

#[test]
fn hot_paths_cost_no_more_than_they_did() {
    if !cfg!(debug_assertions) || option_env!("CARGO_INCREMENTAL") != Some("0") {
        eprintln!("SKIPPED: counts are those of the dev profile with CARGO_INCREMENTAL=0");
        return;
    }
    if output(Command::new("valgrind").arg("--version")).is_none() {
        eprintln!("SKIPPED: valgrind is not installed");
        return;
    }
    let compiler = compiler();
    if std::env::var_os("BLESS").is_some() {
        fs::write(file(), written(&compiler, &counts())).unwrap();
        return;
    }
    let (known, before) = parse(&fs::read_to_string(file()).unwrap());
    if known != compiler {
        eprintln!("SKIPPED: counts are those of {known}, this is {compiler}");
        return;
    }
    let complaints = complaints(&before, &counts());
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn growth_and_great_gains_are_noticed() {
    let counts = |a, b| Counts::from([("a".to_owned(), a), ("b: c".to_owned(), b)]);
    let before = counts(1000, 1000);
    assert!(complaints(&before, &counts(1049, 901)).is_empty());
    let found = complaints(&before, &counts(1051, 899));
    assert!(found[0].contains("+5.1 %: slower"), "{found:?}");
    assert!(found[1].contains("BLESS=1"), "{found:?}");
    assert_eq!(complaints(&Counts::new(), &before).len(), 2);
}

#[test]
fn what_is_written_is_read_again() {
    let counts = Counts::from([("a: b c".to_owned(), 7)]);
    let text = written("rustc 1.0 (x)", &counts);
    assert_eq!(parse(&text), ("rustc 1.0 (x)".to_owned(), counts));
}
