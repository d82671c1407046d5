//! Code that changes, as seen from outside: what the check guest `smc` cannot see.
//!
//! The guest checks that changed code does what it now says. Here it is counted
//! what the change costs: a store beside code drops no block, and a store into it
//! drops that block and no other. And memory written by the host, as a device
//! would, counts as a store.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, al, byte_ptr, cl, dword_ptr, eax, ebx, ecx, esp};
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use shadow_mmu::PhysAddr;
use tests::machine::{Ended, Setup, TIERS};

/// Where the guests are loaded and entered.
const START: u32 = 0x10_0000;
/// Rounds of their loops.
const ROUNDS: u32 = 3_000;

/// A guest that runs `body` [`ROUNDS`] times and leaves EBX in the byte it ends by.
fn guest(body: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let assemble = || {
        let mut a = CodeAssembler::new(32)?;
        a.mov(esp, 0x30_0000)?;
        a.xor(ebx, ebx)?;
        a.mov(ecx, ROUNDS)?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        body(&mut a)?;
        a.dec(ecx)?;
        a.jne(again)?;
        a.mov(dword_ptr(RESULT), ebx)?;
        a.mov(al, i32::from(samples::PASSED))?;
        a.out(0xf4, al)?;
        a.assemble(START.into())
    };
    assemble().expect("the guest can be assembled")
}

/// Where EBX is left.
const RESULT: u32 = 0x20_0000;

/// What EBX is after each round has added the low byte of its number.
fn sum_of_low_bytes() -> u32 {
    (1..=ROUNDS).fold(0u32, |sum, n| sum.wrapping_add(n as i8 as u32))
}

fn run(image: &[u8], name: &str, tier: runtime::config::Tier) -> Ended {
    let ended = Setup::flat(image, START, FlatMode::Protected32, tier).run();
    assert_eq!(ended.exit, Exit::DebugExit(0x10), "{name}");
    ended
}

fn result(ended: &Ended) -> u32 {
    let word = ended.vm.cpu.mmu.ram().read_u32(PhysAddr(RESULT.into()));
    word.unwrap_or(0)
}

#[test]
fn a_store_beside_code_drops_no_block() {
    // The counter lies in the page of the code that counts.
    let image = guest(|a| {
        a.inc(dword_ptr(START + 0x800))?;
        a.mov(ebx, dword_ptr(START + 0x800))
    });
    for (name, tier) in TIERS {
        let ended = run(&image, name, tier);
        assert_eq!(result(&ended), ROUNDS, "{name}");
        let dropped = ended.vm.cache.counters.invalidated;
        assert_eq!(dropped, 0, "{name}");
    }
}

#[test]
fn a_store_into_code_drops_that_block_alone() {
    // The immediate of an ADD in a block of its own is changed in every round.
    let patched = START + 0x100;
    let image = {
        let mut image = guest(|a| {
            a.mov(byte_ptr(patched + 2), cl)?;
            a.call(u64::from(patched))
        });
        image.resize((patched - START) as usize, 0x90);
        image.extend([0x83, 0xc3, 0x00, 0xc3]); // add ebx, 0; ret
        image
    };
    let expected = sum_of_low_bytes();
    for (name, tier) in TIERS {
        let ended = run(&image, name, tier);
        assert_eq!(result(&ended), expected, "{name}");
        let dropped = ended.vm.cache.counters.invalidated;
        let rounds = u64::from(ROUNDS);
        assert!(
            dropped <= rounds,
            "{name}: {dropped} blocks dropped in {rounds} rounds"
        );
    }
}

#[test]
fn a_loop_that_patches_itself_is_not_compiled_in_every_round() {
    // MOV [label + 2], CL; label: ADD EBX, 0: the store's own block, and the next
    // instruction.
    let image = guest(|a| {
        a.mov(byte_ptr(START + 20), cl)?;
        a.add(ebx, 0)
    });
    let (expected, rounds) = (sum_of_low_bytes(), u64::from(ROUNDS));
    for (name, tier) in TIERS {
        let ended = run(&image, name, tier);
        assert_eq!(result(&ended), expected, "{name}");
        let compiled = ended.vm.cache.counters.compiled;
        assert!(
            compiled < rounds / 100,
            "{name}: {compiled} compilations in {rounds} rounds"
        );
    }
}

#[test]
fn code_patched_for_a_while_runs_on_as_it_was_left() {
    // The first 100 rounds patch the ADD, the others run it.
    let image = guest(|a| {
        let mut calm = a.create_label();
        a.cmp(ecx, ROUNDS as i32 - 100)?;
        a.jb(calm)?;
        a.inc(byte_ptr(START + 28))?;
        a.set_label(&mut calm)?;
        a.add(ebx, 0)
    });
    let expected = (1..=ROUNDS).fold(0, |sum, n| sum + n.min(101));
    for (name, tier) in TIERS {
        let ended = run(&image, name, tier);
        assert_eq!(result(&ended), expected, "{name}");
    }
}

#[test]
fn a_store_that_changes_who_reads_its_flags() {
    // ADD makes of the CMP behind it, which defines all flags, an ADC: 3Ch + D8h
    // is 14h and a carry.
    let image = guest(|a| {
        a.xor(eax, eax)?;
        a.mov(byte_ptr(START + 28), 0x3c)?;
        a.add(byte_ptr(START + 28), 0xd8)?;
        a.cmp(al, 0)?;
        a.add(ebx, eax)
    });
    for (name, tier) in TIERS {
        let ended = run(&image, name, tier);
        assert_eq!(result(&ended), ROUNDS, "{name}");
    }
}

#[test]
fn memory_written_by_a_device_is_a_store() {
    let image = |immediate: u8| guest(move |a| a.add(ebx, i32::from(immediate)));
    let (old, new) = (image(1), image(2));
    for (name, tier) in TIERS {
        let setup = Setup::flat(&old, START, FlatMode::Protected32, tier);
        let mut ended = setup.run();
        assert_eq!(result(&ended), ROUNDS, "{name}");
        ended.vm.cpu.write_phys(PhysAddr(START.into()), &new);
        ended.vm.cpu.state.eip = START;
        assert_eq!(ended.vm.run(), Exit::DebugExit(0x10), "{name}");
        assert_eq!(result(&ended), 2 * ROUNDS, "{name}");
    }
}
