//! More code than there is room for: the oldest goes, and nobody can tell.
//!
//! A guest of thousands of functions in as many places, called at random and again and
//! again, in machines with the least memory for code. Links within pages, gates, code
//! that falls through, callouts, faults in mirrors and returns in pairs all cross from what
//! stays to what goes. There are more targets in other pages than gates.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use runtime::config::{CODE_MEMORY_MIB, Tier};
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use shadow_mmu::PhysAddr;
use tests::machine::{Ended, Setup};

/// Where the guest is loaded, its functions stand, and what they jump to.
const START: u32 = 0x10_0000;
const FUNCTIONS: u32 = 0x20_0000;
const TAILS: u32 = 0x40_0000;
/// Memory that functions change, a page each.
const DATA: u32 = 0x100_0000;
const DATA_PAGES: u32 = 1 << 13;
/// Where EBX is left.
const RESULT: u32 = 0x10_8000;
/// Where there is no memory, in the hole for video cards: new code that reads it must leave
/// its mirror.
const NOTHING: u32 = 0xb_0000;
/// Functions and their distance, powers of two, and that of what they jump to.
const COUNT: u32 = 1 << 14;
const DISTANCE: u32 = 1 << 6;
const TAIL_DISTANCE: u32 = 1 << 4;
/// What is called all the time, so that it must be made anew.
const FAVOURITE: u32 = FUNCTIONS + 77 * DISTANCE;

/// A function: a branch, a callout now and then, and a jump to another page.
fn function(n: u32) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(32)?;
    let mut even = a.create_label();
    a.add(ebx, n.wrapping_mul(0x9e37_79b9))?;
    a.add(dword_ptr(DATA + n % DATA_PAGES * 0x1000), ebx)?;
    if n.is_multiple_of(7) {
        a.sub(ebx, dword_ptr(NOTHING))?;
    }
    a.rol(ebx, 3)?;
    a.test(bl, 1)?;
    a.je(even)?;
    a.xor(ebx, n as i32)?;
    if n.is_multiple_of(5) {
        a.mov(edx, cr0)?;
    }
    a.set_label(&mut even)?;
    a.jmp(u64::from(TAILS + n * TAIL_DISTANCE))?;
    a.assemble(u64::from(FUNCTIONS + n * DISTANCE))
}

fn tail(n: u32) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(32)?;
    a.sub(ebx, n as i32)?;
    a.ret()?;
    a.assemble(u64::from(TAILS + n * TAIL_DISTANCE))
}

fn driver(rounds: u32) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(32)?;
    let mut again = a.create_label();
    a.mov(esp, 0x1f_0000)?;
    a.xor(ebx, ebx)?;
    a.mov(esi, 1)?;
    a.mov(ecx, rounds)?;
    a.set_label(&mut again)?;
    a.imul_3(esi, esi, 1_103_515_245)?;
    a.add(esi, 12345)?;
    a.mov(edx, esi)?;
    a.shr(edx, 8)?;
    a.and(edx, (COUNT - 1) as i32)?;
    a.shl(edx, DISTANCE.ilog2())?;
    a.add(edx, FUNCTIONS as i32)?;
    a.call(edx)?;
    a.call(u64::from(FAVOURITE))?;
    a.dec(ecx)?;
    a.jne(again)?;
    a.mov(dword_ptr(RESULT), ebx)?;
    a.mov(al, i32::from(samples::PASSED))?;
    a.out(0xf4, al)?;
    a.assemble(START.into())
}

fn guest(rounds: u32) -> Vec<u8> {
    let put = |image: &mut Vec<u8>, at: u32, code: Result<Vec<u8>, IcedError>| {
        let code = code.expect("the guest can be assembled");
        let at = (at - START) as usize;
        image[at..at + code.len()].copy_from_slice(&code);
    };
    let mut image = vec![0x90; (TAILS - START + COUNT * TAIL_DISTANCE) as usize];
    put(&mut image, START, driver(rounds));
    for n in 0..COUNT {
        put(&mut image, FUNCTIONS + n * DISTANCE, function(n));
        put(&mut image, TAILS + n * TAIL_DISTANCE, tail(n));
    }
    image
}

fn run(image: &[u8], tier: Tier) -> (Ended, u32) {
    let setup = Setup {
        code_memory_mib: *CODE_MEMORY_MIB.start(),
        ..Setup::flat(image, START, FlatMode::Protected32, tier)
    };
    let ended = setup.run();
    assert_eq!(ended.exit, Exit::DebugExit(0x10), "{tier:?}");
    let result = ended.vm.cpu.mmu.ram().read_u32(PhysAddr(RESULT.into()));
    (ended, result.expect("the result is in RAM"))
}

/// Has a tier make room at least so often.
fn goes_round(tier: Tier, rounds: u32, least: u64) {
    let image = guest(rounds);
    let (_, expected) = run(&image, Tier::Interp);
    let (ended, result) = run(&image, tier);
    let counters = &ended.vm.cache.counters;
    assert_eq!(result, expected, "{counters:?}");
    assert!(counters.evictions >= least, "{counters:?}");
    assert_eq!(counters.flushes, 0, "{counters:?}");
    // What is always wanted is made again when it has gone, but no more often.
    let most = 2_500 * (counters.evictions + 1);
    assert!(counters.compiled < most, "{counters:?}");
}

#[test]
fn direct_code_comes_and_goes() {
    goes_round(Tier::Direct, 60_000, 16);
}

#[test]
fn mirrored_code_comes_and_goes() {
    goes_round(Tier::Mirror, 60_000, 16);
}

#[test]
fn warm_code_comes_and_goes() {
    goes_round(Tier::Auto, 400_000, 16);
}

#[test]
fn interpreted_blocks_come_and_go() {
    goes_round(Tier::Interp, 60_000, 16);
}

#[test]
fn code_of_cranelift_comes_and_goes() {
    goes_round(Tier::Cranelift, 5_000, 2);
}
