//! What the direct tier leaves to the runtime, by what is asked of a block.

use translator::compile::{CompileRequest, HostCode};
use translator::decode::decode_block;
use translator::direct::DirectCompiler;
use translator::mode::Mode;

/// MOVD MM0, [EDI]; PADDQ MM0, MM1; MOVD [EDI + 4], MM0; RET: the inside of a loop
/// over the words of a big number.
const BIG_NUMBERS: &[u8] = &[
    0x0f, 0x6e, 0x07, 0x0f, 0xd4, 0xc1, 0x0f, 0x7e, 0x47, 0x04, 0xc3,
];

/// How many of them are callouts.
fn callouts(grouped: bool, native_vectors: bool) -> usize {
    let block = decode_block(BIG_NUMBERS, 0x40_1000, Mode::flat32(), 64).expect("a block");
    let request = CompileRequest {
        block: &block,
        link_base: 6,
        grouped,
        native_vectors,
        mirrored: false,
        gs: false,
        callout_base: 100,
        listing: false,
    };
    let code = DirectCompiler::new().compile(&request);
    code.expect("the block compiles").callouts.len()
}

/// A block that has left often, for its accesses cross to pages not yet seen, must
/// not have to call out for its vector instructions too.
#[test]
fn checking_each_access_alone_makes_no_callouts() {
    assert_eq!(callouts(true, true), 0);
    assert_eq!(callouts(false, true), 0);
    assert_eq!(callouts(true, false), 3);
}

/// FLD [EDI]; CPUID; FSTP [ESI]; LOOP to the start: exits, callouts, links, and an x87
/// instruction that the runtime must know of.
const MIXED: &[u8] = &[0xd9, 0x07, 0x0f, 0xa2, 0xd9, 0x1e, 0xe2, 0xf8];

fn mixed(link_base: u32, callout_base: u32) -> HostCode {
    let block = decode_block(MIXED, 0x40_1000, Mode::flat32(), 64).expect("a block");
    let request = CompileRequest {
        block: &block,
        link_base,
        grouped: true,
        native_vectors: true,
        mirrored: false,
        gs: false,
        callout_base,
        listing: false,
    };
    let code = DirectCompiler::new().compile(&request);
    code.expect("the block compiles")
}

#[test]
fn renumbered_code_is_code_with_other_numbers() {
    let (mut code, other) = (mixed(0, 0), mixed(0x1_2345, 0x6_7890));
    assert!(code.relocations.len() > 4, "{:?}", code.relocations);
    assert!(code.renumber(0x1_2345, 0x6_7890));
    assert_eq!(code.bytes, other.bytes);
    assert_eq!(code.links, other.links);
    assert_eq!(code.relocations, other.relocations);
    assert!(code.renumber(0u32.wrapping_sub(0x1_2345), 0u32.wrapping_sub(0x6_7890)));
    assert_eq!(code.bytes, mixed(0, 0).bytes);
    code.bytes.truncate(20);
    assert!(!code.renumber(1, 1));
}

/// Blocks with all that code may hold of EIP: CALL to the same page, to another one and
/// by a register, jumps and branches likewise, a loop, x87 and a store, whose exits do.
const MOVING: &[&[u8]] = &[
    &[0x50, 0xe8, 0x10, 0, 0, 0],
    &[0x50, 0xe8, 0x10, 0, 1, 0],
    &[0x01, 0xd8, 0xe8, 0x10, 0, 1, 0],
    &[0xff, 0xd3],
    &[0xff, 0x24, 0x85, 0, 0x20, 0x40, 0],
    &[0xe9, 0, 0, 2, 0],
    &[0x39, 0xd8, 0x74, 0x30],
    &[0x39, 0xd8, 0x0f, 0x84, 0, 0, 0xfe, 0xff],
    &[0xd9, 0x07, 0x89, 0x06, 0xe2, 0xfa],
    &[0x8b, 0x45, 8, 0x03, 0x45, 12, 0xc3],
    &[0xfb, 0xc3],
];

fn moving(bytes: &[u8], eip: u32) -> HostCode {
    let mode = Mode(Mode::flat32().0 | Mode::USER);
    let block = decode_block(bytes, eip, mode, 64).expect("a block");
    assert!(block.moves());
    let request = CompileRequest {
        block: &block,
        link_base: 4,
        grouped: true,
        native_vectors: true,
        mirrored: false,
        gs: false,
        callout_base: 7,
        listing: false,
    };
    DirectCompiler::new()
        .compile(&request)
        .expect("the block compiles")
}

#[test]
fn moved_code_is_code_for_other_addresses() {
    for bytes in MOVING {
        // From the second one a jump leads to an entry at the jump cache's beginning.
        for to in [0xb7f1_2320u32, 0xfcdb_0320, 0x0003_0320] {
            let mut code = moving(bytes, 0x40_0320);
            assert!(code.move_by(to.wrapping_sub(0x40_0320)));
            let there = moving(bytes, to);
            assert_eq!(code.bytes, there.bytes, "{bytes:x?}");
            assert_eq!(code.links, there.links, "{bytes:x?}");
            assert_eq!(code.relocations, there.relocations, "{bytes:x?}");
        }
    }
}

#[test]
fn code_whose_addresses_wrap_around_does_not_move() {
    let moves = |eip, mode: u32, bytes: &[u8]| {
        let mode = Mode(Mode::flat32().0 | mode);
        decode_block(bytes, eip, mode, 64).expect("a block").moves()
    };
    let back = &[0xe9, 0, 0, 0xff, 0xff];
    assert!(moves(0x8_0000, Mode::USER, back));
    assert!(!moves(0x8000, Mode::USER, back));
    assert!(!moves(0xffff_fffb, Mode::USER, &[0xe9, 0, 0, 0, 0]));
    assert!(!moves(0x8_0000, 0, back));
}
