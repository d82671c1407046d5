//! What can be wrong with a guest image, in one sentence that names the file.
//!
//! An image comes from outside and may be truncated, for another machine, or made to break us. Whatever it
//! is, loading ends in an [`Entry`](super::Entry) or in a [`LoadError`]; nothing in this folder panics.
//! A [`Problem`] is written so that it reads on after the file's name: "`vmlinuz` is truncated: …".

use std::path::{Path, PathBuf};

/// A guest image that cannot be loaded: which file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}", .file.display())]
pub struct LoadError {
    /// The offending file, as the user named it.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with one file. Addresses are guest physical, sizes in bytes.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The host cannot read the file; the text is the host's reason.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The file has no bytes.
    #[error("is empty")]
    Empty,
    /// The file is longer than any guest's memory.
    #[error("is {size} bytes long, more than a guest can hold")]
    Huge {
        /// The file's length.
        size: u64,
    },
    /// No known format matches, and no `--flat` was given.
    #[error(
        "is no bzImage, ELF, Multiboot or boot sector image (a flat binary needs --flat ADDRESS)"
    )]
    Unrecognised,
    /// The file is of a known kind that ring1 cannot boot.
    #[error("is {0}")]
    Unsupported(&'static str),
    /// An ELF file for another processor.
    #[error("is an ELF file for {machine}, not for the 32-bit x86")]
    WrongMachine {
        /// The processor's name, or its `e_machine` number.
        machine: String,
    },
    /// The file ends before a part that its headers announce.
    #[error("is truncated: its {part} ends at byte {needed}, the file at byte {size}")]
    Truncated {
        /// Which part is cut.
        part: &'static str,
        /// Where that part would end in the file.
        needed: u64,
        /// The file's length.
        size: u64,
    },
    /// A header field has a value that no sound file has.
    #[error("is malformed: {0}")]
    Malformed(&'static str),
    /// A part does not lie in guest RAM.
    #[error("does not fit: its {part} takes {start:#x} to {end:#x}, and {why}")]
    OutOfMemory {
        /// Which part.
        part: &'static str,
        /// Its first address.
        start: u64,
        /// One past its last address.
        end: u64,
        /// What the range runs into.
        why: String,
    },
    /// Two parts want the same addresses.
    #[error("cannot be placed: its {part} at {start:#x} overlaps the {other}")]
    Overlap {
        /// The part being placed.
        part: &'static str,
        /// Its first address.
        start: u64,
        /// The part already there.
        other: &'static str,
    },
    /// The guest needs more RAM than it was given.
    #[error("needs at least {needed_mib} MiB of guest memory, which has {have_mib}")]
    TooLittleMemory {
        /// The least amount that would do.
        needed_mib: u64,
        /// The amount configured.
        have_mib: u64,
    },
    /// The image's boot protocol has no room for this command line.
    #[error("takes a command line of at most {limit} bytes, the one given has {size}")]
    CommandLineTooLong {
        /// The longest that it takes.
        limit: u64,
        /// The length of the one given.
        size: u64,
    },
    /// The image's format has no way to hand over something that was given.
    #[error("is {format}, which has no way to receive {what}")]
    NoProtocolFor {
        /// The image's format.
        format: &'static str,
        /// What was given in vain.
        what: &'static str,
    },
}

impl Problem {
    /// The problem, laid at the door of `file`.
    pub fn of(self, file: &Path) -> LoadError {
        LoadError {
            file: file.to_path_buf(),
            problem: self,
        }
    }
}
