//! Every run as JSON, with the medians and the ratios that tables show.

use super::Report;
use crate::bench::boot::Boots;
use crate::bench::host::Host;
use crate::bench::results::Results;
use crate::json::{array, number, object, string};

pub(super) fn write(report: &Report) -> String {
    let mut fields = circumstances(&report.host, &report.notes);
    if let Some(booted) = &report.booted {
        let boots = array(booted.boots.iter().map(boot));
        let kernel = ("kernel".to_owned(), string(&booted.kernel));
        let boots = object([kernel, ("subjects".to_owned(), boots)]);
        fields.push(("boot".to_owned(), boots));
    }
    if let Some(results) = &report.workloads {
        let rows = array(results.order.iter().map(|name| workload(results, name)));
        fields.push(("workloads".to_owned(), rows));
        let families = results.families().into_iter();
        let families = array(families.map(|name| family(results, name)));
        fields.push(("families".to_owned(), families));
    }
    object(fields) + "\n"
}

/// Where and when, and what should be known: the first fields of a report.
pub(crate) fn circumstances(host: &Host, notes: &[String]) -> Vec<(String, String)> {
    let host = host.lines().into_iter();
    let host = host.map(|(name, value)| (name.to_owned(), string(&value)));
    let notes = notes.iter().map(|note| string(note));
    vec![
        ("host".to_owned(), object(host)),
        ("notes".to_owned(), array(notes)),
    ]
}

fn boot(boots: &Boots) -> String {
    let runs = |of: fn(&crate::bench::boot::Boot) -> f64| {
        array(boots.runs.iter().map(|b| number(Some(of(b)))))
    };
    object([
        ("subject".to_owned(), string(&boots.subject.to_string())),
        ("median_wall_s".to_owned(), number(boots.wall())),
        ("median_cpu_s".to_owned(), number(boots.cpu())),
        ("wall_s".to_owned(), runs(|boot| boot.wall)),
        ("cpu_s".to_owned(), runs(|boot| boot.cpu)),
    ])
}

fn workload(results: &Results, name: &str) -> String {
    let numbers = |values: &[f64]| array(values.iter().map(|value| number(Some(*value))));
    let column = |column: usize| {
        let row = results.row(name, column)?;
        let check = row.check.as_deref().map_or("null".to_owned(), string);
        let fields = [
            (
                "median_cpu_ns".to_owned(),
                number(results.time(name, column)),
            ),
            ("cpu_ns".to_owned(), numbers(&row.cpu_ns)),
            ("wall_ns".to_owned(), numbers(&row.wall_ns)),
            ("check".to_owned(), check),
        ];
        Some((results.name(column), object(fields)))
    };
    let ratios = results.ratios().into_iter();
    let ratios = ratios.map(|ratio| (results.title(ratio), number(results.ratio(name, ratio))));
    object([
        ("name".to_owned(), string(name)),
        (
            "subjects".to_owned(),
            object((0..results.columns.len()).filter_map(column)),
        ),
        ("ratios".to_owned(), object(ratios)),
    ])
}

fn family(results: &Results, name: &str) -> String {
    let ratios = results.ratios().into_iter();
    let means = ratios.map(|ratio| {
        let mean = results.family_mean(name, ratio);
        (results.title(ratio), number(mean))
    });
    object([
        ("name".to_owned(), string(name)),
        ("geometric_means".to_owned(), object(means)),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn runs_medians_and_ratios_are_there() {
        let text = write(&sample());
        for part in [
            r#""processor": "2 × A \"fast\" CPU""#,
            r#"{"subject": "QEMU", "median_wall_s": 3, "median_cpu_s": 2.75, "wall_s": [3, 3], "cpu_s": [2.75, 2.75]}"#,
            r#""ring1": {"median_cpu_ns": 8, "cpu_ns": [8, 12, 4], "wall_ns": [24], "check": "2"}"#,
            r#""ring1 over native": 8, "QEMU over native": 4, "ring1 over QEMU": 2"#,
            r#"{"name": "sse", "geometric_means": {"ring1 over native": null"#,
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let balance = |open, close| text.matches(open).count() == text.matches(close).count();
        assert!(balance('{', '}') && balance('[', ']'));
    }
}
