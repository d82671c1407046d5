//! Random values that are interesting more often than chance would have it.
//!
//! Memory is cut out of one pool, made once from a fixed seed: filling 12 KiB
//! then costs a copy. The pool holds no addresses of the arenas, so that a jump
//! through memory does not land in data.

use crate::selftest::rng::Rng;
use crate::selftest::state::{State, fxsave};
use std::sync::OnceLock;

const POOL_BYTES: usize = 1 << 18;
const INTERESTING_U32: [u32; 16] = [
    0,
    1,
    2,
    0xffff_ffff,
    0xffff_fffe,
    0x8000_0000,
    0x7fff_ffff,
    0x8000_0001,
    0xff,
    0x80,
    0x7f,
    0xffff,
    0x8000,
    0x7fff,
    0x0001_0000,
    0x0080_8080,
];
const INTERESTING_F32: [u32; 12] = [
    0,
    0x8000_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0x7fa0_0001,
    0x0000_0001,
    0x807f_ffff,
    0x7f7f_ffff,
    0x4f00_0000,
];
const INTERESTING_F64: [u64; 12] = [
    0,
    1 << 63,
    0x3ff0_0000_0000_0000,
    0xbff8_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0001,
    0xfff4_0000_0000_0002,
    1,
    0x800f_ffff_ffff_ffff,
    0x7fef_ffff_ffff_ffff,
    0x41e0_0000_0000_0000,
];
/// Sign and exponent of an 80-bit number.
const INTERESTING_EXPONENTS: [u16; 8] = [0, 0x8000, 0x3fff, 0xbfff, 0x7fff, 0xffff, 0x403e, 0x0001];
/// Its significand, with and without the integer bit.
const INTERESTING_SIGNIFICANDS: [u64; 8] = [
    0,
    1 << 63,
    0xc000_0000_0000_0000,
    0xa000_0000_0000_0001,
    0xffff_ffff_ffff_ffff,
    1,
    0x7fff_ffff_ffff_ffff,
    0x4000_0000_0000_0000,
];

/// A 32-bit value: interesting, small or any.
pub fn word(rng: &mut Rng) -> u32 {
    match rng.below(8) {
        0..=2 => rng.pick(&INTERESTING_U32),
        3 => rng.below(40) as u32,
        4 => (rng.below(256) as u32).wrapping_sub(128),
        _ => rng.u32(),
    }
}

/// Fills `memory` with the content that belongs to `seed`.
pub fn fill_memory(seed: u64, memory: &mut [u8]) {
    static POOL: OnceLock<Vec<u8>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let mut rng = Rng::new(0x706f_6f6c);
        let mut pool = Vec::with_capacity(POOL_BYTES);
        while pool.len() < POOL_BYTES {
            pool.extend_from_slice(&chunk(&mut rng));
        }
        pool
    });
    let places = (POOL_BYTES - memory.len()) / 16;
    let start = Rng::new(seed).below(places) * 16;
    memory.copy_from_slice(&pool[start..start + memory.len()]);
}

/// The x87, MMX and SSE part of an entry state: masks (mostly all), rounding,
/// precision, stack and sticky flags at random.
pub fn fill_fxsave(rng: &mut Rng, state: &mut State) {
    let image = &mut state.fxsave;
    let precision = rng.pick(&[0u16, 2, 3, 3]) << 8;
    let rounding = if rng.chance(50) {
        0
    } else {
        rng.below(4) as u16
    };
    let masks = if rng.chance(80) {
        0x3f
    } else {
        rng.u32() & 0x3f
    };
    let fcw = 0x40 | masks as u16 | precision | (rounding << 10);
    image[fxsave::FCW..][..2].copy_from_slice(&fcw.to_le_bytes());
    // Sticky exception flags 0–6, C0–C2, TOP, C3; ES and B stay clear, and
    // seldom is an exception pending.
    let quiet = if rng.chance(90) {
        !masks as u16 & 0x3f
    } else {
        0
    };
    let fsw = rng.u32() as u16 & 0x7f7f & !quiet;
    image[fxsave::FSW..][..2].copy_from_slice(&fsw.to_le_bytes());
    let full = rng.u32() as u8 | rng.u32() as u8;
    image[fxsave::FTW] = full;
    let daz_ftz = rng.pick(&[0u32, 0, 0, 0x40, 0x8000, 0x8040]);
    let sticky = if rng.chance(50) { 0 } else { rng.u32() & 0x3f };
    let rounding = u32::from(rounding) << 13;
    let masks = if rng.chance(80) {
        0x3f
    } else {
        rng.u32() & 0x3f
    };
    let mxcsr = masks << 7 | daz_ftz | rounding | sticky;
    image[fxsave::MXCSR..][..4].copy_from_slice(&mxcsr.to_le_bytes());
    for i in 0..8 {
        image[fxsave::ST + 16 * i..][..10].copy_from_slice(&extended(rng));
        image[fxsave::XMM + 16 * i..][..16].copy_from_slice(&chunk(rng));
    }
}

/// 16 bytes that mean something to at least one kind of instruction.
fn chunk(rng: &mut Rng) -> [u8; 16] {
    let mut bytes = [0u8; 16];
    match rng.below(6) {
        0 => bytes[..10].copy_from_slice(&extended(rng)),
        1 => each::<4>(&mut bytes, || {
            match rng.below(3) {
                0 => rng.u32(),
                1 => rng.pick(&INTERESTING_F32),
                _ => (rng.below(2000) as f32 - 1000.0).to_bits(),
            }
            .to_le_bytes()
        }),
        2 => each::<8>(&mut bytes, || {
            match rng.below(3) {
                0 => rng.u64(),
                1 => rng.pick(&INTERESTING_F64),
                _ => ((rng.below(2_000_000) as f64 - 1e6) / 64.0).to_bits(),
            }
            .to_le_bytes()
        }),
        3 => each::<2>(&mut bytes, || (word(rng) as u16).to_le_bytes()),
        _ => each::<4>(&mut bytes, || word(rng).to_le_bytes()),
    }
    bytes
}

fn each<const N: usize>(bytes: &mut [u8; 16], mut value: impl FnMut() -> [u8; N]) {
    for lane in bytes.chunks_exact_mut(N) {
        lane.copy_from_slice(&value());
    }
}

/// An 80-bit number: normal, special, or in one of the unsupported formats.
fn extended(rng: &mut Rng) -> [u8; 10] {
    let (exponent, significand) = match rng.below(8) {
        0 => (rng.u32() as u16, rng.u64()),
        1 | 2 => (
            rng.pick(&INTERESTING_EXPONENTS),
            rng.pick(&INTERESTING_SIGNIFICANDS),
        ),
        3 => (rng.u32() as u16, rng.u64() | 1 << 63),
        _ => {
            let exponent = 0x3fff - 40 + rng.below(110) as u16;
            (exponent | (rng.u32() as u16 & 0x8000), rng.u64() | 1 << 63)
        }
    };
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&significand.to_le_bytes());
    bytes[8..].copy_from_slice(&exponent.to_le_bytes());
    bytes
}
