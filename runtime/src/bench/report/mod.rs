//! What came out, and the ways to write it: a text for people, a page with
//! plots, and every single run for programs.

pub(crate) mod chart;
pub(crate) mod csv;
pub(crate) mod html;
pub(crate) mod json;
mod text;

use super::boot::Boots;
use super::host::Host;
use super::results::Results;
use clap::ValueEnum;

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables in Markdown
    Text,
    /// Every run, as JSON
    Json,
    /// Every run, a line each
    Csv,
    /// A page with plots and tables
    Html,
}

/// Boots of one guest.
#[derive(Clone, Debug)]
pub struct Booted {
    /// The kernel's file name.
    pub kernel: String,
    /// Who booted it, and how fast.
    pub boots: Vec<Boots>,
}

/// All that was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where and when.
    pub host: Host,
    /// What should be known about it.
    pub notes: Vec<String>,
    /// The boots, if they were measured.
    pub booted: Option<Booted>,
    /// The workloads, if they were measured.
    pub workloads: Option<Results>,
}

impl Report {
    /// A report without results.
    pub fn new(host: Host) -> Self {
        Self {
            host,
            notes: Vec::new(),
            booted: None,
            workloads: None,
        }
    }

    /// Whether all subjects computed the same.
    pub fn is_sound(&self) -> bool {
        let results = self.workloads.as_ref();
        results.is_none_or(|results| results.disagreements().is_empty())
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::boot::Boot;
    use crate::bench::results::tests::sample as workloads;
    use crate::bench::subject::Subject;

    /// A report of made-up figures.
    pub(super) fn sample() -> Report {
        let boots = |subject, wall: f64| Boots {
            subject,
            runs: vec![
                Boot {
                    wall,
                    cpu: wall - 0.25
                };
                2
            ],
        };
        let ring1 = Subject::Ring1 {
            program: "ring1".into(),
            tier: "auto".into(),
            code_cache: None,
        };
        Report {
            host: Host {
                processor: "2 × A \"fast\" CPU".into(),
                kernel: "Linux 6.1".into(),
                date: "2000-02-29 00:00 UTC".into(),
                ring1: "ring1 0.1.0".into(),
                qemu: None,
                load_before: "0.10".into(),
                load_after: "1.00".into(),
            },
            notes: vec!["a < b".into()],
            booted: Some(Booted {
                kernel: "vmlinuz".into(),
                boots: vec![boots(ring1, 1.5), boots(Subject::Qemu, 3.0)],
            }),
            workloads: Some(workloads()),
        }
    }

    #[test]
    fn differing_checksums_make_it_unsound() {
        let mut report = sample();
        assert!(!report.is_sound());
        report.workloads = None;
        assert!(report.is_sound());
    }
}
