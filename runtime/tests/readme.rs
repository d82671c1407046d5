//! The README, followed to the letter: each command that it shows with its output is run
//! in a folder that looks like a clone after `cargo run --release`, and prints what it
//! shows. What is typed at a prompt there is typed here.
//!
//! A step whose means are not there (GDB, QEMU, Debian's kernels) is skipped with a word.

#[path = "readme/compare.rs"]
mod compare;
#[path = "readme/steps.rs"]
mod steps;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use steps::{PROMPTS, Step, steps};

/// This build, instead of a release.
const RING1: &str = env!("CARGO_BIN_EXE_ring1");
/// Longest time for a step.
const SECONDS: &str = "300";

/// What a command needs and is not there.
fn lacks(command: &str) -> Option<&'static str> {
    match command.split_whitespace().take(2).collect::<Vec<_>>()[..] {
        ["samples/gdb.sh", ..] => without_gdb(),
        ["samples/debian.sh", ..] => without_debian(),
        ["target/release/ring1", "dump"] => without_direct_code(),
        _ => None,
    }
}

fn without_gdb() -> Option<&'static str> {
    let mut gdb = Command::new("gdb");
    let gdb = gdb.arg("--version").stdout(Stdio::null());
    gdb.status().is_err().then_some("there is no gdb")
}

fn without_debian() -> Option<&'static str> {
    let files = [
        "vmlinuz-686",
        "vmlinuz-686-pae",
        "busybox",
        "initrd.gz",
        "memtest86+",
    ];
    let folder = target().join("debian");
    let all = files.iter().all(|file| folder.join(file).is_file());
    (!all).then_some("samples/debian.sh --fetch-only has not been run")
}

fn without_direct_code() -> Option<&'static str> {
    (!runtime::native::direct_supported()).then_some("this host has no direct code")
}

/// Columns of tables that a program may leave out, and what it says then.
const COLUMNS: [(&str, &str); 2] = [
    ("native", "native is left out"),
    ("QEMU", "qemu-system-i386 is not installed"),
];

/// What it says where everything would be another.
const OTHERWISE: &str = "cannot run i386 code";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder of builds, where Debian's kernels are too.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("..")
}

/// A folder like a clone, but for what steps do not need.
fn clone(name: &str) -> PathBuf {
    let clone = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&clone);
    fs::create_dir_all(clone.join("target/release")).unwrap();
    symlink(root().join("samples"), clone.join("samples")).unwrap();
    symlink(RING1, clone.join("target/release/ring1")).unwrap();
    clone
}

/// Starts a step. A release would take minutes to build, so this build takes its place.
fn start(step: &Step, clone: &Path) -> Child {
    let command = step.command.replace("cargo run --release", RING1);
    Command::new("timeout")
        .args([SECONDS, "sh", "-c", &command])
        .current_dir(clone)
        .env("RING1", RING1)
        .env("CARGO_TARGET_DIR", target())
        .env("XDG_CACHE_HOME", clone)
        .env("HOME", clone)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(clone.join("errors")).unwrap())
        .spawn()
        .unwrap()
}

/// Runs a step and returns what it prints, on standard output and standard error. At each
/// prompt the next line is typed; after the last the input ends, which ends GDB.
fn run(step: &Step, clone: &Path) -> (String, String) {
    let mut child = start(step, clone);
    let mut typed = step.typed().into_iter();
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take().unwrap();
    let (mut bytes, mut chunk, mut answered) = (Vec::new(), [0; 4096], 0);
    while let Ok(count @ 1..) = stdout.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..count]);
        let asked = prompts(&bytes);
        if asked > answered {
            answered = asked;
            match (typed.next(), &mut stdin) {
                // Who no longer listens has ended; what that means is seen below.
                (Some(line), Some(stdin)) => drop(stdin.write_all(line.as_bytes())),
                _ => stdin = None,
            }
        }
    }
    drop(stdin);
    child.wait().unwrap();
    let errors = fs::read_to_string(clone.join("errors")).unwrap();
    (plain(&bytes), errors)
}

/// How often a prompt has been printed.
fn prompts(bytes: &[u8]) -> usize {
    let text = plain(bytes);
    PROMPTS
        .iter()
        .map(|prompt| text.matches(prompt).count())
        .sum()
}

/// Text without what moves a terminal's cursor.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace('\r', "");
    let mut pieces = text.split("\x1b[");
    let first = pieces.next().unwrap_or_default().to_owned();
    let end = |piece: &str| piece.find(|c: char| c.is_ascii_alphabetic());
    let rest = pieces.map(|piece| end(piece).map_or("", |end| &piece[end + 1..]));
    first + &rest.collect::<String>()
}

/// What is wrong with a step.
fn complaint(step: &Step, clone: &Path) -> Option<String> {
    let command = &step.command;
    if let Some(reason) = lacks(command) {
        eprintln!("SKIPPED: {command}: {reason}");
        return None;
    }
    let (printed, errors) = run(step, clone);
    if printed.contains(OTHERWISE) {
        eprintln!("SKIPPED: {command}: this host {OTHERWISE}");
        return None;
    }
    let mut shown = step.shown.clone();
    for (column, said) in COLUMNS {
        if errors.contains(said) {
            eprintln!("SKIPPED: {command}: {said}");
            shown = compare::without_column(&shown, column);
        }
    }
    let lines = compare::missing(&shown, &printed)?;
    Some(format!(
        "{command}\n--- shown ---\n{lines}\n--- printed ---\n{printed}{errors}"
    ))
}

#[test]
fn every_command_prints_what_the_readme_shows() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let clone = clone("readme");
    let complaints: Vec<_> = steps(&readme)
        .iter()
        .filter_map(|step| complaint(step, &clone))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}

#[test]
fn gdb_stops_in_debians_kernel_too() {
    let command = "samples/gdb.sh --debian".to_owned();
    if let Some(reason) = without_gdb().or_else(without_debian) {
        eprintln!("SKIPPED: {command}: {reason}");
        return;
    }
    let step = Step {
        command,
        shown: Vec::new(),
    };
    let (printed, errors) = run(&step, &clone("debian"));
    let entries = ["entry_INT80_32 ()", "entry_SYSENTER_32 ()"];
    let entry = printed.lines().any(|line| {
        line.starts_with("Breakpoint ") && entries.iter().any(|entry| line.ends_with(entry))
    });
    assert!(entry, "{printed}{errors}");
}

#[test]
fn a_new_users_path_is_there() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let commands: Vec<_> = steps(&readme)
        .into_iter()
        .map(|step| step.command)
        .collect();
    for begin in [
        "cargo run --release",
        "samples/debian.sh",
        "target/release/ring1 compare",
        "target/release/ring1 dump",
        "samples/gdb.sh",
        "target/release/ring1 selftest",
    ] {
        let found = commands.iter().any(|command| command.starts_with(begin));
        assert!(
            found,
            "the README shows no output of `{begin}`: {commands:?}"
        );
    }
}
