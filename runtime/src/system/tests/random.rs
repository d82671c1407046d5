//! Whatever a guest does with its tables and registers, the host stands.

use super::*;
use translator::flags::{IOPL, NT, TF, VM};

/// xorshift64*, seeded by the test.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn below(&mut self, n: u32) -> u32 {
        self.next() % n
    }

    /// Values that mean something to system instructions, or anything.
    fn value(&mut self) -> u32 {
        match self.below(5) {
            0 => self.next(),
            1 => self.below(GDT_ENTRIES.into()) * 8 + self.below(8),
            2 => GDT + self.below(0x8000),
            3 => 1 << self.below(32),
            _ => u32::MAX << self.below(32),
        }
    }
}

/// The first bytes of instructions this module defines.
const OPCODES: &[&[u8]] = &[
    &[0x8e],
    &[0x8c],
    &[0x0f, 0x00],
    &[0x0f, 0x01],
    &[0x0f, 0x02],
    &[0x0f, 0x03],
    &[0x0f, 0x20],
    &[0x0f, 0x21],
    &[0x0f, 0x22],
    &[0x0f, 0x23],
    &[0x0f, 0x34],
    &[0x0f, 0x35],
    &[0x0f, 0xb2],
    &[0x63],
    &[0x6c],
    &[0x6f],
    &[0x9a],
    &[0xea],
    &[0xca],
    &[0xcb],
    &[0xcd],
    &[0xcf],
    &[0xcf],
    &[0xff],
    &[0x9d],
    &[0x17],
    &[0xc4],
];

fn scramble(b: &mut Bench, r: &mut Random) {
    for gpr in &mut b.cpu.state.gpr[..8] {
        *gpr = r.value();
    }
    b.cpu.state.gpr[1] &= 0x3f; // Repetitions end soon.
    b.cpu.state.gpr[4] = STACK - r.below(0x40);
    let flags = [0, IOPL, NT, TF, VM, VM | IOPL, NT];
    b.cpu.state.eflags = 2 | flags[r.below(flags.len() as u32) as usize];
    if b.cpu.v86() {
        b.cpu.sys.cpl = 3;
    }
    for _ in 0..8 {
        let (at, v) = (GDT + (r.below(0x800) << 2), r.value());
        b.poke(at, v);
        let (at, v) = (STACK - 0x40 + (r.below(0x20) << 2), r.value());
        b.poke(at, v);
    }
    b.cpu.mode_changed();
}

fn instruction(r: &mut Random) -> Vec<u8> {
    let prefixes: [&[u8]; 5] = [&[], &[], &[0x66], &[0x67], &[0xf3]];
    let mut bytes = prefixes[r.below(5) as usize].to_vec();
    bytes.extend(OPCODES[r.below(OPCODES.len() as u32) as usize]);
    for _ in 0..4 {
        bytes.extend(r.value().to_le_bytes());
    }
    bytes
}

#[test]
fn random_guests_do_not_panic_the_host() {
    for seed in 1..=200 {
        let mut r = Random(seed);
        let mut b = Bench::new();
        for _ in 0..200 {
            scramble(&mut b, &mut r);
            b.cpu.state.eip = CODE_AT;
            if let Err(e) = b.run(&instruction(&mut r)) {
                b.raise(e);
            }
            if r.below(8) == 0 {
                deliver(&mut b.cpu, Event::External(r.below(256) as u8));
            }
            if b.cpu.shutdown || r.below(16) == 0 {
                break;
            }
        }
    }
}
