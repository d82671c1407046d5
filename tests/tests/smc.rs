//! Code that changes, as seen from outside: what the check guest `smc` cannot see.
//!
//! The guest checks that changed code does what it now says. Here it is counted
//! what the change costs: a store beside code drops no block, and a store into it
//! drops that block and no other. And memory written by the host, as a device
//! would, counts as a store.

use iced_x86::code_asm::*;
use iced_x86::{BlockEncoderOptions, IcedError};
use runtime::config::Tier;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use shadow_mmu::PhysAddr;
use tests::machine::{Ended, Setup, TIERS, in_rounds};

/// Where the guests are loaded and entered.
const START: u32 = 0x10_0000;
/// Rounds of their loops.
const ROUNDS: u32 = 3_000;

/// A guest that runs `body` [`ROUNDS`] times and leaves EBX in the byte it ends by.
fn guest(body: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    in_rounds([START, ROUNDS, RESULT], body)
}

/// Where EBX is left.
const RESULT: u32 = 0x20_0000;

/// What EBX is after each round has added the low byte of its number.
fn sum_of_low_bytes() -> u32 {
    (1..=ROUNDS).fold(0u32, |sum, n| sum.wrapping_add(n as i8 as u32))
}

fn run(image: &[u8], name: &str, tier: Tier) -> Ended {
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
fn a_store_and_the_neighbour_that_it_patches_are_one_callout() {
    let behind = guest(|a| {
        a.mov(byte_ptr(START + 20), cl)?;
        a.add(ebx, 0)
    });
    let before = guest(|a| {
        a.add(ebx, 0)?;
        a.mov(byte_ptr(START + 14), cl)
    });
    let sum = sum_of_low_bytes();
    // What the last round stores is never added.
    for (image, expected) in [(behind, sum), (before, sum.wrapping_sub(1))] {
        for (name, tier) in TIERS {
            let ended = run(&image, name, tier);
            assert_eq!(result(&ended), expected, "{name}");
            let callouts: u64 = ended.vm.cpu.callout_counts.iter().sum();
            let most = u64::from(ROUNDS) * 5 / 4;
            let chains = tier == Tier::Direct;
            assert!(!chains || callouts < most, "{name}: {callouts} callouts");
        }
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

/// As [`guest`], with a function at [`OTHER`] and a body that is told the address of
/// the label it returns: where it stores.
fn patching(body: impl Fn(&mut CodeAssembler, u32) -> Result<CodeLabel, IcedError>) -> Vec<u8> {
    let assemble = |to: u32| {
        let mut a = CodeAssembler::new(32)?;
        a.mov(esp, 0x30_0000)?;
        a.xor(ebx, ebx)?;
        a.xor(eax, eax)?;
        a.mov(ecx, ROUNDS)?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        let at = body(&mut a, to)?;
        a.dec(ecx)?;
        a.jne(again)?;
        a.mov(dword_ptr(RESULT), ebx)?;
        a.mov(al, i32::from(samples::PASSED))?;
        a.out(0xf4, al)?;
        let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let code = a.assemble_options(START.into(), options)?;
        Ok::<_, IcedError>((code.inner.code_buffer.clone(), code.label_ip(&at)? as u32))
    };
    let (_, to) = assemble(START).expect("the guest can be assembled");
    let (mut image, _) = assemble(to).expect("the guest can be assembled");
    image.resize((OTHER - START) as usize, 0x90);
    image.extend(FUNCTION);
    image
}

/// Another page with code.
const OTHER: u32 = START + 0x1000;
/// ADD EBX, 0 (32 bits); RET.
const FUNCTION: [u8; 8] = [0x81, 0xc3, 0, 0, 0, 0, 0xc3, 0x90];

/// Runs a guest in every tier. Each leaves `expected`, and what is compiled, decoded
/// and dropped does not grow with the rounds.
fn patches_cheaply(what: &str, image: &[u8], expected: u32) {
    for (name, tier) in TIERS {
        let ended = run(image, name, tier);
        assert_eq!(result(&ended), expected, "{what}, {name}");
        let counters = ended.vm.cache.counters;
        let most = u64::from(ROUNDS) / 20;
        for (count, of) in [
            (counters.compiled, "compiled"),
            (counters.blocks, "decoded"),
            (counters.invalidated, "dropped"),
        ] {
            assert!(count < most, "{what}, {name}: {count} blocks {of}");
        }
    }
}

fn sum(of: impl Fn(u32) -> u32) -> u32 {
    (1..=ROUNDS).fold(0, |sum, n| sum.wrapping_add(of(n)))
}

#[test]
fn operands_patched_in_every_round_are_read_and_nothing_is_made_anew() {
    let before = patching(|a, to| {
        let mut at = a.create_label();
        a.add(ebx, 0)?;
        a.set_label(&mut at)?;
        a.mov(byte_ptr(to - 1), cl)?;
        Ok(at)
    });
    // The first round adds 0, the last one's patch is never used.
    let expected = sum_of_low_bytes().wrapping_sub(1);
    patches_cheaply("an immediate before", &before, expected);
    let behind = patching(|a, to| {
        let mut at = a.create_label();
        a.mov(dword_ptr(to + 2), ecx)?;
        a.set_label(&mut at)?;
        a.add(ebx, 0x1234_5678)?;
        Ok(at)
    });
    patches_cheaply("an immediate behind", &behind, sum(|n| n));
    let displacement = patching(|a, to| {
        let mut at = a.create_label();
        a.mov(dword_ptr(RESULT + 0x100 + ecx * 4), ecx)?;
        a.lea(edx, ptr(ecx * 4 + (RESULT + 0x100)))?;
        a.mov(dword_ptr(to + 2), edx)?;
        a.set_label(&mut at)?;
        a.add(ebx, dword_ptr(RESULT))?;
        Ok(at)
    });
    patches_cheaply("a displacement", &displacement, sum(|n| n));
}

#[test]
fn opcodes_patched_in_every_round_are_the_ones_that_run() {
    // ADD EBX, ECX and SUB EBX, ECX, in turns; the first is SUB.
    let opcode = patching(|a, to| {
        let mut at = a.create_label();
        a.mov(edx, ecx)?;
        a.and(edx, 1)?;
        a.imul_3(edx, edx, 0x28)?;
        a.xor(edx, 0x2b)?;
        a.mov(byte_ptr(to), dl)?;
        a.set_label(&mut at)?;
        a.db(&[0x03, 0xd9])?;
        Ok(at)
    });
    let signed = |n: u32| match n % 2 {
        0 => n.wrapping_neg(),
        _ => n,
    };
    patches_cheaply("an opcode", &opcode, sum(signed));
    // One instruction of four bytes becomes two, or a jump over the second.
    let lengths = patching(|a, to| {
        let mut at = a.create_label();
        a.mov(edx, 0x9001_c383u32)?; // ADD EBX, 1; NOP
        a.test(ecx, 1)?;
        let mut odd = a.create_label();
        a.jne(odd)?;
        a.mov(edx, 0x4343_02ebu32)?; // JMP over two INC EBX
        a.test(ecx, 2)?;
        a.jne(odd)?;
        a.mov(edx, 0x4343_4343)?;
        a.set_label(&mut odd)?;
        a.mov(dword_ptr(to), edx)?;
        a.set_label(&mut at)?;
        a.db(&[0x90; 4])?;
        Ok(at)
    });
    let adds = |n: u32| match n % 4 {
        0 => 4,
        2 => 0,
        _ => 1,
    };
    patches_cheaply("lengths", &lengths, sum(adds));
}

#[test]
fn functions_patched_from_elsewhere_do_what_they_say_now() {
    let immediate = patching(|a, _| {
        let mut at = a.create_label();
        a.mov(dword_ptr(OTHER + 2), ecx)?;
        a.call(u64::from(OTHER))?;
        a.set_label(&mut at)?;
        a.nop()?;
        Ok(at)
    });
    patches_cheaply("a function's immediate", &immediate, sum(|n| n));
    let whole = patching(|a, _| {
        let mut at = a.create_label();
        a.mov(word_ptr(OTHER), 0xc381)?;
        a.mov(dword_ptr(OTHER + 2), ecx)?;
        a.mov(byte_ptr(OTHER + 6), 0xc3)?;
        a.call(u64::from(OTHER))?;
        a.set_label(&mut at)?;
        a.nop()?;
        Ok(at)
    });
    patches_cheaply("a function", &whole, sum(|n| n));
    let copied = patching(|a, _| {
        let mut at = a.create_label();
        a.mov(edx, ecx)?;
        a.mov(dword_ptr(RESULT + 0x102), ecx)?;
        a.mov(word_ptr(RESULT + 0x100), 0xc381)?;
        a.mov(word_ptr(RESULT + 0x106), 0xc3)?;
        a.mov(esi, RESULT + 0x100)?;
        a.mov(edi, OTHER)?;
        a.mov(ecx, 2)?;
        a.rep().movsd()?;
        a.mov(ecx, edx)?;
        a.call(u64::from(OTHER))?;
        a.set_label(&mut at)?;
        a.nop()?;
        Ok(at)
    });
    patches_cheaply("a function copied", &copied, sum(|n| n));
}

#[test]
fn data_close_to_code_is_only_data() {
    let within = patching(|a, to| {
        let (mut at, mut over) = (a.create_label(), a.create_label());
        a.jmp(over)?;
        a.set_label(&mut at)?;
        a.db(&[0, 0, 0, 0])?;
        a.set_label(&mut over)?;
        a.inc(dword_ptr(to))?;
        a.mov(ebx, dword_ptr(to))?;
        Ok(at)
    });
    patches_cheaply("a counter in the loop", &within, ROUNDS);
    let stack = patching(|a, to| {
        let mut at = a.create_label();
        a.mov(esp, START + 0x900)?;
        a.push(ecx)?;
        a.push(dword_ptr(esp))?;
        a.pop(edx)?;
        a.set_label(&mut at)?;
        a.pop(edi)?;
        a.lea(ebx, ebx + edi)?;
        a.mov(dword_ptr(to + 0x400 + ecx * 4), edx)?;
        Ok(at)
    });
    patches_cheaply("a stack and an array", &stack, sum(|n| n));
    let filled = patching(|a, to| {
        let mut at = a.create_label();
        a.mov(edx, ecx)?;
        a.mov(edi, to + 0x100)?;
        a.mov(eax, edx)?;
        a.mov(ecx, 16)?;
        a.rep().stosd()?;
        a.set_label(&mut at)?;
        a.mov(ecx, edx)?;
        a.add(ebx, dword_ptr(edi - 4))?;
        Ok(at)
    });
    patches_cheaply("REP STOSD", &filled, sum(|n| n));
}

#[test]
fn a_patched_instruction_that_faults_is_where_it_says() {
    // It is UD2 in every round. The handler, which follows, throws the frame away
    // and adds how far EIP is from where it should be, and 3.
    let image = patching(|a, to| {
        let (gate, register) = (IDT + 6 * 8, IDT + 0x800);
        let mut at = a.create_label();
        a.mov(dword_ptr(gate), (0x10 << 16 | (to + 2) & 0xffff) as i32)?;
        a.mov(
            dword_ptr(gate + 4),
            ((to + 2) & 0xffff_0000 | 0x8e00) as i32,
        )?;
        a.mov(word_ptr(register), 0x7ff)?;
        a.mov(dword_ptr(register + 2), IDT as i32)?;
        a.lidt(ptr(register))?;
        a.mov(byte_ptr(to), 0x90)?;
        a.mov(word_ptr(to), 0x0b0f)?;
        a.set_label(&mut at)?;
        a.db(&[0x90, 0x90])?;
        a.pop(edi)?;
        a.add(esp, 8)?;
        a.sub(edi, to as i32)?;
        a.lea(ebx, ebx + edi + 3)?;
        Ok(at)
    });
    patches_cheaply("UD2", &image, 3 * ROUNDS);
}

/// Where an interrupt table goes.
const IDT: u32 = 0x21_0000;

#[test]
fn code_that_changes_at_the_end_of_a_page_is_right_too() {
    // The last four bytes of a page and the first two of the next.
    let patched = OTHER - 4;
    let mut image = guest(|a| {
        a.mov(dword_ptr(patched + 2), ecx)?;
        a.call(u64::from(patched))
    });
    image.resize((patched - START) as usize, 0x90);
    image.extend(FUNCTION);
    for (name, tier) in TIERS {
        let ended = run(&image, name, tier);
        assert_eq!(result(&ended), sum(|n| n), "{name}");
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
