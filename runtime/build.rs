//! Builds what ring1 carries into `OUT_DIR`. From `samples/guests/default` the default
//! guest: its programs first, each an ELF file, then the kernel that has them inside, also
//! with debug information.
//! From `samples/guests/compare` the guest and the Linux program of `ring1 compare`,
//! which share some of the default guest's parts.

#[path = "../samples/guests/toolchain.rs"]
mod toolchain;

use std::path::{Path, PathBuf};
use toolchain::{STRIPPED, Toolchain};

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

const COMPARE_GUEST: &[&str] = &[
    "default/boot.S",
    "default/console.c",
    "default/tables.c",
    "default/format.c",
    "compare/entry.S",
    "compare/meter.c",
    "compare/space.c",
    "compare/fork.c",
    "compare/guest.c",
];

const COMPARE_PROGRAM: &[&str] = &[
    "default/format.c",
    "compare/start.S",
    "compare/meter.c",
    "compare/vdso.c",
    "compare/program.c",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../samples/guests/toolchain.rs");
    if let Err(reason) = build_default().and_then(|()| build_compare()) {
        println!("cargo::error={}", reason.replace('\n', " | "));
        std::process::exit(1);
    }
}

fn toolchain(sources: &str) -> Result<Toolchain, String> {
    let here = std::env::var("CARGO_MANIFEST_DIR").map_err(|error| error.to_string())?;
    let out = PathBuf::from(std::env::var("OUT_DIR").map_err(|error| error.to_string())?);
    Toolchain::new(&Path::new(&here).join(sources), &out)
}

fn compile_all(tools: &Toolchain, sources: &[&str]) -> Result<Vec<PathBuf>, String> {
    sources.iter().map(|source| tools.compile(source)).collect()
}

fn build_compare() -> Result<(), String> {
    let tools = toolchain("../samples/guests")?;
    let guest = compile_all(&tools, COMPARE_GUEST)?;
    tools.link("default/link.ld", &guest, "compare-guest.elf", STRIPPED)?;
    let program = compile_all(&tools, COMPARE_PROGRAM)?;
    let script = "default/user/link.ld";
    tools.link(script, &program, "compare-program.elf", STRIPPED)?;
    Ok(())
}

fn build_default() -> Result<(), String> {
    let tools = toolchain("../samples/guests/default")?;
    let format = tools.compile("format.c")?;
    let library = [
        tools.compile("user/start.S")?,
        tools.compile("user/user.c")?,
        format.clone(),
    ];
    for program in PROGRAMS {
        let mut objects = library.to_vec();
        objects.push(tools.compile(&format!("user/{program}.c"))?);
        tools.link(
            "user/link.ld",
            &objects,
            &format!("{program}.elf"),
            STRIPPED,
        )?;
    }
    let mut objects = vec![format];
    objects.extend(compile_all(&tools, KERNEL)?);
    tools.link("link.ld", &objects, "default-guest.elf", STRIPPED)?;
    tools.link("link.ld", &objects, "default-guest.debug.elf", &[])?;
    Ok(())
}
