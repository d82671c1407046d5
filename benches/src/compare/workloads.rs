//! Guest workloads: small programs that time themselves, run in ring1, in QEMU
//! and on the host CPU itself.
//!
//! A program says `BEGIN name n` before each run of `n` iterations, then
//! `BENCH name value unit`, and once `CHECK name n checksum`. Its own clock runs
//! on while the host lets others run, so its figure is scaled by the share of
//! the time between the two lines in which the vCPU's thread was on a CPU:
//!
//! ```text
//! CPU ns per iteration = guest's ns × thread's CPU time / wall time
//! ```
//!
//! A native program counts its CPU time itself, its children's included. Of
//! several runs the best counts: it has no compilation in it and fewest others.

use super::child::{Child, ThreadTimes, busiest};
use super::subject::{Guest, Subject};
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What one subject made of one workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// CPU nanoseconds per iteration, run by run.
    pub cpu_ns: Vec<f64>,
    /// Nanoseconds per iteration by the program's clock, run by run.
    pub wall_ns: Vec<f64>,
    /// Iterations and checksum.
    pub check: Option<String>,
}

impl Row {
    /// The best run's CPU time.
    pub fn best_cpu_ns(&self) -> Option<f64> {
        self.cpu_ns.iter().copied().min_by(f64::total_cmp)
    }

    /// The best run's wall time.
    pub fn best_wall_ns(&self) -> Option<f64> {
        self.wall_ns.iter().copied().min_by(f64::total_cmp)
    }
}

/// Rows by workload, for one subject.
pub type Rows = BTreeMap<String, Row>;

/// Host time at one moment.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// Since the subject's start.
    pub wall: Duration,
    /// CPU time of its threads.
    pub threads: ThreadTimes,
}

/// Reads what workloads say, and when.
#[derive(Default)]
pub struct Listener {
    rows: Rows,
    /// The order in which workloads began.
    order: Vec<String>,
    begun: Option<(String, Moment)>,
    /// Whether the program's own count of CPU time is to be believed.
    native: bool,
}

impl Listener {
    /// A listener to a guest.
    pub fn to_guest() -> Self {
        Self::default()
    }

    /// A listener to a program on the host.
    pub fn to_native() -> Self {
        Self {
            native: true,
            ..Self::default()
        }
    }

    /// Takes a line; `now` is asked only if the line marks a moment.
    pub fn line(&mut self, line: &str, now: impl FnOnce() -> Moment) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["BEGIN", name, _] => {
                if !self.rows.contains_key(name) {
                    self.order.push(name.to_owned());
                }
                self.rows.entry(name.to_owned()).or_default();
                self.begun = Some((name.to_owned(), now()));
            }
            ["BENCH", name, value, "ns"] => self.time(name, value, now),
            ["BENCH", name, value, "cpu"] if self.native => {
                if let (Ok(ns), Some(row)) = (value.parse(), self.rows.get_mut(name)) {
                    row.cpu_ns.push(ns);
                }
            }
            ["CHECK", name, n, sum] => {
                if let Some(row) = self.rows.get_mut(name) {
                    row.check = Some(format!("{n} {sum}"));
                }
            }
            ["SKIP", name] => {
                self.rows.remove(name);
                self.order.retain(|n| n != name);
            }
            _ => {}
        }
    }

    fn time(&mut self, name: &str, value: &str, now: impl FnOnce() -> Moment) {
        let Some((begun, before)) = self.begun.take().filter(|(begun, _)| begun == name) else {
            return;
        };
        let (Ok(ns), Some(row)) = (value.parse::<f64>(), self.rows.get_mut(&begun)) else {
            return;
        };
        row.wall_ns.push(ns);
        if !self.native {
            let after = now();
            let wall = after.wall.saturating_sub(before.wall).as_nanos() as f64;
            let share = busiest(&before.threads, &after.threads) as f64 / wall.max(1.0);
            row.cpu_ns.push(ns * share.min(1.0));
        }
    }

    /// What was heard: the rows, and the order of the workloads.
    pub fn finish(self) -> (Rows, Vec<String>) {
        (self.rows, self.order)
    }
}

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

/// Prefix of the workloads that the second program (`obench`) has.
const OPERATING_SYSTEM: &str = "os_";

impl Selection {
    /// Prefixes for the compute program and for the operating-system one;
    /// `None` where that program has nothing to run.
    fn split(&self) -> [Option<Vec<&str>>; 2] {
        let (system, compute): (Vec<&str>, Vec<&str>) = self
            .only
            .iter()
            .map(String::as_str)
            .partition(|prefix| prefix.starts_with(OPERATING_SYSTEM));
        let all = self.only.is_empty();
        [compute, system].map(|prefixes| (all || !prefixes.is_empty()).then_some(prefixes))
    }

    fn options(&self) -> [String; 4] {
        let (runs, divisor) = (self.runs.to_string(), self.divisor.to_string());
        ["-r".into(), runs, "-s".into(), divisor]
    }

    /// The kernel command line that selects them: the initramfs's `init` reads it.
    pub fn append(&self) -> String {
        let mut words = vec!["console=ttyS0".to_owned(), "quiet".to_owned()];
        let mut sets = Vec::new();
        for (set, prefixes) in ["A", "C"].iter().zip(self.split()) {
            let Some(prefixes) = prefixes else { continue };
            sets.push(*set);
            let mut arguments = self.options().join(",");
            for prefix in prefixes {
                arguments.push(',');
                arguments.push_str(prefix);
            }
            words.push(format!("args_{}={arguments}", set.to_lowercase()));
        }
        words.push(format!("bench={}", sets.join(",")));
        words.join(" ")
    }
}

/// Runs the selection in a guest.
///
/// # Errors
/// The subject cannot be run.
pub fn in_guest(
    subject: &Subject,
    guest: &Guest,
    selection: &Selection,
) -> Result<(Rows, Vec<String>)> {
    let guest = Guest {
        append: selection.append(),
        ..guest.clone()
    };
    let mut child = Child::start(&mut subject.command(&guest))?;
    let mut listener = Listener::to_guest();
    listen(&mut child, &mut listener, &subject.name())?;
    Ok(listener.finish())
}

/// Runs the selection on the host: `abench`, and `obench` beside it.
///
/// # Errors
/// The programs cannot be run.
pub fn natively(abench: &Path, selection: &Selection) -> Result<(Rows, Vec<String>)> {
    let mut listener = Listener::to_native();
    let programs = [abench.to_owned(), abench.with_file_name("obench")];
    for (program, prefixes) in programs.iter().zip(selection.split()) {
        let Some(prefixes) = prefixes else { continue };
        let mut command = Command::new(program);
        command.args(selection.options()).args(prefixes);
        listen(&mut Child::start(&mut command)?, &mut listener, "native")?;
    }
    Ok(listener.finish())
}

fn listen(child: &mut Child, listener: &mut Listener, who: &str) -> Result<()> {
    while let Some(line) = child.line()? {
        let now = || Moment {
            wall: child.elapsed(),
            threads: child.thread_times(),
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

    fn moment(wall_ms: u64, cpu_ms: u64) -> Moment {
        Moment {
            wall: Duration::from_millis(wall_ms),
            threads: ThreadTimes::from([(7, cpu_ms * 1_000_000)]),
        }
    }

    #[test]
    fn a_guest_that_waits_for_the_host_is_not_charged() {
        let mut listener = Listener::to_guest();
        listener.line("BEGIN int_x 10", || moment(100, 50));
        listener.line("BENCH int_x 1000.0 ns", || moment(300, 150));
        listener.line("BENCH int_x 5.0 cpu", || unreachable!());
        listener.line("CHECK int_x 10 0000abcd", || unreachable!());
        let (rows, order) = listener.finish();
        let expected = Row {
            cpu_ns: vec![500.0],
            wall_ns: vec![1000.0],
            check: Some("10 0000abcd".into()),
        };
        assert_eq!(rows["int_x"], expected);
        assert_eq!(order, ["int_x"]);
    }

    #[test]
    fn a_native_program_counts_for_itself() {
        let mut listener = Listener::to_native();
        listener.line("BEGIN os_fork 10", Moment::default);
        listener.line("BENCH os_fork 9.0 ns", || unreachable!());
        listener.line("BENCH os_fork 7.0 cpu", || unreachable!());
        assert_eq!(listener.finish().0["os_fork"].cpu_ns, [7.0]);
    }

    #[test]
    fn what_is_skipped_or_garbled_leaves_no_row() {
        let mut listener = Listener::to_guest();
        listener.line("BEGIN sse_x 10", Moment::default);
        listener.line("SKIP sse_x", Moment::default);
        listener.line("BENCH sse_x 1.0 ns", Moment::default);
        listener.line("BENCH", Moment::default);
        let (rows, order) = listener.finish();
        assert!(rows.is_empty() && order.is_empty());
    }

    #[test]
    fn prefixes_go_to_the_program_that_has_them() {
        let selection = |only: &[&str]| Selection {
            only: only.iter().map(|s| (*s).to_owned()).collect(),
            runs: 2,
            divisor: 1,
        };
        let both = selection(&["int_", "os_fork"]).append();
        assert!(both.contains("args_a=-r,2,-s,1,int_ args_c=-r,2,-s,1,os_fork bench=A,C"));
        assert!(selection(&["int_"]).append().ends_with("bench=A"));
        assert!(selection(&[]).append().ends_with("bench=A,C"));
    }
}
