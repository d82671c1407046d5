//! The report as one page that needs nothing else: no network, no script.
//!
//! Bars first, on a logarithmic axis, for the costs span five decades; then the
//! table they were drawn from, and what each row means.

use super::{DOUBTFUL, Report, SOURCE, UNITS};
use crate::bench::report::chart::{Axis, Group, Section, bars, escaped};
use crate::bench::report::html::{circumstances, legend, page, table};
use crate::compare::rows::{PUBLISHED, Row};
use std::fmt::Write;

/// The published columns that are drawn; the native one is of another age.
const DRAWN: [usize; 2] = [1, 2];
/// Colours that the style sheet has.
const COLOURS: usize = 6;

pub(super) fn write(report: &Report) -> String {
    let mut body = circumstances(&report.host, &report.notes);
    // Writing to a String cannot fail.
    let _ = writeln!(body, "<p>{}</p>", escaped(&report.subject()));
    body += &plot(report);
    let rows = report.rows().map(|(row, _)| report.cells(row));
    body += &table("Cycles", &report.head(), rows);
    let _ = writeln!(body, "<p>{}</p>\n<p>{DOUBTFUL}</p>", escaped(UNITS));
    let _ = writeln!(
        body,
        "<p>{}</p>\n<h2>What each row means</h2>\n<dl>",
        escaped(SOURCE)
    );
    for (row, meaning) in report.rows() {
        let _ = writeln!(body, "<dt>{}</dt><dd>{}</dd>", row.name, escaped(meaning));
    }
    body += "</dl>\n";
    page("ring1 compare", &report.host, &body)
}

fn plot(report: &Report) -> String {
    let measured = report.columns.len().min(COLOURS - DRAWN.len());
    let columns = report.columns.get(..measured).unwrap_or_default();
    let names = columns.iter().map(|column| column.name.clone());
    let published = DRAWN.map(|number| PUBLISHED[number].to_owned());
    let series: Vec<String> = names.chain(published).collect();
    let group = |row: &Row| {
        let measured = columns.iter().map(|column| column.minimum(row));
        let published = DRAWN.map(|number| row.published[number].cycles());
        Group {
            label: row.name.into(),
            values: measured.chain(published).collect(),
        }
    };
    let sections = [Section {
        heading: "cycles".into(),
        groups: report.rows().map(|(row, _)| group(row)).collect(),
    }];
    let left_out = match report.columns.len() > measured {
        true => " There are more columns than colours; the table has all.",
        false => "",
    };
    format!(
        "<h2>Cost of each operation</h2>\n\
         <p>Minimum, in TSC cycles, on a logarithmic axis.{left_out}</p>\n{}{}",
        legend(&series),
        bars("Cost of each operation", Axis::Logarithmic, &sections)
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn plot_table_and_meanings_are_there_and_nothing_is_loaded() {
        let text = write(&sample(None));
        for part in [
            "<title>ring1 compare, 2000-02-29 00:00 UTC</title>",
            "</i>P4 software VMM</span>",
            "<td>200 / 555 ?</td>",
            "<dt>in</dt><dd>IN from port 80h",
            "<li>a &lt; b</li>",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert_eq!(text.matches("<rect").count(), 2 + 1 + 2 + 2);
        let loading = ["://", "src=", "href=", "<script", "url("];
        assert!(loading.iter().all(|part| !text.contains(part)), "{text}");
    }

    #[test]
    fn tags_are_closed() {
        let text = write(&sample(Some("vmlinuz")));
        for tag in [
            "svg", "text", "table", "tr", "td", "th", "dl", "dt", "dd", "p", "ul", "li",
        ] {
            let opened = text.matches(&format!("<{tag}>")).count()
                + text.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
