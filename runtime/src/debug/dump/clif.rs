//! Blocks as CLIF that clif-util takes: `clif-util test`, `cat`, `compile`.
//!
//! One file with all functions, or a folder with a file for each block.

use super::{DumpedBlock, Sink};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What a file begins with: any of the commands will do.
const HEADER: &str = "test cat\n";

/// Writes CLIF to where it is to go.
pub enum Clif {
    /// To one place.
    Together(Box<dyn Write>),
    /// To files in a folder, whose names these are.
    Apart(PathBuf, HashSet<String>),
}

impl Clif {
    /// All functions together.
    pub fn together(mut out: Box<dyn Write>) -> io::Result<Self> {
        out.write_all(HEADER.as_bytes())?;
        Ok(Self::Together(out))
    }

    /// A file for each block in a folder, which is made if need be.
    pub fn apart(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self::Apart(folder.to_owned(), HashSet::new()))
    }
}

impl Sink for Clif {
    fn block(&mut self, block: &DumpedBlock) -> io::Result<()> {
        if block.clif.iter().all(|clif| clif.is_empty()) {
            return Ok(());
        }
        match self {
            Clif::Together(out) => functions(out, block),
            Clif::Apart(folder, names) => {
                let name = name(block, names);
                let mut out = BufWriter::new(File::create(folder.join(name + ".clif"))?);
                out.write_all(HEADER.as_bytes())?;
                functions(&mut out, block)?;
                out.flush()
            }
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match self {
            Clif::Together(out) => out.flush(),
            Clif::Apart(..) => Ok(()),
        }
    }
}

/// A file name that no other block has: one address can hold several.
fn name(block: &DumpedBlock, names: &mut HashSet<String>) -> String {
    let first = format!("{:08x}", block.eip);
    let others = (2..).map(|n| format!("{first}-{n}"));
    let mut all = std::iter::once(first.clone()).chain(others);
    let free = all.find(|name| names.insert(name.clone()));
    free.unwrap_or(first)
}

/// The block's functions, with the guest's code before them.
fn functions(out: &mut impl Write, block: &DumpedBlock) -> io::Result<()> {
    writeln!(out, "\n; block {}", block.title())?;
    for part in &block.listing.parts {
        writeln!(out, ";   {:08x}  {}", part.eip, part.text)?;
    }
    for function in &block.clif {
        write!(out, "\n{function}")?;
    }
    Ok(())
}
