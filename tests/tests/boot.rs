//! Debian's own kernels, to the shell and out again.
//!
//! The kernels and the initramfs are those that `samples/debian.sh --fetch-only`
//! puts into `target/debian`; `RING1_DEBIAN` names another folder. Without them
//! the tests pass and say that they were skipped. By default each kernel boots in
//! tier `auto` and one of them in the others; `RING1_BOOTS=all` boots both in all,
//! and on all processors that they accept.
//!
//! One boot does all that is asked of a boot: it prints what the system is, forks
//! a hundred processes, compresses a mebibyte, checks the result, and powers the
//! machine off. What it prints has to be the same in every tier.

use runtime::config::Tier;
use runtime::cpu_model::Processor;
use runtime::exit::Exit;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::images::debian_folder;
use tests::machine::{Ended, Setup, Step, TIERS};

/// Host time for one boot; the slowest takes a tenth of it on an idle machine.
const BOOT_TIMEOUT: Duration = Duration::from_secs(600);

/// The packages' kernels and what `uname -r` says of each.
const KERNELS: [(&str, &str); 2] = [("vmlinuz-686", "-686 "), ("vmlinuz-686-pae", "-686-pae ")];

/// Bytes that the guest compresses.
const GZIP_BYTES: usize = 1 << 20;

/// What the guest does. `seq` makes text that compresses neither too well nor too
/// badly, and that is easily made again; the first ten bytes of gzip's output
/// hold a time.
const COMMANDS: &str = "uname -a; \
    i=0; while [ $i -lt 100 ]; do /bin/true; (exit 0); i=$((i+1)); done; echo forked $i; \
    seq 1 200000 | head -c 1048576 >/root/in; sha256sum </root/in; \
    gzip -c /root/in >/root/in.gz; tail -c +11 /root/in.gz | sha256sum; \
    gunzip -c /root/in.gz | sha256sum; grep -c processor /proc/cpuinfo";

/// The kernels' folder, if everything is there.
fn folder() -> Option<PathBuf> {
    let folder = debian_folder();
    let files = KERNELS.map(|(kernel, _)| kernel).into_iter();
    let absent = |file: &&str| !folder.join(file).is_file();
    match files.chain(["initrd.gz"]).find(absent) {
        None => Some(folder),
        Some(missing) => {
            eprintln!("SKIPPED: no {missing}; samples/debian.sh --fetch-only makes it");
            None
        }
    }
}

/// The bytes that the guest's `seq 1 200000 | head -c` makes.
fn gzip_input() -> Vec<u8> {
    let mut text: Vec<u8> = (1..=200_000)
        .flat_map(|n| format!("{n}\n").into_bytes())
        .collect();
    text.truncate(GZIP_BYTES);
    text
}

/// The SHA-256 checksum of `bytes`, by the host's program.
fn checksum(bytes: &[u8]) -> Option<String> {
    let output = piped(&mut Command::new("sha256sum"), bytes)?;
    Some(String::from_utf8_lossy(&output).trim_end().to_string())
}

/// What `command` writes when it is given `input`; `None` if the host cannot run it.
fn piped(command: &mut Command, input: &[u8]) -> Option<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take()?;
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output()
    });
    Some(output.ok()?.stdout)
}

/// Checksum of what the same program makes of the same input on this host.
fn native_gzip_checksum(folder: &Path) -> Option<String> {
    let gzip = &mut Command::new(folder.join("busybox"));
    let packed = piped(gzip.args(["gzip", "-c"]), &gzip_input())?;
    checksum(packed.get(10..)?)
}

/// Boots `kernel` and runs `commands`, or the interactive shell if there are none.
fn boot(folder: &Path, kernel: &str, tier: Tier, commands: &str, script: &[Step]) -> Ended {
    boot_on(Processor::Max, folder, kernel, tier, commands, script)
}

/// The same on a certain processor.
fn boot_on(
    cpu: Processor,
    folder: &Path,
    kernel: &str,
    tier: Tier,
    commands: &str,
    script: &[Step],
) -> Ended {
    let read = |file: &str| std::fs::read(folder.join(file)).expect("a readable file");
    let (kernel, initrd) = (read(kernel), read("initrd.gz"));
    let mut append = String::from("console=ttyS0 quiet");
    if !commands.is_empty() {
        append += &format!(" ring1.run=\"{commands}\"");
    }
    let setup = Setup {
        cpu,
        initrd: Some(&initrd),
        append: &append,
        memory_mib: 128,
        timeout: BOOT_TIMEOUT,
        script,
        ..Setup::new(&kernel, tier)
    };
    setup.run()
}

/// The lines between the marks of the first process, without the kernel's.
fn transcript(serial: &str) -> Vec<String> {
    let ready = serial
        .lines()
        .skip_while(|line| !line.starts_with("READY "));
    let inside = ready.skip(1).take_while(|line| !line.starts_with("DONE "));
    let said = inside.filter(|line| !line.starts_with('['));
    said.map(|line| line.trim_end().to_string()).collect()
}

/// Boots `kernel` in each tier; what each prints must be as expected.
fn boot_in(tiers: &[(&str, Tier)], kernel: &str, release: &str) {
    let Some(folder) = folder() else { return };
    let (input, packed) = (checksum(&gzip_input()), native_gzip_checksum(&folder));
    if input.is_none() || packed.is_none() {
        eprintln!("SKIPPED: this host cannot run gzip and sha256sum to compare with");
    }
    for (name, tier) in tiers {
        let ended = boot(&folder, kernel, *tier, COMMANDS, &[]);
        let context = format!("{kernel}, {name}: {:?} after\n{}", ended.exit, ended.serial);
        assert_eq!(ended.exit, Exit::PowerOff, "{context}");
        assert!(ended.serial.contains("\nDONE 0"), "{context}");
        let said = transcript(&ended.serial);
        let [uname, forked, plain, gzipped, unpacked, processors] = said.as_slice() else {
            panic!("six lines of results are expected: {context}");
        };
        assert!(
            uname.contains(release) && uname.contains(" i686"),
            "{context}"
        );
        assert_eq!(forked, "forked 100", "{context}");
        assert_eq!(plain, input.as_ref().unwrap_or(plain), "{context}");
        assert_eq!(plain, unpacked, "{context}");
        assert_eq!(gzipped, packed.as_ref().unwrap_or(gzipped), "{context}");
        assert_eq!(processors, "1", "{context}");
    }
}

/// `tiers`, or all if every boot was asked for.
fn chosen(tiers: &[(&'static str, Tier)]) -> Vec<(&'static str, Tier)> {
    match std::env::var_os("RING1_BOOTS").is_some_and(|boots| boots == "all") {
        true => TIERS.to_vec(),
        false => tiers.to_vec(),
    }
}

#[test]
fn the_686_kernel_boots() {
    let (kernel, release) = KERNELS[0];
    let tiers = chosen(&[("auto", Tier::Auto), ("interp", Tier::Interp)]);
    boot_in(&tiers, kernel, release);
}

#[test]
fn the_686_pae_kernel_boots() {
    let (kernel, release) = KERNELS[1];
    let tiers = chosen(&[("auto", Tier::Auto), ("cranelift", Tier::Cranelift)]);
    boot_in(&tiers, kernel, release);
}

/// Processors that have what Debian's kernels ask for, and the kernel to boot on
/// each, unless every boot was asked for.
const PROCESSORS: [(Processor, Option<usize>); 3] = [
    (Processor::Pentium3, Some(1)),
    (Processor::Pentium4, None),
    (Processor::Max, Some(0)),
];

/// Warnings of the kernel, by their raw form.
const WARNINGS: &str = "dmesg -r | grep '^<[0-4]>'; grep flags /proc/cpuinfo";

/// A warning that a real processor of its kind would not have given rise to. The
/// machine's other parts, and the load of its host, are not the processor's fault.
fn blames_the_processor(line: &str) -> bool {
    const SUBJECTS: [&str; 7] = [
        "CPU",
        "FPU",
        "fpu",
        "perfctr",
        "PMU hardware",
        "MSR",
        "microcode",
    ];
    // There are no tables to list it.
    const HARMLESS: [&str; 3] = ["not listed by", "clocksource", "tsc: "];
    line.starts_with('<')
        && SUBJECTS.iter().any(|subject| line.contains(subject))
        && !HARMLESS.iter().any(|harmless| line.contains(harmless))
}

#[test]
fn other_processors_boot_without_complaints() {
    let Some(folder) = folder() else { return };
    let all = std::env::var_os("RING1_BOOTS").is_some_and(|boots| boots == "all");
    for (cpu, usual) in PROCESSORS {
        let kernels = KERNELS.iter().enumerate();
        for (_, (kernel, _)) in kernels.filter(|&(n, _)| all || Some(n) == usual) {
            let ended = boot_on(cpu, &folder, kernel, Tier::Auto, WARNINGS, &[]);
            let context = format!("{kernel} on {cpu:?}: {:?}\n{}", ended.exit, ended.serial);
            assert_eq!(ended.exit, Exit::PowerOff, "{context}");
            let said = transcript(&ended.serial);
            let flags = said.last().expect("a line of flags");
            assert_eq!(
                flags.contains(" sse2"),
                cpu != Processor::Pentium3,
                "{context}"
            );
            let blame = said.iter().find(|line| blames_the_processor(line));
            assert_eq!(blame, None, "{context}");
        }
    }
}

#[test]
fn somebody_types_at_the_shell() {
    let Some(folder) = folder() else { return };
    let script: [Step; 3] = [
        ("READY ", b""),
        ("# ", b"echo h''i\n"),
        ("\nhi\r\n", b"poweroff -f\n"),
    ];
    let ended = boot(&folder, KERNELS[0].0, Tier::Auto, "", &script);
    assert_eq!(ended.exit, Exit::PowerOff, "{}", ended.serial);
}
