//! Linux bzImages.

use super::*;

const SETUP_SECTS: usize = 0x1F1;
const SYSSIZE: usize = 0x1F4;
const VERSION: usize = 0x206;
const LOADFLAGS: usize = 0x211;
const CODE32_START: usize = 0x214;
const INITRD_MAX: usize = 0x22C;
const ALIGNMENT: usize = 0x230;
const XLOADFLAGS: usize = 0x236;
const INIT_SIZE: usize = 0x260;

/// A kernel like Debian's in every header field that counts: protocol 2.15, preferred at 16 MiB, 1 MiB big.
pub(super) fn sound() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes.extend_from_slice(&[0xF4; 64]);
    bytes[SETUP_SECTS] = 1;
    bytes[0x1FE..0x202].copy_from_slice(&[0x55, 0xAA, 0xEB, 0x6A]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[VERSION..VERSION + 2].copy_from_slice(&[0x0F, 0x02]);
    bytes[LOADFLAGS] = 1;
    bytes[0x234] = 1;
    patch(
        &mut bytes,
        &[
            (SYSSIZE, 4),
            (CODE32_START, 0x10_0000),
            (INITRD_MAX, 0x7FFF_FFFF),
        ],
    );
    patch(
        &mut bytes,
        &[
            (ALIGNMENT, 0x100_0000),
            (0x238, 2047),
            (0x258, 0x100_0000),
            (INIT_SIZE, 0x10_0000),
        ],
    );
    bytes
}

fn patched(words: &[(usize, u32)]) -> String {
    let mut bytes = sound();
    patch(&mut bytes, words);
    error(&image(&bytes), 32)
}

fn with_byte(offset: usize, value: u8) -> String {
    let mut bytes = sound();
    bytes[offset] = value;
    error(&image(&bytes), 32)
}

#[test]
fn the_32_bit_protocol_is_followed() {
    let mut ram = FakeRam::new(32);
    let kernel = sound();
    let entry = load(
        &Image {
            cmdline: "console=ttyS0",
            acpi_rsdp: 0xE_0000,
            ..image(&kernel)
        },
        &mut ram,
    )
    .unwrap();
    assert_eq!((entry.eip, entry.mode), (0x10_0000, FLAT32));
    let zero_page = entry.gpr[6];
    assert_eq!(
        [0, 1, 2, 3, 5, 7].map(|register: usize| entry.gpr[register]),
        [0; 6]
    );
    assert_eq!(ram.bytes(0x10_0000, 64), [0xF4; 64]);
    assert_eq!(ram.bytes(zero_page, 0x40), [0; 0x40], "no VGA");
    assert_eq!(ram.u64(zero_page + 0x70), 0xE_0000);
    assert_eq!(ram.bytes(zero_page + 0x1F1, 15), &kernel[0x1F1..0x200]);
    assert_eq!(ram.bytes(zero_page + 0x210, 1), [0xFF]);
    assert_eq!(ram.text(ram.u32(zero_page + 0x228)), "console=ttyS0");
    assert_eq!(
        (ram.u32(zero_page + 0x218), ram.u32(zero_page + 0x21C)),
        (0, 0)
    );
}

#[test]
fn the_memory_map_has_the_hole() {
    let mut ram = FakeRam::new(32);
    let zero_page = load(&image(&sound()), &mut ram).unwrap().gpr[6];
    assert_eq!(ram.bytes(zero_page + 0x1E8, 1), [3]);
    let entry = |index: u32| {
        let at = zero_page + 0x2D0 + 20 * index;
        (ram.u64(at), ram.u64(at + 8), ram.u32(at + 16))
    };
    assert_eq!(entry(0), (0, 0x9_FC00, 1));
    assert_eq!(entry(1), (0x9_FC00, 0x6_0400, 2));
    assert_eq!(entry(2), (0x10_0000, 0x1F0_0000, 1));
}

#[test]
fn the_initrd_lies_as_high_as_it_may() {
    let place = |limit: u32| {
        let mut kernel = sound();
        patch(&mut kernel, &[(INITRD_MAX, limit)]);
        let mut ram = FakeRam::new(32);
        let image = Image {
            initrd: Some(file("initrd", b"initrd")),
            ..image(&kernel)
        };
        let zero_page = load(&image, &mut ram).unwrap().gpr[6];
        let start = ram.u32(zero_page + 0x218);
        assert_eq!(ram.u32(zero_page + 0x21C), 6);
        assert_eq!(ram.bytes(start, 6), b"initrd");
        start
    };
    assert_eq!(place(0x7FFF_FFFF), 0x1FF_F000);
    assert_eq!(place(0x17F_FFFF), 0x17F_F000);
}

#[test]
fn an_initrd_that_would_lie_in_the_kernel_is_refused() {
    let kernel = sound();
    let big = vec![1; 15 * MIB + 1];
    let message = error(
        &Image {
            initrd: Some(file("initrd", &big)),
            ..image(&kernel)
        },
        32,
    );
    assert!(
        message.starts_with("initrd does not fit: its content"),
        "{message}"
    );
    let message = error(
        &Image {
            initrd: Some(file("initrd", &big[..15 * MIB])),
            ..image(&kernel)
        },
        17,
    );
    assert!(
        message.starts_with("initrd does not fit: its content"),
        "{message}"
    );
}

#[test]
fn acpi_is_not_announced_to_a_kernel_that_has_no_field_for_it() {
    let mut kernel = sound();
    kernel[VERSION] = 0x0D;
    let mut ram = FakeRam::new(32);
    let zero_page = load(
        &Image {
            acpi_rsdp: 0xE_0000,
            ..image(&kernel)
        },
        &mut ram,
    )
    .unwrap()
    .gpr[6];
    assert_eq!(ram.u64(zero_page + 0x70), 0);
}

#[test]
fn too_little_memory_is_named_with_what_would_do() {
    assert_eq!(
        error(&image(&sound()), 16),
        "kernel needs at least 17 MiB of guest memory, which has 16"
    );
    assert!(patched(&[(INIT_SIZE, u32::MAX)]).contains("needs at least 4112 MiB"));
    assert!(patched(&[(0x25C, u32::MAX)]).contains("needs at least"));
    assert!(patched(&[(CODE32_START, 0xFFFF_FFFF)]).contains("needs at least"));
}

#[test]
fn kernels_of_another_kind_are_named() {
    assert_eq!(
        with_byte(XLOADFLAGS, 1),
        "kernel is a Linux kernel for x86-64, not for the 32-bit x86"
    );
    assert_eq!(
        with_byte(LOADFLAGS, 0),
        "kernel is a Linux zImage; ring1 boots bzImages"
    );
    assert!(with_byte(VERSION, 1).contains("a boot protocol before 2.02"));
}

#[test]
fn truncation_names_the_part_that_is_cut() {
    let bytes = sound();
    let cut = |len: usize| error(&image(&bytes[..len]), 32);
    assert!(cut(0x205).starts_with("kernel is no bzImage"));
    assert_eq!(
        cut(0x207),
        "kernel is truncated: its setup header ends at byte 520, the file at byte 519"
    );
    assert_eq!(
        cut(0x240),
        "kernel is truncated: its setup header ends at byte 620, the file at byte 576"
    );
    assert_eq!(
        cut(1024),
        "kernel is truncated: its 32-bit code ends at byte 1073, the file at byte 1024"
    );
    assert_eq!(
        cut(1072),
        "kernel is truncated: its 32-bit code ends at byte 1073, the file at byte 1072"
    );
    // The last paragraph need not be whole.
    assert!(load(&image(&bytes[..1073]), &mut FakeRam::new(32)).is_ok());
    assert!(patched(&[(SYSSIZE, u32::MAX)]).contains("is truncated: its 32-bit code"));
}

#[test]
fn impossible_headers_are_malformed() {
    assert_eq!(
        patched(&[(CODE32_START, 0x8000)]),
        "kernel is malformed: its code32_start is below 1 MiB"
    );
    assert!(patched(&[(ALIGNMENT, 3)]).contains("not a power of two"));
    assert!(patched(&[(ALIGNMENT, 0)]).contains("not a power of two"));
}

#[test]
fn the_kernels_own_limit_bounds_the_command_line() {
    let kernel = sound();
    let longest = "x".repeat(2047);
    assert!(
        load(
            &Image {
                cmdline: &longest,
                ..image(&kernel)
            },
            &mut FakeRam::new(32)
        )
        .is_ok()
    );
    let longer = "x".repeat(2048);
    let message = error(
        &Image {
            cmdline: &longer,
            ..image(&kernel)
        },
        32,
    );
    assert_eq!(
        message,
        "kernel takes a command line of at most 2047 bytes, the one given has 2048"
    );
}
