//! Every run on a line of its own, for spreadsheets; published figures have no run.

use super::Report;
use crate::bench::report::csv::field;
use crate::compare::rows::PUBLISHED;
use std::fmt::Write;

const HEAD: &str = "operation,subject,run,minimum,median,unit\n";

pub(super) fn write(report: &Report) -> String {
    let mut text = HEAD.to_owned();
    for (row, _) in report.rows() {
        // Writing to a String cannot fail.
        for column in &report.columns {
            for (number, run) in column.runs(row).iter().enumerate() {
                let (subject, number) = (field(&column.name), number + 1);
                let (minimum, median) = (run.minimum, run.median);
                let _ = writeln!(
                    text,
                    "{},{subject},{number},{minimum},{median},cycles",
                    row.name
                );
            }
        }
        for (subject, published) in PUBLISHED.iter().zip(row.published) {
            if let Some(cycles) = published.cycles() {
                let _ = writeln!(text, "{},{subject},,{cycles},{cycles},cycles", row.name);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn every_run_has_its_line() {
        let text = write(&sample(None));
        assert!(text.starts_with(HEAD));
        assert!(
            text.contains("\nsyscall,ring1,2,205,900,cycles\n"),
            "{text}"
        );
        assert!(
            text.contains("\nin,P4 hardware VMM,,15826,15826,cycles\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1 + 3 + 3 + 2 + 3);
    }
}
