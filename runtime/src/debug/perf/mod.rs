//! Names of guest code for Linux's `perf`, which otherwise sees one nameless mapping.
//!
//! Two ways exist. A *map* is a text file where perf looks by itself; it knows no time,
//! so code that takes the place of other code after a flush has both names. A *jitdump*
//! ([`jitdump`]) has times and the code itself, so perf can annotate it, but must be
//! folded into the recording first.
//!
//! A block is reported when its code is placed, which is rare enough to cost nothing.

mod jitdump;

use crate::debug::symbols::Symbols;
use clap::{Args, ValueEnum};
use jitdump::JitDump;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// The command line's options for perf, and for a dump at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Debugging")]
pub struct PerfArgs {
    /// Tell Linux's perf the names of guest code
    #[arg(long, value_name = "HOW", value_enum)]
    pub perf: Option<PerfKind>,
    /// Take them from a System.map, a copy of /proc/kallsyms or an ELF file
    /// [default: those of a kernel in ELF]
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
    /// Write all blocks to this file when the guest ends: as a page, or as JSON, CLIF, graph or
    /// text if its name ends in .json, .clif, .dot or .txt
    #[arg(long, value_name = "FILE")]
    pub dump: Option<PathBuf>,
}

/// The values of `--perf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PerfKind {
    /// In /tmp/perf-PID.map, where perf report looks
    Map,
    /// In jit-PID.dump in this folder, for perf inject --jit
    Jitdump,
}

/// What is being written for perf.
pub struct Perf {
    symbols: Symbols,
    out: Output,
}

enum Output {
    Map(BufWriter<File>),
    JitDump(JitDump),
}

impl Perf {
    /// Begins to write; also returns where.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(kind: PerfKind, symbols: Symbols) -> io::Result<(Self, PathBuf)> {
        let pid = std::process::id();
        let (out, path) = match kind {
            PerfKind::Map => {
                let path = PathBuf::from(format!("/tmp/perf-{pid}.map"));
                // Whoever has put a link there does not choose what is overwritten.
                let _ = std::fs::remove_file(&path);
                let file = File::create_new(&path)?;
                (Output::Map(BufWriter::new(file)), path)
            }
            PerfKind::Jitdump => {
                let path = std::env::current_dir()?.join(format!("jit-{pid}.dump"));
                (Output::JitDump(JitDump::create(&path)?), path)
            }
        };
        Ok((Self { symbols, out }, path))
    }

    /// Whether code must be in memory without a file.
    pub fn wants_no_file(&self) -> bool {
        matches!(self.out, Output::Map(_))
    }

    /// A block's code is at a host address from now on.
    #[cold]
    pub fn block(&mut self, eip: u32, address: u64, code: &[u8]) {
        let name = self.symbols.name(eip);
        self.code(
            &name.unwrap_or_else(|| format!("guest:{eip:08x}")),
            address,
            code,
        );
    }

    /// Code with a name of its own.
    pub fn code(&mut self, name: &str, address: u64, code: &[u8]) {
        let written = match &mut self.out {
            Output::Map(out) => writeln!(out, "{address:x} {:x} {name}", code.len()),
            Output::JitDump(dump) => dump.load(name, address, code),
        };
        // Without room on the disk, the guest goes on and the profile has fewer names.
        let _ = written;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_a_line_for_each_code() {
        let symbols = Symbols::parse(b"c1000000 T start\n");
        let (mut perf, path) = Perf::open(PerfKind::Map, symbols).expect("a file in /tmp");
        perf.block(0xc100_0010, 0x7f00_0000, &[0x90; 16]);
        perf.block(0x0804_8000, 0x7f00_0010, &[0x90; 3]);
        drop(perf);
        let text = std::fs::read_to_string(&path).expect("the map");
        let _ = std::fs::remove_file(path);
        assert_eq!(text, "7f000000 10 start+0x10\n7f000010 3 guest:08048000\n");
    }
}
