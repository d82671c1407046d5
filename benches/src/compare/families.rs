//! Workloads side by side: a table of all, and geometric means by family.

use super::report::{figure, geometric_mean, table};
use super::workloads::{Row, Rows};
use std::fmt::Write;

/// Natively a trap to whoever runs this host, so no measure of anything here.
const NO_NATIVE: &[&str] = &["os_cpuid"];

/// What each subject made of the workloads.
pub struct Results {
    /// Workloads in the order they ran.
    pub order: Vec<String>,
    /// On the host CPU itself; empty if not asked for.
    pub native: Rows,
    /// In ring1.
    pub ring1: Rows,
    /// In QEMU; empty if it is not installed.
    pub qemu: Rows,
}

/// One workload's figures: CPU nanoseconds per iteration.
struct Times {
    native: Option<f64>,
    ring1: Option<f64>,
    qemu: Option<f64>,
}

impl Times {
    fn ratios(&self) -> [Option<f64>; 3] {
        let over = |a: Option<f64>, b: Option<f64>| Some(a? / b.filter(|b| *b > 0.0)?);
        [
            over(self.ring1, self.native),
            over(self.qemu, self.native),
            over(self.ring1, self.qemu),
        ]
    }
}

/// The family of a workload: its name up to the first underscore, `sse2` being `sse`.
fn family(name: &str) -> &str {
    let first = name.split('_').next().unwrap_or(name);
    if first == "sse2" { "sse" } else { first }
}

impl Results {
    fn times(&self, name: &str) -> Times {
        let best = |rows: &Rows| rows.get(name).and_then(Row::best_cpu_ns);
        Times {
            native: best(&self.native).filter(|_| !NO_NATIVE.contains(&name)),
            ring1: best(&self.ring1),
            qemu: best(&self.qemu),
        }
    }

    /// Whether all that ran the workload equally often computed the same; `None`
    /// if fewer than two did.
    fn agree(&self, name: &str) -> Option<bool> {
        let rows = [&self.native, &self.ring1, &self.qemu];
        let mut checks = rows
            .into_iter()
            .filter_map(|rows| rows.get(name)?.check.as_ref());
        let first = checks.next()?;
        let mut rest = checks.peekable();
        rest.peek()?;
        Some(rest.all(|check| check == first))
    }

    /// Names of the workloads whose checksums differ.
    pub fn disagreements(&self) -> Vec<&str> {
        let differs = |name: &&String| self.agree(name) == Some(false);
        self.order
            .iter()
            .filter(differs)
            .map(String::as_str)
            .collect()
    }

    /// Names of the workloads that take longer in ring1 than in QEMU.
    pub fn slower_than_qemu(&self) -> Vec<String> {
        let slower = |name: &String| {
            let [_, _, ratio] = self.times(name).ratios();
            let ratio = ratio.filter(|ratio| *ratio > 1.0)?;
            Some(format!("{name} {ratio:.2}"))
        };
        self.order.iter().filter_map(slower).collect()
    }

    /// Every workload.
    pub fn table(&self) -> String {
        let wall = |rows: &Rows, name: &str| figure(rows.get(name).and_then(Row::best_wall_ns));
        let row = |name: &String| {
            let times = self.times(name);
            let mut cells = vec![name.clone()];
            cells.extend([times.native, times.ring1, times.qemu].map(figure));
            cells.extend(times.ratios().map(figure));
            cells.push(wall(&self.ring1, name));
            cells.push(wall(&self.qemu, name));
            let agree = match self.agree(name) {
                None => "–",
                Some(true) => "same",
                Some(false) => "DIFFER",
            };
            cells.push(agree.to_owned());
            cells
        };
        let rows: Vec<Vec<String>> = self.order.iter().map(row).collect();
        let head = [
            "workload",
            "native ns",
            "ring1 ns",
            "QEMU ns",
            "ring1 over native",
            "QEMU over native",
            "ring1 over QEMU",
            "ring1 wall ns",
            "QEMU wall ns",
            "checksums",
        ];
        table(&head, &rows)
    }

    /// Geometric means of the ratios by family.
    pub fn families(&self) -> String {
        let mut families: Vec<&str> = self.order.iter().map(|name| family(name)).collect();
        families.dedup();
        let mut seen = Vec::new();
        families.retain(|f| {
            !seen.contains(f) && {
                seen.push(*f);
                true
            }
        });
        let mean = |f: &str, which: usize| {
            let names = self.order.iter().filter(|name| family(name) == f);
            let ratios: Vec<f64> = names
                .filter_map(|name| self.times(name).ratios()[which])
                .collect();
            figure(geometric_mean(&ratios))
        };
        let row = |f: &&str| vec![format!("`{f}_*`"), mean(f, 0), mean(f, 1), mean(f, 2)];
        let rows: Vec<Vec<String>> = families.iter().map(row).collect();
        let head = [
            "family",
            "ring1 over native",
            "QEMU over native",
            "ring1 over QEMU",
        ];
        table(&head, &rows)
    }

    /// Every run of everything, a line each.
    pub fn raw(&self) -> String {
        let mut text = String::new();
        let subjects = [
            ("native", &self.native),
            ("ring1", &self.ring1),
            ("QEMU", &self.qemu),
        ];
        for name in &self.order {
            for (who, rows) in subjects {
                let Some(row) = rows.get(name) else { continue };
                let list = |values: &[f64]| {
                    let values: Vec<String> = values.iter().map(|v| format!("{v:.1}")).collect();
                    values.join(" ")
                };
                let check = row.check.as_deref().unwrap_or("none");
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "{name} {who}: cpu {} wall {} check {check}",
                    list(&row.cpu_ns),
                    list(&row.wall_ns)
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(figures: &[(&str, f64, &str)]) -> Rows {
        let row = |cpu: f64, check: &str| Row {
            cpu_ns: vec![cpu, cpu * 2.0],
            wall_ns: vec![cpu * 3.0],
            check: Some(check.to_owned()),
        };
        figures
            .iter()
            .map(|&(name, cpu, check)| (name.to_owned(), row(cpu, check)))
            .collect()
    }

    fn results() -> Results {
        Results {
            order: vec!["int_a".into(), "int_b".into(), "sse2_c".into()],
            native: rows(&[("int_a", 1.0, "1"), ("int_b", 1.0, "1")]),
            ring1: rows(&[
                ("int_a", 2.0, "1"),
                ("int_b", 8.0, "2"),
                ("sse2_c", 3.0, "1"),
            ]),
            qemu: rows(&[
                ("int_a", 4.0, "1"),
                ("int_b", 4.0, "1"),
                ("sse2_c", 1.0, "1"),
            ]),
        }
    }

    #[test]
    fn means_are_taken_by_family() {
        let text = results().families();
        assert!(text.contains("| `int_*` | 4.00 | 4.00 | 1.00 |"), "{text}");
        assert!(text.contains("| `sse_*` | – | – | 3.00 |"), "{text}");
    }

    #[test]
    fn a_wrong_result_and_a_slow_one_are_named() {
        assert_eq!(results().disagreements(), ["int_b"]);
        assert_eq!(results().slower_than_qemu(), ["int_b 2.00", "sse2_c 3.00"]);
    }

    #[test]
    fn every_workload_has_its_row() {
        let text = results().table();
        assert!(
            text.contains(
                "| int_a | 1.00 | 2.00 | 4.00 | 2.00 | 4.00 | 0.50 | 6.00 | 12.0 | same |"
            ),
            "{text}"
        );
        assert!(text.contains("DIFFER"));
        assert_eq!(results().raw().lines().count(), 8);
    }
}
