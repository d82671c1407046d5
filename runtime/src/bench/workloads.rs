//! Guest workloads: which to run, and running them: in a guest, or on the host.
//!
//! There are up to three programs, and an initramfs that has them too, with an
//! `init` that reads from the kernel command line which to run and with what
//! arguments: `bench=A,C args_a=-r,5,int_ args_c=-r,5,os_`.

use super::child::Child;
use super::listener::{Heard, Listener, Moment};
use super::subject::{Guest, Subject};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Which workloads to run and how often.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Prefixes of names; all if empty.
    pub only: Vec<String>,
    /// Runs of each.
    pub runs: u32,
    /// Iterations are divided by this.
    pub divisor: u32,
}

/// Most workloads that are run again.
const MAX_AGAIN: usize = 40;

/// A program with workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `abench`: computation.
    Compute,
    /// `rbench`: a few of everything, without a C library.
    Freestanding,
    /// `obench`: operations of the operating system.
    System,
}

impl Program {
    /// All of them, in the order they run.
    pub const ALL: [Program; 3] = [Program::Compute, Program::Freestanding, Program::System];

    /// The file's name.
    pub fn name(self) -> &'static str {
        match self {
            Program::Compute => "abench",
            Program::Freestanding => "rbench",
            Program::System => "obench",
        }
    }

    /// What the initramfs's `init` calls it.
    fn set(self) -> char {
        match self {
            Program::Compute => 'A',
            Program::Freestanding => 'B',
            Program::System => 'C',
        }
    }

    /// Whether it may have workloads whose names begin so.
    fn may_have(self, prefix: &str) -> bool {
        let system = prefix.starts_with("os_");
        match self {
            Program::Compute => !system,
            Program::Freestanding => true,
            Program::System => system,
        }
    }
}

impl Selection {
    /// The program's arguments; `None` if it has nothing to run.
    fn arguments(&self, program: Program) -> Option<Vec<String>> {
        let prefixes = self.only.iter().filter(|prefix| program.may_have(prefix));
        let prefixes: Vec<String> = prefixes.cloned().collect();
        if prefixes.is_empty() && !self.only.is_empty() {
            return None;
        }
        let (runs, divisor) = (self.runs.to_string(), self.divisor.to_string());
        let mut arguments = vec!["-r".into(), runs, "-s".into(), divisor];
        arguments.extend(prefixes);
        Some(arguments)
    }

    /// The kernel command line that selects them.
    pub fn append(&self) -> String {
        let mut words = vec!["console=ttyS0".to_owned(), "quiet".to_owned()];
        let mut sets = Vec::new();
        for program in Program::ALL {
            let Some(arguments) = self.arguments(program) else {
                continue;
            };
            let set = program.set();
            sets.push(set.to_string());
            let set = set.to_ascii_lowercase();
            words.push(format!("args_{set}={}", arguments.join(",")));
        }
        words.push(format!("bench={}", sets.join(",")));
        words.join(" ")
    }
}

/// Runs the selection in a guest of `subject`, a machine; what was not charged
/// is run once more, twice as often.
///
/// # Errors
/// The subject cannot be run.
pub fn in_guest(subject: &Subject, guest: &Guest, selection: &Selection) -> Result<Heard> {
    let mut heard = one_guest(subject, guest, selection)?;
    let mut only = heard.uncharged();
    // Their names must fit on the kernel command line.
    only.truncate(MAX_AGAIN);
    if !only.is_empty() {
        let runs = selection.runs.saturating_mul(2);
        let again = Selection {
            only,
            runs,
            ..*selection
        };
        heard.replace_uncharged(&one_guest(subject, guest, &again)?);
    }
    Ok(heard)
}

fn one_guest(subject: &Subject, guest: &Guest, selection: &Selection) -> Result<Heard> {
    let guest = Guest {
        append: selection.append(),
        ..guest.clone()
    };
    let command = subject.boot_command(&guest);
    let mut child = Child::start(&mut command.context("only machines run guests")?)?;
    let mut listener = Listener::to_guest();
    listen(&mut child, &mut listener, subject)?;
    Ok(listener.finish())
}

/// Runs the selection on the host, on its CPU or through an emulator of programs.
///
/// # Errors
/// The programs cannot be run.
pub fn on_host(
    subject: &Subject,
    programs: &[(Program, PathBuf)],
    selection: &Selection,
) -> Result<Heard> {
    let mut listener = Listener::to_native();
    for (program, file) in programs {
        let Some(arguments) = selection.arguments(*program) else {
            continue;
        };
        let command = subject.program_command(file);
        let mut command = command.context("machines run no programs")?;
        let mut child = Child::start(command.args(arguments))?;
        listen(&mut child, &mut listener, subject)?;
    }
    Ok(listener.finish())
}

/// The programs that are in `folder`.
pub fn programs_in(folder: &Path) -> Vec<(Program, PathBuf)> {
    let files = Program::ALL.map(|program| (program, folder.join(program.name())));
    let there = files.into_iter().filter(|(_, file)| file.is_file());
    there.collect()
}

fn listen(child: &mut Child, listener: &mut Listener, who: &Subject) -> Result<()> {
    while let Some(line) = child.line()? {
        let now = || Moment {
            wall: child.elapsed(),
            // Without an account the run counts as not charged.
            cpu: child.cpu_time().unwrap_or_default(),
        };
        listener.line(&line, now);
        if line.starts_with("CHECK ") {
            eprintln!("{who}: {line}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_go_to_the_programs_that_may_have_them() {
        let append = |only: &[&str]| {
            let selection = Selection {
                only: only.iter().map(|s| (*s).to_owned()).collect(),
                runs: 2,
                divisor: 1,
            };
            selection.append()
        };
        let both = append(&["int_", "os_fork"]);
        let words = "args_a=-r,2,-s,1,int_ args_b=-r,2,-s,1,int_,os_fork \
                     args_c=-r,2,-s,1,os_fork bench=A,B,C";
        assert!(both.ends_with(words), "{both}");
        assert!(append(&["int_"]).ends_with("bench=A,B"));
        assert!(append(&[]).ends_with("bench=A,B,C"));
    }

    #[test]
    fn a_folder_without_programs_has_none() {
        assert!(programs_in(Path::new("no such folder")).is_empty());
    }
}
