//! Multiboot 1 kernels.

use super::*;

const MAGIC: u32 = 0x1BAD_B002;
const FLAGS: usize = 4;
const LOAD_ADDR: usize = 16;
const LOAD_END: usize = 20;
const BSS_END: usize = 24;
const ENTRY: usize = 28;

/// A header at byte 0 with address fields: the 64 bytes go to 1 MiB, entry at byte 32, `.bss` to byte 128.
pub(super) fn sound() -> Vec<u8> {
    let mut bytes = vec![0xF4; 64];
    let header = [
        MAGIC, 0x1_0003, 0, 0x10_0000, 0x10_0000, 0x10_0040, 0x10_0080, 0x10_0020,
    ];
    for (index, word) in header.into_iter().enumerate() {
        patch(&mut bytes, &[(4 * index, word)]);
    }
    seal(&mut bytes);
    bytes
}

/// Makes the header's checksum right, if there is a header.
pub(super) fn seal(bytes: &mut [u8]) {
    if bytes::u32_at(bytes, 0) != Some(MAGIC) || bytes.len() < 12 {
        return;
    }
    let flags = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
    patch(bytes, &[(8, 0u32.wrapping_sub(MAGIC).wrapping_sub(flags))]);
}

fn patched(words: &[(usize, u32)]) -> String {
    let mut bytes = sound();
    patch(&mut bytes, words);
    seal(&mut bytes);
    error(&image(&bytes), 2)
}

#[test]
fn the_address_fields_say_where_everything_goes() {
    let mut ram = FakeRam::new(2);
    let kernel = sound();
    let entry = load(&image(&kernel), &mut ram).unwrap();
    assert_eq!(entry.eip, 0x10_0020);
    assert_eq!(entry.mode, FLAT32);
    assert_eq!((entry.gpr[0], entry.gpr[3]), (0x2BAD_B002, 0x1000));
    assert_eq!(ram.bytes(0x10_0000, 64), kernel);
}

#[test]
fn the_information_tells_memory_command_line_and_module() {
    let mut ram = FakeRam::new(4);
    let kernel = sound();
    let initrd = Some(file("dir/initrd.gz", b"initrd"));
    load(
        &Image {
            initrd,
            cmdline: "a=1 b",
            ..image(&kernel)
        },
        &mut ram,
    )
    .unwrap();
    let field = |offset: u32| ram.u32(0x1000 + offset);
    assert_eq!(field(0), 0b10_0100_1101);
    assert_eq!((field(4), field(8)), (639, 3072));
    assert_eq!(ram.text(field(16)), "a=1 b");
    assert_eq!(field(20), 1);
    let module = |offset: u32| ram.u32(field(24) + offset);
    assert_eq!((module(0), module(4)), (0x10_1000, 0x10_1006));
    assert_eq!(ram.bytes(0x10_1000, 6), b"initrd");
    assert_eq!(ram.text(module(8)), "initrd.gz");
    assert_eq!(ram.text(field(64)), "ring1");
}

#[test]
fn the_memory_map_covers_all_memory() {
    let mut ram = FakeRam::new(4);
    load(&image(&sound()), &mut ram).unwrap();
    let (len, map) = (ram.u32(0x1000 + 44), ram.u32(0x1000 + 48));
    assert_eq!(len, 72);
    let entry = |index: u32| {
        let at = map + 24 * index;
        (
            ram.u32(at),
            ram.u64(at + 4),
            ram.u64(at + 12),
            ram.u32(at + 20),
        )
    };
    assert_eq!(entry(0), (20, 0, 0x9_FC00, 1));
    assert_eq!(entry(1), (20, 0x9_FC00, 0x6_0400, 2));
    assert_eq!(entry(2), (20, 0x10_0000, 0x30_0000, 1));
}

#[test]
fn an_elf_file_with_a_header_is_multiboot() {
    let mut kernel = elf32::sound();
    kernel.extend_from_slice(&[0; 12]);
    let header = kernel.len() - 12;
    patch(
        &mut kernel,
        &[
            (header, MAGIC),
            (header + 4, 3),
            (header + 8, 0u32.wrapping_sub(MAGIC + 3)),
        ],
    );
    let entry = load(
        &Image {
            cmdline: "x",
            ..image(&kernel)
        },
        &mut FakeRam::new(2),
    )
    .unwrap();
    assert_eq!((entry.eip, entry.gpr[0]), (0x10_0004, 0x2BAD_B002));
}

#[test]
fn a_wrong_checksum_is_no_header() {
    let mut bytes = sound();
    bytes[8] ^= 1;
    assert!(error(&image(&bytes), 2).starts_with("kernel is no bzImage"));
}

#[test]
fn features_that_are_missing_are_named() {
    assert!(patched(&[(FLAGS, 0x1_0007)]).contains("requires a video mode"));
    assert!(patched(&[(FLAGS, 0x1_0010)]).contains("requires features unknown"));
    assert!(patched(&[(FLAGS, 3)]).contains("gives no load address, and the file is not ELF"));
    let mut second = vec![0; 64];
    patch(
        &mut second,
        &[
            (0, 0xE852_50D6),
            (8, 16),
            (12, 0u32.wrapping_sub(0xE852_50D6 + 16)),
        ],
    );
    assert_eq!(
        error(&image(&second), 2),
        "kernel is a Multiboot 2 image; ring1 boots Multiboot 1"
    );
}

#[test]
fn impossible_addresses_are_refused() {
    assert!(patched(&[(LOAD_ADDR, 0x10_0004)]).contains("load address lies outside the file"));
    assert!(patched(&[(LOAD_ADDR, 0xF_FFFC)]).contains("load address lies outside the file"));
    assert!(patched(&[(LOAD_END, 0xF_0000)]).contains("load_end_addr is below load_addr"));
    assert!(patched(&[(LOAD_END, 0x10_0041)]).contains("is truncated"));
    assert!(patched(&[(BSS_END, 0x10_003F)]).contains("bss_end_addr"));
    assert!(patched(&[(BSS_END, 0x20_0001)]).contains("does not fit"));
    assert!(patched(&[(ENTRY, 0x10_0080)]).contains("entry_addr lies outside"));
    let cut = &sound()[..28];
    assert_eq!(
        error(&image(cut), 2),
        "kernel is truncated: its Multiboot header ends at byte 32, the file at byte 28"
    );
}

#[test]
fn a_module_too_big_is_named_and_not_the_kernel() {
    let kernel = sound();
    let big = vec![1; MIB];
    let image = Image {
        initrd: Some(file("initrd", &big)),
        ..image(&kernel)
    };
    assert_eq!(
        error(&image, 2),
        "initrd does not fit: its module takes 0x101000 to 0x201000, and the guest has 2 MiB of memory"
    );
}

#[test]
fn a_long_command_line_is_refused() {
    let kernel = sound();
    let long = "x".repeat(0x5000);
    let message = error(
        &Image {
            cmdline: &long,
            ..image(&kernel)
        },
        2,
    );
    assert_eq!(
        message,
        "kernel takes a command line of at most 20479 bytes, the one given has 20480"
    );
}
