//! `ring1 bench`: measures what it finds and can run, and says what it left out.

use super::boot;
use super::guests::{WorkloadFiles, boot_guest, workload_files};
use super::host::Host;
use super::options::BenchArgs;
use super::report::{Booted, Report};
use super::results::Results;
use super::subject::{QEMU, QEMU_USER, Subject, runs_natively, short_name};
use super::workloads::{Selection, in_guest, on_host};
use crate::cli::status;
use crate::selftest::options::tier_name;
use anyhow::{Context, Result, bail};

/// Measures, writes the report, and returns the exit status: an error if
/// checksums differ.
///
/// # Errors
/// There is nothing to measure, or a boot failed.
pub fn run(args: &BenchArgs) -> Result<u8> {
    args.validate()?;
    let mut bench = Bench::new(args)?;
    bench.boots()?;
    bench.workloads()?;
    let report = bench.finish()?;
    let text = report.written(args.format());
    match &args.output {
        None => print!("{text}"),
        Some(file) => std::fs::write(file, text)
            .with_context(|| format!("cannot write {}", file.display()))?,
    }
    Ok(match report.is_sound() {
        true => status::POWERED_OFF,
        false => status::ERROR,
    })
}

/// A measurement under way.
struct Bench<'a> {
    args: &'a BenchArgs,
    ring1: Vec<Subject>,
    qemus: Vec<Subject>,
    report: Report,
}

impl<'a> Bench<'a> {
    fn new(args: &'a BenchArgs) -> Result<Self> {
        let program = match &args.ring1 {
            Some(program) if program.is_file() => program.clone(),
            Some(program) => bail!("there is no {}", program.display()),
            None => std::env::current_exe()?,
        };
        let kept = args.code_cache.clone().map(Some);
        let folders: Vec<_> = [None].into_iter().chain(kept).collect();
        let subjects = args
            .tier
            .iter()
            .flat_map(|&tier| folders.iter().map(move |folder| (tier, folder.clone())));
        let tiers = subjects.map(|(tier, code_cache)| Subject::Ring1 {
            program: program.clone(),
            tier: tier_name(tier).to_owned(),
            code_cache,
        });
        let mut bench = Self {
            args,
            ring1: tiers.collect(),
            qemus: Vec::new(),
            report: Report::new(Host::now()),
        };
        if cfg!(debug_assertions) && args.ring1.is_none() {
            bench.note("this is a development build of ring1, slower than a release".into());
        }
        if !args.no_qemu {
            bench.qemus = Subject::installed_qemus();
            for (qemu, program) in [(Subject::Qemu, QEMU), (Subject::QemuUser, QEMU_USER)] {
                if !bench.qemus.contains(&qemu) {
                    bench.note(format!(
                        "{program} is not installed: its column is left out"
                    ));
                }
            }
        }
        Ok(bench)
    }

    /// Says on standard error, and in the report, what should be known of it.
    fn note(&mut self, text: String) {
        eprintln!("bench: {text}");
        self.report.notes.push(text);
    }

    fn note_list(&mut self, what: &str, rows: &[String]) {
        if !rows.is_empty() {
            self.note(format!("{what}: {}", rows.join(", ")));
        }
    }

    /// All that was asked for may be there only in part.
    fn available<T>(&mut self, found: Result<T>) -> Result<Option<T>> {
        let both = self.args.boots() && self.args.measures_workloads();
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if both => {
                self.note(format!("{error:#}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn boots(&mut self) -> Result<()> {
        if !self.args.boots() {
            return Ok(());
        }
        let Some(guest) = self.available(boot_guest(self.args))? else {
            return Ok(());
        };
        let all = self.ring1.iter().chain(&self.qemus);
        let machines: Vec<Subject> = all.filter(|s| s.is_machine()).cloned().collect();
        let boots = boot::compare(&machines, &guest, &self.args.until, self.args.runs)?;
        self.report.booted = Some(Booted {
            kernel: short_name(&guest.kernel),
            boots,
        });
        Ok(())
    }

    fn workloads(&mut self) -> Result<()> {
        if !self.args.measures_workloads() {
            return Ok(());
        }
        let Some(files) = self.available(workload_files(self.args))? else {
            return Ok(());
        };
        let selection = Selection {
            only: self.args.only.clone(),
            runs: self.args.runs,
            divisor: self.args.divisor,
        };
        let mut results = Results::default();
        for subject in self.workload_subjects(&files) {
            let heard = match subject.is_machine() {
                true => in_guest(&subject, &files.guest, &selection),
                false => on_host(&subject, &files.programs, &selection),
            };
            match heard {
                Err(error) => self.note(format!("{subject} is left out: {error:#}")),
                Ok(heard) => {
                    if !heard.complete {
                        self.note(format!("{subject} ended before its workloads were done"));
                    }
                    results.add(subject, heard);
                }
            }
        }
        if results.order.is_empty() {
            bail!("no workload was run: none has such a name, or no subject could run it");
        }
        self.note_list("not charged with any CPU time", &results.uncharged());
        for (qemu, rows) in results.slower_than_qemu() {
            self.note_list(&format!("slower than {qemu}"), &rows);
        }
        self.report.workloads = Some(results);
        Ok(())
    }

    /// The host CPU, ring1, and each QEMU, as far as they can run them.
    fn workload_subjects(&mut self, files: &WorkloadFiles) -> Vec<Subject> {
        let mut subjects = Vec::new();
        if !self.args.no_native {
            let first = files.programs.first();
            let first = first.context("the workloads' folder has no programs");
            match first.and_then(|(_, program)| runs_natively(program)) {
                Ok(()) => subjects.push(Subject::Native),
                Err(error) => self.note(format!("the host CPU's column is left out: {error:#}")),
            }
        }
        subjects.extend(self.ring1.iter().cloned());
        let runs = |qemu: &&Subject| qemu.is_machine() || !files.programs.is_empty();
        subjects.extend(self.qemus.iter().filter(runs).cloned());
        subjects
    }

    fn finish(mut self) -> Result<Report> {
        if self.report.booted.is_none() && self.report.workloads.is_none() {
            bail!("there is nothing to measure: samples/workloads.sh makes the guests");
        }
        self.report.host.finish();
        Ok(self.report)
    }
}
