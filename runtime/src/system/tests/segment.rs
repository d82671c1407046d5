//! Segment loads and the descriptors behind them.

use super::*;
use crate::vcpu::Shadow;
use translator::insn::Width;

const MOV_DS_AX: &[u8] = &[0x8e, 0xd8];
const MOV_SS_AX: &[u8] = &[0x8e, 0xd0];

fn with_ax(selector: u16) -> Bench {
    let mut b = Bench::new();
    b.cpu.state.gpr[0] = u32::from(selector);
    b
}

#[test]
fn flat_data_segment_loads() {
    let mut b = with_ax(DATA3);
    b.ok(MOV_DS_AX);
    assert_eq!(
        *b.cpu.state.segment(SegReg::Ds),
        Segment::flat(DATA3, false, 3)
    );
    assert!(b.cpu.mode().unlimited(SegReg::Ds));
}

#[test]
fn load_sets_the_accessed_bit() {
    let mut b = with_ax(READ_ONLY);
    assert_eq!(b.descriptor(READ_ONLY).high >> 8 & 1, 0);
    b.ok(MOV_DS_AX);
    assert_eq!(b.descriptor(READ_ONLY).high >> 8 & 1, 1);
    assert!(!b.cpu.mode().unlimited(SegReg::Ds));
}

#[test]
fn null_selector_loads_and_every_access_faults() {
    let mut b = with_ax(3);
    b.ok(MOV_DS_AX);
    assert_eq!(b.selector(SegReg::Ds), 3);
    assert_eq!(
        b.cpu.read_mem(SegReg::Ds, 0, Width::B),
        Err(Exception::GeneralProtection(0))
    );
}

#[test]
fn data_segment_faults_come_in_the_manuals_order() {
    for (selector, e) in [
        (GDT_ENTRIES * 8, Exception::GeneralProtection(0x80)),
        (TASK, Exception::GeneralProtection(TASK)),
        (DATA0 | 1, Exception::GeneralProtection(DATA0)),
        (ABSENT, Exception::SegmentNotPresent(ABSENT)),
        (0x0c, Exception::GeneralProtection(0x0c)),
    ] {
        with_ax(selector).faults(MOV_DS_AX, e);
    }
}

#[test]
fn conforming_code_is_readable_from_outside() {
    let mut b = with_ax(CONFORMING | 3);
    b.enter_ring3();
    b.ok(MOV_DS_AX);
    b.cpu.state.gpr[0] = u32::from(DATA0);
    b.faults(MOV_DS_AX, Exception::GeneralProtection(DATA0));
}

#[test]
fn stack_segment_must_match_cpl_exactly() {
    for (selector, e) in [
        (0, Exception::GeneralProtection(0)),
        (DATA0 | 3, Exception::GeneralProtection(DATA0)),
        (DATA3, Exception::GeneralProtection(DATA3 & !3)),
        (READ_ONLY, Exception::GeneralProtection(READ_ONLY)),
        (CODE0, Exception::GeneralProtection(CODE0)),
        (ABSENT, Exception::StackFault(ABSENT)),
    ] {
        with_ax(selector).faults(MOV_SS_AX, e);
    }
}

#[test]
fn loading_ss_inhibits_interrupts_once() {
    let mut b = with_ax(DATA0);
    b.ok(MOV_SS_AX);
    assert_eq!(b.cpu.shadow, Shadow::Ss);
    b.cpu.shadow = Shadow::None;
    b.push_all(&[u32::from(DATA0)]);
    b.ok(&[0x17]); // POP SS
    assert_eq!(b.cpu.shadow, Shadow::Ss);
    assert_eq!(b.cpu.state.gpr[4], STACK);
}

#[test]
fn cs_is_not_a_mov_target() {
    with_ax(CODE0).faults(&[0x8e, 0xc8], Exception::InvalidOpcode);
}

#[test]
fn expand_down_segment_is_valid_above_its_limit() {
    let mut b = with_ax(EXPAND_DOWN);
    b.ok(MOV_DS_AX);
    let gp = Err(Exception::GeneralProtection(0));
    assert_eq!(b.cpu.read_mem(SegReg::Ds, 0xfff, Width::B), gp);
    assert!(b.cpu.read_mem(SegReg::Ds, 0x1000, Width::D).is_ok());
}

#[test]
fn expand_down_of_the_full_range_holds_nothing() {
    let full = describe(0, 0xf_ffff, 0x97, 0xc);
    let s = full.segment(crate::system::descriptor::Selector(0x40));
    assert!(s.lo > s.hi);
}

#[test]
fn granular_limits_count_pages() {
    assert_eq!(describe(0, 1, 0x93, 0xc).limit(), 0x1fff);
    assert_eq!(describe(0, 1, 0x93, 4).limit(), 1);
    assert_eq!(describe(0x1234_5678, 0, 0x93, 4).base(), 0x1234_5678);
}

#[test]
fn ldt_selectors_need_an_ldt() {
    let mut b = with_ax(4);
    b.faults(MOV_DS_AX, Exception::GeneralProtection(4));
    let flat = describe(0, 0xf_ffff, 0x93, 0xc);
    b.poke(LDT, flat.low);
    b.poke(LDT + 4, flat.high);
    b.cpu.state.gpr[0] = u32::from(LDT_SELECTOR);
    b.ok(&[0x0f, 0x00, 0xd0]); // LLDT AX
    b.cpu.state.gpr[0] = 4;
    b.ok(MOV_DS_AX);
    b.cpu.state.gpr[0] = 0x14;
    b.faults(MOV_DS_AX, Exception::GeneralProtection(0x14));
}

#[test]
fn push_and_mov_zero_extend_the_selector() {
    let mut b = Bench::new();
    b.cpu.state.gpr[1] = 0xffff_ffff;
    b.poke(STACK - 4, 0xffff_ffff);
    b.ok(&[0x1e]); // PUSH DS
    assert_eq!(b.stack(), [u32::from(DATA0)]);
    b.ok(&[0x8c, 0xd9]); // MOV ECX, DS
    assert_eq!(b.cpu.state.gpr[1], u32::from(DATA0));
}

#[test]
fn far_pointer_loads_both_or_neither() {
    let mut b = Bench::new();
    b.poke(DATA, 0x1122_3344);
    b.poke(DATA + 4, u32::from(DATA3));
    let les = [0xc4, 0x05, 0x00, 0xb0, 0x00, 0x00]; // LES EAX, [DATA]
    b.ok(&les);
    assert_eq!(b.cpu.state.gpr[0], 0x1122_3344);
    assert_eq!(b.selector(SegReg::Es), DATA3);
    b.poke(DATA + 4, u32::from(ABSENT));
    b.faults(&les, Exception::SegmentNotPresent(ABSENT));
}

#[test]
fn real_mode_loads_keep_the_limit() {
    let mut b = with_ax(0x1234);
    b.cpu.sys.cr0 &= !cr0::PE;
    b.cpu.mode_changed();
    b.ok(MOV_DS_AX);
    let ds = b.cpu.state.segment(SegReg::Ds);
    assert_eq!((ds.base, ds.hi), (0x12340, u32::MAX));
}
