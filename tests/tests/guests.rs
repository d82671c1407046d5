//! Small guests of our own, in every tier.
//!
//! The check guests judge themselves (`samples/guests/README.md`), so all that
//! is left to do here is to run each one and to show its serial output if it does
//! not end by the byte that means success. The default guest must say the same in
//! every tier, but for its measurements.

use runtime::config::Tier;
use runtime::embedded;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use tests::machine::{Setup, TIERS};

/// What is wrong with the way `setup`'s guest ended, if anything.
fn complaint(name: &str, setup: &Setup) -> Option<String> {
    let ended = setup.run();
    let passed = ended.exit == Exit::DebugExit(u32::from(samples::PASSED));
    (!passed).then(|| {
        let registers = runtime::summary::registers(&ended.vm.cpu);
        let (exit, tier, said) = (ended.exit, setup.tier, last_lines(&ended.serial));
        format!("{name}, {tier:?}: ended by {exit:?} after\n{said}\n{registers}")
    })
}

/// The end of what a guest said; a passed check is of no interest once others follow.
fn last_lines(serial: &str) -> String {
    let lines: Vec<&str> = serial.trim_end().lines().collect();
    lines[lines.len().saturating_sub(4)..].join("\n")
}

/// Runs every check guest in `tier`; all that fail are shown.
fn check_all(tier: Tier) {
    let mut complaints: Vec<String> = samples::all()
        .iter()
        .filter_map(|(name, image)| complaint(name, &Setup::new(image, tier)))
        .collect();
    let real = Setup::flat(samples::REAL, samples::REAL_START, FlatMode::Real16, tier);
    complaints.extend(complaint("real", &real));
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}

#[test]
fn check_guests_pass_interpreted() {
    check_all(Tier::Interp);
}

#[test]
fn check_guests_pass_compiled() {
    check_all(Tier::Cranelift);
}

#[test]
fn check_guests_pass_re_encoded() {
    check_all(Tier::Direct);
}

#[test]
fn check_guests_pass_mirrored() {
    check_all(Tier::Mirror);
}

#[test]
fn check_guests_pass_in_both_tiers_mixed() {
    check_all(Tier::Auto);
}

/// What shows time or depends on it, in the lines of the default guest.
const MEASURED: [&str; 4] = ["MHz", "time slices", "meanwhile", "median"];

/// The lines of `text` in alphabetical order, as two processes take turns, and
/// without the measured numbers.
fn without_measurements(text: &str) -> Vec<String> {
    let mask = |line: &str| match MEASURED.iter().any(|word| line.contains(word)) {
        true => line
            .split_whitespace()
            .filter(|word| !word.starts_with(|c: char| c.is_ascii_digit()))
            .collect::<Vec<_>>()
            .join(" "),
        false => line.to_string(),
    };
    let mut lines: Vec<String> = text.lines().map(mask).collect();
    lines.sort();
    lines
}

#[test]
fn the_default_guest_says_the_same_in_every_tier() {
    let said = TIERS.map(|(name, tier)| {
        let ended = Setup::new(embedded::IMAGE, tier).run();
        let success = Exit::DebugExit(embedded::SUCCESS);
        assert_eq!(ended.exit, success, "{name}: {}", ended.serial);
        without_measurements(&ended.serial)
    });
    assert!(said[0].len() > 20, "{:?}", said[0]);
    assert_eq!(said[0], said[1], "interpreted, then compiled");
    assert_eq!(said[0], said[2], "interpreted, then re-encoded");
    assert_eq!(said[0], said[3], "interpreted, then mixed");
}
