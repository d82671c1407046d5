//! A running competitor: its console, line by line, and the CPU time it used.
//!
//! Linux keeps two accounts. `/proc/PID/stat` counts all threads of a process,
//! those that have ended included, in clock ticks; `/proc/PID/task/TID/schedstat`
//! counts one living thread in nanoseconds. The first is for whole boots, the
//! second for single workloads. Both can be read until the process is waited for.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child as Process, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Nanoseconds on a CPU by thread number.
pub type ThreadTimes = BTreeMap<u32, u64>;

/// A competitor that runs; killed when dropped.
pub struct Child {
    process: Process,
    output: BufReader<ChildStdout>,
    started: Instant,
}

impl Child {
    /// Starts `command` with nothing on its standard input.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let started = Instant::now();
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let output = process.stdout.take().context("no pipe from the program")?;
        Ok(Self {
            process,
            output: BufReader::new(output),
            started,
        })
    }

    /// The next line of output without its end; `None` once there is no more.
    ///
    /// # Errors
    /// The pipe cannot be read.
    pub fn line(&mut self) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        if self.output.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// User and system time of the whole process so far.
    ///
    /// # Errors
    /// There is no such account.
    pub fn cpu_time(&self) -> Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let ticks = ticks_of(&text).context("an odd /proc/PID/stat")?;
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// Time of each living thread so far; empty if they cannot be seen.
    pub fn thread_times(&self) -> ThreadTimes {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.process.id())) else {
            return ThreadTimes::new();
        };
        let time_of = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let thread = task.file_name().to_str()?.parse().ok()?;
            Some((thread, text.split(' ').next()?.parse().ok()?))
        };
        tasks.flatten().filter_map(time_of).collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A process that has ended by itself can be neither killed nor missed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The time of the busiest thread between two readings: the vCPU's.
pub fn busiest(before: &ThreadTimes, after: &ThreadTimes) -> u64 {
    let spent = after
        .iter()
        .map(|(thread, ns)| ns - before.get(thread).unwrap_or(&0).min(ns));
    spent.max().unwrap_or(0)
}

/// `utime + stime` of a `/proc/PID/stat`: fields 14 and 15, the second field
/// being a name that may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_whitespace().skip(11);
    Some(times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 31 0 0 20 0";
        assert_eq!(ticks_of(stat), Some(281));
        assert_eq!(ticks_of("12 (a) S 1"), None);
    }

    #[test]
    fn the_busiest_thread_counts() {
        let before = ThreadTimes::from([(1, 100), (2, 5)]);
        let after = ThreadTimes::from([(1, 150), (2, 95), (3, 20)]);
        assert_eq!(busiest(&before, &after), 90);
    }

    #[test]
    fn output_and_time_of_a_program_are_seen() {
        let mut child = Child::start(Command::new("echo").arg("a line")).unwrap();
        assert_eq!(child.line().unwrap().as_deref(), Some("a line"));
        assert_eq!(child.line().unwrap(), None);
        assert!(child.cpu_time().unwrap() < Duration::from_secs(1));
    }
}
