//! Guests of a few bytes.

use crate::dumps::{dump, file};
use std::fs;
use std::process::Output;

/// The guest of `docs/life-of-an-instruction.md`: a loop over `add [ebx+4], eax`. Behind
/// its end it has a jump to itself.
pub const LOOP: &[u8] = &[
    0xbb, 0x00, 0x90, 0x00, 0x00, 0xb9, 0x40, 0x42, 0x0f, 0x00, 0x01, 0x43, 0x04, 0x83, 0xe9, 0x01,
    0x74, 0x02, 0xeb, 0xf6, 0xb0, 0x00, 0xe6, 0xf4, 0xeb, 0xfe,
];

/// Runs `ring1 dump` with these words, after those that name a flat guest.
pub fn dump_flat(test: &str, guest: &[u8], words: &[&str]) -> Output {
    let image = file(test, "guest.bin");
    fs::write(&image, guest).expect("a guest");
    let image = image.to_str().expect("a path in UTF-8");
    let flat = ["--kernel", image, "--flat", "0x8000", "--flat-bits", "32"];
    dump(&[&flat, words].concat())
}
