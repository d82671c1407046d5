//! What tests of `ring1 dump` share: guests of a few bytes, and a folder for files.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// The guest of `docs/life-of-an-instruction.md`: a loop over `add [ebx+4], eax`. Behind
/// its end it has a jump to itself.
pub const LOOP: &[u8] = &[
    0xbb, 0x00, 0x90, 0x00, 0x00, 0xb9, 0x40, 0x42, 0x0f, 0x00, 0x01, 0x43, 0x04, 0x83, 0xe9, 0x01,
    0x74, 0x02, 0xeb, 0xf6, 0xb0, 0x00, 0xe6, 0xf4, 0xeb, 0xfe,
];

/// A file of this name for the test called `test`.
pub fn file(test: &str, name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder).expect("a folder for files");
    folder.join(name)
}

/// Runs `ring1 dump` with these words, after those that name a flat guest.
pub fn dump_flat(test: &str, guest: &[u8], words: &[&str]) -> Output {
    let image = file(test, "guest.bin");
    fs::write(&image, guest).expect("a guest");
    let image = image.to_str().expect("a path in UTF-8");
    let flat = ["--kernel", image, "--flat", "0x8000", "--flat-bits", "32"];
    dump(&[&flat, words].concat())
}

/// Runs `ring1 dump` with these words; it must succeed.
pub fn dump(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ring1"));
    let output = command.arg("dump").args(words).output().expect("ring1");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {error}");
    output
}
