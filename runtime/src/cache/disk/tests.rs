//! Files of kept code, whole, damaged, foreign and contended. Code here is made up.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicU32, Ordering};
use translator::compile::{Jump, Link};

const IDENTITY: [u8; 32] = [3; 32];
const USUAL: Flavour = Flavour {
    grouped: true,
    native_vectors: true,
    mirrored: false,
};

/// A folder of the test's own, which goes with the value.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ring1-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn open(&self) -> DiskCache {
        DiskCache::open(&self.0, IDENTITY).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.0.join(identity::file_name(&IDENTITY))
    }

    /// Keeps the blocks with these numbers.
    fn keep(&self, blocks: std::ops::Range<u32>) {
        let mut cache = self.open();
        for n in blocks {
            let bytes = n.to_le_bytes();
            cache.add(&content(&bytes), USUAL, &code(n));
        }
        cache.save().unwrap();
    }

    /// How many of the blocks are found. They must be right.
    fn found(&self, blocks: std::ops::Range<u32>) -> usize {
        let mut cache = self.open();
        let right = |n: &u32| is_right(&mut cache, *n);
        blocks.filter(right).count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn content(bytes: &[u8]) -> Content<'_> {
    Content {
        eip: bytes
            .iter()
            .fold(0, |eip, &byte| eip << 8 ^ u32::from(byte) << 2),
        mode: 1,
        bytes,
        moves: false,
        reach: 0,
    }
}

fn code(n: u32) -> HostCode {
    let jump = Some(Jump { at: 4, spent: None });
    HostCode {
        bytes: n.to_le_bytes().repeat(5),
        links: vec![Link {
            slot: 0,
            eip: n,
            jump,
        }],
        ..HostCode::default()
    }
}

/// False if the block is not found.
fn is_right(cache: &mut DiskCache, n: u32) -> bool {
    let Some((flavour, found)) = cache.find(&content(&n.to_le_bytes())) else {
        return false;
    };
    assert_eq!(flavour, USUAL);
    assert_eq!(
        (&found.bytes, &found.links),
        (&code(n).bytes, &code(n).links)
    );
    true
}

#[test]
fn what_one_machine_keeps_the_next_finds() {
    let place = Place::new();
    assert_eq!(place.found(0..10), 0);
    place.keep(0..1000);
    assert_eq!(place.found(0..1010), 1000);
    place.keep(1000..1500);
    assert_eq!(place.found(0..2000), 1500);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.0), 0o700);
    assert_eq!(mode(&place.file()), 0o600);
    assert_eq!(mode(&place.0.join("key")), 0o600);
}

#[test]
fn little_that_is_new_is_not_worth_a_file() {
    let place = Place::new();
    place.keep(0..1000);
    let before = fs::read(place.file()).unwrap();
    place.keep(1000..1010);
    assert_eq!(fs::read(place.file()).unwrap(), before);
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 2);
}

#[test]
fn a_block_made_in_another_way_takes_the_place_of_the_old() {
    let place = Place::new();
    place.keep(0..100);
    let other = Flavour {
        mirrored: true,
        ..USUAL
    };
    let mut cache = place.open();
    (0..100u32).for_each(|n| cache.add(&content(&n.to_le_bytes()), other, &code(n)));
    cache.save().unwrap();
    let mut cache = place.open();
    let all = (0..100u32).map(|n| cache.find(&content(&n.to_le_bytes())).unwrap().0);
    assert!(
        all.collect::<Vec<_>>()
            .iter()
            .all(|&flavour| flavour == other)
    );
}

#[test]
fn no_truncated_or_damaged_file_gives_wrong_code() {
    let place = Place::new();
    place.keep(0..5);
    let whole = fs::read(place.file()).unwrap();
    for length in 0..whole.len() {
        fs::write(place.file(), &whole[..length]).unwrap();
        assert_eq!(place.found(0..5), 0, "{length} bytes");
    }
    fs::write(place.file(), [&whole[..], &[0]].concat()).unwrap();
    assert_eq!(place.found(0..5), 0, "a byte more");
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x11;
        fs::write(place.file(), &damaged).unwrap();
        assert_eq!(place.found(0..5), 0, "byte {at}");
    }
    // What is no good is replaced.
    place.keep(0..5);
    assert_eq!(place.found(0..5), 5);
}

#[test]
fn a_file_that_gets_shorter_while_it_is_read_only_ends_the_finding() {
    let place = Place::new();
    place.keep(0..5000);
    let mut cache = place.open();
    assert!(is_right(&mut cache, 0));
    fs::write(place.file(), b"").unwrap();
    let found = (0..5000).filter(|&n| is_right(&mut cache, n)).count();
    assert!(found < 5000, "{found}");
}

#[test]
fn a_file_of_another_build_or_user_or_secret_is_as_none() {
    let place = Place::new();
    place.keep(0..20);
    let mut other = DiskCache::open(&place.0, [4; 32]).unwrap();
    assert!(!is_right(&mut other, 1));
    fs::copy(place.file(), place.0.join(identity::file_name(&[4; 32]))).unwrap();
    let mut other = DiskCache::open(&place.0, [4; 32]).unwrap();
    assert!(!is_right(&mut other, 1));
    fs::write(place.0.join("key"), [1; 32]).unwrap();
    assert_eq!(place.found(0..20), 0);
    fs::write(place.0.join("key"), [1; 31]).unwrap();
    assert_eq!(place.found(0..20), 0);
    assert_eq!(fs::read(place.0.join("key")).unwrap().len(), 32);
}

#[test]
fn what_others_could_have_written_is_not_read() {
    let place = Place::new();
    place.keep(0..20);
    let set =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o620, 0o602] {
        set(&place.file(), mode);
        assert_eq!(place.found(0..20), 0, "{mode:o}");
    }
    set(&place.file(), 0o644);
    assert_eq!(place.found(0..20), 20);
    let refused = || {
        DiskCache::open(&place.0, IDENTITY)
            .err()
            .unwrap()
            .to_string()
    };
    set(&place.0.join("key"), 0o640);
    assert_eq!(refused(), "key can be read by others");
    set(&place.0.join("key"), 0o600);
    set(&place.0, 0o770);
    assert_eq!(refused(), "the folder can be written by others");
    set(&place.0, 0o700);
    let elsewhere = place.0.join("elsewhere");
    fs::rename(place.file(), &elsewhere).unwrap();
    symlink(&elsewhere, place.file()).unwrap();
    assert_eq!(place.found(0..20), 0);
    if rustix::process::geteuid().is_root() {
        fs::remove_file(place.file()).unwrap();
        fs::rename(&elsewhere, place.file()).unwrap();
        std::os::unix::fs::chown(place.file(), Some(12345), None).unwrap();
        assert_eq!(place.found(0..20), 0);
        std::os::unix::fs::chown(&place.0, Some(12345), None).unwrap();
        assert_eq!(refused(), "the folder belongs to somebody else");
    }
}

#[test]
fn machines_that_write_at_the_same_time_leave_a_good_file() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let place = &place;
            scope.spawn(move || {
                for round in 0..20 {
                    place.keep(thread * 1000 + round * 50..thread * 1000 + round * 50 + 50);
                    place.found(0..4000);
                }
            });
        }
    });
    let before = place.found(0..4000);
    assert!(before >= 50, "{before}");
    let names = fs::read_dir(&place.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let left = names.filter(|name| name.to_string_lossy().starts_with("tmp-"));
    assert_eq!(left.count(), 0);
    place.keep(5000..10_000);
    assert_eq!(place.found(0..4000), before);
}

#[test]
fn of_too_much_the_oldest_goes() {
    let place = Place::new();
    let long = |n: u32| HostCode {
        bytes: n.to_le_bytes().repeat(256),
        ..HostCode::default()
    };
    for round in 0..6u32 {
        let mut cache = place.open();
        cache.limit = 4 << 20;
        // Blocks of the first round are used in each.
        assert_eq!(is_there(&mut cache, 0), round > 0);
        for n in round * 1000..(round + 1) * 1000 {
            cache.add(&content(&n.to_le_bytes()), USUAL, &long(n));
        }
        cache.save().unwrap();
    }
    assert!(fs::metadata(place.file()).unwrap().len() < 5 << 20);
    let mut cache = place.open();
    let mut there = |n| is_there(&mut cache, n);
    assert!(there(0) && there(5999) && there(3000));
    assert!(!there(1500));
}

fn is_there(cache: &mut DiskCache, n: u32) -> bool {
    cache.find(&content(&n.to_le_bytes())).is_some()
}
