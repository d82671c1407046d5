//! A firmware ROM of our own: the processor's first instructions after reset.

use runtime::exit::Exit;
use tests::machine::{Setup, TIERS};

/// A 64 KiB image: `code` at its start, a far jump there at the reset vector.
fn image(code: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xF4; 0x1_0000];
    bytes[..code.len()].copy_from_slice(code);
    bytes[0xFFF0..0xFFF5].copy_from_slice(&[0xEA, 0x00, 0x00, 0x00, 0xF0]);
    bytes
}

fn ends_by(code: &[u8], exit: Exit) {
    for (name, tier) in TIERS {
        assert_eq!(Setup::rom(&image(code), tier).run().exit, exit, "{name}");
    }
}

#[test]
fn the_processor_starts_at_the_reset_vector() {
    // CS has become what the far jump there loaded.
    ends_by(
        &[
            0x8c, 0xc8, // mov ax, cs
            0x3d, 0x00, 0xf0, // cmp ax, 0f000h
            0x75, 0x04, // jne wrong
            0xb0, 0x10, 0xe6, 0xf4, // mov al, 10h; out 0f4h, al
            0xb0, 0x11, 0xe6, 0xf4, // wrong: mov al, 11h; out 0f4h, al
        ],
        Exit::DebugExit(0x10),
    );
}

#[test]
fn a_rom_does_not_change() {
    ends_by(
        &[
            0x66, 0x2e, 0xa1, 0xf0, 0xff, // mov eax, cs:[0fff0h]
            0x66, 0x89, 0xc3, // mov ebx, eax
            0x66, 0xf7, 0xd0, // not eax
            0x66, 0x2e, 0xa3, 0xf0, 0xff, // mov cs:[0fff0h], eax
            0x66, 0x2e, 0x3b, 0x1e, 0xf0, 0xff, // cmp ebx, cs:[0fff0h]
            0x75, 0x0c, // jne wrong
            0x66, 0x81, 0xfb, 0xea, 0x00, 0x00, 0x00, // cmp ebx, 0eah
            0x75, 0x03, // jne wrong
            0xb0, 0x10, 0xa9, // mov al, 10h; (test ax, ...)
            0xb0, 0x11, // wrong: mov al, 11h
            0xe6, 0xf4, // out 0f4h, al
        ],
        Exit::DebugExit(0x10),
    );
}
