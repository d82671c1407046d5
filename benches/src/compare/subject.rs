//! The competitors and how each is started.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The competitor's program.
pub const QEMU: &str = "qemu-system-i386";

/// A guest: what both virtual machines are given.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The initial RAM disk's file.
    pub initrd: PathBuf,
    /// The kernel command line.
    pub append: String,
    /// Guest memory in MiB.
    pub memory_mib: u32,
}

/// One that runs guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// ring1, in the named tier.
    Ring1 {
        /// The program.
        program: PathBuf,
        /// The value of `--tier`.
        tier: String,
        /// Where it keeps code, if it does.
        code_cache: Option<PathBuf>,
    },
    /// QEMU's binary translator.
    Qemu,
}

impl Subject {
    /// ring1 at `program`, or beside the running program.
    ///
    /// # Errors
    /// It has not been built.
    pub fn ring1(program: Option<PathBuf>, tier: &str) -> Result<Self> {
        let program = match program {
            Some(program) => program,
            None => std::env::current_exe()?.with_file_name("ring1"),
        };
        if !program.is_file() {
            bail!("no ring1 beside this program: build it in the same profile, or give --ring1");
        }
        Ok(Subject::Ring1 {
            program,
            tier: tier.to_owned(),
            code_cache: None,
        })
    }

    /// The same with its code kept in a folder.
    pub fn keeping(self, folder: &Path) -> Self {
        match self {
            Subject::Ring1 { program, tier, .. } => Subject::Ring1 {
                program,
                tier,
                code_cache: Some(folder.to_owned()),
            },
            other => other,
        }
    }

    /// QEMU, if it is installed.
    pub fn qemu() -> Option<Self> {
        let mut version = Command::new(QEMU);
        version.arg("--version").stdout(Stdio::null());
        version.status().ok()?.success().then_some(Subject::Qemu)
    }

    /// What tables call it.
    pub fn name(&self) -> String {
        match self {
            Subject::Ring1 {
                tier, code_cache, ..
            } => match code_cache {
                None => format!("ring1 {tier}"),
                Some(_) => format!("ring1 {tier}, code kept"),
            },
            Subject::Qemu => "QEMU".to_owned(),
        }
    }

    /// The command that boots `guest` with its console on standard output.
    pub fn command(&self, guest: &Guest) -> Command {
        let memory = guest.memory_mib.to_string();
        let mut command = match self {
            Subject::Ring1 {
                program,
                tier,
                code_cache,
            } => {
                let mut command = Command::new(program);
                // The user's own cache is nobody's business here.
                command.env_remove("HOME").env_remove("XDG_CACHE_HOME");
                command.args(["boot", "--tier", tier, "--memory", &memory]);
                if let Some(folder) = code_cache {
                    command.arg("--code-cache").arg(folder);
                }
                command.arg("--kernel").arg(&guest.kernel);
                command.arg("--initrd").arg(&guest.initrd);
                command.arg("--append");
                command
            }
            Subject::Qemu => {
                let mut command = Command::new(QEMU);
                command.args(["-accel", "tcg", "-m", &memory, "-nic", "none"]);
                command.args(["-nographic", "-no-reboot"]);
                command.arg("-kernel").arg(&guest.kernel);
                command.arg("-initrd").arg(&guest.initrd);
                command.arg("-append");
                command
            }
        };
        command.arg(&guest.append);
        command
    }
}

/// The file's name without its folders, for texts that are kept.
pub fn short_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The first line that QEMU says about its version.
///
/// # Errors
/// It cannot be run.
pub fn qemu_version() -> Result<String> {
    let output = Command::new(QEMU).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().context("QEMU says no version")?;
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_given_the_same_guest() {
        let guest = Guest {
            kernel: "k".into(),
            initrd: "i".into(),
            append: "console=ttyS0".into(),
            memory_mib: 64,
        };
        let ring1 = Subject::Ring1 {
            program: "ring1".into(),
            tier: "interp".into(),
            code_cache: Some("c".into()),
        };
        for subject in [ring1, Subject::Qemu] {
            let command = subject.command(&guest);
            let given: Vec<_> = command.get_args().filter_map(|a| a.to_str()).collect();
            for expected in ["k", "i", "64"] {
                assert!(given.contains(&expected), "{given:?}");
            }
            assert_eq!(given.last(), Some(&"console=ttyS0"));
        }
    }
}
