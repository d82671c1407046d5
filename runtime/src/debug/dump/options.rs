//! The command line's options for dumps.

use crate::cli::{GuestArgs, seconds};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::time::Duration;
use translator::dump::text::Column;

/// The guest, which of its blocks to show, and how.
#[derive(Clone, Debug, Args)]
pub struct DumpArgs {
    /// The guest to look into.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Run the guest for at most this many seconds first; 0 shows the image as it is
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub run_for: Duration,
    /// Which blocks, and how.
    #[command(flatten)]
    pub show: ShowArgs,
    /// Take symbols from a System.map, a copy of /proc/kallsyms or an ELF file
    /// [default: those of a kernel in ELF]
    #[arg(long, help_heading = "Blocks", value_name = "FILE")]
    pub symbols: Option<PathBuf>,
}

/// Which blocks to show, and how.
#[derive(Clone, Debug, Default, Args)]
pub struct ShowArgs {
    /// Show the block at this address or symbol, such as 0xc1000000, sys_read or sys_read+0x1c;
    /// may be given again
    #[arg(long, help_heading = "Blocks", value_name = "ADDRESS|SYMBOL")]
    pub at: Vec<String>,
    /// Show the blocks run most often, this many [default: 1 in text and CLIF without --at]
    #[arg(long, help_heading = "Blocks", value_name = "COUNT")]
    pub hottest: Option<usize>,
    /// Show all blocks [default for the other formats]
    #[arg(long, help_heading = "Blocks")]
    pub all: bool,
    /// Which code to show
    #[arg(long, help_heading = "Code", value_enum, default_value_t)]
    pub code: CodeChoice,
    /// How hard Cranelift should try where code is made for the listing; guests run with "none"
    #[arg(long, help_heading = "Code", value_enum, default_value_t)]
    pub opt: OptChoice,
    /// Stages to show beside the guest's instructions, in text
    #[arg(long, help_heading = "Output", value_name = "STAGE,…", value_enum, value_delimiter = ',', default_values = ["clif", "host"])]
    pub stages: Vec<Stage>,
    /// How to write the blocks
    #[arg(long, help_heading = "Output", value_enum, default_value_t)]
    pub format: Format,
    /// Write to this file, or with --format clif into this folder, a file for each block
    #[arg(long, short, help_heading = "Output", value_name = "FILE|DIR")]
    pub output: Option<PathBuf>,
}

/// The values of `--code`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CodeChoice {
    /// What the guest ran with, or would have
    #[default]
    Run,
    /// Each block re-encoded, with lookups
    Direct,
    /// Each block re-encoded, for the mirror
    Mirror,
    /// Each block compiled by Cranelift
    Cranelift,
}

/// The values of `--opt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OptChoice {
    /// Quick to compile
    #[default]
    None,
    /// All of Cranelift's optimisations
    Speed,
}

/// The values of `--stages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// CLIF as it was emitted
    Clif,
    /// CLIF after Cranelift's optimisations
    Optimised,
    /// Host code
    Host,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns side by side
    #[default]
    Text,
    /// Everything, one block a line
    Json,
    /// CLIF functions that clif-util takes
    Clif,
    /// The graph of links, for Graphviz
    Dot,
    /// A page to browse in, one file that needs nothing else
    Html,
}

impl ShowArgs {
    /// All blocks into this file, in the format that its name asks for.
    pub fn all_into(path: &Path) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str());
        Self {
            all: true,
            format: match extension {
                Some("json") => Format::Json,
                Some("clif") => Format::Clif,
                Some("dot") => Format::Dot,
                Some("txt") => Format::Text,
                _ => Format::Html,
            },
            output: Some(path.to_owned()),
            stages: vec![Stage::Clif, Stage::Host],
            ..Self::default()
        }
    }

    /// Whether to show all blocks.
    pub fn wants_all(&self) -> bool {
        let whole = matches!(self.format, Format::Json | Format::Dot | Format::Html);
        self.all || whole && self.at.is_empty() && self.hottest.is_none()
    }

    /// How many of the hottest blocks to show: one if nothing was said.
    pub fn hottest_count(&self) -> usize {
        let usual = self.at.is_empty() && !self.wants_all();
        self.hottest.unwrap_or(usize::from(usual))
    }

    /// Which code to show: CLIF is Cranelift's alone.
    pub fn code_choice(&self) -> CodeChoice {
        match (self.code, self.format) {
            (CodeChoice::Run, Format::Clif) => CodeChoice::Cranelift,
            (code, _) => code,
        }
    }

    /// The columns of a text.
    pub fn columns(&self) -> Vec<Column> {
        let column = |stage: &Stage| match stage {
            Stage::Clif => Column::Clif,
            Stage::Optimised => Column::Optimised,
            Stage::Host => Column::Host,
        };
        self.stages.iter().map(column).collect()
    }
}
