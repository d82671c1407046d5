//! Small guest programs, each of one kind of code.
//!
//! They take their rounds in ECX and end in `HLT`; the registers they leave are
//! of no interest. Sieve and copies clear or fill what they use themselves, so
//! that every run is like the first.

use crate::guest::{DATA, assemble};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Bytes that a round of [`sieve`] sieves.
const SIEVE_BYTES: u32 = 4096;
/// Words that a round of [`copy_loop`] copies.
const COPY_WORDS: u32 = 1024;

type Written = Result<(), IcedError>;

/// A program: its name, its code, the rounds of one measurement.
pub struct Program {
    /// What figures are listed under.
    pub name: &'static str,
    /// The code.
    pub code: Vec<u8>,
    /// Rounds that make some hundred thousand instructions.
    pub rounds: u32,
}

/// All of them.
pub fn all() -> Vec<Program> {
    let program = |name, rounds, write: fn(&mut CodeAssembler) -> Written| Program {
        name,
        code: assemble(write),
        rounds,
    };
    vec![
        program("integer loop", 20_000, integer_loop),
        program("sieve", 10, sieve),
        program("copy loop", 50, copy_loop),
        program("call and return", 30_000, call_and_return),
        program("branches", 20_000, branches),
    ]
}

/// Arithmetic, logic and shifts in registers: 12 instructions a round.
fn integer_loop(a: &mut CodeAssembler) -> Written {
    let mut top = a.create_label();
    a.mov(eax, 1)?;
    a.set_label(&mut top)?;
    a.lea(edx, eax + ecx * 4 + 7)?;
    a.xor(eax, edx)?;
    a.rol(eax, 5)?;
    a.add(ebx, eax)?;
    a.mov(esi, ebx)?;
    a.shr(esi, 3)?;
    a.sub(edi, esi)?;
    a.imul_3(eax, eax, 0x0019_660d)?;
    a.and(edi, 0x00ff_ffff)?;
    a.or(edi, 1)?;
    a.dec(ecx)?;
    a.jnz(top)?;
    a.hlt()
}

/// The sieve of Eratosthenes over bytes.
fn sieve(a: &mut CodeAssembler) -> Written {
    let mut round = a.create_label();
    let mut clear = a.create_label();
    let mut candidate = a.create_label();
    let mut strike = a.create_label();
    let mut next = a.create_label();
    a.set_label(&mut round)?;
    a.mov(edi, SIEVE_BYTES)?;
    a.set_label(&mut clear)?;
    a.mov(dword_ptr(edi + DATA - 4), 0x0101_0101)?;
    a.sub(edi, 4)?;
    a.jnz(clear)?;
    a.mov(esi, 2)?;
    a.set_label(&mut candidate)?;
    a.cmp(byte_ptr(esi + DATA), 0)?;
    a.je(next)?;
    a.inc(ebx)?;
    a.lea(edi, esi + esi)?;
    a.cmp(edi, SIEVE_BYTES)?;
    a.jae(next)?;
    a.set_label(&mut strike)?;
    a.mov(byte_ptr(edi + DATA), 0)?;
    a.add(edi, esi)?;
    a.cmp(edi, SIEVE_BYTES)?;
    a.jb(strike)?;
    a.set_label(&mut next)?;
    a.inc(esi)?;
    a.cmp(esi, SIEVE_BYTES)?;
    a.jb(candidate)?;
    a.dec(ecx)?;
    a.jnz(round)?;
    a.hlt()
}

/// A copy word by word, unrolled twice.
fn copy_loop(a: &mut CodeAssembler) -> Written {
    let mut round = a.create_label();
    let mut word = a.create_label();
    a.set_label(&mut round)?;
    a.mov(esi, DATA)?;
    a.mov(edi, DATA + 0x8_0000)?;
    a.mov(edx, COPY_WORDS / 2)?;
    a.set_label(&mut word)?;
    a.mov(eax, dword_ptr(esi))?;
    a.mov(ebx, dword_ptr(esi + 4))?;
    a.mov(dword_ptr(edi), eax)?;
    a.mov(dword_ptr(edi + 4), ebx)?;
    a.add(esi, 8)?;
    a.add(edi, 8)?;
    a.dec(edx)?;
    a.jnz(word)?;
    a.dec(ecx)?;
    a.jnz(round)?;
    a.hlt()
}

/// A function with a frame, called from two places.
fn call_and_return(a: &mut CodeAssembler) -> Written {
    let mut top = a.create_label();
    let mut function = a.create_label();
    a.set_label(&mut top)?;
    a.call(function)?;
    a.add(ebx, eax)?;
    a.call(function)?;
    a.dec(ecx)?;
    a.jnz(top)?;
    a.hlt()?;
    a.set_label(&mut function)?;
    a.push(ebp)?;
    a.mov(ebp, esp)?;
    a.lea(eax, ebx + ecx)?;
    a.pop(ebp)?;
    a.ret()
}

/// Three branches a round on bits of a pseudo-random number.
fn branches(a: &mut CodeAssembler) -> Written {
    let mut top = a.create_label();
    a.mov(eax, 1)?;
    a.set_label(&mut top)?;
    a.imul_3(eax, eax, 0x0019_660d)?;
    a.add(eax, 0x3c6e_f35f)?;
    for bit in [13, 17, 23] {
        let mut skip = a.create_label();
        a.test(eax, 1 << bit)?;
        a.jz(skip)?;
        a.add(ebx, bit)?;
        a.set_label(&mut skip)?;
        a.inc(edx)?;
    }
    a.dec(ecx)?;
    a.jnz(top)?;
    a.hlt()
}
