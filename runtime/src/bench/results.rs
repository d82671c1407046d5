//! Workloads side by side: ratios, families, disagreements.
//!
//! Each subject is a column. Every other column is set over the native one, and
//! the first ring1 over each QEMU. A ratio exists if both its figures do; a row
//! that was not charged has none, and enters no mean.

use super::figures::{figure, geometric_mean, table};
use super::listener::{Heard, Row, Rows};
use super::subject::Subject;

/// Natively a trap to whoever runs this host, so no measure of anything here.
const NO_NATIVE: &[&str] = &["os_cpuid"];

/// What one subject made of the workloads.
#[derive(Clone, Debug)]
pub struct Column {
    /// Who ran them.
    pub subject: Subject,
    /// Row by row.
    pub rows: Rows,
}

/// What each subject made of the workloads.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// Workloads in the order they ran.
    pub order: Vec<String>,
    /// The subjects, the host CPU first.
    pub columns: Vec<Column>,
}

/// Two columns, by their numbers, one over the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    above: usize,
    below: usize,
}

/// The family of a workload: its name up to the first underscore, `sse2` being `sse`.
pub fn family(name: &str) -> &str {
    let first = name.split('_').next().unwrap_or(name);
    if first == "sse2" { "sse" } else { first }
}

impl Results {
    /// Adds what was heard of one more subject.
    pub fn add(&mut self, subject: Subject, heard: Heard) {
        for name in heard.order {
            if !self.order.contains(&name) {
                self.order.push(name);
            }
        }
        let rows = heard.rows;
        self.columns.push(Column { subject, rows });
    }

    /// A workload's row in a column.
    pub fn row(&self, name: &str, column: usize) -> Option<&Row> {
        self.columns.get(column)?.rows.get(name)
    }

    /// CPU nanoseconds per iteration of a workload in a column.
    pub fn time(&self, name: &str, column: usize) -> Option<f64> {
        let native = self.columns.get(column)?.subject == Subject::Native;
        let measures = !(native && NO_NATIVE.contains(&name));
        self.row(name, column).filter(|_| measures)?.cpu()
    }

    /// The ratios to the host CPU, if it is among the subjects.
    pub fn over_native(&self) -> Vec<Ratio> {
        let is_native = |column: &Column| column.subject == Subject::Native;
        let Some(below) = self.columns.iter().position(is_native) else {
            return Vec::new();
        };
        let all = 0..self.columns.len();
        let others = all.filter(|&above| above != below);
        others.map(|above| Ratio { above, below }).collect()
    }

    /// The ratios of the first ring1 to each QEMU.
    pub fn over_qemu(&self) -> Vec<Ratio> {
        let subjects = || self.columns.iter().map(|column| &column.subject);
        let Some(above) = subjects().position(Subject::is_ring1) else {
            return Vec::new();
        };
        let is_qemu = |subject: &Subject| matches!(subject, Subject::Qemu | Subject::QemuUser);
        let qemus = subjects().enumerate().filter(|(_, s)| is_qemu(s));
        qemus.map(|(below, _)| Ratio { above, below }).collect()
    }

    /// All ratios, as tables have them.
    pub fn ratios(&self) -> Vec<Ratio> {
        [self.over_native(), self.over_qemu()].concat()
    }

    /// What a ratio is called.
    pub fn title(&self, ratio: Ratio) -> String {
        format!("{} over {}", self.name(ratio.above), self.name(ratio.below))
    }

    /// What a column is called.
    pub fn name(&self, column: usize) -> String {
        let subject = self.columns.get(column).map(|column| &column.subject);
        subject.map(ToString::to_string).unwrap_or_default()
    }

    /// The column above of a ratio.
    pub fn above(&self, ratio: Ratio) -> Option<&Subject> {
        Some(&self.columns.get(ratio.above)?.subject)
    }

    /// A workload's ratio.
    pub fn ratio(&self, name: &str, ratio: Ratio) -> Option<f64> {
        let below = self.time(name, ratio.below).filter(|ns| *ns > 0.0)?;
        Some(self.time(name, ratio.above)? / below)
    }

    /// The families in the order they ran.
    pub fn families(&self) -> Vec<&str> {
        let mut families = Vec::new();
        for family in self.order.iter().map(|name| family(name)) {
            if !families.contains(&family) {
                families.push(family);
            }
        }
        families
    }

    /// The geometric mean of a family's ratios.
    pub fn family_mean(&self, of: &str, ratio: Ratio) -> Option<f64> {
        let names = self.order.iter().filter(|name| family(name) == of);
        let ratios: Vec<f64> = names.filter_map(|name| self.ratio(name, ratio)).collect();
        geometric_mean(&ratios)
    }

    /// Whether all that ran the workload equally often computed the same; `None`
    /// if fewer than two did.
    pub fn agree(&self, name: &str) -> Option<bool> {
        let rows = self
            .columns
            .iter()
            .filter_map(|column| column.rows.get(name));
        let mut checks = rows.filter_map(|row| row.check.as_ref());
        let first = checks.next()?;
        let mut rest = checks.peekable();
        rest.peek()?;
        Some(rest.all(|check| check == first))
    }

    /// Names of the workloads whose checksums differ.
    pub fn disagreements(&self) -> Vec<&str> {
        let names = self.order.iter().map(String::as_str);
        names
            .filter(|name| self.agree(name) == Some(false))
            .collect()
    }

    /// The workloads that take longer in ring1 than in a QEMU, with the ratio, for
    /// each QEMU. Operations of the system are not set beside its emulator of
    /// programs, under which the host's own kernel does them.
    pub fn slower_than_qemu(&self) -> Vec<(String, Vec<String>)> {
        let slower = |ratio: Ratio| {
            let below = self.columns.get(ratio.below).map(|column| &column.subject);
            let alike = |name: &&String| below == Some(&Subject::Qemu) || family(name) != "os";
            let names = self.order.iter().filter(alike);
            let rows = names.filter_map(|name| {
                let value = self.ratio(name, ratio).filter(|value| *value > 1.0)?;
                Some(format!("{name} {value:.2}"))
            });
            (self.name(ratio.below), rows.collect())
        };
        self.over_qemu().into_iter().map(slower).collect()
    }

    /// The rows that no run was charged for, each with its subject.
    pub fn uncharged(&self) -> Vec<String> {
        let mut found = Vec::new();
        for column in &self.columns {
            let rows = column.rows.iter().filter(|(_, row)| row.uncharged());
            found.extend(rows.map(|(name, _)| format!("{name} ({})", column.subject)));
        }
        found
    }

    /// A workload's cells in tables: the name, times, ratios, the verdict on checksums.
    pub fn cells(&self, name: &str) -> Vec<String> {
        let time = |column| match self.row(name, column) {
            Some(row) if row.uncharged() => "not charged".to_owned(),
            _ => figure(self.time(name, column)),
        };
        let mut cells = vec![name.to_owned()];
        cells.extend((0..self.columns.len()).map(time));
        let ratios = self.ratios().into_iter();
        cells.extend(ratios.map(|ratio| figure(self.ratio(name, ratio))));
        let verdict = match self.agree(name) {
            None => "–",
            Some(true) => "same",
            Some(false) => "DIFFER",
        };
        cells.push(verdict.to_owned());
        cells
    }

    /// The heads of those cells.
    pub fn head(&self) -> Vec<String> {
        let mut head = vec!["workload".to_owned()];
        head.extend((0..self.columns.len()).map(|column| format!("{} ns", self.name(column))));
        head.extend(self.ratios().into_iter().map(|ratio| self.title(ratio)));
        head.push("checksums".to_owned());
        head
    }

    /// A family's cells in tables: the name and the means.
    pub fn family_cells(&self, family: &str) -> Vec<String> {
        let mut cells = vec![format!("{family}_*")];
        let ratios = self.ratios().into_iter();
        cells.extend(ratios.map(|ratio| figure(self.family_mean(family, ratio))));
        cells
    }

    /// The heads of those cells.
    pub fn family_head(&self) -> Vec<String> {
        let mut head = vec!["family".to_owned()];
        head.extend(self.ratios().into_iter().map(|ratio| self.title(ratio)));
        head
    }

    /// Geometric means by family, then every workload, as Markdown.
    pub fn tables(&self) -> String {
        let families = self.families().into_iter();
        let families: Vec<_> = families.map(|family| self.family_cells(family)).collect();
        let workloads: Vec<_> = self.order.iter().map(|name| self.cells(name)).collect();
        let families = table(&self.family_head(), &families);
        format!("{families}\n{}", table(&self.head(), &workloads))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn rows(figures: &[(&str, f64, &str)]) -> Heard {
        let row = |cpu: f64, check: &str| Row {
            cpu_ns: vec![cpu, cpu * 1.5, cpu * 0.5],
            wall_ns: vec![cpu * 3.0],
            check: Some(check.to_owned()),
        };
        Heard {
            order: figures.iter().map(|(name, ..)| (*name).into()).collect(),
            rows: figures
                .iter()
                .map(|&(name, cpu, check)| (name.to_owned(), row(cpu, check)))
                .collect(),
            complete: true,
        }
    }

    /// Three workloads in three subjects, made up.
    pub(crate) fn sample() -> Results {
        let ring1 = Subject::Ring1 {
            program: "ring1".into(),
            tier: "auto".into(),
            code_cache: None,
        };
        let mut results = Results::default();
        let native = rows(&[("int_a", 1.0, "1"), ("int_b", 1.0, "1")]);
        results.add(Subject::Native, native);
        let mut ours = rows(&[
            ("int_a", 2.0, "1"),
            ("int_b", 8.0, "2"),
            ("sse2_c", 3.0, "1"),
            ("x_d", 0.0, "1"),
        ]);
        ours.order.rotate_left(1);
        results.add(ring1, ours);
        let qemu = rows(&[
            ("int_a", 4.0, "1"),
            ("int_b", 4.0, "1"),
            ("sse2_c", 1.0, "1"),
            ("x_d", 5.0, "1"),
        ]);
        results.add(Subject::Qemu, qemu);
        results
    }

    #[test]
    fn means_are_taken_by_family() {
        let text = sample().tables();
        assert!(text.contains("| int_* | 4.00 | 4.00 | 1.00 |"), "{text}");
        assert!(text.contains("| sse_* | – | – | 3.00 |"), "{text}");
    }

    #[test]
    fn what_was_not_charged_is_marked_and_in_no_mean() {
        let text = sample().tables();
        assert!(text.contains("| x_* | – | – | – |"), "{text}");
        let row = "| x_d | – | not charged | 5.00 | – | – | – | same |";
        assert!(text.contains(row), "{text}");
        assert_eq!(sample().uncharged(), ["x_d (ring1)"]);
    }

    #[test]
    fn a_wrong_result_and_a_slow_one_are_named() {
        assert_eq!(sample().disagreements(), ["int_b"]);
        let slower = vec!["int_b 2.00".to_owned(), "sse2_c 3.00".to_owned()];
        assert_eq!(sample().slower_than_qemu(), [("QEMU".to_owned(), slower)]);
    }

    #[test]
    fn every_workload_has_its_row() {
        let text = sample().tables();
        let row = "| int_a | 1.00 | 2.00 | 4.00 | 2.00 | 4.00 | 0.50 | same |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("DIFFER"));
    }

    #[test]
    fn without_the_host_cpu_there_are_no_ratios_to_it() {
        let mut results = sample();
        results.columns.remove(0);
        assert_eq!(results.ratios().len(), 1);
        assert_eq!(results.family_head(), ["family", "ring1 over QEMU"]);
    }
}
