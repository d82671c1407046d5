//! Code kept from run to run: whoever finds it must behave as who makes it.
//!
//! In a build with debug assertions, as tests are, all code that is found is also held
//! to what would have been made, and to the direct tier's verifier. Damaged, foreign
//! and contended files are looked at beside their definition, in the runtime; the
//! program's messages in its own tests.

use runtime::config::{CodeCache, Tier};
use runtime::embedded;
use runtime::exit::Exit;
use std::fs;
use std::path::PathBuf;
use tests::lockstep::Lockstep;
use tests::machine::{Ended, Setup};

/// A folder of a test's own, empty.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    fn cache(&self) -> CodeCache {
        CodeCache::Folder(self.0.clone())
    }

    /// The one file of code.
    fn file(&self) -> PathBuf {
        let files = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let named = |path: &PathBuf| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("code-")
        };
        let found: Vec<PathBuf> = files.filter(named).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a guest and keeps its code.
fn run(kernel: &[u8], tier: Tier, folder: &Folder) -> Ended {
    let setup = Setup {
        code_cache: folder.cache(),
        ..Setup::new(kernel, tier)
    };
    let mut ended = setup.run();
    ended.vm.tiers.save().expect("the folder takes the file");
    ended
}

/// Check guests, cold and warm: all pass, and the second time most code is found.
fn check_twice(tier: Tier) {
    let folder = Folder::new(&format!("check-{tier:?}"));
    let passed = Exit::DebugExit(u32::from(samples::PASSED));
    for (name, image) in samples::all() {
        for round in ["cold", "warm", "warm again"] {
            let ended = run(image, tier, &folder);
            assert_eq!(
                ended.exit, passed,
                "{name}, {tier:?}, {round}: {}",
                ended.serial
            );
        }
    }
}

#[test]
fn check_guests_pass_warm_re_encoded() {
    check_twice(Tier::Direct);
}

#[test]
fn check_guests_pass_warm_mirrored() {
    check_twice(Tier::Mirror);
}

#[test]
fn check_guests_pass_warm_mixed() {
    check_twice(Tier::Auto);
}

/// What the default guest computes, in order: its processes take turns.
fn computed(ended: &Ended) -> Vec<&str> {
    let lines = ended.serial.lines();
    let mut lines: Vec<&str> = lines.filter(|line| line.contains("round")).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_second_run_finds_what_the_first_has_made() {
    let folder = Folder::new("second");
    let success = Exit::DebugExit(embedded::SUCCESS);
    let cold = run(embedded::IMAGE, Tier::Direct, &folder);
    let warm = run(embedded::IMAGE, Tier::Direct, &folder);
    assert_eq!((cold.exit, warm.exit), (success, success));
    assert!(computed(&cold).len() > 4, "{}", cold.serial);
    assert_eq!(computed(&cold), computed(&warm));
    let (cold, warm) = (cold.vm.cache.counters, warm.vm.cache.counters);
    assert_eq!(cold.loaded, 0);
    assert!(warm.loaded > 9 * cold.compiled / 10, "{warm:?}");
    assert!(warm.compiled < cold.compiled / 10, "{warm:?}");
}

#[test]
fn other_tiers_and_processors_have_files_of_their_own() {
    let folder = Folder::new("tiers");
    run(embedded::IMAGE, Tier::Direct, &folder);
    folder.file();
    for tier in [Tier::Interp, Tier::Cranelift] {
        let ended = run(samples::TASKS, tier, &folder);
        assert_eq!(ended.vm.cache.counters.loaded, 0, "{tier:?}");
    }
    folder.file();
    let ended = run(embedded::IMAGE, Tier::Mirror, &folder);
    assert_eq!(ended.vm.cache.counters.loaded, 0);
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 3);
}

#[test]
fn a_damaged_file_costs_its_code_and_nothing_else() {
    let folder = Folder::new("damaged");
    let success = Exit::DebugExit(embedded::SUCCESS);
    let made = run(embedded::IMAGE, Tier::Direct, &folder)
        .vm
        .cache
        .counters
        .compiled;
    let whole = fs::read(folder.file()).unwrap();
    let lengths = [0, 1, 103, 104, whole.len() / 2, whole.len() - 1];
    let cut = lengths.map(|length| whole[..length].to_vec());
    let places = [0, 9, 40, 90, 104, 5000, whole.len() / 2, whole.len() - 1];
    let flipped = places.map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x80;
        bytes
    });
    for bytes in cut.into_iter().chain(flipped) {
        fs::write(folder.file(), bytes).unwrap();
        let setup = Setup {
            code_cache: folder.cache(),
            ..Setup::new(embedded::IMAGE, Tier::Direct)
        };
        let ended = setup.run();
        assert_eq!(ended.exit, success);
        let found = ended.vm.cache.counters.loaded;
        assert!(found < 9 * made / 10, "{found} of {made}");
    }
}

/// Random code in random modes, in step with the interpreter, cold and warm.
fn in_step(tier: Tier) {
    let folder = Folder::new(&format!("lockstep-{tier:?}"));
    let mut loaded = Vec::new();
    for round in ["cold", "warm"] {
        let mut lockstep = Lockstep::keeping(tier, folder.cache());
        for seed in 0..25 {
            let result = lockstep.run(seed);
            assert!(result.is_ok(), "{round}: {}", result.unwrap_err());
        }
        lockstep.save();
        loaded.push(lockstep.loaded);
    }
    assert!(loaded[1] > 100 && loaded[1] > loaded[0], "{loaded:?}");
}

#[test]
fn re_encoded_code_that_is_found_does_what_the_interpreter_does() {
    in_step(Tier::Direct);
}

#[test]
fn mirrored_code_that_is_found_does_what_the_interpreter_does() {
    in_step(Tier::Mirror);
}
