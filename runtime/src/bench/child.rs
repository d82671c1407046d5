//! A running competitor: its console, line by line, and the CPU time it used.

use super::clock::process_cpu_time;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::process::{Child as Process, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

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

    /// CPU time of all threads so far.
    ///
    /// # Errors
    /// The system keeps no such account.
    pub fn cpu_time(&self) -> Result<Duration> {
        process_cpu_time(self.process.id()).context("the program's CPU time cannot be read")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A process that has ended by itself can be neither killed nor missed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_time_of_a_program_are_seen_even_when_it_has_ended() {
        let mut child = Child::start(Command::new("echo").arg("a line")).unwrap();
        assert_eq!(child.line().unwrap().as_deref(), Some("a line"));
        assert_eq!(child.line().unwrap(), None);
        let time = child.cpu_time().unwrap();
        assert!(time > Duration::ZERO && time < Duration::from_secs(1));
    }
}
