//! ring1 beside QEMU, and beside the host CPU itself.
//!
//! `boot` measures boots to a line on the console, `workloads` programs that
//! time themselves in a guest. `docs/performance.md` has the results and says
//! where kernels and initramfs come from.

use anyhow::{Result, bail};
use benches::compare::boot;
use benches::compare::families::Results;
use benches::compare::report::{load, save};
use benches::compare::subject::{Guest, Subject, qemu_version, short_name};
use benches::compare::workloads::{Rows, Selection, in_guest, natively};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Runs guests in ring1 and in QEMU and compares the time they take.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Time boots, the subjects taking turns
    Boot(BootArgs),
    /// Time programs in the guest
    Workloads(WorkloadArgs),
}

#[derive(Args)]
struct GuestArgs {
    /// Kernel
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// Initial RAM disk
    #[arg(long, value_name = "FILE")]
    initrd: PathBuf,
    /// The ring1 to measure [default: the one beside this program]
    #[arg(long, value_name = "PROGRAM")]
    ring1: Option<PathBuf>,
    /// Tiers of ring1
    #[arg(
        long,
        value_name = "TIERS",
        default_value = "auto",
        value_delimiter = ','
    )]
    tier: Vec<String>,
    /// Measure ring1 with its code kept in this folder too. Nothing is kept of boots that are
    /// stopped: fill it before
    #[arg(long, value_name = "DIR")]
    code_cache: Option<PathBuf>,
    /// Leave QEMU out
    #[arg(long)]
    no_qemu: bool,
    /// Keep the figures as benches/results/NAME.txt
    #[arg(long, value_name = "NAME")]
    save: Option<String>,
}

#[derive(Args)]
struct BootArgs {
    #[command(flatten)]
    guest: GuestArgs,
    /// Boots of each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The boot is over with the first line that begins so; with the end of the guest if empty
    #[arg(long, value_name = "TEXT", default_value = "READY")]
    until: String,
    /// Kernel command line
    #[arg(long, value_name = "TEXT", default_value = "console=ttyS0")]
    append: String,
    /// Guest memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    memory: u32,
}

#[derive(Args)]
struct WorkloadArgs {
    #[command(flatten)]
    guest: GuestArgs,
    /// The compute program, to be run natively too; `obench` is looked for beside it
    #[arg(long, value_name = "PROGRAM")]
    native: Option<PathBuf>,
    /// Only workloads whose names begin so
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',')]
    only: Vec<String>,
    /// Runs of each workload; the best counts
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Divide the iterations by this
    #[arg(long, default_value_t = 1)]
    divisor: u32,
    /// Guest memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    memory: u32,
}

impl GuestArgs {
    fn guest(&self, append: &str, memory_mib: u32) -> Guest {
        Guest {
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            append: append.to_owned(),
            memory_mib,
        }
    }

    /// ring1 in each tier asked for, then QEMU.
    fn subjects(&self) -> Result<Vec<Subject>> {
        let mut subjects = Vec::new();
        for tier in &self.tier {
            let ring1 = Subject::ring1(self.ring1.clone(), tier)?;
            let keeping = self.code_cache.as_deref();
            let keeping = keeping.map(|folder| ring1.clone().keeping(folder));
            subjects.extend([Some(ring1), keeping].into_iter().flatten());
        }
        match Subject::qemu() {
            Some(qemu) if !self.no_qemu => subjects.push(qemu),
            Some(_) => {}
            None => eprintln!("QEMU is not installed: ring1 alone"),
        }
        Ok(subjects)
    }

    /// Shows the text, and keeps it if asked to.
    fn finish(&self, raw: &str, tables: &str) -> Result<()> {
        println!("{tables}");
        if let Some(name) = &self.save {
            let kernel = short_name(&self.kernel);
            let qemu = qemu_version().unwrap_or_default();
            let head = format!("kernel {kernel}, {qemu}, load at the end {}", load());
            let file = save(name, &format!("{head}\n\n{raw}\n{tables}"))?;
            eprintln!("kept as {}", file.display());
        }
        Ok(())
    }
}

fn boots(args: &BootArgs) -> Result<()> {
    let guest = args.guest.guest(&args.append, args.memory);
    let results = boot::compare(&args.guest.subjects()?, &guest, &args.until, args.rounds)?;
    args.guest
        .finish(&boot::raw(&results), &boot::summary(&results))
}

fn workloads(args: &WorkloadArgs) -> Result<()> {
    let selection = Selection {
        only: args.only.clone(),
        runs: args.runs,
        divisor: args.divisor.max(1),
    };
    if args.guest.tier.len() != 1 {
        bail!("workloads are compared in one tier at a time");
    }
    let guest = args.guest.guest("", args.memory);
    let mut results = Results {
        order: Vec::new(),
        native: Rows::new(),
        ring1: Rows::new(),
        qemu: Rows::new(),
    };
    if let Some(program) = &args.native {
        (results.native, results.order) = natively(program, &selection)?;
    }
    for subject in args.guest.subjects()? {
        let (rows, order) = in_guest(&subject, &guest, &selection)?;
        let known = |name: &String| results.order.contains(name);
        let new: Vec<String> = order.into_iter().filter(|name| !known(name)).collect();
        results.order.extend(new);
        match subject {
            Subject::Ring1 { .. } => results.ring1 = rows,
            Subject::Qemu => results.qemu = rows,
        }
    }
    let tables = format!(
        "{}\n{}\nslower than QEMU: {}\nchecksums differ: {}\n",
        results.families(),
        results.table(),
        list(&results.slower_than_qemu()),
        list(&results.disagreements()),
    );
    args.guest.finish(&results.raw(), &tables)
}

fn list<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.len() {
        0 => "none".to_owned(),
        _ => names.join(", "),
    }
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Boot(args) => boots(&args),
        Command::Workloads(args) => workloads(&args),
    }
}
