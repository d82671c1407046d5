//! Calls and returns that do not come in pairs, in every tier.
//!
//! Compiled code may guess where a RET goes from the CALLs before it. The guests
//! here make it guess wrong, and each leaves a checksum that the interpreter judges.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use tests::machine::agree;

/// Where the guests are loaded and entered.
const START: u32 = 0x10_0000;
/// Where EBX is left.
const RESULT: u32 = 0x20_0000;
/// Rounds of their loops.
const ROUNDS: u32 = 3_000;

type Written = Result<(), IcedError>;

/// A guest that runs `body` [`ROUNDS`] times, with functions that `behind` makes.
fn guest(
    body: impl Fn(&mut CodeAssembler, &mut [CodeLabel; 3]) -> Written,
    behind: impl Fn(&mut CodeAssembler, &mut [CodeLabel; 3]) -> Written,
) -> Vec<u8> {
    let assemble = || {
        let mut a = CodeAssembler::new(32)?;
        let mut labels = std::array::from_fn(|_| a.create_label());
        let mut again = a.create_label();
        a.mov(esp, 0x40_0000)?;
        a.xor(ebx, ebx)?;
        a.mov(edi, ROUNDS)?;
        a.set_label(&mut again)?;
        body(&mut a, &mut labels)?;
        a.rol(ebx, 1)?;
        a.dec(edi)?;
        a.jne(again)?;
        a.mov(dword_ptr(RESULT), ebx)?;
        a.mov(al, i32::from(samples::PASSED))?;
        a.out(0xf4, al)?;
        behind(&mut a, &mut labels)?;
        a.assemble(START.into())
    };
    assemble().expect("the guest can be assembled")
}

/// Runs a guest in every tier.
fn all_agree(image: &[u8]) {
    agree(image, START, RESULT, "a guest of calls and returns");
}

#[test]
fn a_return_may_go_elsewhere() {
    let body = |a: &mut CodeAssembler, l: &mut [CodeLabel; 3]| {
        a.call(l[0])?;
        a.stc()?; // One byte, which the callee skips in every other round.
        a.adc(ebx, 2)
    };
    all_agree(&guest(body, |a, l| {
        a.set_label(&mut l[0])?;
        a.mov(eax, edi)?;
        a.and(eax, 1)?;
        a.add(dword_ptr(esp), eax)?;
        a.ret()
    }));
}

#[test]
fn a_return_may_be_a_jump() {
    let body = |a: &mut CodeAssembler, l: &mut [CodeLabel; 3]| {
        a.call(l[1])?;
        // To behind STC.
        a.add(eax, 11)?;
        a.push(eax)?;
        a.add(ebx, 5)?;
        a.ret()?;
        a.stc()?;
        a.adc(ebx, 7)
    };
    all_agree(&guest(body, |a, l| {
        a.set_label(&mut l[1])?;
        a.xor(ebx, edi)?;
        a.mov(eax, dword_ptr(esp))?;
        a.ret()
    }));
}

#[test]
fn calls_may_be_left_behind() {
    let body = |a: &mut CodeAssembler, l: &mut [CodeLabel; 3]| {
        a.mov(ebp, esp)?;
        a.call(l[0])?;
        a.add(ebx, 3)?;
        a.mov(ecx, 4)?;
        a.call(l[1])?;
        a.add(ebx, ebp)
    };
    all_agree(&guest(body, |a, l| {
        let mut done = a.create_label();
        a.set_label(&mut l[0])?;
        a.call(l[1])?;
        a.call(l[2])?;
        a.ret()?;
        // Recursion, which ends by going back past all callers in odd rounds.
        a.set_label(&mut l[1])?;
        a.add(ebx, ecx)?;
        a.dec(ecx)?;
        a.jle(done)?;
        a.call(l[1])?;
        a.inc(ebx)?;
        a.set_label(&mut done)?;
        a.ret()?;
        a.set_label(&mut l[2])?;
        a.test(edi, 1)?;
        a.jz(done)?;
        a.lea(esp, dword_ptr(ebp - 4))?;
        a.ret()
    }));
}

#[test]
fn eip_is_had_by_a_call() {
    let body = |a: &mut CodeAssembler, l: &mut [CodeLabel; 3]| {
        a.call(l[1])?;
        a.call(l[0])?;
        a.set_label(&mut l[0])?;
        a.pop(eax)?;
        a.add(ebx, eax)
    };
    all_agree(&guest(body, |a, l| {
        let mut here = a.create_label();
        a.set_label(&mut l[1])?;
        a.call(here)?;
        a.set_label(&mut here)?;
        a.pop(eax)?;
        a.xor(ebx, eax)?;
        a.ret()
    }));
}

#[test]
fn flags_and_operands_survive() {
    let body = |a: &mut CodeAssembler, l: &mut [CodeLabel; 3]| {
        a.mov(eax, edi)?;
        a.add(eax, -1500)?;
        a.call(l[0])?;
        a.adc(ebx, 0)?;
        a.call(l[2])?;
        a.cmp(edi, 700)?;
        a.call(edx)?;
        a.adc(ebx, 1)?;
        a.push(edx)?;
        a.call(dword_ptr(esp))?;
        a.sbb(ebx, 2)?;
        a.pop(edx)?;
        a.push(edi)?;
        a.stc()?;
        a.call(l[1])?;
        a.adc(ebx, esp)
    };
    all_agree(&guest(body, |a, l| {
        let mut here = a.create_label();
        a.set_label(&mut l[2])?;
        a.call(here)?;
        a.set_label(&mut here)?;
        a.pop(edx)?;
        // To the one behind this one.
        a.add(edx, 5)?;
        a.ret()?;
        a.set_label(&mut l[0])?;
        a.ret()?;
        a.set_label(&mut l[1])?;
        a.ret_1(4)
    }));
}

#[test]
fn recursion_may_be_deeper_than_a_slice() {
    let body = |a: &mut CodeAssembler, l: &mut [CodeLabel; 3]| {
        a.mov(eax, edi)?;
        a.and(eax, 0xff)?;
        a.mov(ecx, 1)?;
        let mut once = a.create_label();
        a.jnz(once)?;
        a.mov(ecx, 50_000)?;
        a.set_label(&mut once)?;
        a.call(l[0])
    };
    all_agree(&guest(body, |a, l| {
        let mut done = a.create_label();
        a.set_label(&mut l[0])?;
        a.dec(ecx)?;
        a.jz(done)?;
        a.call(l[0])?;
        a.add(ebx, ecx)?;
        a.inc(ecx)?;
        a.set_label(&mut done)?;
        a.ret()
    }));
}

#[test]
fn what_a_call_returns_to_may_be_changed_meanwhile() {
    let body = |a: &mut CodeAssembler, l: &mut [CodeLabel; 3]| {
        a.call(l[0])?;
        a.add(ebx, 0x0100_0000)
    };
    all_agree(&guest(body, |a, l| {
        a.set_label(&mut l[0])?;
        a.mov(eax, edi)?;
        a.shr(eax, 6)?;
        a.mov(edx, dword_ptr(esp))?;
        a.cmp(byte_ptr(edx + 2), al)?;
        let mut same = a.create_label();
        a.je(same)?;
        a.mov(byte_ptr(edx + 2), al)?;
        a.set_label(&mut same)?;
        a.ret()
    }));
}
