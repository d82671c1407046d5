//! Shell completions and manual pages, made from clap's definitions on the spot.
//!
//! Packages ship such files; here the program carries their source and writes them on
//! request, so they always fit it.

use super::Cli;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What `ring1 completions` can be asked for.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell whose completions to print
    #[arg(value_enum)]
    pub shell: Shell,
}

/// What `ring1 man` can be asked for.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// Write all pages into this folder instead of printing the first
    #[arg(value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub folder: Option<PathBuf>,
}

impl CompletionsArgs {
    /// Writes the script.
    ///
    /// # Errors
    /// `out` does not take it.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut visible(), "ring1", &mut script);
        out.write_all(&script)
    }
}

impl ManArgs {
    /// Prints the first page on `out`, or writes all into the folder, which is made if
    /// need be.
    ///
    /// # Errors
    /// `out` or the folder does not take them.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.folder {
            None => clap_mangen::Man::new(visible()).render(out),
            Some(folder) => pages(folder),
        }
    }
}

fn pages(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(visible(), folder)
}

/// The program without its hidden commands, which completions would show.
fn visible() -> Command {
    let program = Cli::command();
    let shown = program.get_subcommands().filter(|c| !c.is_hide_set());
    let mut visible = Command::new("ring1").version(env!("CARGO_PKG_VERSION"));
    for command in shown {
        visible = visible.subcommand(command.clone());
    }
    if let Some(about) = program.get_about() {
        visible = visible.about(about.clone());
    }
    if let Some(about) = program.get_long_about() {
        visible = visible.long_about(about.clone());
    }
    match program.get_after_long_help() {
        Some(after) => visible.after_long_help(after.clone()),
        None => visible,
    }
}
