//! Flat binaries and boot sectors.

use super::*;

fn sector() -> Vec<u8> {
    let mut bytes = vec![0xF4; 512];
    bytes[510..].copy_from_slice(&[0x55, 0xAA]);
    bytes
}

fn at(address: u32, mode: FlatMode, bytes: &[u8]) -> Image<'_> {
    Image {
        flat: Some(FlatOptions { address, mode }),
        ..image(bytes)
    }
}

#[test]
fn a_boot_sector_starts_as_from_a_bios() {
    let mut ram = FakeRam::new(1);
    let entry = load(&image(&sector()), &mut ram).unwrap();
    assert_eq!(ram.bytes(0x7C00, 512), sector());
    assert_eq!(entry.mode, EntryMode::Real { cs: 0 });
    assert_eq!(entry.eip, 0x7C00);
    assert_eq!(entry.gpr, [0, 0, 0x80, 0, 0x7C00, 0, 0, 0]);
}

#[test]
fn real_mode_above_64_kib_needs_a_segment() {
    let entry = load(
        &at(0x2_1234, FlatMode::Real16, &[0xF4]),
        &mut FakeRam::new(1),
    )
    .unwrap();
    assert_eq!(
        (entry.mode, entry.eip),
        (EntryMode::Real { cs: 0x2000 }, 0x1234)
    );
}

#[test]
fn the_32_bit_form_starts_in_flat_mode() {
    let mut ram = FakeRam::new(2);
    let entry = load(&at(0x10_0000, FlatMode::Protected32, &[0xF4]), &mut ram).unwrap();
    assert_eq!(
        entry,
        Entry {
            eip: 0x10_0000,
            gpr: [0; 8],
            mode: FLAT32
        }
    );
    assert_eq!(ram.bytes(0x10_0000, 1), [0xF4]);
}

#[test]
fn an_explicit_flat_wins_over_every_mark() {
    let kernel = linux::sound();
    let entry = load(
        &at(0x1_0000, FlatMode::Real16, &kernel),
        &mut FakeRam::new(1),
    )
    .unwrap();
    assert_eq!(entry.mode, EntryMode::Real { cs: 0x1000 });
}

#[test]
fn places_that_are_no_ram_are_named() {
    let high = error(&at(0x20_0000, FlatMode::Protected32, &[0xF4]), 2);
    assert_eq!(
        high,
        "kernel does not fit: its code takes 0x200000 to 0x200001, and the guest has 2 MiB of memory"
    );
    let hole = error(&at(0x9_FF00, FlatMode::Real16, &[0xF4; 512]), 2);
    assert!(
        hole.ends_with("0x9fc00 to 0x100000 is no RAM on a PC"),
        "{hole}"
    );
    let far = error(&at(0x10_0000, FlatMode::Real16, &[0xF4]), 2);
    assert_eq!(
        far,
        "kernel is malformed: a real-mode binary must start below 1 MiB"
    );
    let last = error(&at(u32::MAX, FlatMode::Protected32, &[0xF4; 2]), 2);
    assert!(last.contains("takes 0xffffffff to 0x100000001"), "{last}");
}

#[test]
fn code_over_our_gdt_is_refused() {
    let message = error(&at(0x700, FlatMode::Protected32, &[0xF4; 512]), 2);
    assert_eq!(
        message,
        "kernel cannot be placed: its boot GDT at 0x800 overlaps the code"
    );
}

#[test]
fn what_no_one_would_read_is_refused() {
    let bytes = sector();
    let initrd = Image {
        initrd: Some(file("initrd", b"x")),
        ..image(&bytes)
    };
    assert_eq!(
        error(&initrd, 2),
        "kernel is a flat binary, which has no way to receive an initrd"
    );
    let append = Image {
        cmdline: "quiet",
        ..image(&bytes)
    };
    assert_eq!(
        error(&append, 2),
        "kernel is a flat binary, which has no way to receive a command line"
    );
}
