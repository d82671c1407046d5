//! The report as one page that needs nothing else: no network, no script.
//!
//! Plots first, then the tables they were drawn from. Colours follow the
//! reader's choice of light or dark.

use super::chart::{Axis, Group, Section, bars, escaped};
use super::{Booted, Report};
use crate::bench::host::Host;
use crate::bench::results::{Ratio, Results, family};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

pub(super) fn write(report: &Report) -> String {
    let mut body = circumstances(&report.host, &report.notes);
    if let Some(booted) = &report.booted {
        body += &boots(booted);
    }
    if let Some(results) = &report.workloads {
        body += &workloads(results);
    }
    page("ring1 bench", &report.host, &body)
}

/// A page around its body.
pub(crate) fn page(title: &str, host: &Host, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}, {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n{body}</body>\n</html>\n",
        escaped(&host.date)
    )
}

/// Where and when, and what should be known.
pub(crate) fn circumstances(host: &Host, notes: &[String]) -> String {
    let mut text = String::from("<dl>\n");
    // Writing to a String cannot fail.
    for (name, value) in host.lines() {
        let _ = writeln!(text, "<dt>{name}</dt><dd>{}</dd>", escaped(&value));
    }
    text += "</dl>\n";
    if !notes.is_empty() {
        text += "<ul class=\"notes\">\n";
        for note in notes {
            let _ = writeln!(text, "<li>{}</li>", escaped(note));
        }
        text += "</ul>\n";
    }
    text
}

fn boots(booted: &Booted) -> String {
    let all = booted.boots.iter();
    let series: Vec<String> = all.clone().map(|boots| boots.subject.to_string()).collect();
    let group = |label: &str, values| Group {
        label: label.into(),
        values,
    };
    let wall = all.clone().map(|boots| boots.wall()).collect();
    let cpu = all.map(|boots| boots.cpu()).collect();
    let sections = [Section {
        heading: "seconds".into(),
        groups: vec![group("on the wall", wall), group("of CPU time", cpu)],
    }];
    let runs = booted.boots.first().map_or(0, |boots| boots.runs.len());
    format!(
        "<h2>Boot of {}</h2>\n<p>From the start of the process to the line that was waited for, median of {runs}.</p>\n{}{}",
        escaped(&booted.kernel),
        legend(&series),
        bars("Boot times", Axis::Linear, &sections)
    )
}

fn workloads(results: &Results) -> String {
    let over_native = results.over_native();
    let (ratios, over) = match over_native.is_empty() {
        true => (results.over_qemu(), "that under QEMU"),
        false => (over_native, "that of the same program on the host CPU"),
    };
    let series: Vec<String> = ratios.iter().map(|ratio| results.title(*ratio)).collect();
    let means = |family: &&str| {
        let mean = |ratio: &Ratio| results.family_mean(family, *ratio);
        Group {
            label: format!("{family}_*"),
            values: ratios.iter().map(mean).collect(),
        }
    };
    let families = [Section {
        heading: "family".into(),
        groups: results.families().iter().map(means).collect(),
    }];
    let sections: Vec<Section> = results
        .families()
        .into_iter()
        .map(|f| section(results, &ratios, f))
        .collect();
    let legend = legend(&series);
    let mut text = format!(
        "<h2>Workloads</h2>\n<p>CPU time over {over}, on a logarithmic axis: 1 is as fast, left of it faster, right of it slower.</p>\n\
         <h3>Geometric means by family</h3>\n{legend}{}<h3>Each workload</h3>\n{legend}{}",
        bars("Geometric means by family", Axis::Logarithmic, &families),
        bars("Each workload", Axis::Logarithmic, &sections)
    );
    let rows = results
        .families()
        .into_iter()
        .map(|f| results.family_cells(f));
    text += &table("Means", &results.family_head(), rows);
    let rows = results.order.iter().map(|name| results.cells(name));
    text += &table(
        "Medians, CPU nanoseconds per iteration",
        &results.head(),
        rows,
    );
    text
}

/// A family's workloads.
fn section(results: &Results, ratios: &[Ratio], of: &str) -> Section {
    let group = |name: &String| Group {
        label: name.clone(),
        values: ratios
            .iter()
            .map(|ratio| results.ratio(name, *ratio))
            .collect(),
    };
    let names = results.order.iter().filter(|name| family(name) == of);
    Section {
        heading: format!("{of}_*"),
        groups: names.map(group).collect(),
    }
}

/// What the colours stand for.
pub(crate) fn legend(series: &[String]) -> String {
    let entry = |(number, name): (usize, &String)| {
        format!("<span><i class=\"s{number}\"></i>{}</span>", escaped(name))
    };
    let entries: Vec<String> = series.iter().enumerate().map(entry).collect();
    format!("<p class=\"legend\">{}</p>\n", entries.join(" "))
}

/// A table; a cell that says so is marked as wrong.
pub(crate) fn table(
    caption: &str,
    head: &[String],
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    let line = |tag: &str, cells: &[String]| {
        let cell = |cell: &String| {
            let class = if cell == "DIFFER" {
                " class=\"bad\""
            } else {
                ""
            };
            format!("<{tag}{class}>{}</{tag}>", escaped(cell))
        };
        let cells: String = cells.iter().map(cell).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = rows.map(|cells| line("td", &cells)).collect();
    format!(
        "<div class=\"table\"><table>\n<caption>{caption}</caption>\n<thead>{}</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n",
        line("th", head).trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn plots_and_tables_are_there_and_nothing_is_loaded() {
        let text = write(&sample());
        assert_eq!(text.matches("<svg").count(), 3);
        assert_eq!(text.matches("<table>").count(), 2);
        for part in [
            "2 × A &quot;fast&quot; CPU",
            "<li>a &lt; b</li>",
            "<td class=\"bad\">DIFFER</td>",
            "<td>not charged</td>",
            "</i>ring1 over native</span>",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let loading = ["://", "src=", "href=", "<script", "url("];
        assert!(loading.iter().all(|part| !text.contains(part)), "{text}");
    }

    #[test]
    fn tags_are_closed() {
        let text = write(&sample());
        for tag in [
            "svg", "text", "table", "tr", "td", "th", "dl", "div", "p", "ul", "li",
        ] {
            let opened = text.matches(&format!("<{tag}>")).count()
                + text.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn without_the_host_cpu_qemu_is_the_measure() {
        let mut report = sample();
        report.workloads.as_mut().unwrap().columns.remove(0);
        let text = write(&report);
        assert!(text.contains("CPU time over that under QEMU"), "{text}");
    }
}
