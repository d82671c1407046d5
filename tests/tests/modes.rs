//! Code that is the same bytes at the same EIP and yet another block: under
//! another code segment, another limit.

use runtime::exit::Exit;
use runtime::loader::FlatMode;
use tests::machine::{Setup, TIERS};

/// A flat image under construction.
struct Flat {
    start: u32,
    bytes: Vec<u8>,
}

impl Flat {
    fn new(start: u32) -> Flat {
        let bytes = Vec::new();
        Flat { start, bytes }
    }

    fn code(mut self, bytes: &[u8]) -> Flat {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Goes on at `address`.
    fn at(mut self, address: u32) -> Flat {
        self.bytes.resize((address - self.start) as usize, 0x90);
        self
    }

    fn ends_by(&self, mode: FlatMode, exit: Exit) {
        for (name, tier) in TIERS {
            let setup = Setup {
                limit: Some(5_000_000),
                ..Setup::flat(&self.bytes, self.start, mode, tier)
            };
            assert_eq!(setup.run().exit, exit, "{name}");
        }
    }
}

#[test]
fn the_same_ip_in_two_real_mode_segments_is_two_blocks() {
    Flat::new(0x7c00)
        .code(&[0x31, 0xc0, 0x8e, 0xd0]) // xor ax, ax; mov ss, ax
        .code(&[0xbc, 0x00, 0x70]) // mov sp, 7000h
        .code(&[0x31, 0xdb, 0x31, 0xd2]) // xor bx, bx; xor dx, dx
        .code(&[0xb9, 0xe8, 0x03]) // mov cx, 1000
        .code(&[0x9a, 0x00, 0x00, 0xe0, 0x07]) // again: call 07e0h:0
        .code(&[0x9a, 0x00, 0x00, 0xf0, 0x07]) // call 07f0h:0
        .code(&[0xe2, 0xf4]) // loop again
        .code(&[0x81, 0xfb, 0xe8, 0x03, 0x75, 0x0a]) // cmp bx, 1000; jne wrong
        .code(&[0x81, 0xfa, 0xd0, 0x07, 0x75, 0x04]) // cmp dx, 2000; jne wrong
        .code(&[0xb0, 0x10, 0xe6, 0xf4]) // mov al, 10h; out 0f4h, al
        .code(&[0xb0, 0x11, 0xe6, 0xf4]) // wrong: mov al, 11h; out 0f4h, al
        .at(0x7e00)
        .code(&[0x43, 0xcb]) // inc bx; retf
        .at(0x7f00)
        .code(&[0x42, 0x42, 0xcb]) // inc dx; inc dx; retf
        .ends_by(FlatMode::Real16, Exit::DebugExit(0x10));
}

/// A GDT at 10_1000h: null, flat code and data, and the routine's bytes as code
/// with `limit`. Both are at base 10_2000h.
fn with_code_segments(first_limit: u16, second_limit: u16) -> Flat {
    let code = |limit: u16| {
        let [low, high] = limit.to_le_bytes();
        [low, high, 0x00, 0x20, 0x10, 0x9b, 0x40, 0x00]
    };
    Flat::new(0x10_0000)
        .code(&[0x0f, 0x01, 0x15, 0x00, 0x18, 0x10, 0x00]) // lgdt [101800h]
        .code(&[0xbc, 0x00, 0x00, 0x20, 0x00]) // mov esp, 200000h
        .code(&[0xb9, 0x64, 0x00, 0x00, 0x00]) // mov ecx, 100
        .code(&[0x9a, 0, 0, 0, 0, 0x20, 0]) // again: call 20h:0
        .code(&[0xe2, 0xf7]) // loop again
        .code(&[0x9a, 0, 0, 0, 0, 0x28, 0]) // call 28h:0
        .code(&[0xb0, 0x10, 0xe6, 0xf4]) // mov al, 10h; out 0f4h, al
        .at(0x10_1000)
        .code(&[0; 16])
        .code(&[0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0]) // 10h: code
        .code(&[0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0]) // 18h: data
        .code(&code(first_limit)) // 20h
        .code(&code(second_limit)) // 28h
        .at(0x10_1800)
        .code(&[0x2f, 0x00, 0x00, 0x10, 0x10, 0x00])
        .at(0x10_2000)
        .code(&[0x90, 0x90, 0x40, 0x40, 0xcb]) // nop; nop; inc eax; inc eax; retf
}

#[test]
fn a_block_is_not_run_past_a_smaller_limit() {
    let fits = with_code_segments(4, 4);
    fits.ends_by(FlatMode::Protected32, Exit::DebugExit(0x10));
    // There is no IDT, so #GP is a triple fault.
    let short = with_code_segments(4, 3);
    short.ends_by(FlatMode::Protected32, Exit::TripleFault);
}

#[test]
fn a_branch_does_not_link_past_the_limit() {
    // The same, but the routine's RETF is reached by a jump.
    let mut jumping = with_code_segments(9, 8);
    jumping.bytes.truncate(0x2000);
    let jumping = jumping
        .code(&[0xeb, 0x07]) // jmp 9
        .at(0x10_2009)
        .code(&[0xcb]); // retf
    jumping.ends_by(FlatMode::Protected32, Exit::TripleFault);
}
