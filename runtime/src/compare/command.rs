//! `ring1 compare`: measures what it can run, and says what it left out.

use super::doubts;
use super::image::Image;
use super::initrd;
use super::machine::{Load, Run, in_guest, on_host};
use super::options::CompareArgs;
use super::report::Report;
use super::results::Column;
use crate::bench::host::Host;
use crate::bench::report::Format;
use crate::bench::subject::{Guest, QEMU, Subject, short_name, version};
use crate::cli::status;
use crate::embedded::{COMPARE_GUEST, COMPARE_PROGRAM};
use crate::selftest::options::tier_name;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::IsTerminal;
use std::path::Path;

/// Measures, writes the report, and returns the exit status.
///
/// # Errors
/// There is nothing to measure, or a file cannot be read or written.
pub fn run(args: &CompareArgs) -> Result<u8> {
    let mut comparison = Comparison::new(args)?;
    comparison.native()?;
    comparison.machines()?;
    let report = comparison.finish()?;
    let written = report.written(args.format());
    match &args.output {
        None => print!("{written}"),
        Some(file) => {
            fs::write(file, written).with_context(|| format!("cannot write {}", file.display()))?;
            // The figures are what one waits for; the file is to be kept.
            print!("{}", report.written(Format::Text));
            eprintln!("compare: {} is written", file.display());
        }
    }
    Ok(status::POWERED_OFF)
}

/// A comparison under way.
struct Comparison<'a> {
    args: &'a CompareArgs,
    report: Report,
}

/// A guest, with the files that exist only for it.
struct Prepared {
    guest: Guest,
    load: Load,
    _images: Vec<Image>,
}

impl<'a> Comparison<'a> {
    fn new(args: &'a CompareArgs) -> Result<Self> {
        for file in args.ring1.iter().chain(&args.kernel) {
            exists(file)?;
        }
        let kernel = args.kernel.as_deref();
        let linux = kernel.map(short_name);
        let mut comparison = Self {
            args,
            report: Report::new(Host::now(), linux),
        };
        if cfg!(debug_assertions) && args.ring1.is_none() {
            comparison.note("this is a development build of ring1, slower than a release".into());
        }
        for doubt in doubts::of_host() {
            comparison.note(doubt);
        }
        Ok(comparison)
    }

    /// Says on standard error, and in the report, what should be known of it.
    fn note(&mut self, text: String) {
        eprintln!("compare: {text}");
        self.report.notes.push(text);
    }

    fn native(&mut self) -> Result<()> {
        if self.args.no_native {
            return Ok(());
        }
        let program =
            Image::new("compare", COMPARE_PROGRAM).context("cannot hand out a program")?;
        self.column("native".into(), || on_host(&program));
        Ok(())
    }

    fn machines(&mut self) -> Result<()> {
        let prepared = match &self.args.kernel {
            None => self.our_guest()?,
            Some(kernel) => self.linux(kernel)?,
        };
        for subject in self.subjects()? {
            let run = || in_guest(&subject, &prepared.guest, &prepared.load);
            self.column(subject.to_string(), run);
        }
        Ok(())
    }

    fn our_guest(&self) -> Result<Prepared> {
        let image = Image::new("guest", COMPARE_GUEST).context("cannot hand out a guest")?;
        Ok(Prepared {
            guest: self.guest(&image.path(), None, String::new()),
            load: Load::Ours,
            _images: vec![image],
        })
    }

    /// The kernel that was named, with our program as its first process.
    fn linux(&self, kernel: &Path) -> Result<Prepared> {
        let initrd = match &self.args.initrd {
            None => Vec::new(),
            Some(file) => {
                fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
            }
        };
        let initrd = initrd::with_program(initrd, COMPARE_PROGRAM);
        let image = Image::new("initrd", &initrd).context("cannot hand out a RAM disk")?;
        // A kernel that panics is to end the machine, not to stay.
        let append = format!("{} panic=-1 rdinit=/{}", self.args.append, initrd::PROGRAM);
        Ok(Prepared {
            guest: self.guest(kernel, Some(&image.path()), append),
            load: Load::Linux,
            _images: vec![image],
        })
    }

    fn guest(&self, kernel: &Path, initrd: Option<&Path>, append: String) -> Guest {
        Guest {
            kernel: kernel.to_owned(),
            initrd: initrd.map(Path::to_owned),
            append,
            memory_mib: self.args.memory,
        }
    }

    /// ring1 in each tier, and QEMU, as far as it is wanted and there.
    fn subjects(&mut self) -> Result<Vec<Subject>> {
        let program = match &self.args.ring1 {
            Some(program) => program.clone(),
            None => std::env::current_exe()?,
        };
        let ring1 = |tier: &_| Subject::Ring1 {
            program: program.clone(),
            tier: tier_name(*tier).to_owned(),
            code_cache: None,
        };
        let mut subjects: Vec<Subject> = self.args.tier.iter().map(ring1).collect();
        if !self.args.no_qemu {
            match version(QEMU) {
                Some(_) => subjects.push(Subject::Qemu),
                None => self.note(format!("{QEMU} is not installed: its column is left out")),
            }
        }
        Ok(subjects)
    }

    /// The runs of one subject; one that cannot run is left out.
    fn column(&mut self, name: String, run: impl Fn() -> Result<Run>) {
        let mut column = Column::new(name);
        for number in 1..=self.args.runs {
            if std::io::stderr().is_terminal() {
                let runs = self.args.runs;
                eprintln!("compare: {}, run {number} of {runs}", column.name);
            }
            match run() {
                Ok(run) => column.add(&run),
                Err(error) => {
                    self.note(format!("{} is left out: {error:#}", column.name));
                    return;
                }
            }
        }
        let doubtful = column.doubtful();
        if !doubtful.is_empty() {
            let rows = doubtful.join(", ");
            self.note(format!(
                "doubtful, for they vary, in {}: {rows}",
                column.name
            ));
        }
        self.report.columns.push(column);
    }

    fn finish(mut self) -> Result<Report> {
        if self.report.columns.is_empty() {
            bail!("nothing could be measured");
        }
        self.report.host.finish();
        Ok(self.report)
    }
}

fn exists(file: &Path) -> Result<()> {
    if !file.is_file() {
        bail!("there is no {}", file.display());
    }
    Ok(())
}
