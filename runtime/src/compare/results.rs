//! What was heard: one column a subject, one figure a row, from one or more runs.
//!
//! A guest or program says `COMPARE name operations minimum median`, in cycles a
//! batch with the loop taken off, and `DONE` at its end; whatever else is on its
//! console is not for us. The minimum is the cost undisturbed, of all runs; the
//! median what one usually pays, of the runs' medians.

use super::rows::{ROWS, Row, row};
use crate::bench::figures::median;
use std::collections::BTreeMap;

/// How much more the median, or another run, may take before a figure is in doubt.
const DOUBTFUL: f64 = 1.5;
/// Differences that are none, in cycles: an operation may take less than one.
const UNSEEN: f64 = 2.0;

/// One run's figures of a row, in cycles an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The shortest batch.
    pub minimum: f64,
    /// The middle one.
    pub median: f64,
}

/// What a line of a console says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Line {
    /// A row's figures.
    Row(&'static str, Sample),
    /// There are no more.
    Done,
}

/// The line's meaning; `None` if it is none of ours.
pub fn heard(line: &str) -> Option<Line> {
    let mut words = line.split_whitespace();
    match words.next()? {
        "DONE" => Some(Line::Done),
        "COMPARE" => {
            let row = row(words.next()?)?;
            let mut number = || words.next()?.parse::<u32>().ok().map(f64::from);
            let operations = number().filter(|count| *count > 0.0)?;
            let sample = Sample {
                minimum: number()? / operations,
                median: number()? / operations,
            };
            Some(Line::Row(row.name, sample))
        }
        _ => None,
    }
}

/// One subject's figures.
#[derive(Clone, Debug)]
pub struct Column {
    /// What it is called.
    pub name: String,
    /// Run by run, by the row's name.
    pub samples: BTreeMap<&'static str, Vec<Sample>>,
}

impl Column {
    /// A column without figures.
    pub fn new(name: String) -> Self {
        Self {
            name,
            samples: BTreeMap::new(),
        }
    }

    /// Takes in one run.
    pub fn add(&mut self, run: &[(&'static str, Sample)]) {
        for (name, sample) in run {
            self.samples.entry(name).or_default().push(*sample);
        }
    }

    /// The runs of a row.
    pub fn runs(&self, row: &Row) -> &[Sample] {
        self.samples.get(row.name).map_or(&[], Vec::as_slice)
    }

    /// The least that the row took, in cycles.
    pub fn minimum(&self, row: &Row) -> Option<f64> {
        let minima = self.runs(row).iter().map(|run| run.minimum);
        minima.min_by(f64::total_cmp)
    }

    /// What the row usually takes, in cycles.
    pub fn median(&self, row: &Row) -> Option<f64> {
        median(
            &self
                .runs(row)
                .iter()
                .map(|run| run.median)
                .collect::<Vec<_>>(),
        )
    }

    /// Whether something disturbed the row: half of all batches take much more than
    /// the shortest, or one run much more than another.
    pub fn is_doubtful(&self, row: &Row) -> bool {
        let apart = |low: f64, high: f64| high > low * DOUBTFUL && high > low + UNSEEN;
        let Some(minimum) = self.minimum(row) else {
            return false;
        };
        let usual = self.median(row).unwrap_or(minimum);
        let slowest = self.runs(row).iter().map(|run| run.minimum);
        apart(minimum, usual) || slowest.into_iter().any(|run| apart(minimum, run))
    }

    /// The names of such rows.
    pub fn doubtful(&self) -> Vec<&'static str> {
        let rows = ROWS.iter().filter(|row| self.is_doubtful(row));
        rows.map(|row| row.name).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A column of made-up figures.
    pub fn column(name: &str, runs: &[&[(&'static str, f64, f64)]]) -> Column {
        let mut column = Column::new(name.into());
        for run in runs {
            let sample = |(row, minimum, median): &(&'static str, f64, f64)| {
                let (minimum, median) = (*minimum, *median);
                (*row, Sample { minimum, median })
            };
            column.add(&run.iter().map(sample).collect::<Vec<_>>());
        }
        column
    }

    fn row_of(name: &str) -> &'static Row {
        row(name).unwrap()
    }

    #[test]
    fn lines_are_divided_by_their_operations() {
        let sample = Sample {
            minimum: 2.5,
            median: 3.0,
        };
        assert_eq!(
            heard("COMPARE in 100 250 300"),
            Some(Line::Row("in", sample))
        );
        assert_eq!(heard("DONE"), Some(Line::Done));
        for other in [
            "",
            "[    0.000000] Linux",
            "COMPARE floppy 1 2 3",
            "COMPARE in 0 1 2",
            "COMPARE in 1 2",
            "COMPARE in 1 2 x",
        ] {
            assert_eq!(heard(other), None, "{other}");
        }
    }

    #[test]
    fn the_least_of_all_runs_and_the_middle_of_their_medians() {
        let runs: [&[_]; 3] = [
            &[("in", 50.0, 60.0)],
            &[("in", 40.0, 90.0)],
            &[("in", 45.0, 50.0)],
        ];
        let column = column("ring1", &runs);
        assert_eq!(column.minimum(row_of("in")), Some(40.0));
        assert_eq!(column.median(row_of("in")), Some(60.0));
        assert_eq!(column.median(row_of("out")), None);
    }

    #[test]
    fn noise_is_seen_in_a_run_and_between_runs() {
        let steady: [&[_]; 2] = [
            &[("in", 50.0, 55.0), ("callret", 0.5, 1.5)],
            &[("in", 52.0, 58.0)],
        ];
        assert!(column("a", &steady).doubtful().is_empty());
        let noisy: [&[_]; 1] = [&[("in", 50.0, 80.0)]];
        assert_eq!(column("a", &noisy).doubtful(), ["in"]);
        let wandering: [&[_]; 2] = [&[("in", 50.0, 51.0)], &[("in", 90.0, 91.0)]];
        assert_eq!(column("a", &wandering).doubtful(), ["in"]);
    }
}
