//! Builds the check guests of `guests/checks`: each its own source linked with
//! the harness, and the real-mode one as a flat binary.

#[path = "guests/toolchain.rs"]
mod toolchain;

use std::path::{Path, PathBuf};
use toolchain::{STRIPPED, Toolchain};

/// Guests entered in protected mode; `src/lib.rs` lists the same names.
const CHECKS: &[&str] = &[
    "alignment",
    "debug",
    "faults",
    "gates",
    "interrupts",
    "msr",
    "paging",
    "protection",
    "segments",
    "smc",
    "sysenter",
    "tasks",
    "v86",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=guests/toolchain.rs");
    if let Err(reason) = build() {
        println!("cargo::error={}", reason.replace('\n', " | "));
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let here = std::env::var("CARGO_MANIFEST_DIR").map_err(|error| error.to_string())?;
    let out = PathBuf::from(std::env::var("OUT_DIR").map_err(|error| error.to_string())?);
    let tools = Toolchain::new(&Path::new(&here).join("guests/checks"), &out)?;
    let harness = tools.compile("harness.S")?;
    for name in CHECKS {
        let check = tools.compile(&format!("{name}.S"))?;
        let objects = [harness.clone(), check];
        tools.link("link.ld", &objects, &format!("{name}.elf"), STRIPPED)?;
    }
    let real = tools.compile("real.S")?;
    tools.link("real.ld", &[real], "real.bin", STRIPPED)?;
    Ok(())
}
