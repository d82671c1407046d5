//! What a boot costs, from an empty machine to the guest's end: cold code only,
//! decoded, interpreted, re-encoded, linked, and little of it twice.
//!
//! The default guest is part of ring1. Debian's kernel is booted if
//! `samples/debian.sh` has put it into the target folder; it runs one command and
//! powers off.

use benches::cpu_time::CpuTime;
use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use runtime::config::{Tier, VmConfig};
use runtime::embedded;
use runtime::exit::Exit;
use runtime::launch::{Files, machine, silent_console};
use std::path::{Path, PathBuf};

/// Criterion's fewest samples: a boot takes seconds.
const SAMPLES: usize = 10;

/// A machine, from nothing to its guest's end.
fn run(config: &VmConfig, files: &Files) -> Exit {
    let mut vm = machine(config, |_| Ok(silent_console())).expect("the host gives a machine");
    files.load(config, &mut vm).expect("the guest is whole");
    vm.run()
}

fn measure(c: &mut Criterion<CpuTime>, name: &str, config: &VmConfig, end: Exit) {
    let files = Files::read(config).expect("the guest can be read");
    let mut group = c.benchmark_group("boot");
    group.sample_size(SAMPLES);
    group.sampling_mode(SamplingMode::Flat);
    group.bench_function(name, |b| {
        b.iter(|| assert_eq!(run(config, &files), end));
    });
}

fn default_guest(c: &mut Criterion<CpuTime>) {
    for (name, tier) in [("interp", Tier::Interp), ("auto", Tier::Auto)] {
        let config = VmConfig {
            tier,
            ..VmConfig::default()
        };
        let end = Exit::DebugExit(embedded::SUCCESS);
        measure(c, &format!("default guest, {name}"), &config, end);
    }
}

fn debian(c: &mut Criterion<CpuTime>) {
    let folder = debian_folder();
    let kernel = folder.join("vmlinuz-686");
    if !kernel.exists() {
        eprintln!("no Debian to boot: samples/debian.sh --fetch-only fetches it");
        return;
    }
    let config = VmConfig {
        kernel: Some(kernel),
        initrd: Some(folder.join("initrd.gz")),
        append: "console=ttyS0 ring1.run=true".into(),
        ..VmConfig::default()
    };
    measure(c, "Debian 686, auto", &config, Exit::PowerOff);
}

/// Where `samples/debian.sh` puts its results.
fn debian_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    target.unwrap_or_else(own).join("debian")
}

criterion_group! {
    name = boot;
    config = Criterion::default().with_measurement(CpuTime);
    targets = default_guest, debian
}
criterion_main!(boot);
