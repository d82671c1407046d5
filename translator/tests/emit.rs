//! What the emitter makes of blocks: golden CLIF, and blocks of anything at all.
//!
//! The golden files hold CLIF rather than host code, which depends on the host's
//! features. `BLESS=1 cargo test -p translator --test emit` rewrites them.

use proptest::prelude::*;
use std::path::PathBuf;
use translator::block::Block;
use translator::compile::{CompileRequest, Compiler, HostCode, Opt};
use translator::decode::decode_block;
use translator::dump::text::{Column, rows};
use translator::dump::{Listing, named_clif};
use translator::insn::SegReg;
use translator::mode::Mode;

const EIP: u32 = 0x0040_1000;

fn decode(bytes: &[u8], mode: Mode) -> Option<Block> {
    decode_block(bytes, EIP, mode, 64).ok()
}

fn compile(compiler: &mut Compiler, block: &Block) -> HostCode {
    let request = CompileRequest {
        block,
        link_base: 6,
        grouped: true,
        native_vectors: true,
        mirrored: false,
        gs: false,
        callout_base: 100,
        listing: true,
    };
    compiler.compile(&request).expect("the block compiles")
}

/// The CLIF of a listing is such that clif-util takes it, before and after optimisation.
fn parses(code: &HostCode) {
    for clif in [&code.clif, &code.optimised].into_iter().flatten() {
        let named = named_clif(clif, "block_00401000");
        let functions = cranelift_reader::parse_functions(&named);
        let functions = functions.unwrap_or_else(|error| panic!("{error}\n{named}"));
        assert_eq!(functions.len(), 1);
    }
}

fn golden(name: &str, bytes: &[u8], mode: Mode) {
    let block = decode(bytes, mode).expect("a whole instruction");
    let mut compiler = Compiler::new().expect("a host that Cranelift knows");
    let code = compile(&mut compiler, &block);
    let listing = code.clif.as_deref().expect("a listing was asked for");
    let clif: String = listing
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
        .with_extension("clif");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &clif).expect("a writable golden file");
    }
    let want = std::fs::read_to_string(&path).expect("a golden file");
    assert_eq!(clif, want, "CLIF of {name} has changed; BLESS=1 accepts it");
    let listing = Listing::new(&block, bytes, &code);
    let text = rows(&listing, &[Column::Clif, Column::Host]);
    parses(&code);
    for (n, insn) in block.insns.iter().enumerate() {
        assert!(
            text.contains(&format!("{:08x}", insn.eip)),
            "row {n} of\n{text}"
        );
    }
}

#[test]
fn compare_and_branch_fuse() {
    // cmp eax, ebx; jl +2
    golden("cmp_jl", &[0x39, 0xd8, 0x7c, 0x02], Mode::flat32());
}

#[test]
fn one_check_covers_a_stack_frame() {
    // push ebp; mov ebp, esp; push ebx; mov eax, [ebp+8]; mov [ebp-8], eax; jmp $-9
    let bytes = [
        0x55, 0x89, 0xe5, 0x53, 0x8b, 0x45, 0x08, 0x89, 0x45, 0xf8, 0xeb, 0xf7,
    ];
    golden("frame", &bytes, Mode::flat32());
}

#[test]
fn pushes_of_all_registers_are_one_interval() {
    // mov eax, [esp+60]; pushad; nop
    golden(
        "pushad",
        &[0x8b, 0x44, 0x24, 0x3c, 0x60, 0x90],
        Mode::flat32(),
    );
}

#[test]
fn a_callout_forgets_registers_and_tables() {
    // mov ecx, [eax]; cpuid; mov edx, [eax]
    golden(
        "callout",
        &[0x8b, 0x08, 0x0f, 0xa2, 0x8b, 0x10],
        Mode::flat32(),
    );
}

#[test]
fn a_return_probes_the_jump_cache() {
    golden("ret", &[0xc3], Mode::flat32());
}

#[test]
fn a_segment_with_a_limit_is_checked() {
    let mode = Mode(Mode::CODE32 | Mode::STACK32 | Mode::PROTECTED);
    // mov [eax], ecx
    golden("limited", &[0x89, 0x08], mode);
}

#[test]
fn a_jump_to_the_start_is_a_loop() {
    // add eax, [esi]; add esi, 4; dec ecx; jnz start
    let bytes = [0x03, 0x06, 0x83, 0xc6, 0x04, 0x49, 0x75, 0xf8];
    golden("loop", &bytes, Mode::flat32());
}

#[test]
fn real_mode_words() {
    // add [bx+si], ax; loop $-4
    golden("real", &[0x01, 0x00, 0xe2, 0xfc], Mode(0));
}

#[test]
fn a_store_then_a_check_makes_a_callout() {
    // enter 16, 2 stores, loads and stores again.
    let block = decode(&[0xc8, 0x10, 0x00, 0x02], Mode::flat32()).expect("a whole instruction");
    let mut compiler = Compiler::new().expect("a host that Cranelift knows");
    let code = compile(&mut compiler, &block);
    assert_eq!(code.callouts.len(), 1);
}

#[test]
fn the_stubs_compile() {
    let mut compiler = Compiler::new().expect("a host that Cranelift knows");
    assert!(!compiler.trampoline().expect("a trampoline").is_empty());
    assert!(!compiler.unlinked_stub().expect("a stub").is_empty());
}

#[test]
fn a_compiler_can_move_to_a_worker() {
    fn is_send<T: Send>() {}
    is_send::<Compiler>();
}

/// A mode: mostly flat, sometimes 16-bit, sometimes with segments.
fn modes() -> impl Strategy<Value = Mode> {
    let segmented = (any::<[bool; 12]>(), any::<bool>()).prop_map(|(known, code32)| {
        let base = if code32 {
            Mode::CODE32 | Mode::STACK32
        } else {
            0
        };
        SegReg::ALL
            .into_iter()
            .enumerate()
            .fold(Mode(base | Mode::PROTECTED), |mode, (n, seg)| {
                mode.with_segment(seg, known[n], known[n + 6])
            })
    });
    prop_oneof![3 => Just(Mode::flat32()), 1 => Just(Mode(0)), 1 => segmented]
}

proptest! {
    // The verifier is on in debug builds, so this also proves the CLIF valid.
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn anything_compiles(
        bytes in proptest::collection::vec(any::<u8>(), 15..120),
        mode in modes(),
        fast in any::<bool>(),
    ) {
        let opt = if fast { Opt::Speed } else { Opt::None };
        let mut compiler = Compiler::with_opt(opt).expect("a host that Cranelift knows");
        if let Some(block) = decode(&bytes, mode) {
            let code = compile(&mut compiler, &block);
            prop_assert!(code.links.len() <= 2);
            prop_assert!(Listing::new(&block, &bytes, &code).parts.len() >= block.insns.len());
            parses(&code);
        }
    }

    #[test]
    fn any_single_instruction_compiles(
        prefix in prop_oneof![
            Just(vec![]), Just(vec![0x66]), Just(vec![0x67]), Just(vec![0x0f]),
            Just(vec![0x66, 0x0f]), Just(vec![0xf0]), Just(vec![0x64]),
        ],
        bytes in proptest::collection::vec(any::<u8>(), 15),
        mode in modes(),
    ) {
        let mut compiler = Compiler::new().expect("a host that Cranelift knows");
        let bytes = [prefix, bytes].concat();
        let mut at = 0;
        while let Some(block) = bytes.get(at..).and_then(|rest| {
            decode_block(rest, EIP, mode, 1).ok()
        }) {
            compile(&mut compiler, &block);
            at += block.len_bytes.max(1) as usize;
        }
    }
}
