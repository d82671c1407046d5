//! What workloads say: small programs that time themselves.
//!
//! A program says `BEGIN name n` before each run of `n` iterations, then
//! `BENCH name value unit`, and once `CHECK name n checksum`. A guest's clock runs
//! on while the host lets others run, so its figure is scaled by the CPU time
//! that the whole virtual machine has used between the two lines:
//!
//! ```text
//! CPU ns per iteration = guest's ns × machine's CPU time / wall time
//! ```
//!
//! A program on the host counts its CPU time itself, its children's included. Of
//! several runs the median counts: the first has compilation in it.
//!
//! The two lines are seen when the host lets us read them. If far less time lies
//! between them than the run took, both were read late, and the run cannot be
//! charged. It is kept, with a time of 0, but never counted. What we see of a run
//! shorter than [`SHORT_NS`] says more of when we read than of what it used, and the
//! host's own slices are longer: it counts with the guest's time.

use super::figures::median;
use std::collections::BTreeMap;
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
    /// The median CPU time of the runs that were charged.
    pub fn cpu(&self) -> Option<f64> {
        let charged = self.cpu_ns.iter().copied().filter(|ns| *ns > 0.0);
        median(&charged.collect::<Vec<_>>())
    }

    /// Whether it ran, but no run was charged.
    pub fn uncharged(&self) -> bool {
        !self.cpu_ns.is_empty() && self.cpu().is_none()
    }
}

/// Rows by workload, for one subject.
pub type Rows = BTreeMap<String, Row>;

/// The part of a run's own time that must lie between its two lines as we read
/// them.
const SEEN: f64 = 0.5;

/// Shortest run whose share of a processor can be told, in nanoseconds.
const SHORT_NS: f64 = 2e6;

/// Host time at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Since the subject's start.
    pub wall: Duration,
    /// CPU time of all its threads.
    pub cpu: Duration,
}

/// All that was heard of one subject.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// What the workloads came to.
    pub rows: Rows,
    /// The order in which they began.
    pub order: Vec<String>,
    /// Whether all programs were done.
    pub complete: bool,
}

/// A run under way.
struct Begun {
    name: String,
    iterations: f64,
    at: Moment,
}

impl Heard {
    /// The workloads that no run was charged for.
    pub fn uncharged(&self) -> Vec<String> {
        let rows = self.rows.iter().filter(|(_, row)| row.uncharged());
        rows.map(|(name, _)| name.clone()).collect()
    }

    /// Takes the runs of those workloads that were `again` made.
    pub fn replace_uncharged(&mut self, again: &Heard) {
        for (name, row) in &mut self.rows {
            if let (true, Some(better)) = (row.uncharged(), again.rows.get(name)) {
                row.cpu_ns.clone_from(&better.cpu_ns);
                row.wall_ns.clone_from(&better.wall_ns);
            }
        }
    }
}

/// Reads what workloads say, and when.
#[derive(Default)]
pub struct Listener {
    heard: Heard,
    begun: Option<Begun>,
    /// Whether the program's own count of CPU time is to be believed.
    native: bool,
}

impl Listener {
    /// A listener to a guest.
    pub fn to_guest() -> Self {
        Self::default()
    }

    /// A listener to programs on the host.
    pub fn to_native() -> Self {
        Self {
            native: true,
            ..Self::default()
        }
    }

    /// Takes a line; `now` is asked only if the line marks a moment.
    pub fn line(&mut self, line: &str, now: impl FnOnce() -> Moment) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Heard {
            rows,
            order,
            complete,
        } = &mut self.heard;
        match words[..] {
            ["BEGIN", name, n] => {
                *complete = false;
                if !rows.contains_key(name) {
                    order.push(name.to_owned());
                }
                rows.entry(name.to_owned()).or_default();
                self.begun = n.parse().ok().map(|iterations| Begun {
                    name: name.to_owned(),
                    iterations,
                    at: now(),
                });
            }
            ["BENCH", name, value, "ns"] => self.time(name, value, now),
            ["BENCH", name, value, "cpu"] if self.native => {
                if let (Ok(ns), Some(row)) = (value.parse(), rows.get_mut(name)) {
                    row.cpu_ns.push(ns);
                }
            }
            ["CHECK", name, n, sum] => {
                if let Some(row) = rows.get_mut(name) {
                    row.check = Some(format!("{n} {sum}"));
                }
            }
            ["SKIP", name] => {
                rows.remove(name);
                order.retain(|n| n != name);
            }
            ["DONE", _] => *complete = true,
            _ => {}
        }
    }

    fn time(&mut self, name: &str, value: &str, now: impl FnOnce() -> Moment) {
        let Some(begun) = self.begun.take().filter(|begun| begun.name == name) else {
            return;
        };
        let (Ok(ns), Some(row)) = (value.parse::<f64>(), self.heard.rows.get_mut(name)) else {
            return;
        };
        row.wall_ns.push(ns);
        if !self.native {
            row.cpu_ns.push(charged(ns, &begun, now()));
        }
    }

    /// What was heard.
    pub fn finish(self) -> Heard {
        self.heard
    }
}

/// CPU nanoseconds per iteration of a run that took `ns` by the guest's clock; 0
/// if the moments tell nothing.
fn charged(ns: f64, begun: &Begun, end: Moment) -> f64 {
    let own = ns * begun.iterations;
    if own < SHORT_NS {
        return ns;
    }
    let wall = end.wall.saturating_sub(begun.at.wall).as_nanos() as f64;
    let cpu = end.cpu.saturating_sub(begun.at.cpu).as_nanos() as f64;
    if wall <= 0.0 || wall < SEEN * own {
        return 0.0;
    }
    ns * cpu / wall
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall_ms: u64, cpu_ms: u64) -> Moment {
        Moment {
            wall: Duration::from_millis(wall_ms),
            cpu: Duration::from_millis(cpu_ms),
        }
    }

    #[test]
    fn a_guest_that_waits_for_the_host_is_not_charged() {
        let mut listener = Listener::to_guest();
        listener.line("BEGIN int_x 100000", || moment(100, 50));
        listener.line("BENCH int_x 1000.0 ns", || moment(300, 150));
        listener.line("BENCH int_x 5.0 cpu", || unreachable!());
        listener.line("CHECK int_x 10 0000abcd", || unreachable!());
        listener.line("DONE A", || unreachable!());
        let heard = listener.finish();
        let expected = Row {
            cpu_ns: vec![500.0],
            wall_ns: vec![1000.0],
            check: Some("10 0000abcd".into()),
        };
        assert_eq!(heard.rows["int_x"], expected);
        assert_eq!(heard.order, ["int_x"]);
        assert!(heard.complete);
    }

    #[test]
    fn a_run_whose_lines_were_read_together_is_not_charged() {
        let mut listener = Listener::to_guest();
        listener.line("BEGIN int_x 10000", || moment(100, 50));
        listener.line("BENCH int_x 5000.0 ns", || moment(101, 51));
        assert_eq!(listener.finish().rows["int_x"].cpu_ns, [0.0]);
    }

    #[test]
    fn a_short_run_counts_with_the_time_of_the_guest() {
        let mut listener = Listener::to_guest();
        listener.line("BEGIN os_x 1000", || moment(100, 50));
        listener.line("BENCH os_x 7.0 ns", || moment(101, 53));
        assert_eq!(listener.finish().rows["os_x"].cpu_ns, [7.0]);
    }

    #[test]
    fn a_native_program_counts_for_itself() {
        let mut listener = Listener::to_native();
        listener.line("BEGIN os_fork 10", Moment::default);
        listener.line("BENCH os_fork 9.0 ns", || unreachable!());
        listener.line("BENCH os_fork 7.0 cpu", || unreachable!());
        let heard = listener.finish();
        assert_eq!(heard.rows["os_fork"].cpu_ns, [7.0]);
        assert!(!heard.complete);
    }

    #[test]
    fn what_is_skipped_or_garbled_leaves_no_row() {
        let mut listener = Listener::to_guest();
        listener.line("BEGIN sse_x 10", Moment::default);
        listener.line("SKIP sse_x", Moment::default);
        listener.line("BENCH sse_x 1.0 ns", Moment::default);
        listener.line("BENCH", Moment::default);
        let heard = listener.finish();
        assert!(heard.rows.is_empty() && heard.order.is_empty());
    }

    #[test]
    fn runs_without_cpu_time_are_not_counted() {
        let row = |cpu_ns: &[f64]| Row {
            cpu_ns: cpu_ns.to_vec(),
            ..Row::default()
        };
        assert_eq!(row(&[0.0, 2.0, 0.0, 4.0]).cpu(), Some(3.0));
        assert_eq!(row(&[0.0, 0.0]).cpu(), None);
        assert!(row(&[0.0, 0.0]).uncharged());
        assert!(!row(&[]).uncharged());
        let heard = |ns: f64| Heard {
            rows: Rows::from([("a".into(), row(&[ns])), ("b".into(), row(&[1.0]))]),
            ..Heard::default()
        };
        let mut first = heard(0.0);
        assert_eq!(first.uncharged(), ["a"]);
        first.replace_uncharged(&heard(7.0));
        assert_eq!(first, heard(7.0));
    }
}
