//! Guests that keep the processor busy without running an instruction: they must not
//! keep it from looking at the clock.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, ax, dr0, dr7, ds, eax, ebx, sp, ss, word_ptr};
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use std::time::Duration;
use tests::machine::{Setup, TIERS};

/// Where guests are loaded and entered, in real mode.
const START: u32 = 0x8000;
/// Segment of their stack, in which SP wraps round.
const STACK: i32 = 0x2000;

/// A guest that gives `vector` a handler at `to` and goes on as `body` says.
fn guest(
    (vector, to): (u32, u32),
    body: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Vec<u8> {
    let assemble = || {
        let mut a = CodeAssembler::new(16)?;
        a.xor(ax, ax)?;
        a.mov(ds, ax)?;
        a.mov(ax, STACK)?;
        a.mov(ss, ax)?;
        a.xor(sp, sp)?;
        a.mov(word_ptr(4 * vector), to & 0xffff)?;
        a.mov(word_ptr(4 * vector + 2), to >> 16)?;
        body(&mut a)?;
        a.assemble(START.into())
    };
    assemble().expect("the guest can be assembled")
}

/// Runs it in all tiers until the time is over.
fn runs_until_the_timeout(image: &[u8]) {
    for (name, tier) in TIERS {
        let setup = Setup {
            timeout: Duration::from_millis(100),
            ..Setup::flat(image, START, FlatMode::Real16, tier)
        };
        let ended = setup.run();
        assert_eq!(ended.exit, Exit::Timeout, "{name}");
    }
}

#[test]
fn a_breakpoint_that_its_own_delivery_hits() {
    // On its vector.
    let image = guest((1, START), |a| {
        a.mov(ebx, 4)?;
        a.mov(dr0, ebx)?;
        // Enabled, on loads and stores, of four bytes.
        a.mov(eax, 0x000f_0001)?;
        a.mov(dr7, eax)?;
        a.mov(ax, word_ptr(4))?;
        a.hlt()
    });
    runs_until_the_timeout(&image);
}

#[test]
fn a_handler_of_invalid_opcodes_that_is_one() {
    let mut image = guest((6, START + 0x100), |a| a.ud2());
    image.resize(0x100, 0x90);
    image.extend([0x0f, 0x0b]);
    runs_until_the_timeout(&image);
}
