//! Instructions that move the bits of EFLAGS, at CPL 0, in every tier.
//!
//! Programs drawn at random mix them with arithmetic and mix every image that PUSHFD
//! shows into a checksum, which the interpreter judges.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use tests::machine::agree;

/// Where the guests are loaded and entered.
const START: u32 = 0x10_0000;
/// Where EBX is left.
const RESULT: u32 = 0x20_0000;
/// Programs.
const PROGRAMS: u64 = 60;
/// Rounds of each, and instructions of a round.
const ROUNDS: u32 = 200;
const LENGTH: usize = 24;
/// What a drawn image for POPFD may have: all but TF, VM, RF, VIF and VIP.
const IMAGE: u32 = 0x24_7ed5;

/// A generator of our own, so that a failure can be repeated.
struct Draw(u64);

impl Draw {
    fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }
}

/// Adds one drawn instruction, or the few that belong together.
fn step(a: &mut CodeAssembler, draw: &mut Draw) -> Result<(), IcedError> {
    let value = draw.bits();
    match draw.bits() % 20 {
        0..3 => {
            a.pushfd()?;
            a.pop(eax)?;
            a.xor(ebx, eax)?;
            a.rol(ebx, 3)
        }
        3 => a.cli(),
        4 => a.sti(),
        5 => a.cld(),
        6 => a.std(),
        7..9 => {
            a.push((value & IMAGE) as i32)?;
            a.popfd()
        }
        9 => {
            a.pushfd()?;
            a.cli()?;
            a.add(ecx, eax)?;
            a.popfd()
        }
        10 => a.clac(),
        11 => a.stac(),
        12 => a.add(eax, value as i32),
        13 => a.sub(edx, ecx),
        14 => a.cmp(edx, eax),
        15 => a.adc(ebx, edx),
        16 => a.lodsb(),
        17 => {
            a.push(ss)?;
            a.pop(edx)?;
            a.mov(cx, ds)
        }
        18 => {
            a.mov(edx, es)?;
            a.mov(dword_ptr(esp - 8), edx)
        }
        _ => a.inc(ecx),
    }
}

fn guest(seed: u64) -> Vec<u8> {
    let mut draw = Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let assemble = |draw: &mut Draw| {
        let mut a = CodeAssembler::new(32)?;
        let mut again = a.create_label();
        a.mov(esp, 0x40_0000)?;
        // No interrupts come.
        a.mov(al, 0xff)?;
        a.out(0x21, al)?;
        a.out(0xa1, al)?;
        a.xor(ebx, ebx)?;
        a.mov(edi, ROUNDS)?;
        a.set_label(&mut again)?;
        a.mov(esi, RESULT)?;
        for _ in 0..LENGTH {
            step(&mut a, draw)?;
        }
        a.dec(edi)?;
        a.jne(again)?;
        a.mov(dword_ptr(RESULT), ebx)?;
        a.mov(al, i32::from(samples::PASSED))?;
        a.out(0xf4, al)?;
        a.assemble(START.into())
    };
    assemble(&mut draw).expect("the guest can be assembled")
}

#[test]
fn images_of_eflags_agree() {
    for seed in 0..PROGRAMS {
        agree(&guest(seed), START, RESULT, &format!("program {seed}"));
    }
}
