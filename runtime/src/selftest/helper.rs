//! Work in a process of its own, so that whatever goes wrong there is a result.
//!
//! Random code on the host CPU, and compiled code under test, may do anything to
//! the process they run in. So the cases are numbered, and a helper process works
//! through a range of numbers ([`serve`]) while this one only listens
//! ([`oversee`]). Before each case the helper notes its number in a file both
//! share, its standard input; whoever kills it has a name then, and another helper
//! goes on after that case. Results come over its standard output, as lines:
//!
//! ```text
//! tally NEXT GROUP AGREE SKIPPED GROUP AGREE SKIPPED …
//! differ INDEX GROUP KIND
//! |text, any number of lines
//! .
//! ```
//!
//! A tally counts the cases before NEXT since the last one; a case that differs is
//! in none.

use rustix::fs::{MemfdFlags, memfd_create};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Time between two tallies.
const TALLY_EVERY: Duration = Duration::from_millis(200);
/// Silence after which a helper is taken to be hung: processor time, which a busy
/// host does not stretch, and time by the clock, for one that sleeps.
const SILENCE_AT_WORK: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(600);
/// Units of processor time in `/proc` (proc(5); Linux has 100 in a second).
const TICK: Duration = Duration::from_millis(10);

/// What a helper does.
pub trait Work {
    /// Runs the case with this number.
    fn case(&mut self, index: u64) -> Found;
}

/// What came of one case.
pub enum Found {
    /// It is as it should be.
    Agree(String),
    /// It says nothing.
    Skipped(String),
    /// It is not.
    Differs {
        /// The group it belongs to.
        group: String,
        /// What is probably one fault has one kind.
        kind: String,
        /// For people to read.
        text: String,
    },
}

/// How many cases of a group did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// As they should be.
    pub agree: u64,
    /// Saying nothing.
    pub skipped: u64,
}

/// What a helper says, or what its end says of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// Cases done, by group.
    Tally(BTreeMap<String, Tally>),
    /// A case that is not as it should be; see [`Found::Differs`].
    Differs {
        /// Its number.
        index: u64,
        /// Its group.
        group: String,
        /// Its kind.
        kind: String,
        /// The text.
        text: String,
    },
    /// A case that ended the helper.
    Died {
        /// Its number.
        index: u64,
        /// How the helper ended, such as `killed by signal 11`.
        how: String,
    },
}

/// The helper's side: works through `range`.
///
/// # Errors
/// Nobody listens any more.
pub fn serve(work: &mut dyn Work, range: Range<u64>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut tallies = BTreeMap::<String, Tally>::new();
    let mut told = Instant::now();
    for index in range.clone() {
        // Without the note only the name of a deadly case is lost.
        let _ = rustix::io::pwrite(rustix::stdio::stdin(), &index.to_le_bytes(), 0);
        match work.case(index) {
            Found::Agree(group) => tallies.entry(group).or_default().agree += 1,
            Found::Skipped(group) => tallies.entry(group).or_default().skipped += 1,
            Found::Differs { group, kind, text } => {
                writeln!(out, "differ {index} {group} {kind}")?;
                for line in text.lines() {
                    writeln!(out, "|{line}")?;
                }
                writeln!(out, ".")?;
                tell(&mut out, index + 1, &mut tallies)?;
            }
        }
        if told.elapsed() >= TALLY_EVERY {
            tell(&mut out, index + 1, &mut tallies)?;
            told = Instant::now();
        }
    }
    tell(&mut out, range.end, &mut tallies)
}

fn tell(out: &mut impl Write, next: u64, tallies: &mut BTreeMap<String, Tally>) -> io::Result<()> {
    write!(out, "tally {next}")?;
    for (group, tally) in std::mem::take(tallies) {
        write!(out, " {group} {} {}", tally.agree, tally.skipped)?;
    }
    writeln!(out)?;
    out.flush()
}

/// Has helpers work through `range`; `command` makes the one for a part of it.
/// Each report goes to `on`, which says whether to go on.
///
/// # Errors
/// A helper cannot be started.
pub fn oversee(
    range: Range<u64>,
    command: &dyn Fn(Range<u64>) -> Command,
    on: &mut dyn FnMut(Report) -> bool,
) -> io::Result<()> {
    let mut left = vec![range];
    while let Some(part) = left.pop() {
        if part.is_empty() {
            continue;
        }
        let mut helper = Helper::start(command(part.clone()))?;
        let mut done = part.start;
        let silence = helper.listen(&mut |next, report| {
            done = next.unwrap_or(done);
            on(report)
        });
        let (status, note) = helper.end(silence)?;
        if silence == Silence::Unwanted {
            return Ok(());
        }
        if done >= part.end && status.success() {
            continue;
        }
        // What was done since the last tally is done again.
        let index = note.clamp(done, part.end - 1);
        left.push(index + 1..part.end);
        left.push(done..index);
        let how = match silence {
            Silence::TooLong => "hung".into(),
            _ => cause(status),
        };
        if !on(Report::Died { index, how }) {
            return Ok(());
        }
    }
    Ok(())
}

fn cause(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("killed by signal {signal}"),
        None => status.to_string(),
    }
}

/// Why a helper is heard no more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// Its output ended.
    Ended,
    /// Nothing came for too long.
    TooLong,
    /// Nobody listens.
    Unwanted,
}

/// Processor time that a process has used so far.
fn processor_time(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, is the second field; times are the 14th and 15th.
    let words: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |n: usize| words.get(n)?.parse::<u32>().ok();
    Some(TICK * (ticks(11)? + ticks(12)?))
}

/// A running helper.
struct Helper {
    child: Child,
    note: File,
    lines: Receiver<String>,
}

impl Helper {
    fn start(mut command: Command) -> io::Result<Helper> {
        let note = File::from(memfd_create("case", MemfdFlags::CLOEXEC)?);
        let mut child = command
            .stdin(note.try_clone()?)
            .stdout(Stdio::piped())
            .spawn()?;
        let (sender, lines) = channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                let lines = BufReader::new(out).lines().map_while(Result::ok);
                for line in lines {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Helper { child, note, lines })
    }

    /// Passes reports on until there are no more, with the number after the last
    /// case done where one says it.
    fn listen(&mut self, on: &mut dyn FnMut(Option<u64>, Report) -> bool) -> Silence {
        let (mut heard, mut worked) = (Instant::now(), Duration::ZERO);
        loop {
            let line = match self.lines.recv_timeout(Duration::from_secs(1)) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return Silence::Ended,
                Err(RecvTimeoutError::Timeout) => {
                    let works = processor_time(self.child.id()).unwrap_or(worked);
                    if works >= worked + SILENCE_AT_WORK || heard.elapsed() >= SILENCE {
                        return Silence::TooLong;
                    }
                    continue;
                }
            };
            heard = Instant::now();
            worked = processor_time(self.child.id()).unwrap_or(worked);
            let Some((next, report)) = self.report(&line) else {
                continue;
            };
            if !on(next, report) {
                return Silence::Unwanted;
            }
        }
    }

    /// The report that begins with `line`.
    fn report(&mut self, line: &str) -> Option<(Option<u64>, Report)> {
        let (word, rest) = line.split_once(' ')?;
        if word == "tally" {
            let mut words = rest.split(' ');
            let next = words.next()?.parse().ok()?;
            let mut tallies = BTreeMap::new();
            while let Some(group) = words.next() {
                let agree = words.next()?.parse().ok()?;
                let skipped = words.next()?.parse().ok()?;
                tallies.insert(group.to_string(), Tally { agree, skipped });
            }
            return Some((Some(next), Report::Tally(tallies)));
        }
        let mut words = rest.splitn(3, ' ');
        let (index, group, kind) = (words.next()?, words.next()?, words.next()?);
        let mut text = String::new();
        while let Some(line) = self.lines.recv().ok()?.strip_prefix('|') {
            text += line;
            text += "\n";
        }
        let report = Report::Differs {
            index: index.parse().ok()?,
            group: group.into(),
            kind: kind.into(),
            text,
        };
        Some((None, report))
    }

    /// Ends the helper unless it ends by itself; how it did, and its last note.
    fn end(mut self, silence: Silence) -> io::Result<(ExitStatus, u64)> {
        if silence != Silence::Ended {
            self.child.kill()?;
        }
        let status = self.child.wait()?;
        let mut note = [0; 8];
        let _ = self.note.read_at(&mut note, 0);
        Ok((status, u64::from_le_bytes(note)))
    }
}
