//! The line that shows a long start-up, on a terminal and nowhere else.
//!
//! The guest says nothing before it is sent a byte, so the test decides how long the
//! start-up is.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Sends a byte that comes on COM1 back and exits with status 1: waits for bit 0 of
/// the LSR, 3FDh, reads and writes 3F8h, writes 0 to F4h.
const ECHO: &[u8] = &[
    0xBA, 0xFD, 0x03, 0xEC, 0xA8, 0x01, 0x74, 0xFB, 0xB2, 0xF8, 0xEC, 0xEE, 0xB0, 0x00, 0xE6, 0xF4,
];

/// The guest in a file of its own.
fn guest(name: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, ECHO).unwrap();
    file
}

fn boot(guest: &Path, more: &[&str], stderr: Stdio) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ring1"));
    command.env("TERM", "xterm").arg("boot").arg("--kernel");
    command
        .arg(guest)
        .args(["--code-cache", "off", "--flat", "0x7c00"])
        .args(more)
        .stderr(stderr);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// A new terminal: our end and the program's.
fn terminal() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let theirs = File::options().read(true).write(true).open(path).unwrap();
    (File::from(ours), theirs)
}

/// What comes until `wanted` does, or all if it never does.
fn read_until(terminal: &mut File, wanted: &str) -> String {
    let mut text = String::new();
    let mut bytes = [0; 256];
    while wanted.is_empty() || !text.contains(wanted) {
        // A terminal whose other end is closed fails to be read.
        match terminal.read(&mut bytes) {
            Ok(count) if count > 0 => text += &String::from_utf8_lossy(&bytes[..count]),
            _ => break,
        }
    }
    text
}

#[test]
fn the_line_goes_when_the_guest_speaks() {
    let guest = guest("progress-echo.bin");
    let (mut ours, theirs) = terminal();
    let mut child = boot(
        &guest,
        &["--memory", "16", "--timeout", "60"],
        theirs.into(),
    );
    let shown = read_until(&mut ours, " s");
    assert!(
        shown.starts_with("\rring1: starting: 16 MiB, kernel 16 bytes, "),
        "{shown:?}"
    );
    child.stdin.take().unwrap().write_all(b"!").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), &output.stdout[..]),
        (Some(1), &b"!"[..])
    );
    let rest = read_until(&mut ours, "");
    let erased = rest.rsplit('\r').nth(1).unwrap();
    assert!(rest.ends_with('\r') && erased.len() > 40, "{rest:?}");
    assert_eq!(erased.trim(), "", "{rest:?}");
    fs::remove_file(guest).unwrap();
}

#[test]
fn the_line_goes_before_ring1_speaks() {
    let guest = guest("progress-silent.bin");
    let (mut ours, theirs) = terminal();
    let child = boot(&guest, &["--timeout", "1"], theirs.into());
    let text = read_until(&mut ours, "reached");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(3));
    let (lines, message) = text.split_once("\n").unwrap();
    assert!(
        lines.contains("starting: 128 MiB") && lines.trim_end_matches('\r').ends_with("  "),
        "{text:?}"
    );
    assert!(
        message.starts_with("ring1: the timeout was reached"),
        "{text:?}"
    );
    fs::remove_file(guest).unwrap();
}

#[test]
fn without_a_terminal_there_is_no_line() {
    let guest = guest("progress-pipe.bin");
    let child = boot(&guest, &["--timeout", "1"], Stdio::piped());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "\nring1: the timeout was reached\n"
    );
    fs::remove_file(guest).unwrap();
}
