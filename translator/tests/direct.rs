//! What the direct tier leaves to the runtime, by what is asked of a block.

use translator::compile::CompileRequest;
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
