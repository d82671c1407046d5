//! Every run on a line of its own, for spreadsheets.

use super::Report;
use std::fmt::Write;

const HEAD: &str = "kind,name,subject,run,cpu,wall,unit,check\n";

pub(super) fn write(report: &Report) -> String {
    let mut text = HEAD.to_owned();
    // Writing to a String cannot fail.
    if let Some(booted) = &report.booted {
        for boots in &booted.boots {
            for (run, boot) in boots.runs.iter().enumerate() {
                let (kernel, subject) = (field(&booted.kernel), &boots.subject);
                let (run, cpu, wall) = (run + 1, boot.cpu, boot.wall);
                let _ = writeln!(text, "boot,{kernel},{subject},{run},{cpu},{wall},s,");
            }
        }
    }
    let Some(results) = &report.workloads else {
        return text;
    };
    for name in &results.order {
        for (number, column) in results.columns.iter().enumerate() {
            let Some(row) = results.row(name, number) else {
                continue;
            };
            let check = row.check.as_deref().unwrap_or_default();
            for (run, (cpu, wall)) in row.cpu_ns.iter().zip(&row.wall_ns).enumerate() {
                let (name, subject, run) = (field(name), &column.subject, run + 1);
                let check = field(check);
                let _ = writeln!(
                    text,
                    "workload,{name},{subject},{run},{cpu},{wall},ns,{check}"
                );
            }
        }
    }
    text
}

/// A field, quoted if it must be.
pub(crate) fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn every_run_has_its_line() {
        let text = write(&sample());
        assert!(text.starts_with(HEAD));
        assert!(text.contains("\nboot,vmlinuz,QEMU,2,2.75,3,s,\n"), "{text}");
        assert!(
            text.contains("\nworkload,int_b,ring1,1,8,24,ns,2\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1 + 4 + 10);
    }

    #[test]
    fn commas_and_quotes_stay_in_their_field() {
        assert_eq!(field("a \"b\", c"), "\"a \"\"b\"\", c\"");
    }
}
