//! `ring1 bench` as a user runs it, without anything to measure: errors, and a
//! whole run in which scripts play the host's programs and the virtual machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder that goes when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // A run that was killed may have left it.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A file that can be run, if it is a script.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bench(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ring1"));
    command.arg("bench").args(words).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a program with two workloads prints; `sum` is the second's.
fn workloads(sum: &str) -> String {
    format!(
        "#!/bin/sh\n\
         echo BEGIN int_a 1; echo BENCH int_a 20.0 ns; echo BENCH int_a 10.0 cpu; echo CHECK int_a 1 01\n\
         echo BEGIN os_b 1; echo BENCH os_b 20.0 ns; echo BENCH os_b 10.0 cpu; echo CHECK os_b 1 {sum}\n\
         echo DONE B\n"
    )
}

/// A run of the workloads in which the guest's second checksum is `sum`.
fn run_with(folder: &Folder, sum: &str, more: &[&str]) -> Output {
    let machine = folder.file("machine", &workloads(sum));
    run_in(folder, &machine, more)
}

/// A run of the workloads in which `machine` plays ring1.
fn run_in(folder: &Folder, machine: &Path, more: &[&str]) -> Output {
    folder.file("rbench", &workloads("02"));
    folder.file("initrd.gz", "");
    let kernel = folder.file("vmlinuz", "");
    let [folder, machine, kernel] = [&folder.0, machine, &kernel].map(|p| p.to_str().unwrap());
    let words = ["workloads", "--no-qemu", "--runs", "1", "--workloads"];
    let files = [folder, "--ring1", machine, "--kernel", kernel];
    bench(&[&words[..], &files[..], more].concat())
}

#[test]
fn the_host_and_the_machine_are_set_side_by_side() {
    let folder = Folder::new("bench-beside");
    let output = run_with(&folder, "02", &[]);
    let text = said(&output.stdout);
    assert!(output.status.success(), "{text}{}", said(&output.stderr));
    let row = text
        .lines()
        .find(|line| line.starts_with("| int_a | 10.0 |"));
    assert!(row.is_some_and(|row| row.ends_with("| same |")), "{text}");
    assert!(text.contains("ring1 over native"), "{text}");
    assert!(!text.contains("QEMU over"), "{text}");
}

#[test]
fn a_wrong_checksum_is_an_error() {
    let folder = Folder::new("bench-wrong");
    let output = run_with(&folder, "03", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output.stdout).contains("checksums differ: os_b"));
}

#[test]
fn what_cannot_be_charged_is_run_again_and_marked() {
    let folder = Folder::new("bench-uncharged");
    let again = folder.0.join("again");
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>{}\n\
         echo BEGIN int_a 1000000; echo BENCH int_a 1000000.0 ns; echo CHECK int_a 1000000 01; echo DONE B\n",
        again.display()
    );
    let machine = folder.file("slow-machine", &script);
    let output = run_in(&folder, &machine, &["--no-native"]);
    let text = said(&output.stdout);
    assert!(output.status.success(), "{text}{}", said(&output.stderr));
    assert!(text.contains("| int_a | not charged |"), "{text}");
    let starts = fs::read_to_string(again).unwrap();
    assert_eq!(starts.lines().count(), 2, "{starts}");
    assert!(starts.contains("args_b=-r,2,-s,1,int_a"), "{starts}");
}

#[test]
fn the_report_goes_where_it_is_wanted() {
    let folder = Folder::new("bench-output");
    let page = folder.0.join("report.html");
    let output = run_with(&folder, "02", &["--output", page.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output.stderr));
    assert!(output.stdout.is_empty());
    let text = fs::read_to_string(page).unwrap();
    assert!(text.starts_with("<!doctype html>") && text.contains("<svg"));
}

#[test]
fn a_host_that_cannot_run_the_programs_leaves_its_column_out() {
    let folder = Folder::new("bench-no-native");
    folder.file("abench", "\x7fELF: no program of any machine");
    let output = run_with(&folder, "02", &["--format", "csv"]);
    assert!(output.status.success(), "{}", said(&output.stderr));
    assert!(said(&output.stderr).contains("the host CPU's column is left out"));
    let text = said(&output.stdout);
    assert!(
        text.contains(",int_a,ring1,") && !text.contains("native"),
        "{text}"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (words, status, reason) in [
        (&["floppy"][..], 2, "possible values"),
        (&["--runs", "none"], 2, "invalid value 'none'"),
        (
            &["boot", "--only", "int_"],
            1,
            "--only chooses among workloads",
        ),
        (&["workloads", "--kernel", "no-such-file"], 1, "ring1: "),
        (&["--ring1", "no-such-file"], 1, "there is no no-such-file"),
    ] {
        let output = bench(words);
        let error = said(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {error}");
        assert!(error.contains(reason), "{words:?}: {error}");
    }
}
