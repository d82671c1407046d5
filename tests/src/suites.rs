//! Other people's suites: what of them is run, and how each is judged.
//!
//! None of their code or images is in this repository. Whoever has built them
//! names their folder in `RING1_SUITES`; `docs/suites.md` says how it is laid out.
//! Here is only what we know of them: which test needs what, which cannot pass
//! and why.

pub mod firmware;
pub mod initramfs;
pub mod kvm_unit_tests;
pub mod programs;

use std::path::PathBuf;

/// The folder of the suite `name`, if there is one; else says that it is skipped.
pub fn folder(name: &str) -> Option<PathBuf> {
    let Some(suites) = std::env::var_os("RING1_SUITES") else {
        eprintln!("SKIPPED: RING1_SUITES names no folder of suites (docs/suites.md)");
        return None;
    };
    let folder = PathBuf::from(suites).join(name);
    if !folder.is_dir() {
        eprintln!("SKIPPED: no folder {}", folder.display());
        return None;
    }
    Some(folder)
}
