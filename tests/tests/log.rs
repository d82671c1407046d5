//! The execution log of a small guest, in every tier.

use runtime::config::Tier;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use runtime::log::{Log, Topic};
use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use tests::machine::{Setup, TIERS};

/// Where the guest is loaded and entered.
const START: u32 = 0x10_0000;

/// Writes a port in a loop, reads what no memory answers, and ends by 10h.
const GUEST: [u8; 25] = [
    0xb9, 0x03, 0x00, 0x00, 0x00, // mov ecx, 3
    0x88, 0xc8, // again: mov al, cl
    0xe6, 0x80, // out 80h, al
    0x49, // dec ecx
    0x75, 0xf9, // jne again
    0xa1, 0x00, 0x00, 0xb0, 0xfe, // mov eax, [0feb00000h]
    0xb0, 0x10, // mov al, 10h
    0xe6, 0xf4, // out 0f4h, al
    0xeb, 0xfe, // jmp $
    0x90, 0x90,
];

/// A file that the test reads.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the guest's log says.
fn logged(tier: Tier, topics: &[Topic], filter: RangeInclusive<u32>) -> Vec<String> {
    let file = Shared::default();
    let setup = Setup::flat(&GUEST, START, FlatMode::Protected32, tier);
    let log = Log::new(topics, filter, Box::new(file.clone()));
    let ended = setup.run_after(|vm| vm.cpu.log = Some(Box::new(log)));
    assert_eq!(ended.exit, Exit::DebugExit(0x10));
    let bytes = file.0.lock().expect("no panic");
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn ports_and_memory_of_devices_are_logged() {
    for (name, tier) in TIERS {
        let lines = logged(tier, &[Topic::Io], 0..=u32::MAX);
        let expected = [
            "io    out 0080: 03",
            "io    out 0080: 02",
            "io    out 0080: 01",
            "io    read feb00000: ffffffff",
            "io    out 00f4: 10",
        ];
        assert_eq!(lines, expected, "{name}");
    }
}

#[test]
fn every_entry_of_a_block_is_logged() {
    for (name, tier) in TIERS {
        let lines = logged(tier, &[Topic::Exec], START + 1..=START + 0xff);
        let again = "exec  00100005 cpl 0";
        let entries = lines.iter().filter(|line| *line == again).count();
        // The first round is part of the block that the guest begins with.
        assert_eq!(entries, 2, "{name}: {lines:?}");
    }
}

#[test]
fn blocks_and_faults_are_logged_and_filtered() {
    for (name, tier) in TIERS {
        let lines = logged(tier, &[Topic::Block, Topic::Mmu], START..=START);
        let block = "block 00100000 at 00100000: 5 instructions, 12 bytes";
        assert!(lines.iter().any(|line| line == block), "{name}: {lines:?}");
        let elsewhere = |line: &String| !line.contains(" 00100000 ");
        assert!(!lines.iter().any(elsewhere), "{name}: {lines:?}");
    }
}

#[test]
fn events_are_logged() {
    // INT 3 without a table for it ends in a triple fault.
    let setup = Setup::flat(&[0xcc], START, FlatMode::Protected32, Tier::Auto);
    let file = Shared::default();
    let log = Log::new(&[Topic::Int], 0..=u32::MAX, Box::new(file.clone()));
    let ended = setup.run_after(|vm| vm.cpu.log = Some(Box::new(log)));
    assert_eq!(ended.exit, Exit::TripleFault);
    let bytes = file.0.lock().expect("no panic").clone();
    let text = String::from_utf8(bytes).expect("text");
    let what: Vec<_> = text.lines().map(|line| &line[21..]).collect();
    let expected = [
        "software 03",
        "exception 0d error 001a",
        "exception 08 error 0000",
    ];
    assert_eq!(what, expected, "{text}");
}
