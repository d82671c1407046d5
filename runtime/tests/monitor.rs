//! The monitor as a user of the program has it: at a socket, and behind Ctrl-A c and
//! Ctrl-A s on the console.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A guest that never ends: the embedded one, its serial port's output thrown away.
fn start(options: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ring1"))
        .args(["boot", "--code-cache", "off", "--timeout", "60"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs")
}

fn connect(path: &Path) -> BufReader<UnixStream> {
    for _ in 0..1000 {
        if let Ok(stream) = UnixStream::connect(path) {
            return BufReader::new(stream);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody listens at {}", path.display());
}

fn line(from: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("a line");
    line
}

/// What the program says to keys that are typed at once.
fn typed(keys: &[u8]) -> Output {
    let mut child = start(&[]);
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(keys).expect("it reads");
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_reset_guest_says_all_again_and_its_end_closes_the_socket() {
    let name = format!("ring1-monitor-program-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let child = start(&["--monitor", path.to_str().unwrap()]);
    let mut client = connect(&path);
    assert!(line(&mut client).starts_with("{\"ring1\":"));
    for command in ["pause", "reset", "info registers", "continue"] {
        let request = format!("{{\"command\": \"{command}\"}}\n");
        client.get_mut().write_all(request.as_bytes()).unwrap();
        assert!(line(&mut client).starts_with("{\"ok\":"), "{command}");
    }
    let mut output = child;
    let mut said = String::new();
    let mut stdout = BufReader::new(output.stdout.take().unwrap());
    while !said.contains("good bye") {
        assert!(stdout.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert_eq!(line(&mut client), "", "the machine has ended");
    drop(stdout);
    output.wait().unwrap();
    assert!(!path.exists());
}

#[test]
fn the_console_leads_to_the_monitor_and_back() {
    let output = typed(b"\x01cinfo status\nfrobnicate\nquit\n");
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("(ring1) running; "), "{said}");
    assert!(
        said.contains("error: there is no command `frobnicate`"),
        "{said}"
    );
    assert!(said.contains("ring1: quit"), "{said}");
}

#[test]
fn statistics_are_a_key_away() {
    let output = typed(b"\x01s\x01x");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("Execution\n  guest instructions"), "{said}");
    assert!(said.contains("Times are kept from now on"), "{said}");
}

#[test]
fn a_socket_that_cannot_be_is_an_error() {
    let output = start(&["--monitor", "/proc/none/such"])
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("cannot open the monitor's socket /proc/none/such"),
        "{said}"
    );
}
