//! Boots: from the start of the process to a line on the console.
//!
//! The subjects take turns, so that what else happens on the host meets all of
//! them alike.

use super::child::Child;
use super::figures::{figure, median, table};
use super::subject::{Guest, Subject};
use anyhow::{Context, Result, bail};

/// What one boot took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Boot {
    /// Seconds on the wall.
    pub wall: f64,
    /// Seconds of CPU time, user and system, of all threads.
    pub cpu: f64,
}

/// One subject's boots.
#[derive(Clone, Debug, PartialEq)]
pub struct Boots {
    /// Who booted.
    pub subject: Subject,
    /// Boot by boot.
    pub runs: Vec<Boot>,
}

impl Boots {
    /// Median of the wall times in seconds.
    pub fn wall(&self) -> Option<f64> {
        median(&self.runs.iter().map(|boot| boot.wall).collect::<Vec<_>>())
    }

    /// Median of the CPU times in seconds.
    pub fn cpu(&self) -> Option<f64> {
        median(&self.runs.iter().map(|boot| boot.cpu).collect::<Vec<_>>())
    }
}

/// Boots `guest` once, to the first line that begins with `until`, or to its end
/// if that is empty.
///
/// # Errors
/// The line never came.
pub fn boot(subject: &Subject, guest: &Guest, until: &str) -> Result<Boot> {
    let command = subject.boot_command(guest);
    let mut child = Child::start(&mut command.context("only machines can boot")?)?;
    let mut tail = String::new();
    let found = loop {
        match child.line()? {
            Some(line) if !until.is_empty() && line.starts_with(until) => break true,
            Some(line) => tail = line,
            None => break until.is_empty(),
        }
    };
    if !found {
        bail!("{subject} ended before a line {until:?}; its last words were {tail:?}");
    }
    Ok(Boot {
        wall: child.elapsed().as_secs_f64(),
        cpu: child.cpu_time()?.as_secs_f64(),
    })
}

/// `runs` boots of each subject in turn; each is shown on standard error.
///
/// # Errors
/// A boot failed.
pub fn compare(subjects: &[Subject], guest: &Guest, until: &str, runs: u32) -> Result<Vec<Boots>> {
    let empty = |subject: &Subject| Boots {
        subject: subject.clone(),
        runs: Vec::new(),
    };
    let mut results: Vec<Boots> = subjects.iter().map(empty).collect();
    for run in 1..=runs {
        for boots in &mut results {
            let took = boot(&boots.subject, guest, until)?;
            let (subject, wall, cpu) = (&boots.subject, took.wall, took.cpu);
            eprintln!("boot {run}, {subject}: {wall:.2} s wall, {cpu:.2} s CPU");
            boots.runs.push(took);
        }
    }
    Ok(results)
}

/// Medians, and their ratio to those of the last subject.
pub fn summary(results: &[Boots]) -> String {
    let Some(base) = results.last() else {
        return String::new();
    };
    let over = |a: Option<f64>, b: Option<f64>| Some(a? / b.filter(|b| *b > 0.0)?);
    let row = |boots: &Boots| {
        vec![
            boots.subject.to_string(),
            figure(boots.wall()),
            figure(boots.cpu()),
            figure(over(boots.wall(), base.wall())),
            figure(over(boots.cpu(), base.cpu())),
        ]
    };
    let rows: Vec<Vec<String>> = results.iter().map(row).collect();
    let over = &base.subject;
    let head = [
        "boot".to_owned(),
        "wall s".to_owned(),
        "CPU s".to_owned(),
        format!("wall over {over}"),
        format!("CPU over {over}"),
    ];
    table(&head, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_medians() {
        let ring1 = Subject::Ring1 {
            program: "ring1".into(),
            tier: "auto".into(),
            code_cache: None,
        };
        let boots = |subject, cpu: [f64; 3]| Boots {
            subject,
            runs: cpu.map(|cpu| Boot { wall: 10.0, cpu }).to_vec(),
        };
        let text = summary(&[
            boots(ring1, [5.0, 6.0, 90.0]),
            boots(Subject::Qemu, [1.0, 4.0, 5.0]),
        ]);
        assert!(
            text.contains("| ring1 | 10.0 | 6.00 | 1.00 | 1.50 |"),
            "{text}"
        );
    }

    #[test]
    fn a_program_cannot_boot() {
        let guest = Guest {
            kernel: "k".into(),
            initrd: Some("i".into()),
            append: String::new(),
            memory_mib: 1,
        };
        assert!(boot(&Subject::Native, &guest, "READY").is_err());
    }
}
