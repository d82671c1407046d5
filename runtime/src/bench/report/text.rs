//! The report as tables in Markdown.

use super::Report;
use crate::bench::boot;
use std::fmt::Write;

pub(super) fn write(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (name, value) in report.host.lines() {
        let _ = writeln!(text, "{name:<10} {value}");
    }
    if let Some(booted) = &report.booted {
        let _ = writeln!(text, "\n{}", booted.kernel);
        text += &boot::summary(&booted.boots);
    }
    if let Some(results) = &report.workloads {
        let _ = write!(text, "\n{}", results.tables());
        let differing = results.disagreements();
        let differing = match differing.is_empty() {
            true => "none".to_owned(),
            false => differing.join(", "),
        };
        let _ = writeln!(text, "\nchecksums differ: {differing}");
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn everything_is_there() {
        let text = write(&sample());
        for part in [
            "date       2000-02-29 00:00 UTC\n",
            "| ring1 | 1.50 | 1.25 | 0.50 | 0.45 |",
            "| int_* | 4.00 | 4.00 | 1.00 |",
            "checksums differ: int_b\n",
            "note: a < b\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
