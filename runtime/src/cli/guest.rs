//! `ring1 guest`: the embedded guest as a file.
//!
//! GDB, objdump and QEMU want the guest that ring1 carries as a file of its own. It is the
//! same kernel at the same addresses, with what debuggers read besides: lines of sources,
//! named from the repository's root on.

use crate::embedded;
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// What `ring1 guest` can be asked for.
#[derive(Clone, Debug, Args)]
pub struct GuestFileArgs {
    /// Write it here: an ELF file with debug information
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
}

impl GuestFileArgs {
    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self) -> Result<()> {
        std::fs::write(&self.file, embedded::DEBUG_IMAGE)
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}
