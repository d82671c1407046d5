//! x87 exceptions as programs of the 1980s know them: CR0.NE clear, IRQ 13, a
//! handler that writes to port F0h.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, al, ax, cr0, ds, eax, sp, ss, st0, st1, word_ptr};
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use tests::machine::{Setup, TIERS};

const START: u32 = 0x7c00;
const HANDLER: u32 = 0x7e00;
/// Where the handler counts, and keeps the status word it found.
const COUNT: u32 = 0x1000;
const STATUS: u32 = 0x1002;
const CONTROL: u32 = 0x1004;
/// Vector of IRQ 13 after the controllers have been set up as a BIOS does.
const VECTOR: u32 = 0x75;

fn out(a: &mut CodeAssembler, port: i32, value: i32) -> Result<(), IcedError> {
    a.mov(al, value)?;
    a.out(port, al)
}

/// Divides by zero three times, with that unmasked, and counts on being told.
fn main_program() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(16)?;
    a.xor(ax, ax)?;
    a.mov(ds, ax)?;
    a.mov(ss, ax)?;
    a.mov(sp, 0x7000)?;
    a.mov(word_ptr(4 * VECTOR), HANDLER)?;
    a.mov(word_ptr(4 * VECTOR + 2), 0)?;
    let controllers = [
        (0x20, 0x11),
        (0x21, 0x08),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0xfb),
        (0xa0, 0x11),
        (0xa1, 0x70),
        (0xa1, 2),
        (0xa1, 1),
        (0xa1, 0xdf),
    ];
    for (port, value) in controllers {
        out(&mut a, port, value)?;
    }
    a.mov(eax, cr0)?;
    a.and(eax, !0x20)?;
    a.mov(cr0, eax)?;
    a.mov(word_ptr(COUNT), 0)?;
    a.mov(word_ptr(CONTROL), 0x37b)?;
    a.sti()?;
    for _ in 0..3 {
        a.fninit()?;
        a.fldcw(word_ptr(CONTROL))?;
        a.fld1()?;
        a.fldz()?;
        a.fdivp(st1, st0)?;
        a.wait()?;
        a.fnstsw(ax)?;
        // The handler has cleared the exception.
        let mut clear = a.create_label();
        a.test(ax, 0xff)?;
        a.je(clear)?;
        out(&mut a, 0xf4, 0x11)?;
        a.set_label(&mut clear)?;
        a.nop()?;
    }
    a.cli()?;
    let mut wrong = a.create_label();
    a.cmp(word_ptr(COUNT), 3)?;
    a.jne(wrong)?;
    // B, TOP = 6 (nothing is popped), ES, Z.
    a.cmp(word_ptr(STATUS), 0xb084_u32)?;
    a.jne(wrong)?;
    out(&mut a, 0xf4, 0x10)?;
    a.set_label(&mut wrong)?;
    out(&mut a, 0xf4, 0x12)?;
    a.assemble(START.into())
}

/// Looks, clears, and uses the FPU while the exception is still pending.
fn handler() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(16)?;
    a.push(ax)?;
    out(&mut a, 0xf0, 0)?;
    a.inc(word_ptr(COUNT))?;
    a.fldz()?;
    a.fstp(st0)?;
    a.fnstsw(word_ptr(STATUS))?;
    a.fnclex()?;
    out(&mut a, 0xa0, 0x20)?;
    out(&mut a, 0x20, 0x20)?;
    a.pop(ax)?;
    a.iret()?;
    a.assemble(HANDLER.into())
}

#[test]
fn an_exception_reaches_the_handler_of_irq_13() {
    let mut image = main_program().expect("valid instructions");
    assert!(image.len() <= (HANDLER - START) as usize);
    image.resize((HANDLER - START) as usize, 0x90);
    image.extend(handler().expect("valid instructions"));
    for (name, tier) in TIERS {
        let setup = Setup {
            limit: Some(5_000_000),
            ..Setup::flat(&image, START, FlatMode::Real16, tier)
        };
        assert_eq!(setup.run().exit, Exit::DebugExit(0x10), "{name}");
    }
}
