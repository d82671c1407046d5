//! The report as a table that a terminal shows in line, in Markdown.

use super::{DOUBTFUL, Report, SOURCE, UNITS};
use std::fmt::Write;

pub(super) fn write(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (name, value) in report.host.lines() {
        let _ = writeln!(text, "{name:<10} {value}");
    }
    let _ = writeln!(text, "\n{}\n{UNITS}\n{DOUBTFUL}\n", report.subject());
    let rows: Vec<_> = report.rows().map(|(row, _)| report.cells(row)).collect();
    text += &aligned(&report.head(), &rows);
    let _ = writeln!(text, "\n{SOURCE}\n");
    for (row, meaning) in report.rows() {
        let _ = writeln!(text, "{:<10} {meaning}", row.name);
    }
    if !report.notes.is_empty() {
        text.push('\n');
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

/// A table whose columns are as wide as their widest cell; figures stand on the right.
fn aligned(head: &[String], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let below = rows.iter().filter_map(|row| row.get(column));
        let cells = below.chain(head.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).enumerate();
        let padded = cells.map(|(number, (cell, &width))| match number {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let rule = |(number, width): (usize, &usize)| match number {
        0 => format!(" {} |", "-".repeat(*width)),
        _ => format!(" {}: |", "-".repeat(width.saturating_sub(1))),
    };
    let rule: String = widths.iter().enumerate().map(rule).collect();
    let rows: String = rows.iter().map(|cells| line(cells)).collect();
    format!("{}|{rule}\n{rows}", line(head))
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn everything_is_there() {
        let text = write(&sample(None));
        for part in [
            "date       2000-02-29 00:00 UTC\n",
            "| operation |    native |       ring1 | P4 native |",
            "| --------- | --------: | ----------: |",
            "| syscall   | 440 / 450 | 200 / 555 ? |       242 |           ~2308 |             242 |\n",
            "\nin         IN from port 80h, which leads to a device inside the monitor.\n",
            "note: a < b\n",
            "ASPLOS 2006",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
