//! CPUID asked over and over, in every tier.
//!
//! Compiled code knows the last answer and takes it where the question is the same. The
//! guest asks in an order that makes the same question follow itself and others, changes
//! what leaf 1 depends on, and mixes all four registers, and flags that must survive, into
//! a checksum; the interpreter is right.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use tests::machine::agree;

/// Where the guest is loaded and entered.
const START: u32 = 0x10_0000;
/// Where EBX is left.
const RESULT: u32 = 0x20_0000;
/// Rounds of the loop.
const ROUNDS: i32 = 300;
/// Questions, EAX and ECX, in order.
const QUESTIONS: [(u32, u32); 14] = [
    (0, 0),
    (0, 0),
    (0, 1),
    (u32::MAX, u32::MAX),
    (u32::MAX, u32::MAX),
    (1, 0),
    (1, 0),
    (4, 0),
    (4, 1),
    (7, 0),
    (7, 0),
    (0x8000_0000, 0),
    (0x8000_0002, 0),
    (0xd, 1),
];
/// CR4.OSFXSR and CR4.OSXSAVE.
const OSFXSR: i32 = 1 << 9;
const OSXSAVE: i32 = 1 << 18;

/// Asks, and mixes the answer into EBP.
fn ask(a: &mut CodeAssembler, (leaf, sub): (u32, u32)) -> Result<(), IcedError> {
    a.mov(eax, leaf as i32)?;
    a.mov(ecx, sub as i32)?;
    a.add(ebp, 0x7123_4567)?;
    a.cpuid()?;
    // The carry is from before.
    a.adc(ebp, eax)?;
    a.rol(ebp, 5)?;
    a.add(ebp, ebx)?;
    a.rol(ebp, 5)?;
    a.xor(ebp, ecx)?;
    a.rol(ebp, 5)?;
    a.add(ebp, edx)
}

fn guest() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(32)?;
    let mut again = a.create_label();
    a.mov(esp, 0x40_0000)?;
    a.mov(eax, OSFXSR)?;
    a.mov(cr4, eax)?;
    a.xor(ebp, ebp)?;
    a.mov(edi, ROUNDS)?;
    a.set_label(&mut again)?;
    for question in QUESTIONS {
        ask(&mut a, question)?;
    }
    a.mov(eax, cr4)?;
    a.xor(eax, OSXSAVE)?;
    a.mov(cr4, eax)?;
    a.dec(edi)?;
    a.jne(again)?;
    a.mov(dword_ptr(RESULT), ebp)?;
    a.mov(al, i32::from(samples::PASSED))?;
    a.out(0xf4, al)?;
    a.assemble(START.into())
}

#[test]
fn answers_agree() {
    let image = guest().expect("the guest can be assembled");
    agree(&image, START, RESULT, "questions");
}
