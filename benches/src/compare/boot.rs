//! Boots: from the start of the process to a line on the console.
//!
//! The subjects take turns, so that what else happens on the host meets all of
//! them alike.

use super::child::Child;
use super::report::{load, median, table};
use super::subject::{Guest, Subject};
use anyhow::{Result, bail};
use std::fmt::Write;

/// What one boot took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Boot {
    /// Seconds on the wall.
    pub wall: f64,
    /// Seconds of CPU time, user and system, of all threads.
    pub cpu: f64,
}

/// Boots `guest` once, to the first line that begins with `until`, or to its end
/// if that is empty.
///
/// # Errors
/// The line never came.
pub fn boot(subject: &Subject, guest: &Guest, until: &str) -> Result<Boot> {
    let mut child = Child::start(&mut subject.command(guest))?;
    let mut tail = String::new();
    let found = loop {
        match child.line()? {
            Some(line) if !until.is_empty() && line.starts_with(until) => break true,
            Some(line) => tail = line,
            None => break until.is_empty(),
        }
    };
    if !found {
        let name = subject.name();
        bail!("{name} ended before a line {until:?}; its last words were {tail:?}");
    }
    Ok(Boot {
        wall: child.elapsed().as_secs_f64(),
        cpu: child.cpu_time()?.as_secs_f64(),
    })
}

/// Boots by subject, in the order of the subjects.
pub type Rounds = Vec<(Subject, Vec<Boot>)>;

/// `rounds` boots of each subject in turn; each is shown on standard error.
///
/// # Errors
/// A boot failed.
pub fn compare(subjects: &[Subject], guest: &Guest, until: &str, rounds: usize) -> Result<Rounds> {
    let mut results: Rounds = subjects.iter().map(|s| (s.clone(), Vec::new())).collect();
    for round in 1..=rounds {
        for (subject, boots) in &mut results {
            let took = boot(subject, guest, until)?;
            eprintln!("{}", raw_line(subject, round, took));
            boots.push(took);
        }
    }
    Ok(results)
}

fn raw_line(subject: &Subject, round: usize, took: Boot) -> String {
    let name = subject.name();
    format!(
        "{name}, round {round}: {:.2} s wall, {:.2} s CPU, load {}",
        took.wall,
        took.cpu,
        load()
    )
}

/// Every boot, a line each.
pub fn raw(results: &Rounds) -> String {
    let mut text = String::new();
    for (subject, boots) in results {
        for (round, boot) in boots.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}, round {}: {:.2} s wall, {:.2} s CPU",
                subject.name(),
                round + 1,
                boot.wall,
                boot.cpu
            );
        }
    }
    text
}

/// Medians, and their ratio to those of the last subject.
pub fn summary(results: &Rounds) -> String {
    let medians = |boots: &[Boot]| {
        let wall: Vec<f64> = boots.iter().map(|boot| boot.wall).collect();
        let cpu: Vec<f64> = boots.iter().map(|boot| boot.cpu).collect();
        (median(&wall), median(&cpu))
    };
    let Some((base, base_boots)) = results.last() else {
        return String::new();
    };
    let (base_wall, base_cpu) = medians(base_boots);
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|(subject, boots)| {
            let (wall, cpu) = medians(boots);
            vec![
                subject.name(),
                format!("{wall:.2}"),
                format!("{cpu:.2}"),
                format!("{:.2}", wall / base_wall),
                format!("{:.2}", cpu / base_cpu),
            ]
        })
        .collect();
    let over = base.name();
    let (wall_over, cpu_over) = (format!("wall over {over}"), format!("CPU over {over}"));
    let head = ["", "wall s", "CPU s", &wall_over, &cpu_over];
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
        let boots = |cpu: [f64; 3]| cpu.map(|cpu| Boot { wall: 10.0, cpu }).to_vec();
        let results = vec![
            (ring1, boots([5.0, 6.0, 90.0])),
            (Subject::Qemu, boots([1.0, 4.0, 5.0])),
        ];
        let text = summary(&results);
        assert!(
            text.contains("| ring1 auto | 10.00 | 6.00 | 1.00 | 1.50 |"),
            "{text}"
        );
    }
}
