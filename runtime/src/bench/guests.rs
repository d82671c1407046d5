//! Finding guests: what was named, or what the scripts of `samples` have put
//! into Cargo's target folder.

use super::options::BenchArgs;
use super::subject::Guest;
use super::workloads::{Program, programs_in};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// The workloads: the guest that has them, and the same programs on the host.
#[derive(Clone, Debug)]
pub struct WorkloadFiles {
    /// The guest, without its command line.
    pub guest: Guest,
    /// The programs.
    pub programs: Vec<(Program, PathBuf)>,
}

/// Folders that may be Cargo's target folder, the likeliest first.
fn target_folders() -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    // The program is in a profile's folder there.
    let own = program.and_then(|file| Some(file.parent()?.parent()?.to_owned()));
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let all = [named, own, Some(PathBuf::from("target"))];
    all.into_iter().flatten().collect()
}

/// The first of `folders` that has the file, as its path.
fn find(folders: &[PathBuf], file: &str) -> Option<PathBuf> {
    let files = folders.iter().map(|folder| folder.join(file));
    files.into_iter().find(|file| file.exists())
}

/// A file that was named, if it is there, else one of the target folder.
fn named_or_found(named: Option<&PathBuf>, file: &str, script: &str) -> Result<PathBuf> {
    match named {
        Some(path) if path.exists() => Ok(path.clone()),
        Some(path) => bail!("there is no {}", path.display()),
        None => match find(&target_folders(), file) {
            Some(path) => Ok(path),
            None => bail!("no {file} in the target folder: run {script} first"),
        },
    }
}

const DEBIAN: &str = "samples/debian.sh --fetch-only";
const WORKLOADS: &str = "samples/workloads.sh";

fn kernel(args: &BenchArgs) -> Result<PathBuf> {
    named_or_found(args.kernel.as_ref(), "debian/vmlinuz-686", DEBIAN)
}

/// The guest whose boots are measured.
///
/// # Errors
/// What is missing, and how it is come by.
pub fn boot_guest(args: &BenchArgs) -> Result<Guest> {
    Ok(Guest {
        kernel: kernel(args)?,
        initrd: Some(named_or_found(
            args.initrd.as_ref(),
            "debian/initrd.gz",
            DEBIAN,
        )?),
        append: args.append.clone(),
        memory_mib: args.boot_memory_mib(),
    })
}

/// The workloads.
///
/// # Errors
/// What is missing, and how it is come by.
pub fn workload_files(args: &BenchArgs) -> Result<WorkloadFiles> {
    let folder = named_or_found(args.workloads.as_ref(), "workloads", WORKLOADS)?;
    let initrd = folder.join("initrd.gz");
    if !initrd.is_file() {
        bail!("{}: {WORKLOADS} makes such a folder", missing(&initrd));
    }
    let guest = Guest {
        kernel: kernel(args)?,
        initrd: Some(initrd),
        append: String::new(),
        memory_mib: args.workloads_memory_mib(),
    };
    let programs = programs_in(&folder);
    Ok(WorkloadFiles { guest, programs })
}

fn missing(file: &Path) -> String {
    format!("there is no {}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_must_be_there() {
        let nowhere = PathBuf::from("no such folder/vmlinuz");
        let error = named_or_found(Some(&nowhere), "x", DEBIAN).unwrap_err();
        assert_eq!(error.to_string(), "there is no no such folder/vmlinuz");
    }

    #[test]
    fn what_is_missing_names_the_script_that_makes_it() {
        let error = named_or_found(None, "debian/no-such-kernel", DEBIAN).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("run samples/debian.sh --fetch-only first")
        );
    }
}
