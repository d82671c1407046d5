//! What came out, and the ways to write it: a table for people, a page with plots,
//! and every run for programs.

mod csv;
mod html;
mod json;
mod text;

use super::results::Column;
use super::rows::{PUBLISHED, Published, ROWS, Row};
use crate::bench::figures::figure;
use crate::bench::host::Host;
use crate::bench::report::Format;

/// Where the published figures are from.
const SOURCE: &str = "P4: a 3.8 GHz Pentium 4, native and in VMware's monitors (K. Adams, O. Agesen, \
                      A Comparison of Software and Hardware Techniques for x86 Virtualization, ASPLOS 2006); \
                      ~ is from secondary sources, or computed from seconds.";
/// What the measured figures are.
const UNITS: &str = "TSC cycles an operation, the loop around it taken off: minimum / median.";
/// What the marked ones are.
const DOUBTFUL: &str =
    "? marks what is doubtful: the median, or another run, is half as much again.";

/// All that was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where and when.
    pub host: Host,
    /// The kernel's file name, if the guest was Linux.
    pub linux: Option<String>,
    /// What should be known about it.
    pub notes: Vec<String>,
    /// Who was measured.
    pub columns: Vec<Column>,
}

impl Report {
    /// A report without results.
    pub fn new(host: Host, linux: Option<String>) -> Self {
        Self {
            host,
            linux,
            notes: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// The report in `format`.
    pub fn written(&self, format: Format) -> String {
        match format {
            Format::Text => text::write(self),
            Format::Json => json::write(self),
            Format::Csv => csv::write(self),
            Format::Html => html::write(self),
        }
    }

    /// What the row means in this comparison; `None` if it has no place there.
    fn meaning(&self, row: &Row) -> Option<&'static str> {
        match self.linux {
            Some(_) => row.in_linux,
            None => row.in_guest,
        }
    }

    /// The rows of this comparison that someone measured.
    fn rows(&self) -> impl Iterator<Item = (&'static Row, &'static str)> {
        let measured = |row: &Row| self.columns.iter().any(|c| !c.runs(row).is_empty());
        let meant = |row: &'static Row| Some((row, self.meaning(row)?));
        ROWS.iter()
            .filter(move |row| measured(row))
            .filter_map(meant)
    }

    /// What runs where, in a sentence.
    fn subject(&self) -> String {
        match &self.linux {
            None => "A small guest of ring1's own; native: a 32-bit Linux program, so that the \
                     host's kernel answers its system calls and faults."
                .into(),
            Some(kernel) => {
                format!("A 32-bit Linux program: native, and as the first process of {kernel}.")
            }
        }
    }

    /// The head of a table.
    fn head(&self) -> Vec<String> {
        let columns = self.columns.iter().map(|column| column.name.clone());
        let first = ["operation".to_owned()].into_iter().chain(columns);
        first.chain(PUBLISHED.map(str::to_owned)).collect()
    }

    /// A row's cells, its name first.
    fn cells(&self, row: &Row) -> Vec<String> {
        let measured = self.columns.iter().map(|column| cell(column, row));
        let first = [row.name.to_owned()].into_iter().chain(measured);
        first.chain(row.published.map(published)).collect()
    }
}

fn cell(column: &Column, row: &Row) -> String {
    let (minimum, median) = (column.minimum(row), column.median(row));
    if minimum.is_none() {
        return figure(None);
    }
    let mark = if column.is_doubtful(row) { " ?" } else { "" };
    format!("{} / {}{mark}", figure(minimum), figure(median))
}

fn published(value: Published) -> String {
    match value {
        Published::Exact(cycles) => format!("{cycles}"),
        Published::About(cycles) => format!("~{cycles}"),
        Published::Unknown => figure(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::results::tests::column;

    /// A report of made-up figures.
    pub(super) fn sample(linux: Option<&str>) -> Report {
        let host = Host {
            processor: "2 × A \"fast\" CPU".into(),
            kernel: "Linux 6.1".into(),
            date: "2000-02-29 00:00 UTC".into(),
            ring1: "ring1 0.1.0".into(),
            qemu: None,
            load_before: "0.10".into(),
            load_after: "1.00".into(),
        };
        let native: [&[_]; 1] = [&[("syscall", 440.0, 450.0), ("sigfpe", 9000.0, 9100.0)]];
        let ring1: [&[_]; 2] = [
            &[("syscall", 200.0, 210.0), ("in", 50.0, 60.0)],
            &[("syscall", 205.0, 900.0), ("in", 55.0, 58.0)],
        ];
        Report {
            notes: vec!["a < b".into()],
            columns: vec![column("native", &native), column("ring1", &ring1)],
            ..Report::new(host, linux.map(str::to_owned))
        }
    }

    #[test]
    fn rows_are_those_of_the_comparison() {
        let names = |linux| -> Vec<_> {
            let report = sample(linux);
            report.rows().map(|(row, _)| row.name).collect()
        };
        assert_eq!(names(None), ["syscall", "in"]);
        assert_eq!(names(Some("vmlinuz")), ["syscall", "sigfpe"]);
    }

    #[test]
    fn cells_have_minimum_median_and_doubt() {
        let report = sample(None);
        let (row, _) = report.rows().next().unwrap();
        let cells = ["syscall", "440 / 450", "200 / 555 ?", "242", "~2308", "242"];
        assert_eq!(report.cells(row), cells);
        assert_eq!(report.head().len(), cells.len());
    }
}
