//! Starting a subject, and listening to it until it is done.

use super::image::Image;
use super::results::{Line, Sample, heard};
use crate::bench::child::Child;
use crate::bench::subject::{Guest, Subject};
use anyhow::{Context, Result, bail};
use std::process::Command;

/// Seconds after which ring1 gives a guest up.
const TIMEOUT: &str = "600";

/// What one run said.
pub type Run = Vec<(&'static str, Sample)>;

/// What the subjects run.
pub enum Load {
    /// Our guest, which is the whole machine's software.
    Ours,
    /// A Linux with our program as its first process.
    Linux,
}

/// Runs `guest` in a machine.
///
/// # Errors
/// It cannot be started, or ends too early.
pub fn in_guest(subject: &Subject, guest: &Guest, load: &Load) -> Result<Run> {
    let command = subject.boot_command(guest);
    let mut command = command.context("only machines run guests")?;
    match subject {
        Subject::Ring1 { .. } => {
            command.args(["--timeout", TIMEOUT]);
            if matches!(load, Load::Ours) {
                // Linux would look for the tables that describe it.
                command.arg("--local-apic");
            }
        }
        // What our guest ends by.
        _ => {
            command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]);
        }
    }
    listen(&mut command)
}

/// Runs our program on the host.
///
/// # Errors
/// The host does not run 32-bit programs, or this one does not end well.
pub fn on_host(program: &Image) -> Result<Run> {
    listen(&mut Command::new(program.path()))
}

fn listen(command: &mut Command) -> Result<Run> {
    let mut child = Child::start(command)?;
    let (mut run, mut last) = (Run::new(), String::new());
    while let Some(line) = child.line()? {
        match heard(&line) {
            Some(Line::Row(name, sample)) => run.push((name, sample)),
            Some(Line::Done) => return Ok(run),
            None if line.is_empty() => {}
            None => last = line,
        }
    }
    bail!(
        "it ended after {} rows; its last words were {last:?}",
        run.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &str) -> Result<Run> {
        listen(Command::new("printf").arg(words))
    }

    #[test]
    fn rows_are_taken_from_among_other_lines() {
        let run = said("boot\\nCOMPARE in 10 20 30\\nCOMPARE out 1 2 3\\r\\nDONE\\n").unwrap();
        let names: Vec<_> = run.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["in", "out"]);
    }

    #[test]
    fn who_ends_early_is_quoted() {
        let error = said("COMPARE in 10 20 30\\nKernel panic\\n\\n").unwrap_err();
        let expected = "it ended after 1 rows; its last words were \"Kernel panic\"";
        assert_eq!(error.to_string(), expected);
    }
}
