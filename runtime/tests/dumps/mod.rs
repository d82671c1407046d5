//! What tests of `ring1 dump` share: running it, and a folder for files.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A file of this name for the test called `test`.
pub fn file(test: &str, name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder).expect("a folder for files");
    folder.join(name)
}

/// Runs `ring1 dump` with these words; it must succeed.
pub fn dump(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ring1"));
    let output = command.arg("dump").args(words).output().expect("ring1");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {error}");
    output
}
