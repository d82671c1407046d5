//! Builds the guest that ring1 carries, from `samples/guests/default`, into
//! `OUT_DIR/default-guest.elf`: its programs first, each an ELF file, then the
//! kernel that has them inside.

#[path = "../samples/guests/toolchain.rs"]
mod toolchain;

use std::path::{Path, PathBuf};
use toolchain::Toolchain;

const KERNEL: &[&str] = &[
    "boot.S",
    "entry.S",
    "console.c",
    "tables.c",
    "interrupts.c",
    "memory.c",
    "process.c",
    "syscall.c",
    "kernel.c",
    "programs.S",
];

const PROGRAMS: &[&str] = &["sieve", "crc", "trespass", "meter", "partner"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../samples/guests/toolchain.rs");
    if let Err(reason) = build() {
        println!("cargo::error={}", reason.replace('\n', " | "));
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let here = std::env::var("CARGO_MANIFEST_DIR").map_err(|error| error.to_string())?;
    let out = PathBuf::from(std::env::var("OUT_DIR").map_err(|error| error.to_string())?);
    let sources = Path::new(&here).join("../samples/guests/default");
    let tools = Toolchain::new(&sources, &out)?;
    let format = tools.compile("format.c")?;
    let library = [
        tools.compile("user/start.S")?,
        tools.compile("user/user.c")?,
        format.clone(),
    ];
    for program in PROGRAMS {
        let mut objects = library.to_vec();
        objects.push(tools.compile(&format!("user/{program}.c"))?);
        tools.link("user/link.ld", &objects, &format!("{program}.elf"))?;
    }
    let mut objects = vec![format];
    for source in KERNEL {
        objects.push(tools.compile(source)?);
    }
    tools.link("link.ld", &objects, "default-guest.elf")?;
    Ok(())
}
