//! ELF32 executables.

use super::*;

const ENTRY: usize = 0x18;
const SEGMENT: usize = 0x34;
const P_OFFSET: usize = SEGMENT + 4;
const P_PADDR: usize = SEGMENT + 12;
const P_FILESZ: usize = SEGMENT + 16;
const P_MEMSZ: usize = SEGMENT + 20;

/// One segment of 16 bytes linked at 3 GiB, loaded at 1 MiB, with 16 bytes of `.bss`; entry at its byte 4.
pub(super) fn sound() -> Vec<u8> {
    let mut bytes = vec![0; 0x74];
    bytes[..8].copy_from_slice(b"\x7fELF\x01\x01\x01\0");
    patch(
        &mut bytes,
        &[
            (0x10, 0x0003_0002),
            (0x14, 1),
            (ENTRY, 0xC010_0004),
            (0x1C, 0x34),
        ],
    );
    patch(&mut bytes, &[(0x28, 0x0020_0034), (0x2C, 1)]);
    let segment = [1, 0x64, 0xC010_0000, 0x10_0000, 16, 32, 5, 4];
    for (index, word) in segment.into_iter().enumerate() {
        patch(&mut bytes, &[(SEGMENT + 4 * index, word)]);
    }
    bytes[0x64..].fill(0xF4);
    bytes
}

fn patched(words: &[(usize, u32)]) -> String {
    let mut bytes = sound();
    patch(&mut bytes, words);
    error(&image(&bytes), 2)
}

#[test]
fn segments_go_to_physical_addresses_and_the_entry_follows() {
    let mut ram = FakeRam::new(2);
    let entry = load(&image(&sound()), &mut ram).unwrap();
    assert_eq!(
        entry,
        Entry {
            eip: 0x10_0004,
            gpr: [0; 8],
            mode: FLAT32
        }
    );
    assert_eq!(
        ram.bytes(0x10_0000, 17),
        [[0xF4; 16].as_slice(), &[0]].concat()
    );
}

#[test]
fn a_physical_entry_is_taken_as_it_is() {
    let mut bytes = sound();
    patch(&mut bytes, &[(ENTRY, 0x10_0008)]);
    assert_eq!(
        load(&image(&bytes), &mut FakeRam::new(2)).unwrap().eip,
        0x10_0008
    );
}

#[test]
fn an_unaligned_file_loads() {
    let shifted = [&[0], sound().as_slice()].concat();
    assert!(load(&image(&shifted[1..]), &mut FakeRam::new(2)).is_ok());
}

#[test]
fn other_machines_and_kinds_are_named() {
    assert_eq!(
        patched(&[(0x10, 0x003E_0002)]),
        "kernel is an ELF file for x86-64, not for the 32-bit x86"
    );
    assert_eq!(
        patched(&[(0x10, 0x00B7_0002)]),
        "kernel is an ELF file for 64-bit Arm, not for the 32-bit x86"
    );
    assert_eq!(
        patched(&[(0x10, 0xABCD_0002)]),
        "kernel is an ELF file for machine 43981, not for the 32-bit x86"
    );
    assert_eq!(
        patched(&[(4, 0x0001_0102)]),
        "kernel is a 64-bit ELF file, not for the 32-bit x86"
    );
    assert_eq!(
        patched(&[(4, 0x0001_0201)]),
        "kernel is a big-endian ELF file, not for the 32-bit x86"
    );
    assert_eq!(
        patched(&[(0x10, 0x0003_0001)]),
        "kernel is an object file that has not been linked"
    );
    assert!(patched(&[(0x10, 0x0003_0003)]).contains("not a static executable"));
    assert_eq!(
        patched(&[(SEGMENT, 3)]),
        "kernel is dynamically linked, not a static executable"
    );
}

#[test]
fn truncation_names_the_part_that_is_cut() {
    let bytes = sound();
    let cut = |len: usize| error(&image(&bytes[..len]), 2);
    assert_eq!(
        cut(16),
        "kernel is truncated: its ELF header ends at byte 52, the file at byte 16"
    );
    assert_eq!(
        cut(40),
        "kernel is truncated: its ELF header ends at byte 52, the file at byte 40"
    );
    assert_eq!(
        cut(60),
        "kernel is truncated: its program header table ends at byte 84, the file at byte 60"
    );
    assert_eq!(
        cut(0x70),
        "kernel is truncated: its segment ends at byte 116, the file at byte 112"
    );
}

#[test]
fn impossible_headers_are_malformed() {
    let malformed = |words: &[(usize, u32)]| patched(words).starts_with("kernel is malformed: ");
    assert!(
        malformed(&[(P_FILESZ, 33)]),
        "more bytes in the file than in memory"
    );
    assert!(malformed(&[(SEGMENT, 6)]), "nothing to load");
    assert!(malformed(&[(ENTRY, 0)]), "entry outside");
    assert!(
        malformed(&[(0x28, 0x001F_0034)]),
        "odd size of program headers"
    );
}

#[test]
fn segments_beyond_memory_do_not_fit() {
    assert!(patched(&[(P_PADDR, 0x0804_8000)]).contains("the guest has 2 MiB of memory"));
    assert!(patched(&[(P_MEMSZ, u32::MAX)]).contains("does not fit"));
    assert!(patched(&[(P_PADDR, u32::MAX)]).contains("does not fit"));
    assert!(patched(&[(P_OFFSET, u32::MAX)]).contains("is truncated"));
    assert!(patched(&[(P_PADDR, 0xA_0000)]).contains("no RAM on a PC"));
}

#[test]
fn segments_that_overlap_are_refused() {
    let mut bytes = sound();
    let second: Vec<u8> = bytes[SEGMENT..SEGMENT + 32].to_vec();
    bytes.splice(0x54..0x64, second);
    patch(
        &mut bytes,
        &[
            (0x2C, 2),
            (0x54 + 12, 0x10_001F),
            (P_FILESZ, 0),
            (0x54 + 16, 0),
        ],
    );
    assert_eq!(
        error(&image(&bytes), 2),
        "kernel cannot be placed: its segment at 0x10001f overlaps the segment"
    );
}
