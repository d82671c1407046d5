//! kvm-unit-tests for i386: one Multiboot image a test, which writes what it finds
//! to the serial port and ends by the debug-exit port.
//!
//! Number of processors and size of memory they would ask of QEMU's firmware
//! configuration device; here the first module says both.

use super::firmware;
use crate::machine::Setup;
use runtime::config::Tier;
use runtime::cpu_model::Processor;
use runtime::exit::Exit;
use std::path::Path;
use std::time::Duration;

/// What the debug-exit port is told when nothing failed, and when all was skipped.
const PASSED: Exit = Exit::DebugExit(0);
const NOTHING_TO_DO: Exit = Exit::DebugExit(77 >> 1);

/// Memory of the machine, as the environment says it.
const MEMORY_MIB: u32 = 128;
const ENVIRONMENT: &[u8] = b"NR_CPUS=1\nMEMSIZE=128\n";

/// What is known of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It must pass.
    Passes,
    /// It passes, but only compiled code with lookups is fast enough to wait for.
    PassesCompiled,
    /// It needs the interrupts of a BIOS, and passes with them.
    PassesWithBios,
    /// It asks for something that this machine says it does not have, and skips all.
    NothingToDo(&'static str),
    /// It is not run.
    Skipped(&'static str),
}

use Verdict::{NothingToDo, Passes, PassesCompiled, PassesWithBios, Skipped};

/// All tests of the i386 build, with their arguments.
pub const TESTS: &[(&str, &str, Verdict)] = &[
    ("asyncpf", "", Skipped("KVM's paravirtual page faults")),
    ("cmpxchg8b", "", Passes),
    ("dummy", "", Passes),
    ("emulator", "", Passes),
    ("eventinj", "", Passes),
    ("hpet_read_test", "", Skipped("no HPET on this board")),
    (
        "hypercall",
        "",
        Skipped("KVM's hypercalls; fails under QEMU too"),
    ),
    ("hyperv_connections", "", Skipped("Hyper-V's interface")),
    ("hyperv_stimer", "", Skipped("Hyper-V's interface")),
    ("hyperv_synic", "", Skipped("Hyper-V's interface")),
    (
        "init",
        "",
        Skipped("wants a BIOS that resumes after a reset; fails under QEMU too"),
    ),
    ("kvmclock_test", "", Skipped("KVM's clock")),
    ("la57", "", Passes),
    (
        "msr",
        "",
        Skipped("sets EFER.SCE, which takes a 64-bit CPU; fails under QEMU too"),
    ),
    (
        "pmu",
        "",
        Skipped("no performance counters; fails under QEMU too"),
    ),
    ("realmode", "", PassesWithBios),
    ("s3", "", Skipped("sleeps by a BIOS; fails under QEMU too")),
    ("setjmp", "", Passes),
    ("sieve", "", PassesCompiled),
    ("smap", "", Passes),
    ("smptest", "", Passes),
    ("taskswitch", "", Passes),
    ("taskswitch2", "", Passes),
    ("tsc", "", Passes),
    ("tsc_adjust", "", Passes),
    ("tsx-ctrl", "", NothingToDo("no TSX")),
    ("umip", "", Passes),
    ("vmexit", "cpuid", Passes),
    ("vmexit", "inl_from_pmtimer", Passes),
    ("vmexit", "toggle_cr0_wp", Passes),
    ("vmexit", "toggle_cr4_pge", Passes),
];

/// What is known of a test on a processor; the table is of [`Processor::Max`].
fn verdict_on(cpu: Processor, &(name, _, verdict): &(&str, &str, Verdict)) -> Verdict {
    if let Skipped(_) = verdict {
        return verdict;
    }
    match (cpu, name) {
        (Processor::Max, _) => verdict,
        (Processor::I486 | Processor::Pentium, _) => {
            Skipped("takes a P6 for granted: CMOV, the APIC base register, CR4")
        }
        (_, "la57") => Skipped("reads EFER, which only a processor with NX has"),
        (_, "smap") => NothingToDo("no SMAP"),
        (_, "tsc") => NothingToDo("no RDTSCP"),
        (_, "tsc_adjust") => NothingToDo("no IA32_TSC_ADJUST"),
        (Processor::Pentium3, "emulator") => Skipped("takes SSE2 for granted"),
        _ => verdict,
    }
}

/// Runs a test. `Err` says what was wrong.
///
/// # Errors
/// The end of what it said, if it did not end as it should.
///
/// # Panics
/// When the image cannot be read or is no image.
pub fn run(
    folder: &Path,
    test: &(&str, &str, Verdict),
    cpu: Processor,
    tier: Tier,
) -> Result<String, String> {
    let &(name, arguments, _) = test;
    let verdict = verdict_on(cpu, test);
    let expected = match verdict {
        Skipped(why) => return Ok(format!("skipped: {why}")),
        // 100 MB of scattered pages are more than a mirror has mappings for.
        PassesCompiled if matches!(tier, Tier::Interp | Tier::Mirror) => {
            return Ok("skipped: too slow".into());
        }
        NothingToDo(_) => NOTHING_TO_DO,
        Passes | PassesCompiled | PassesWithBios => PASSED,
    };
    let path = folder.join(name).with_extension("flat");
    let image = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let append = format!("{name} {arguments}");
    let setup = Setup {
        cpu,
        initrd: Some(ENVIRONMENT),
        append: append.trim_end(),
        memory_mib: MEMORY_MIB,
        timeout: Duration::from_secs(300),
        local_apic: true,
        test_device: true,
        ..Setup::new(&image, tier)
    };
    let ended = match verdict {
        PassesWithBios => setup.run_after(firmware::install),
        _ => setup.run(),
    };
    let passes = ended.serial.matches("PASS: ").count();
    if ended.exit == expected {
        return Ok(match verdict {
            NothingToDo(why) => format!("skips itself: {why}"),
            _ => format!("passed, {passes} checks"),
        });
    }
    let wrong = |line: &&str| line.contains("FAIL") || line.contains("nhandled");
    let failed: Vec<&str> = ended.serial.lines().filter(wrong).collect();
    let last: Vec<&str> = ended.serial.lines().rev().take(2).collect();
    Err(format!(
        "{:?}, {passes} checks passed; {failed:?}; ends {last:?}",
        ended.exit
    ))
}
