//! Linux programs for i386, such as those by which QEMU tests its translator: run
//! under Debian's kernel in a machine and on this host, they must write the same.
//!
//! The same shell script runs on both sides: a line for each program with a
//! digest of all that it wrote and of its exit status.
//!
//! Two things are taken out. SHLD and SHRD of 16 bits by more than 16 have no
//! defined result; ours is Intel's, an AMD host has another. And the host's C
//! library would take FMA and AVX, which a 32-bit guest is not given, for some
//! functions, with other NaNs as results: it is told not to.

use super::initramfs::Archive;
use crate::images::debian_folder;
use crate::machine::Setup;
use runtime::config::Tier;
use runtime::exit::Exit;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What marks a line of results.
const MARK: &str = "PROGRAM ";

/// The script, run in the folder of the programs.
const SCRIPT: &str = "for p in *; do \
    echo \"PROGRAM $p $({ ./$p 2>&1; echo $?; } | \
    grep -v '^sh[lr]dw .*C=0000001[1-9a-f]' | md5sum)\"; done\n";

/// What the host's C library does without.
const TUNABLES: &str = "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2,-AVX";

/// By program, the digest.
pub type Digests = BTreeMap<String, String>;

fn digests(text: &str) -> Digests {
    let results = text.lines().filter_map(|line| line.strip_prefix(MARK));
    let pairs = results.filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_string(), words.next()?.to_string()))
    });
    pairs.collect()
}

/// What the programs in `folder` write on this host; `None` if it cannot run them.
pub fn native(folder: &Path) -> Option<Digests> {
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT]).current_dir(folder);
    let output = shell.env("GLIBC_TUNABLES", TUNABLES).output();
    let text = String::from_utf8_lossy(&output.ok()?.stdout).into_owned();
    Some(digests(&text)).filter(|found| !found.is_empty())
}

/// What they write in a machine under Debian's kernel, if that is there.
///
/// # Panics
/// When the machine does not end as it should.
pub fn in_machine(folder: &Path, tier: Tier) -> Option<Digests> {
    let debian = debian_folder();
    let read = |file: &str| std::fs::read(debian.join(file)).ok();
    let (kernel, initrd) = (read("vmlinuz-686")?, read("initrd.gz")?);
    let mut archive = Archive::after(&initrd)
        .file("ring1.run", format!("cd /programs; {SCRIPT}").as_bytes())
        .directory("programs");
    for entry in folder.read_dir().ok()?.flatten() {
        let name = entry.file_name().into_string().ok()?;
        archive = archive.file(
            &format!("programs/{name}"),
            &std::fs::read(entry.path()).ok()?,
        );
    }
    let initrd = archive.finish();
    let setup = Setup {
        initrd: Some(&initrd),
        append: "console=ttyS0 quiet",
        memory_mib: 256,
        timeout: Duration::from_secs(1200),
        ..Setup::new(&kernel, tier)
    };
    let ended = setup.run();
    assert_eq!(ended.exit, Exit::PowerOff, "{}", ended.serial);
    Some(digests(&ended.serial))
}
