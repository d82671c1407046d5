//! Memory that is a device: every form of access, and the local APIC's registers.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use tests::machine::{Setup, TIERS};

const START: u32 = 0x10_0000;
const HANDLER: u32 = START + 0x1000;
const IDT: u32 = 0x20_0000;
const COUNT: u32 = 0x20_1000;
const RAM: u32 = 0x30_0000;
/// The test device's memory.
const DEVICE: u32 = 0xFF00_0000;
const APIC: u32 = 0xFEE0_0000;
/// Bytes that are compared, in the midst of which a page begins.
const WINDOW_BYTES: u32 = 128;
const WINDOW: u32 = 0x1000 - WINDOW_BYTES / 2;

/// Rounds enough for every tier to compile what it compiles.
const ROUNDS: u32 = 300;

fn assemble(body: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>, at: u32) -> Vec<u8> {
    let made = || {
        let mut a = CodeAssembler::new(32)?;
        body(&mut a)?;
        a.assemble(at.into())
    };
    made().expect("the code assembles")
}

fn passes(image: &[u8]) {
    for (name, tier) in TIERS {
        let setup = Setup {
            local_apic: true,
            test_device: true,
            ..Setup::flat(image, START, FlatMode::Protected32, tier)
        };
        let ended = setup.run();
        let registers = runtime::summary::registers(&ended.vm.cpu);
        let passed = Exit::DebugExit(samples::PASSED.into());
        assert_eq!(ended.exit, passed, "{name}\n{registers}");
    }
}

fn exit(a: &mut CodeAssembler, value: u8) -> Result<(), IcedError> {
    a.mov(al, i32::from(value))?;
    a.out(0xf4, al)
}

/// Writes and changes the window at EBX in all ways that instructions have.
fn touch(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let half = WINDOW_BYTES as i32 / 2;
    a.add(byte_ptr(ebx), 3)?;
    a.xor(word_ptr(ebx + 5), cx)?;
    a.inc(dword_ptr(ebx + half - 1))?;
    a.adc(dword_ptr(ebx + half - 2), ecx)?;
    a.xchg(dword_ptr(ebx + 9), ecx)?;
    a.mov(eax, dword_ptr(ebx + 13))?;
    a.lock().cmpxchg(dword_ptr(ebx + 13), ecx)?;
    a.lock().xadd(word_ptr(ebx + half - 1), cx)?;
    a.mov(eax, dword_ptr(ebx + 16))?;
    a.mov(edx, dword_ptr(ebx + 20))?;
    a.push(ebx)?;
    a.mov(esi, ebx)?;
    a.mov(ebx, 0x1234_5678)?;
    a.lock().cmpxchg8b(qword_ptr(esi + 16))?;
    a.pop(ebx)?;
    // EBP counts the rounds: a bit beyond the operand.
    a.bts(dword_ptr(ebx), ebp)?;
    a.shld(dword_ptr(ebx + 24), ecx, 5)?;
    a.rcr(byte_ptr(ebx + 28), 3)?;
    a.setc(byte_ptr(ebx + 29))?;
    a.push(dword_ptr(ebx + 24))?;
    a.pop(dword_ptr(ebx + half - 3))?;
    a.lea(edi, dword_ptr(ebx + 32))?;
    a.mov(esi, ebx)?;
    a.push(ecx)?;
    a.mov(ecx, 20)?;
    a.rep().movsb()?;
    a.mov(ecx, 3)?;
    a.rep().stosd()?;
    a.pop(ecx)?;
    a.fild(dword_ptr(ebx + 24))?;
    a.fstp(tword_ptr(ebx + half + 12))?;
    a.movups(xmm0, xmmword_ptr(ebx + half - 9))?;
    a.paddd(xmm0, xmm0)?;
    a.movups(xmmword_ptr(ebx + half + 30), xmm0)?;
    a.movq(qword_ptr(ebx + half + 50), xmm0)
}

#[test]
fn a_device_is_read_and_written_like_ram() {
    let image = assemble(
        |a| {
            a.mov(esp, 0x40_0000)?;
            a.mov(eax, cr4)?;
            a.or(eax, 0x600)?;
            a.mov(cr4, eax)?;
            a.fninit()?;
            let mut wrong = a.create_label();
            let mut again = a.create_label();
            a.mov(ebp, ROUNDS)?;
            a.set_label(&mut again)?;
            for base in [RAM, DEVICE] {
                a.mov(ebx, base + WINDOW)?;
                a.imul_3(ecx, ebp, 0x0137_4d55)?;
                touch(a)?;
            }
            a.mov(esi, RAM + WINDOW)?;
            a.mov(edi, DEVICE + WINDOW)?;
            a.mov(ecx, WINDOW_BYTES)?;
            a.repe().cmpsb()?;
            a.jne(wrong)?;
            a.dec(ebp)?;
            a.jne(again)?;
            exit(a, samples::PASSED)?;
            a.set_label(&mut wrong)?;
            exit(a, 1)
        },
        START,
    );
    passes(&image);
}

/// A gate of the interrupt descriptor table for the handler.
fn gate(a: &mut CodeAssembler, vector: u32) -> Result<(), IcedError> {
    a.mov(dword_ptr(IDT + 8 * vector), 0x10_0000 | HANDLER & 0xffff)?;
    a.mov(
        dword_ptr(IDT + 8 * vector + 4),
        0x8e00 | HANDLER & 0xffff_0000,
    )
}

fn set(a: &mut CodeAssembler, register: u32, value: u32) -> Result<(), IcedError> {
    a.mov(dword_ptr(APIC + register), value)
}

/// Waits in compiled code until the handler has run `times`.
fn wait_for(a: &mut CodeAssembler, times: u32) -> Result<(), IcedError> {
    let mut waiting = a.create_label();
    a.set_label(&mut waiting)?;
    a.pause()?;
    a.cmp(dword_ptr(COUNT), times)?;
    a.jb(waiting)
}

#[test]
fn the_local_apic_interrupts() {
    const IPI: u32 = 0x41;
    const TIMER: u32 = 0x51;
    let main = |a: &mut CodeAssembler| {
        a.mov(esp, 0x40_0000)?;
        gate(a, IPI)?;
        gate(a, TIMER)?;
        a.mov(dword_ptr(COUNT + 8), IDT << 16 | 0x7ff)?;
        a.mov(dword_ptr(COUNT + 12), IDT >> 16)?;
        a.lidt(fword_ptr(COUNT + 8))?;
        a.sti()?;
        // To itself, again and again.
        a.mov(ecx, ROUNDS)?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        set(a, 0x300, 1 << 18 | IPI)?;
        a.dec(ecx)?;
        a.jne(again)?;
        wait_for(a, ROUNDS)?;
        // The timer, every 100 µs, then asleep.
        set(a, 0x3e0, 0xb)?;
        set(a, 0x320, 1 << 17 | TIMER)?;
        set(a, 0x380, 10_000)?;
        wait_for(a, ROUNDS + 5)?;
        a.hlt()?;
        wait_for(a, ROUNDS + 6)?;
        a.cli()?;
        // Nothing is left in service.
        a.mov(eax, dword_ptr(APIC + 0x120))?;
        a.test(eax, eax)?;
        let mut wrong = a.create_label();
        a.jne(wrong)?;
        exit(a, samples::PASSED)?;
        a.set_label(&mut wrong)?;
        exit(a, 1)
    };
    let handler = |a: &mut CodeAssembler| {
        a.inc(dword_ptr(COUNT))?;
        set(a, 0xb0, 0)?;
        a.iretd()
    };
    let mut image = assemble(main, START);
    image.resize((HANDLER - START) as usize, 0x90);
    image.extend(assemble(handler, HANDLER));
    passes(&image);
}
