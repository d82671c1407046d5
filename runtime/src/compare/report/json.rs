//! Every run as JSON, with what the table shows.

use super::{Report, SOURCE, UNITS};
use crate::bench::report::json::circumstances;
use crate::compare::results::{Column, Sample};
use crate::compare::rows::{PUBLISHED, Row};
use crate::json::{array, number, object, string};

pub(super) fn write(report: &Report) -> String {
    let mut fields = circumstances(&report.host, &report.notes);
    let kernel = report.linux.as_deref();
    fields.extend([
        (
            "kernel".to_owned(),
            kernel.map_or("null".to_owned(), string),
        ),
        ("unit".to_owned(), string(UNITS)),
        ("source".to_owned(), string(SOURCE)),
    ]);
    let rows = report
        .rows()
        .map(|(row, meaning)| operation(report, row, meaning));
    fields.push(("operations".to_owned(), array(rows)));
    object(fields) + "\n"
}

fn operation(report: &Report, row: &Row, meaning: &str) -> String {
    let there = report
        .columns
        .iter()
        .filter(|column| !column.runs(row).is_empty());
    let measured = there.map(|column| (column.name.clone(), figures(column, row)));
    let published = PUBLISHED.iter().zip(row.published);
    let published = published.map(|(name, value)| ((*name).to_owned(), number(value.cycles())));
    object([
        ("name".to_owned(), string(row.name)),
        ("meaning".to_owned(), string(meaning)),
        ("measured".to_owned(), object(measured)),
        ("published".to_owned(), object(published)),
    ])
}

fn figures(column: &Column, row: &Row) -> String {
    let runs = column.runs(row);
    let each = |of: fn(&Sample) -> f64| array(runs.iter().map(|run| number(Some(of(run)))));
    object([
        ("minimum".to_owned(), number(column.minimum(row))),
        ("median".to_owned(), number(column.median(row))),
        ("doubtful".to_owned(), column.is_doubtful(row).to_string()),
        ("minima".to_owned(), each(|run| run.minimum)),
        ("medians".to_owned(), each(|run| run.median)),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn figures_runs_and_doubts_are_there() {
        let text = write(&sample(Some("vmlinuz")));
        for part in [
            r#""kernel": "vmlinuz""#,
            r#""ring1": {"minimum": 200, "median": 555, "doubtful": true, "minima": [200, 205], "medians": [210, 900]}"#,
            r#""published": {"P4 native": null, "P4 software VMM": null, "P4 hardware VMM": null}"#,
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(write(&sample(None)).contains(r#""kernel": null"#));
    }
}
