//! Other people's suites judge the CPU, in every tier.
//!
//! They are run from the folder that `RING1_SUITES` names, and skipped without it;
//! `docs/suites.md` says what belongs there, and what of it passes.

use runtime::config::Tier;
use runtime::cpu_model::Processor;
use runtime::exit::Exit;
use std::time::Duration;
use tests::machine::{Setup, TIERS};
use tests::suites::{folder, kvm_unit_tests, programs};

/// The POST code that test386 ends with.
const TEST386_DONE: u8 = 0xFF;

/// Runs test386 and compares what it says with its own reference.
fn test386(cpu: Processor, tier: Tier) {
    let Some(folder) = folder("test386") else {
        return;
    };
    let read = |file: &str| std::fs::read(folder.join(file)).expect("a readable file");
    let rom = read("test386.bin");
    let setup = Setup {
        cpu,
        timeout: Duration::from_secs(300),
        ..Setup::rom(&rom, tier)
    };
    let ended = setup.run();
    let code = ended.vm.cpu.pc.post_code();
    println!(
        "test386, {cpu:?}, {tier:?}: POST code {code:02X}, {:?}",
        ended.exit
    );
    assert_eq!(
        code,
        TEST386_DONE,
        "{}",
        runtime::summary::registers(&ended.vm.cpu)
    );
    let reference = String::from_utf8(read("test386-EE-reference.txt")).expect("text");
    let mut lines = reference.lines().zip(ended.serial.lines()).zip(1..);
    if let Some(((want, got), line)) = lines.find(|((want, got), _)| want.trim() != got.trim()) {
        panic!("line {line} should be {want}, is {got}");
    }
    let (wanted, said) = (reference.lines().count(), ended.serial.lines().count());
    assert_eq!(said, wanted, "lines");
}

/// Runs kvm-unit-tests; all that fail are shown.
fn kvm_unit_tests(cpu: Processor, tier: Tier) {
    let Some(folder) = folder("kvm-unit-tests") else {
        return;
    };
    let mut failures = Vec::new();
    for test in kvm_unit_tests::TESTS {
        let (name, arguments, _) = test;
        let name = format!("{name} {arguments}");
        let result = kvm_unit_tests::run(&folder, test, cpu, tier);
        let (Ok(text) | Err(text)) = &result;
        println!("{cpu:?} {tier:?} {name:24} {text}");
        failures.extend(result.err().map(|why| format!("{name}: {why}")));
    }
    assert!(
        failures.is_empty(),
        "{cpu:?}, {tier:?}\n{}",
        failures.join("\n")
    );
}

#[test]
fn test386_interpreted() {
    test386(Processor::Max, Tier::Interp);
}

#[test]
fn test386_compiled() {
    test386(Processor::Max, Tier::Cranelift);
}

#[test]
fn test386_re_encoded() {
    test386(Processor::Max, Tier::Direct);
}

#[test]
fn test386_mirrored() {
    test386(Processor::Max, Tier::Mirror);
}

#[test]
fn test386_mixed() {
    test386(Processor::Max, Tier::Auto);
}

#[test]
fn test386_on_a_486() {
    TIERS
        .into_iter()
        .for_each(|(_, tier)| test386(Processor::I486, tier));
}

#[test]
fn test386_on_a_pentium() {
    TIERS
        .into_iter()
        .for_each(|(_, tier)| test386(Processor::Pentium, tier));
}

#[test]
fn test386_on_a_pentium_3_and_4() {
    for (_, tier) in TIERS {
        test386(Processor::Pentium3, tier);
        test386(Processor::Pentium4, tier);
    }
}

#[test]
fn kvm_unit_tests_interpreted() {
    kvm_unit_tests(Processor::Max, Tier::Interp);
}

#[test]
fn kvm_unit_tests_compiled() {
    kvm_unit_tests(Processor::Max, Tier::Cranelift);
}

#[test]
fn kvm_unit_tests_re_encoded() {
    kvm_unit_tests(Processor::Max, Tier::Direct);
}

#[test]
fn kvm_unit_tests_mirrored() {
    kvm_unit_tests(Processor::Max, Tier::Mirror);
}

#[test]
fn kvm_unit_tests_mixed() {
    kvm_unit_tests(Processor::Max, Tier::Auto);
}

#[test]
fn kvm_unit_tests_on_a_pentium_3() {
    TIERS
        .into_iter()
        .for_each(|(_, tier)| kvm_unit_tests(Processor::Pentium3, tier));
}

#[test]
fn kvm_unit_tests_on_a_pentium_4() {
    TIERS
        .into_iter()
        .for_each(|(_, tier)| kvm_unit_tests(Processor::Pentium4, tier));
}

#[test]
fn no_kvm_unit_test_is_forgotten() {
    let Some(folder) = folder("kvm-unit-tests") else {
        return;
    };
    for entry in folder.read_dir().expect("a readable folder").flatten() {
        let path = entry.path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        let known = kvm_unit_tests::TESTS.iter().any(|test| test.0 == name);
        assert!(known, "{name} is not in the table");
    }
}

/// QEMU's tests of whole machines: a Multiboot image each, which powers the machine
/// off at once if all is well, else ends by the debug-exit port.
#[test]
fn qemu_system_tests_power_off() {
    let Some(folder) = folder("qemu-system") else {
        return;
    };
    for entry in folder.read_dir().expect("a readable folder").flatten() {
        let image = std::fs::read(entry.path()).expect("a readable file");
        for (name, tier) in TIERS {
            let ended = Setup::new(&image, tier).run();
            println!("{name} {:?} {:?}", entry.file_name(), ended.exit);
            assert_eq!(ended.exit, Exit::PowerOff, "{name} {:?}", entry.file_name());
        }
    }
}

#[test]
fn programs_write_what_they_write_here() {
    let Some(folder) = folder("programs") else {
        return;
    };
    let Some(native) = programs::native(&folder) else {
        eprintln!("SKIPPED: this host cannot run the programs");
        return;
    };
    for (name, tier) in TIERS {
        let Some(inside) = programs::in_machine(&folder, tier) else {
            eprintln!("SKIPPED: no Debian kernel; samples/debian.sh --fetch-only makes it");
            return;
        };
        for (program, digest) in &native {
            let same = inside.get(program) == Some(digest);
            println!(
                "{name} {program:28} {}",
                if same { "same" } else { "DIFFERS" }
            );
        }
        assert_eq!(inside, native, "{name}");
    }
}
