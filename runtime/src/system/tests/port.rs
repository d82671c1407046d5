//! Port I/O: privilege, progress, and what a fault leaves.

use super::*;
use translator::flags::IOPL;

const OUT_80_AL: &[u8] = &[0xe6, 0x80];

#[test]
fn out_and_in_reach_the_board() {
    let mut b = Bench::new();
    b.cpu.state.gpr[0] = 0x1234_5642;
    b.ok(OUT_80_AL);
    assert_eq!(b.cpu.pc.post_code(), 0x42);
    b.ok(&[0xe4, 0xe9]); // IN AL, 0xe9
    assert_eq!(b.cpu.state.gpr[0], 0x1234_56e9);
}

#[test]
fn the_bitmap_decides_above_iopl() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.ok(OUT_80_AL); // The bitmap is all zero.
    b.poke(TSS + 0x68 + 0x10, 1);
    b.faults(OUT_80_AL, Exception::GeneralProtection(0));
    // A word from port 0x7f covers 0x80.
    b.cpu.state.gpr[2] = 0x7f;
    b.faults(&[0x66, 0xed], Exception::GeneralProtection(0));
    b.cpu.state.gpr[2] = 0x100; // Beyond the TSS limit.
    b.faults(&[0xec], Exception::GeneralProtection(0));
    b.cpu.state.eflags |= IOPL;
    b.ok(&[0xec]);
}

#[test]
fn rep_insb_fills_memory() {
    let mut b = Bench::new();
    b.cpu.state.gpr[1] = 6;
    b.cpu.state.gpr[2] = 0xe9;
    b.cpu.state.gpr[7] = DATA;
    b.ok(&[0xf3, 0x6c]);
    assert_eq!((b.cpu.state.gpr[1], b.cpu.state.gpr[7]), (0, DATA + 6));
    assert_eq!(b.peek(DATA), 0xe9e9_e9e9);
    assert_eq!(b.peek(DATA + 4), 0x0000_e9e9);
}

#[test]
fn rep_insb_stops_exactly_at_a_fault() {
    let mut b = Bench::new();
    b.cpu.state.seg[SegReg::Es as usize] =
        describe(0, DATA + 2, 0x93, 4).segment(crate::system::descriptor::Selector(0x70));
    b.cpu.mode_changed();
    b.cpu.state.gpr[1] = 6;
    b.cpu.state.gpr[2] = 0xe9;
    b.cpu.state.gpr[7] = DATA;
    assert_eq!(b.run(&[0xf3, 0x6c]), Err(Exception::GeneralProtection(0)));
    assert_eq!((b.cpu.state.gpr[1], b.cpu.state.gpr[7]), (3, DATA + 3));
    assert_eq!(b.cpu.state.eip, CODE_AT);
}

#[test]
fn rep_outs_with_no_count_does_nothing() {
    let mut b = Bench::new();
    b.cpu.state.gpr[2] = 0x80;
    b.cpu.state.gpr[6] = DATA;
    b.ok(&[0xf3, 0x6e]);
    assert_eq!(b.cpu.state.gpr[6], DATA);
    b.poke(DATA, 0x77);
    b.ok(&[0x6e]);
    assert_eq!((b.cpu.pc.post_code(), b.cpu.state.gpr[6]), (0x77, DATA + 1));
}

#[test]
fn rep_insb_pauses_now_and_then() {
    let mut b = Bench::new();
    b.cpu.state.gpr[1] = 1000;
    b.cpu.state.gpr[2] = 0xe9;
    b.cpu.state.gpr[7] = DATA;
    b.ok(&[0xf3, 0x6c]);
    let left = b.cpu.state.gpr[1];
    assert!(left > 0 && left < 1000, "{left} left");
    assert_eq!(b.cpu.state.gpr[7], DATA + 1000 - left);
}

#[test]
fn rep_outs_pauses_for_an_event() {
    let mut b = Bench::new();
    b.cpu.state.gpr[1] = 3;
    b.cpu.state.gpr[2] = 0xf4; // The debug exit port.
    b.cpu.state.gpr[6] = DATA;
    b.ok(&[0xf3, 0x6e]);
    assert_eq!(b.cpu.state.gpr[1], 2);
    assert_eq!(b.cpu.state.eip, CODE_AT, "to be resumed");
}
