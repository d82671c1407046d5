//! Repeated strings in bulk against one element at a time.
//!
//! The same repetition is run whole and, as the reference, with a count of one
//! until it ends; everything the guest can see must agree.

use super::*;
use translator::flags::DF;

/// A multiplier from Knuth's MMIX generator.
fn next(seed: &mut u64) -> u32 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*seed >> 33) as u32
}

/// Memory of few distinct bytes, so that comparisons go on for a while.
fn world(seed: u64) -> Bench {
    let mut b = Bench::new();
    let mut state = seed;
    for at in (0x1_0000..0x1_4000).step_by(4) {
        let rare = next(&mut state).is_multiple_of(200);
        b.poke(at, if rare { next(&mut state) } else { 0x4141_4141 });
    }
    b.cpu.state.gpr[0] = if next(&mut state) & 1 == 0 {
        0x4141_4141
    } else {
        next(&mut state)
    };
    b.cpu.state.gpr[1] = next(&mut state) % 1500;
    b.cpu.state.gpr[6] = 0x1_1000 + next(&mut state) % 0x2000;
    b.cpu.state.gpr[7] = match next(&mut state) % 2 {
        0 => b.cpu.state.gpr[6]
            .wrapping_add(next(&mut state) % 64)
            .wrapping_sub(32),
        _ => 0x1_1000 + next(&mut state) % 0x2000,
    };
    if next(&mut state).is_multiple_of(4) {
        b.cpu.state.set_eflags_image(DF);
    }
    b
}

fn seen(b: &Bench) -> (Vec<u32>, u32, Vec<u32>) {
    let memory = (0x1_0000..0x1_4000).step_by(4).map(|at| b.peek(at));
    let state = &b.cpu.state;
    (state.gpr.to_vec(), state.eflags_image(), memory.collect())
}

/// Runs `bytes` with the count split into ones.
fn one_by_one(b: &mut Bench, bytes: &[u8], until: Option<bool>) {
    let mut count = std::mem::take(&mut b.cpu.state.gpr[1]);
    while count != 0 {
        b.cpu.state.gpr[1] = 1;
        b.ok(bytes);
        count -= 1;
        let zf = b.cpu.state.eflags_image() & 0x40 != 0;
        if until == Some(zf) {
            break;
        }
    }
    b.cpu.state.gpr[1] = count;
}

fn check(bytes: &[u8], until: Option<bool>) {
    for seed in 1..40 {
        let (mut whole, mut parts) = (world(seed), world(seed));
        // A repetition that is interrupted is begun again.
        while whole.cpu.state.eip == CODE_AT {
            whole.cpu.attention = false;
            whole.ok(bytes);
        }
        one_by_one(&mut parts, bytes, until);
        assert!(seen(&whole) == seen(&parts), "{bytes:x?}, seed {seed}");
    }
}

#[test]
fn scans_stop_where_single_steps_stop() {
    for opcode in [&[0xae][..], &[0xaf], &[0x66, 0xaf]] {
        check(&[&[0xf2], opcode].concat(), Some(true));
        check(&[&[0xf3], opcode].concat(), Some(false));
    }
}

#[test]
fn comparisons_stop_where_single_steps_stop() {
    for opcode in [&[0xa6][..], &[0xa7], &[0x66, 0xa7]] {
        check(&[&[0xf2], opcode].concat(), Some(true));
        check(&[&[0xf3], opcode].concat(), Some(false));
    }
}

#[test]
fn copies_and_fills_agree_with_single_steps() {
    for opcode in [0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad] {
        check(&[0xf3, opcode], None);
        check(&[0x66, 0xf3, opcode], None);
    }
}
