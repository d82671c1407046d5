//! What `ring1 bench` can be asked for.

use super::report::Format;
use crate::config::Tier;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Megabytes that a boot gets unless told otherwise.
const BOOT_MEMORY_MIB: u32 = 128;
/// Megabytes that the workloads get: one walks through 64, one forks with them.
const WORKLOADS_MEMORY_MIB: u32 = 512;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Boots
    Boot,
    /// Programs in a guest
    Workloads,
    /// Both
    All,
}

/// The options of `ring1 bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum, default_value_t = What::All)]
    pub what: What,
    /// Only workloads whose names begin so
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = prefix)]
    pub only: Vec<String>,
    /// Runs of each workload and boots of each machine; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Divide the workloads' iterations by this
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub divisor: u32,
    /// How to write the result [default: by the end of the file's name, else text]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Write the result into this file instead of to standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Leave the host CPU out
    #[arg(long)]
    pub no_native: bool,
    /// Leave QEMU out
    #[arg(long)]
    pub no_qemu: bool,
    /// Tiers of ring1, a column each; the first is set beside QEMU
    #[arg(
        long,
        value_enum,
        value_name = "TIER",
        value_delimiter = ',',
        default_value = "auto"
    )]
    pub tier: Vec<Tier>,
    /// Another column, with translated code kept in this folder. Boots that are stopped early
    /// do not fill it: let some run to their end before
    #[arg(long, value_name = "DIR")]
    pub code_cache: Option<PathBuf>,
    /// The ring1 to measure [default: this one]
    #[arg(long, value_name = "PROGRAM")]
    pub ring1: Option<PathBuf>,
    /// Kernel [default: the one that samples/debian.sh fetched]
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk for boots [default: the one that samples/debian.sh made]
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Kernel command line for boots
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "console=ttyS0",
        allow_hyphen_values = true
    )]
    pub append: String,
    /// A boot is over with the first line that begins so; with the end of the guest if empty
    #[arg(long, value_name = "TEXT", default_value = "READY")]
    pub until: String,
    /// Folder with the workloads' programs and their initrd.gz [default: what samples/workloads.sh made]
    #[arg(long, value_name = "FOLDER")]
    pub workloads: Option<PathBuf>,
    /// Guest memory in MiB [default: 128 for boots, 512 for workloads]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=3072))]
    pub memory: Option<u32>,
}

impl BenchArgs {
    /// Whether boots are to be measured.
    pub fn boots(&self) -> bool {
        // Prefixes choose among workloads, so they ask for workloads.
        self.what == What::Boot || self.what == What::All && self.only.is_empty()
    }

    /// Whether workloads are to be measured.
    pub fn measures_workloads(&self) -> bool {
        self.what != What::Boot
    }

    /// Guest memory for boots in MiB.
    pub fn boot_memory_mib(&self) -> u32 {
        self.memory.unwrap_or(BOOT_MEMORY_MIB)
    }

    /// Guest memory for workloads in MiB.
    pub fn workloads_memory_mib(&self) -> u32 {
        self.memory.unwrap_or(WORKLOADS_MEMORY_MIB)
    }

    /// How to write the result.
    pub fn format(&self) -> Format {
        let end = self.output.as_ref().and_then(|file| file.extension());
        let by_name = || Format::from_str(end?.to_str()?, true).ok();
        self.format.or_else(by_name).unwrap_or(Format::Text)
    }

    /// What clap cannot see.
    ///
    /// # Errors
    /// What makes no sense, in one sentence.
    pub fn validate(&self) -> anyhow::Result<()> {
        if self.what == What::Boot && !self.only.is_empty() {
            anyhow::bail!("--only chooses among workloads, and only boots were asked for");
        }
        if self.kernel.is_some() && self.boots() && self.initrd.is_none() {
            anyhow::bail!(
                "boots of another kernel need --initrd, or leave them out: ring1 bench workloads"
            );
        }
        Ok(())
    }
}

/// A prefix goes through a kernel's command line, and a shell.
fn prefix(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.is_empty() || !text.chars().all(fine) {
        return Err("not the beginning of a workload's name, such as int_ or os_fork".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    fn parse(words: &[&str]) -> Result<BenchArgs, String> {
        let command = BenchArgs::augment_args(Command::new("bench").no_binary_name(true));
        let matches = command.try_get_matches_from(words);
        let matches = matches.map_err(|error| error.to_string())?;
        let args = BenchArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        args.validate().map_err(|error| error.to_string())?;
        Ok(args)
    }

    #[test]
    fn nothing_said_means_everything() {
        let args = parse(&[]).unwrap();
        assert!(args.boots() && args.measures_workloads());
        assert_eq!((args.runs, args.format()), (5, Format::Text));
        assert_eq!(
            (args.boot_memory_mib(), args.workloads_memory_mib()),
            (128, 512)
        );
    }

    #[test]
    fn prefixes_ask_for_workloads() {
        let args = parse(&["--only", "int_,os_fork"]).unwrap();
        assert_eq!(args.only, ["int_", "os_fork"]);
        assert!(!args.boots() && args.measures_workloads());
    }

    #[test]
    fn the_file_tells_the_format_unless_it_is_told() {
        let format = |words: &[&str]| parse(words).unwrap().format();
        assert_eq!(format(&["--output", "a.html"]), Format::Html);
        assert_eq!(format(&["--output", "a.json"]), Format::Json);
        assert_eq!(format(&["--output", "a.csv"]), Format::Csv);
        assert_eq!(format(&["--output", "a.md"]), Format::Text);
        assert_eq!(
            format(&["--output", "a.html", "--format", "csv"]),
            Format::Csv
        );
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (words, reason) in [
            (vec!["floppy"], "possible values: boot, workloads, all"),
            (vec!["--runs", "0"], "0 is not in 1.."),
            (vec!["--divisor", "0"], "0 is not in 1.."),
            (vec!["--memory", "4096"], "4096 is not in 1..=3072"),
            (
                vec!["--only", "int_;reboot"],
                "not the beginning of a workload's name",
            ),
            (
                vec!["--format", "pdf"],
                "possible values: text, json, csv, html",
            ),
            (
                vec!["boot", "--only", "int_"],
                "--only chooses among workloads",
            ),
            (vec!["--kernel", "k"], "need --initrd"),
        ] {
            let error = parse(&words).unwrap_err();
            assert!(error.contains(reason), "{words:?}: {error}");
        }
    }
}
