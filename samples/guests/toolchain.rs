//! Building the guests: how the build scripts of `runtime` and `samples` use
//! the host's C compiler.
//!
//! The guests are freestanding 32-bit programs without a C library, so a
//! compiler for a 64-bit x86 host is enough: it needs `-m32` code generation,
//! but none of the 32-bit headers and libraries that distributions package
//! apart. `CC` names another compiler, such as a cross compiler. Linking goes
//! through the compiler too, which knows its linker.

use std::path::{Path, PathBuf};
use std::process::Command;

const COMPILE: &[&str] = &[
    "-m32",
    "-march=i686",
    "-O2",
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-ffreestanding",
    "-nostdinc",
    "-fno-pie",
    "-fno-pic",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    "-mgeneral-regs-only",
    "-g",
];

/// For [`Toolchain::link`]: leaves out what only debuggers read.
pub const STRIPPED: &[&str] = &["-Wl,--strip-debug"];

const LINK: &[&str] = &[
    "-m32",
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
    "-Wl,-z,max-page-size=4096",
];

/// The compiler, the guests' sources and where results go.
pub struct Toolchain {
    compiler: Vec<String>,
    sources: PathBuf,
    /// Has debug information name sources from the repository's root on.
    relative: String,
    out: PathBuf,
}

impl Toolchain {
    /// Finds the compiler and proves that it can make 32-bit code. Cargo is
    /// told to come back when the sources or `CC` change.
    ///
    /// # Errors
    /// One sentence for the person building, when there is no such compiler.
    pub fn new(sources: &Path, out: &Path) -> Result<Self, String> {
        println!("cargo::rerun-if-env-changed=CC");
        println!("cargo::rerun-if-changed={}", sources.display());
        let named = std::env::var("CC").unwrap_or_default();
        let mut compiler: Vec<String> = named.split_whitespace().map(String::from).collect();
        if compiler.is_empty() {
            compiler.push("gcc".to_owned());
        }
        let sources = sources
            .canonicalize()
            .map_err(|error| format!("cannot find {}: {error}", sources.display()))?;
        let tools = Self {
            compiler,
            relative: format!("-fdebug-prefix-map={}/=", root_of(&sources).display()),
            sources,
            out: out.to_owned(),
        };
        std::fs::create_dir_all(out)
            .map_err(|error| format!("cannot create {}: {error}", out.display()))?;
        tools.probe()?;
        Ok(tools)
    }

    fn probe(&self) -> Result<(), String> {
        let source = self.out.join("probe.c");
        std::fs::write(&source, "int probe;\n")
            .map_err(|error| format!("cannot write a probe: {error}"))?;
        let object = self.out.join("probe.o");
        self.run(COMPILE, |command| {
            command.arg("-c").arg(&source).arg("-o").arg(&object)
        })
        .map_err(|reason| {
            format!(
                "ring1's guests are 32-bit programs and need gcc (or another compiler named by CC) \
                 that accepts -m32; on Debian: apt install gcc. {reason}"
            )
        })
    }

    /// Compiles or assembles `source`, a path below the sources folder, and
    /// returns the object file. Files that the source pulls in with `.incbin`
    /// are looked for among the results so far.
    pub fn compile(&self, source: &str) -> Result<PathBuf, String> {
        let object = self.out.join(source.replace(['/', '.'], "-") + ".o");
        let include = format!("-Wa,-I,{}", self.out.display());
        self.run(COMPILE, |command| {
            command
                .args([&include, &self.relative])
                .arg("-c")
                .arg(self.sources.join(source))
                .arg("-o")
                .arg(&object)
        })?;
        Ok(object)
    }

    /// Links `objects` by the script `script`, with more `flags`, into `name` and returns
    /// its path.
    pub fn link(
        &self,
        script: &str,
        objects: &[PathBuf],
        name: &str,
        flags: &[&str],
    ) -> Result<PathBuf, String> {
        let result = self.out.join(name);
        let script = format!("-Wl,-T,{}", self.sources.join(script).display());
        self.run(LINK, |command| {
            command
                .args(flags)
                .arg(script)
                .arg("-o")
                .arg(&result)
                .args(objects)
        })?;
        Ok(result)
    }

    fn run(
        &self,
        flags: &[&str],
        add: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<(), String> {
        let mut command = Command::new(&self.compiler[0]);
        command.args(&self.compiler[1..]).args(flags);
        let output = add(&mut command)
            .output()
            .map_err(|error| format!("`{}` cannot be started: {error}.", self.compiler[0]))?;
        if output.status.success() {
            return Ok(());
        }
        let messages = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "`{}` failed:\n{}",
            self.compiler.join(" "),
            messages.trim_end()
        ))
    }
}

/// The folder that holds `samples`, which all sources are below.
fn root_of(sources: &Path) -> &Path {
    let samples = sources.ancestors().find(|at| at.ends_with("samples"));
    samples.and_then(Path::parent).unwrap_or(sources)
}
