//! The competitors and how each is started.

use anyhow::{Context, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// QEMU's system emulator.
pub const QEMU: &str = "qemu-system-i386";
/// QEMU's emulator of single programs.
pub const QEMU_USER: &str = "qemu-i386";

/// A guest: what virtual machines are given.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The initial RAM disk's file, if there is one.
    pub initrd: Option<PathBuf>,
    /// The kernel command line.
    pub append: String,
    /// Guest memory in MiB.
    pub memory_mib: u32,
}

/// One that runs guests, or the programs in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The host CPU itself, for programs.
    Native,
    /// ring1, in the named tier.
    Ring1 {
        /// The program.
        program: PathBuf,
        /// The value of `--tier`.
        tier: String,
        /// Where it keeps translated code, if anywhere.
        code_cache: Option<PathBuf>,
    },
    /// QEMU's binary translator, for whole systems.
    Qemu,
    /// The same, for programs.
    QemuUser,
}

/// What tables call it.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Native => f.write_str("native"),
            Subject::Ring1 {
                tier, code_cache, ..
            } => {
                let tier = if tier == "auto" { "" } else { tier };
                let kept = code_cache.as_ref().map_or("", |_| "with code kept");
                let words = ["ring1", tier, kept];
                let words = words.iter().filter(|word| !word.is_empty());
                f.write_str(&words.copied().collect::<Vec<_>>().join(" "))
            }
            Subject::Qemu => f.write_str("QEMU"),
            Subject::QemuUser => f.write_str("QEMU user"),
        }
    }
}

impl Subject {
    /// QEMU in both its forms, as far as it is installed.
    pub fn installed_qemus() -> Vec<Self> {
        let qemus = [(QEMU, Subject::Qemu), (QEMU_USER, Subject::QemuUser)];
        let found = |(program, subject)| version(program).map(|_| subject);
        qemus.into_iter().filter_map(found).collect()
    }

    /// Whether it is ring1.
    pub fn is_ring1(&self) -> bool {
        matches!(self, Subject::Ring1 { .. })
    }

    /// Whether it runs whole systems.
    pub fn is_machine(&self) -> bool {
        self.is_ring1() || *self == Subject::Qemu
    }

    /// The command that boots `guest` with its console on standard output;
    /// `None` of one that is no machine.
    pub fn boot_command(&self, guest: &Guest) -> Option<Command> {
        let memory = guest.memory_mib.to_string();
        let mut command = match self {
            Subject::Native | Subject::QemuUser => return None,
            Subject::Ring1 {
                program,
                tier,
                code_cache,
            } => {
                let mut command = Command::new(program);
                command.args(["boot", "--tier", tier, "--memory", &memory]);
                // Without these there is no folder of the user's for code.
                command.env_remove("HOME").env_remove("XDG_CACHE_HOME");
                if let Some(folder) = code_cache {
                    command.arg("--code-cache").arg(folder);
                }
                command.arg("--kernel").arg(&guest.kernel);
                add_file(&mut command, "--initrd", guest.initrd.as_deref());
                command.arg("--append");
                command
            }
            Subject::Qemu => {
                let mut command = Command::new(QEMU);
                command.args(["-accel", "tcg", "-m", &memory, "-nic", "none"]);
                command.args(["-nographic", "-no-reboot"]);
                command.arg("-kernel").arg(&guest.kernel);
                add_file(&mut command, "-initrd", guest.initrd.as_deref());
                command.arg("-append");
                command
            }
        };
        command.arg(&guest.append);
        Some(command)
    }

    /// The command that runs `program` on the host; `None` of a machine.
    pub fn program_command(&self, program: &Path) -> Option<Command> {
        match self {
            Subject::Native => Some(Command::new(program)),
            Subject::QemuUser => {
                let mut command = Command::new(QEMU_USER);
                command.arg(program);
                // What the workloads' own exec goes through.
                if let Some(qemu) = on_path(QEMU_USER) {
                    command.env("BENCH_EXECPREFIX", qemu);
                }
                Some(command)
            }
            Subject::Ring1 { .. } | Subject::Qemu => None,
        }
    }
}

/// An option whose value is a file, if there is one.
fn add_file(command: &mut Command, option: &str, file: Option<&Path>) {
    if let Some(file) = file {
        command.arg(option).arg(file);
    }
}

/// The first line that `program` says about its version; `None` if it is not installed.
pub fn version(program: &str) -> Option<String> {
    let mut command = Command::new(program);
    let output = command
        .arg("--version")
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output
        .status
        .success()
        .then(|| text.lines().next().map(str::to_owned))?
}

/// Where a program is found by its name.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
    candidates.into_iter().find(|file| file.is_file())
}

/// The file's name without its folders, for texts that are kept.
pub fn short_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Whether the host CPU and kernel run the 32-bit `program`.
///
/// # Errors
/// Why they do not.
pub fn runs_natively(program: &Path) -> Result<()> {
    let mut command = Command::new(program);
    // The workloads' option that lists them.
    let status = command.arg("-l").stdout(Stdio::null()).status();
    status.with_context(|| format!("this host does not run {}", program.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring1(tier: &str) -> Subject {
        Subject::Ring1 {
            program: "ring1".into(),
            tier: tier.into(),
            code_cache: None,
        }
    }

    #[test]
    fn both_machines_are_given_the_same_guest() {
        let guest = Guest {
            kernel: "k".into(),
            initrd: Some("i".into()),
            append: "console=ttyS0".into(),
            memory_mib: 64,
        };
        for subject in [ring1("interp"), Subject::Qemu] {
            let command = subject.boot_command(&guest).unwrap();
            let given: Vec<_> = command.get_args().filter_map(|a| a.to_str()).collect();
            for expected in ["k", "i", "64"] {
                assert!(given.contains(&expected), "{given:?}");
            }
            assert_eq!(given.last(), Some(&"console=ttyS0"));
        }
        assert!(Subject::Native.boot_command(&guest).is_none());
    }

    #[test]
    fn a_tier_is_named_unless_it_is_the_usual_one() {
        assert_eq!(ring1("auto").to_string(), "ring1");
        assert_eq!(ring1("interp").to_string(), "ring1 interp");
        let kept = Subject::Ring1 {
            program: "ring1".into(),
            tier: "auto".into(),
            code_cache: Some("folder".into()),
        };
        assert_eq!(kept.to_string(), "ring1 with code kept");
    }
}
