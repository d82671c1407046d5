//! Mirrors, as seen from outside: hot loops use them, loops that fault give them up,
//! and they show what the guest's page tables say now.
//!
//! What code in mirrors computes is judged by all tests that run the tier `mirror`.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use runtime::config::Tier;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use runtime::native::direct_supported;
use shadow_mmu::PhysAddr;
use tests::machine::{Ended, Setup, TIERS};
use translator::flags;

const START: u32 = 0x10_0000;
const RESULT: u32 = 0x18_0000;
const STACK: u32 = 0x17_0000;

/// A guest that runs `body`, stores EBX and ends.
fn guest(body: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let assemble = || {
        let mut a = CodeAssembler::new(32)?;
        a.mov(esp, STACK)?;
        a.xor(ebx, ebx)?;
        body(&mut a)?;
        a.mov(dword_ptr(RESULT), ebx)?;
        a.mov(al, i32::from(samples::PASSED))?;
        a.out(0xf4, al)?;
        a.assemble(START.into())
    };
    assemble().expect("the guest can be assembled")
}

/// EBX at the end.
fn run(image: &[u8], tier: Tier) -> (Ended, u32) {
    let ended = Setup::flat(image, START, FlatMode::Protected32, tier).run();
    assert_eq!(ended.exit, Exit::DebugExit(samples::PASSED.into()));
    let value = ended.vm.cpu.mmu.ram().read_u32(PhysAddr(RESULT.into()));
    (ended, value.unwrap_or(0))
}

/// EBX += the byte at `address`, `rounds` times, the register EDI counting.
fn sum(a: &mut CodeAssembler, address: u32, rounds: u32) -> Result<(), IcedError> {
    a.mov(edi, rounds)?;
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.movzx(eax, byte_ptr(address))?;
    a.add(ebx, eax)?;
    a.dec(edi)?;
    a.jne(again)
}

#[test]
fn a_hot_loop_moves_to_the_mirror() {
    if !direct_supported() {
        return;
    }
    let image = guest(|a| {
        a.mov(byte_ptr(0x20_0123), 3)?;
        sum(a, 0x20_0123, 1_000_000)
    });
    let (ended, total) = run(&image, Tier::Auto);
    assert_eq!(total, 3_000_000);
    assert!(ended.vm.cache.counters.mirrored > 0);
    assert!((1..10).contains(&ended.counters.host_faults));
    let (direct, _) = run(&image, Tier::Direct);
    assert_eq!(direct.vm.cache.counters.mirrored, 0);
}

#[test]
fn a_loop_on_a_device_gives_the_mirror_up() {
    if !direct_supported() {
        return;
    }
    // The same loop over RAM and then where nothing answers: all ones.
    let image = guest(|a| {
        a.mov(esi, 0x20_0000)?;
        a.mov(byte_ptr(esi), 1)?;
        let (mut both, mut again) = (a.create_label(), a.create_label());
        a.set_label(&mut both)?;
        a.mov(edi, 500_000)?;
        a.set_label(&mut again)?;
        a.movzx(eax, byte_ptr(esi))?;
        a.add(ebx, eax)?;
        a.dec(edi)?;
        a.jne(again)?;
        a.sub(esi, 0x20_0000 - 0xb_8000)?;
        a.cmp(esi, 0xb_8000)?;
        a.je(both)
    });
    let (ended, total) = run(&image, Tier::Auto);
    assert_eq!(total, 500_000 + 255 * 500_000);
    assert!(ended.vm.cache.counters.mirrored > 0);
    assert!(ended.counters.host_faults < 100);
}

#[test]
fn a_loop_over_ever_new_pages_does_not_fault_at_each() {
    if !direct_supported() {
        return;
    }
    // Every other page is made code once, so that neighbours are not alike.
    let image = guest(|a| {
        a.mov(esi, 0x20_0000)?;
        let mut pages = a.create_label();
        a.set_label(&mut pages)?;
        a.mov(byte_ptr(esi), 0xc3)?;
        a.call(esi)?;
        a.add(esi, 0x2000)?;
        a.cmp(esi, 0x300_0000)?;
        a.jb(pages)?;
        a.mov(ecx, 40)?;
        let (mut sweep, mut each) = (a.create_label(), a.create_label());
        a.set_label(&mut sweep)?;
        a.mov(esi, 0x20_0000)?;
        a.set_label(&mut each)?;
        a.inc(dword_ptr(esi + 4))?;
        a.add(ebx, dword_ptr(esi + 4))?;
        a.add(esi, 0x1000)?;
        a.cmp(esi, 0x300_0000)?;
        a.jb(each)?;
        a.dec(ecx)?;
        a.jne(sweep)
    });
    let (ended, total) = run(&image, Tier::Auto);
    let pages = (0x300_0000 - 0x20_0000) / 0x1000;
    assert_eq!(total, pages * 40 * 41 / 2);
    let faults = ended.counters.host_faults;
    assert!(faults < 2_000, "{faults} faults, {pages} pages");
}

/// A PTE is changed between hot loops that read through it.
#[test]
fn a_mirror_follows_the_page_tables() {
    const DIRECTORY: u32 = 0x20_0000;
    const TABLE: u32 = 0x20_1000;
    const FRAMES: [u32; 2] = [0x21_0000, 0x22_0000];
    const MAPPED: u32 = 0x80_0000;
    let image = guest(|a| {
        for (n, frame) in FRAMES.into_iter().enumerate() {
            a.mov(byte_ptr(frame), [1, 10][n])?;
        }
        // 4 MiB one to one, and a page table for what follows 8 MiB.
        a.mov(dword_ptr(DIRECTORY), 0x83)?;
        a.mov(dword_ptr(DIRECTORY + 8), TABLE | 3)?;
        a.mov(dword_ptr(TABLE), FRAMES[0] | 3)?;
        a.mov(eax, cr4)?;
        a.or(eax, 0x10)?;
        a.mov(cr4, eax)?;
        a.mov(eax, DIRECTORY)?;
        a.mov(cr3, eax)?;
        a.mov(eax, cr0)?;
        a.or(eax, 0x8000_0000_u32 as i32)?;
        a.mov(cr0, eax)?;
        a.mov(ebp, 20)?;
        let mut rounds = a.create_label();
        a.set_label(&mut rounds)?;
        sum(a, MAPPED, 60_000)?;
        a.xor(dword_ptr(TABLE), (FRAMES[0] ^ FRAMES[1]) as i32)?;
        a.invlpg(byte_ptr(MAPPED))?;
        a.dec(ebp)?;
        a.jne(rounds)
    });
    for (name, tier) in TIERS {
        let (_, total) = run(&image, tier);
        assert_eq!(total, 60_000 * (10 + 10 * 10), "{name}");
    }
}

/// The runtime begins a long repetition and stops on the way; the mirror ends it.
#[test]
fn a_repetition_begun_elsewhere_is_over_when_it_ends_in_the_mirror() {
    const IDT: u32 = 0x20_0000;
    const GATE: u32 = IDT + 8 * 0x30;
    const TABLE_REGISTER: u32 = 0x20_1000;
    /// More than the runtime does at once, less than twice as much.
    const BYTES: u32 = 384 << 10;
    let image = guest(|a| {
        // The handler is what the call would return to.
        let mut main = a.create_label();
        a.call(main)?;
        a.mov(ebx, dword_ptr(esp + 8))?;
        a.mov(dword_ptr(RESULT), ebx)?;
        a.mov(al, i32::from(samples::PASSED))?;
        a.out(0xf4, al)?;
        a.set_label(&mut main)?;
        a.pop(eax)?;
        a.mov(edx, eax)?;
        a.and(eax, 0xffff)?;
        a.or(eax, 0x10_0000)?;
        a.mov(dword_ptr(GATE), eax)?;
        a.mov(dx, 0x8e00)?;
        a.mov(dword_ptr(GATE + 4), edx)?;
        a.mov(dword_ptr(TABLE_REGISTER), IDT << 16 | 0x7ff)?;
        a.mov(dword_ptr(TABLE_REGISTER + 4), IDT >> 16)?;
        a.lidt(fword_ptr(TABLE_REGISTER))?;
        a.mov(esi, START)?;
        a.mov(ecx, BYTES / 4)?;
        a.rep().lodsd()?;
        a.int(0x30)
    });
    for (name, tier) in TIERS {
        let (_, image) = run(&image, tier);
        assert_eq!(image & flags::RF, 0, "{name}");
        assert_ne!(image & 2, 0, "{name}: the image of EFLAGS");
    }
}
