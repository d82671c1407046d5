//! `ring1 compare` as a user runs it: its guest in the tiers, its program on the host and
//! in Debian's kernel, the formats. No figure is judged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What the embedded guest measures.
const GUEST_ROWS: [&str; 16] = [
    "syscall",
    "int80",
    "vdso",
    "callret",
    "divzero",
    "in",
    "out",
    "cr8wr",
    "mmio",
    "interrupt",
    "pgfault",
    "ptemod",
    "invlpg",
    "ctxswitch",
    "tlbmiss",
    "forkwait",
];

/// What the Linux program measures.
const LINUX_ROWS: [&str; 10] = [
    "syscall",
    "int80",
    "vdso",
    "callret",
    "sigfpe",
    "pgfault",
    "mprotect",
    "pipeswitch",
    "tlbmiss",
    "forkwait",
];

fn compare(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ring1"));
    command.arg("compare").args(words).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The report of a comparison that must succeed.
fn report(words: &[&str]) -> String {
    let output = compare(words);
    let text = said(&output.stdout);
    let (status, error) = (output.status, said(&output.stderr));
    assert!(status.success(), "{status}\n{text}\n{error}");
    text
}

/// A file that plays ring1.
fn script(name: &str, text: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

#[test]
fn every_row_is_measured_in_each_tier() {
    let tiers = "interp,auto";
    let words = ["--no-native", "--no-qemu", "--runs", "1", "--format", "csv"];
    let text = report(&[&words[..], &["--tier", tiers]].concat());
    for subject in ["ring1 interp", "ring1"] {
        for row in GUEST_ROWS {
            let begin = format!("\n{row},{subject},1,");
            assert!(text.contains(&begin), "{row}, {subject}\n{text}");
        }
    }
    assert!(!text.contains(",native,") && !text.contains(",QEMU,"));
}

#[test]
fn the_host_runs_the_program_or_is_left_out() {
    let ring1 = script("compare-short", "echo COMPARE in 1 2 3; echo DONE");
    let words = ["--no-qemu", "--runs", "1", "--format", "csv", "--ring1"];
    let output = compare(&[&words[..], &[ring1.to_str().unwrap()]].concat());
    let (text, error) = (said(&output.stdout), said(&output.stderr));
    assert!(text.contains("\nin,ring1,1,2,3,cycles\n"), "{text}{error}");
    let left_out = error.contains("native is left out");
    for row in GUEST_ROWS.iter().filter(|row| LINUX_ROWS.contains(row)) {
        let there = text.contains(&format!("\n{row},native,1,"));
        assert!(there != left_out, "{row}\n{text}\n{error}");
    }
}

#[test]
fn a_linux_guest_runs_the_program() {
    let named = std::env::var_os("RING1_DEBIAN").map(PathBuf::from);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../debian");
    let kernel = named.unwrap_or(target).join("vmlinuz-686");
    if !kernel.is_file() {
        eprintln!("skipped: samples/debian.sh --fetch-only fetches the kernel");
        return;
    }
    let words = ["--no-native", "--no-qemu", "--runs", "1", "--format", "csv"];
    let text = report(&[&words[..], &["--kernel", kernel.to_str().unwrap()]].concat());
    for row in LINUX_ROWS {
        assert!(text.contains(&format!("\n{row},ring1,1,")), "{row}\n{text}");
    }
}

#[test]
fn all_formats_have_the_same_rows() {
    let line = "echo COMPARE in 10 20 30; echo COMPARE syscall 10 2000 9000; echo DONE";
    let ring1 = script("compare-formats", line);
    let written = |format: &str| {
        let words = ["--no-native", "--no-qemu", "--format", format, "--ring1"];
        report(&[&words[..], &[ring1.to_str().unwrap()]].concat())
    };
    let text = written("text");
    assert!(text.contains("| 200 / 900 ? |"), "{text}");
    assert!(
        text.contains("\nnote: doubtful, for they vary, in ring1: syscall\n"),
        "{text}"
    );
    let json = written("json");
    let rest = value(json.trim());
    assert_eq!(rest, Some(""), "{json}");
    assert!(json.contains(r#""name": "syscall""#) && json.contains(r#""doubtful": true"#));
    let csv = written("csv");
    let columns = |line: &str| line.split(',').count();
    assert!(csv.lines().all(|line| columns(line) == 6), "{csv}");
    assert_eq!(csv.lines().count(), 1 + 2 * (3 + 3), "{csv}");
    let page = written("html");
    assert!(
        page.starts_with("<!doctype html>") && page.contains("<svg"),
        "{page}"
    );
}

#[test]
fn who_asks_for_a_file_has_the_table_too() {
    let ring1 = script("compare-file", "echo COMPARE in 10 20 30; echo DONE");
    let page = Path::new(env!("CARGO_TARGET_TMPDIR")).join("costs.html");
    let words = ["--no-native", "--no-qemu", "--output"];
    let files = [page.to_str().unwrap(), "--ring1", ring1.to_str().unwrap()];
    let table = report(&[&words[..], &files].concat());
    assert!(table.contains("\n| in "), "{table}");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>"), "{page}");
}

/// What follows one JSON value; `None` if `text` does not begin with one.
fn value(text: &str) -> Option<&str> {
    match text.chars().next()? {
        '{' => members(&text[1..], '}', |text| {
            value(string(text)?.strip_prefix(": ")?)
        }),
        '[' => members(&text[1..], ']', value),
        '"' => string(text),
        _ => {
            let end = text.find([',', '}', ']']).unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            let plain = ["true", "false", "null"].contains(&word);
            (plain || word.parse::<f64>().is_ok()).then_some(rest)
        }
    }
}

fn string(text: &str) -> Option<&str> {
    let mut characters = text.strip_prefix('"')?.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return text.get(at + 2..),
            '\\' => drop(characters.next()?),
            _ => {}
        }
    }
    None
}

/// What follows the members of an array or object, and `close`.
fn members(text: &str, close: char, one: impl Fn(&str) -> Option<&str>) -> Option<&str> {
    let mut text = text;
    while !text.starts_with(close) {
        let rest = one(text)?;
        text = rest.strip_prefix(", ").unwrap_or(rest);
    }
    text.strip_prefix(close)
}

#[test]
fn a_machine_that_fails_is_left_out() {
    let ring1 = script("compare-broken", "echo COMPARE in 1 2 3; echo triple fault");
    let words = ["--no-native", "--no-qemu", "--ring1"];
    let output = compare(&[&words[..], &[ring1.to_str().unwrap()]].concat());
    let error = said(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let expected = "ring1 is left out: it ended after 1 rows; its last words were \"triple fault\"";
    assert!(error.contains(expected), "{error}");
    assert!(error.contains("nothing could be measured"), "{error}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (words, status, reason) in [
        (&["--runs", "none"][..], 2, "invalid value 'none'"),
        (&["--initrd", "i"], 2, "--kernel"),
        (
            &["--no-native", "--kernel", "no-such-file"],
            1,
            "there is no no-such-file",
        ),
        (&["--ring1", "no-such-file"], 1, "there is no no-such-file"),
    ] {
        let output = compare(words);
        let error = said(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {error}");
        assert!(error.contains(reason), "{words:?}: {error}");
    }
}
