//! Code that is patched in every round where a page ends: an instruction within its
//! last bytes, one that crosses into the next page, and one that does so every other
//! time. Each is right in every tier, and nothing is made anew for it.

use iced_x86::code_asm::*;
use iced_x86::{IcedError, Mnemonic};
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use runtime::vcpu::cr0;
use shadow_mmu::PhysAddr;
use tests::machine::{Ended, Setup, TIERS, in_rounds};

/// Where the guests are loaded and entered.
const START: u32 = 0x10_0000;
/// The page boundary that functions lie at.
const EDGE: u32 = START + 0x1000;
/// Rounds of the loops.
const ROUNDS: u32 = 3_000;
/// Where EBX is left.
const RESULT: u32 = 0x20_0000;
/// Interrupt descriptor table and what LIDT reads.
const IDT: u32 = 0x21_0000;
const IDTR: u32 = IDT + 0x800;
/// Page directory, and the table of the first 4 MiB behind it.
const DIRECTORY: u32 = 0x22_0000;

type Written = Result<(), IcedError>;

/// `body` run [`ROUNDS`] times, with `function` at `at`.
fn guest(at: u32, function: &[u8], body: impl Fn(&mut CodeAssembler) -> Written) -> Vec<u8> {
    let mut image = in_rounds([START, ROUNDS, RESULT], body);
    image.resize((at - START) as usize, 0x90);
    image.extend(function);
    image
}

fn word(ended: &Ended, at: u32) -> u32 {
    let word = ended.vm.cpu.mmu.ram().read_u32(PhysAddr(at.into()));
    word.expect("an address in RAM")
}

/// Runs a guest in every tier. Each leaves `expected`, and what is compiled, decoded
/// and dropped does not grow with the rounds.
fn patches_cheaply(what: &str, image: &[u8], expected: u32) {
    for (name, tier) in TIERS {
        let ended = Setup::flat(image, START, FlatMode::Protected32, tier).run();
        assert_eq!(ended.exit, Exit::DebugExit(0x10), "{what}, {name}");
        assert_eq!(word(&ended, RESULT), expected, "{what}, {name}");
        let counters = ended.vm.cache.counters;
        for (count, of) in [
            (counters.compiled, "compiled"),
            (counters.blocks, "decoded"),
            (counters.invalidated, "dropped"),
        ] {
            let most = u64::from(ROUNDS) / 20;
            assert!(count < most, "{what}, {name}: {count} blocks {of}");
        }
    }
}

fn sum(of: impl Fn(u32) -> u32) -> u32 {
    (1..=ROUNDS).fold(0, |sum, n| sum.wrapping_add(of(n)))
}

#[test]
fn an_immediate_is_patched_at_each_distance_from_the_edge() {
    for distance in 0..=16 {
        let at = EDGE - distance;
        // ADD EBX, imm32; RET
        let image = guest(at, &[0x81, 0xc3, 0, 0, 0, 0, 0xc3], |a| {
            a.mov(dword_ptr(at + 2), ecx)?;
            a.call(u64::from(at))
        });
        patches_cheaply(&format!("{distance} bytes before"), &image, sum(|n| n));
    }
}

/// Makes the opcode at `at` 81h in odd rounds and 1 in even ones.
fn patch_opcode(a: &mut CodeAssembler, at: u32) -> Written {
    a.mov(edx, ecx)?;
    a.and(edx, 1)?;
    a.neg(edx)?;
    a.and(edx, 0x80)?;
    a.inc(edx)?;
    a.mov(byte_ptr(at), dl)
}

#[test]
fn an_opcode_makes_an_instruction_cross_or_not() {
    // ADD EBX, 90909090h crosses; ADD EBX, EAX does not, and NOPs follow.
    let at = EDGE - 2;
    let image = guest(at, &[0x81, 0xc3, 0x90, 0x90, 0x90, 0x90, 0xc3], |a| {
        patch_opcode(a, at)?;
        a.mov(eax, ecx)?;
        a.call(u64::from(at))
    });
    let expected = |n| if n % 2 == 1 { 0x9090_9090 } else { n };
    patches_cheaply("an opcode", &image, sum(expected));
}

#[test]
fn an_instruction_patched_for_a_while_runs_on_as_it_was_left() {
    let at = EDGE - 3;
    let image = guest(at, &[0x81, 0xc3, 0, 0, 0, 0, 0xc3], |a| {
        let mut over = a.create_label();
        a.cmp(ecx, (ROUNDS - 200) as i32)?;
        a.jb(over)?;
        a.mov(dword_ptr(at + 2), ecx)?;
        a.set_label(&mut over)?;
        a.call(u64::from(at))
    });
    patches_cheaply("for a while", &image, sum(|n| n.max(ROUNDS - 200)));
    for (name, tier) in TIERS {
        let ended = Setup::flat(&image, START, FlatMode::Protected32, tier).run();
        let callouts = ended.vm.cpu.callout_counts[Mnemonic::INVALID as usize];
        let most = u64::from(ROUNDS) / 4;
        assert!(callouts < most, "{name}: {callouts} callouts for stand-ins");
    }
}

#[test]
fn a_repetition_that_stores_into_its_second_page_notices() {
    // REP STOSB crosses: F3 | AA. Its first store, of five downwards, makes PAUSE
    // of it.
    let at = EDGE - 1;
    let image = guest(at, &[0xf3, 0xaa, 0xc3], |a| {
        a.mov(edx, ecx)?;
        a.mov(byte_ptr(at + 1), 0xaa)?;
        a.mov(edi, at + 1)?;
        a.mov(ecx, 5)?;
        a.mov(al, 0x90)?;
        a.std()?;
        a.call(u64::from(at))?;
        a.cld()?;
        a.add(ebx, edi)?;
        a.sub(ebx, at as i32)?;
        a.add(ebx, ecx)?;
        a.mov(ecx, edx)
    });
    patches_cheaply("REP STOSB", &image, 4 * ROUNDS);
}

/// The first 4 MiB of memory are mapped to themselves, and paging is on.
fn with_paging(image: &[u8], name: &str, tier: runtime::config::Tier) -> Ended {
    let setup = Setup::flat(image, START, FlatMode::Protected32, tier);
    let ended = setup.run_after(|vm| {
        let ram = vm.cpu.mmu.ram();
        let table = DIRECTORY + 0x1000;
        let write = |at: u32, v: u32| ram.write_u32(PhysAddr(at.into()), v);
        let entries = (0..1024).map(|n| (table + 4 * n, n << 12 | 3));
        let all = entries.chain([(DIRECTORY, table | 3)]);
        let written: Option<Vec<()>> = all.map(|(at, v)| write(at, v)).collect();
        assert!(written.is_some());
        vm.cpu.sys.cr3 = DIRECTORY;
        vm.cpu.sys.cr0 |= cr0::PG;
        vm.cpu.paging_changed();
    });
    assert_eq!(ended.exit, Exit::DebugExit(0x10), "{name}");
    ended
}

/// The handler of #PF: adds how far EIP is from CR2, and maps the page.
fn handler(entry: u32) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(32)?;
    a.add(esp, 4)?;
    a.mov(eax, cr2)?;
    a.add(ebx, eax)?;
    a.sub(ebx, dword_ptr(esp))?;
    a.or(dword_ptr(entry), 1)?;
    a.iretd()?;
    a.assemble(HANDLER.into())
}

/// Where it is.
const HANDLER: u32 = START + 0x800;

#[test]
fn the_next_page_faults_only_for_what_is_there() {
    // As above, with the next page absent: at the instruction that crosses, or at the
    // NOP behind the one that does not.
    let at = EDGE - 2;
    let entry = DIRECTORY + 0x1000 + 4 * (EDGE >> 12);
    let mut image = guest(at, &[0x81, 0xc3, 0x90, 0x90, 0x90, 0x90, 0xc3], |a| {
        a.mov(dword_ptr(IDT + 14 * 8), 0x10_0000 | HANDLER & 0xffff)?;
        a.mov(dword_ptr(IDT + 14 * 8 + 4), HANDLER & 0xffff_0000 | 0x8e00)?;
        a.mov(dword_ptr(IDTR), IDT << 16 | 0x7ff)?;
        a.mov(dword_ptr(IDTR + 4), IDT >> 16)?;
        a.lidt(fword_ptr(IDTR))?;
        patch_opcode(a, at)?;
        a.and(dword_ptr(entry), !1)?;
        a.invlpg(byte_ptr(EDGE))?;
        a.xor(eax, eax)?;
        a.call(u64::from(at))
    });
    let code = handler(entry).expect("the handler can be assembled");
    let offset = (HANDLER - START) as usize;
    image[offset..offset + code.len()].copy_from_slice(&code);
    let expected = |n| if n % 2 == 1 { 0x9090_9092 } else { 0 };
    for (name, tier) in TIERS {
        let ended = with_paging(&image, name, tier);
        assert_eq!(word(&ended, RESULT), sum(expected), "{name}");
    }
}
