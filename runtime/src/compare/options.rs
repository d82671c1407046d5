//! What `ring1 compare` can be asked for.

use crate::bench::report::Format;
use crate::config::Tier;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// The options of `ring1 compare`.
#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// Compare in a Linux guest with this kernel, instead of the embedded one
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Its initial RAM disk, if it needs one; the program that measures is added to it
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// Its command line, to which the program's name is added
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "console=ttyS0 quiet",
        allow_hyphen_values = true
    )]
    pub append: String,
    /// Runs of each guest and program: their least minimum and middle median count
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// How to write the result [default: by the end of the file's name, else text]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Write the result into this file, and the table to standard output all the same
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Leave the host CPU out
    #[arg(long)]
    pub no_native: bool,
    /// Leave QEMU out
    #[arg(long)]
    pub no_qemu: bool,
    /// Tiers of ring1, a column each
    #[arg(
        long,
        value_enum,
        value_name = "TIER",
        value_delimiter = ',',
        default_value = "auto"
    )]
    pub tier: Vec<Tier>,
    /// The ring1 to measure [default: this one]
    #[arg(long, value_name = "PROGRAM")]
    pub ring1: Option<PathBuf>,
    /// Guest memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(64..=3072))]
    pub memory: u32,
}

impl CompareArgs {
    /// How to write the result.
    pub fn format(&self) -> Format {
        let end = self.output.as_ref().and_then(|file| file.extension());
        let by_name = || Format::from_str(end?.to_str()?, true).ok();
        self.format.or_else(by_name).unwrap_or(Format::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    fn parse(words: &[&str]) -> Result<CompareArgs, String> {
        let command = CompareArgs::augment_args(Command::new("compare").no_binary_name(true));
        let matches = command.try_get_matches_from(words);
        let matches = matches.map_err(|error| error.to_string())?;
        CompareArgs::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_means_the_embedded_guest() {
        let args = parse(&[]).unwrap();
        assert!(args.kernel.is_none() && !args.no_native && !args.no_qemu);
        assert_eq!((args.runs, args.format()), (3, Format::Text));
    }

    #[test]
    fn the_file_tells_the_format_unless_it_is_told() {
        let format = |words: &[&str]| parse(words).unwrap().format();
        assert_eq!(format(&["--output", "a.html"]), Format::Html);
        assert_eq!(format(&["--output", "a"]), Format::Text);
        assert_eq!(
            format(&["--output", "a.html", "--format", "json"]),
            Format::Json
        );
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (words, reason) in [
            (vec!["--runs", "0"], "0 is not in 1.."),
            (vec!["--initrd", "i"], "--kernel"),
            (vec!["--memory", "32"], "32 is not in 64..=3072"),
            (vec!["--tier", "jit"], "possible values"),
        ] {
            let error = parse(&words).unwrap_err();
            assert!(error.contains(reason), "{words:?}: {error}");
        }
    }
}
