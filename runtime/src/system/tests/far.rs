//! Far transfers.

use super::*;

/// JMP ptr16:32 (0xea) or CALL ptr16:32 (0x9a).
fn pointer(opcode: u8, selector: u16, offset: u32) -> Vec<u8> {
    let mut bytes = vec![opcode];
    bytes.extend(offset.to_le_bytes());
    bytes.extend(selector.to_le_bytes());
    bytes
}

fn jmp(selector: u16, offset: u32) -> Vec<u8> {
    pointer(0xea, selector, offset)
}

fn call(selector: u16, offset: u32) -> Vec<u8> {
    pointer(0x9a, selector, offset)
}

const RETF: &[u8] = &[0xcb];

#[test]
fn jmp_to_16_bit_code_changes_the_mode() {
    let mut b = Bench::new();
    b.ok(&jmp(CODE16, 0x1234));
    assert_eq!((b.selector(SegReg::Cs), b.cpu.state.eip), (CODE16, 0x1234));
    assert!(!b.cpu.mode().code32());
}

#[test]
fn jmp_faults_come_in_the_manuals_order() {
    for (selector, offset, e) in [
        (0, 0, Exception::GeneralProtection(0)),
        (0x80, 0, Exception::GeneralProtection(0x80)),
        (DATA0, 0, Exception::GeneralProtection(DATA0)),
        (CODE3, 0, Exception::GeneralProtection(CODE3 & !3)),
        (CODE16, 0x1_0000, Exception::GeneralProtection(0)),
        (TASK, 0, Exception::GeneralProtection(TASK)),
    ] {
        Bench::new().faults(&jmp(selector, offset), e);
    }
}

#[test]
fn conforming_code_keeps_cpl() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.ok(&jmp(CONFORMING, 0x5000));
    assert_eq!(b.selector(SegReg::Cs), CONFORMING | 3);
    assert_eq!(b.cpu.sys.cpl, 3);
}

#[test]
fn call_and_return_on_the_same_level() {
    let mut b = Bench::new();
    b.ok(&call(CODE0, 0x5000));
    assert_eq!(b.stack(), [CODE_AT + 7, u32::from(CODE0)]);
    b.ok(RETF);
    assert_eq!((b.cpu.state.eip, b.cpu.state.gpr[4]), (CODE_AT + 7, STACK));
}

#[test]
fn call_gate_switches_stacks_and_copies_parameters() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.push_all(&[0x11, 0x22]);
    let esp = b.cpu.state.gpr[4];
    b.ok(&call(CALL_GATE | 3, 0xdead));
    assert_eq!((b.cpu.sys.cpl, b.cpu.state.eip), (0, 0x5000));
    assert_eq!(b.selector(SegReg::Ss), DATA0);
    assert_eq!(
        b.stack(),
        [
            CODE_AT + 7,
            u32::from(CODE3),
            0x11,
            0x22,
            esp,
            u32::from(DATA3)
        ]
    );
    assert_eq!(b.cpu.state.gpr[4], KERNEL_STACK - 24);

    b.ok(&[0xca, 8, 0]); // RETF 8
    assert_eq!(b.cpu.sys.cpl, 3);
    assert_eq!(b.cpu.state.gpr[4], esp + 8);
    assert_eq!(b.selector(SegReg::Ss), DATA3);
}

#[test]
fn outer_return_drops_privileged_data_segments() {
    let mut b = Bench::new();
    b.cpu.state.seg[SegReg::Es as usize] = Segment::flat(DATA3, false, 3);
    b.push_all(&[0x6000, u32::from(CODE3), 0x5ff0, u32::from(DATA3)]);
    b.ok(RETF);
    assert_eq!(b.selector(SegReg::Es), DATA3);
    assert_eq!(b.selector(SegReg::Ds), 0);
    assert_eq!(b.cpu.state.gpr[4], 0x5ff0);
}

#[test]
fn call_gate_without_room_on_the_new_stack_is_ss() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.poke(TSS + 4, 8);
    b.poke(TSS + 8, u32::from(SMALL_STACK));
    // 24 bytes below 8 wrap to the top of the address space.
    b.faults(&call(CALL_GATE, 0), Exception::StackFault(SMALL_STACK));
}

#[test]
fn gate_privilege_is_checked() {
    let mut b = Bench::new();
    b.set_descriptor(CALL_GATE, gate(CODE0, 0x5000, 0x8c, 0));
    b.enter_ring3();
    b.faults(&call(CALL_GATE, 0), Exception::GeneralProtection(CALL_GATE));
    b.faults(&jmp(CALL_GATE, 0), Exception::GeneralProtection(CALL_GATE));
}

#[test]
fn jmp_through_a_gate_cannot_change_level() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.faults(&jmp(CALL_GATE, 0), Exception::GeneralProtection(CODE0));
}

#[test]
fn return_inwards_is_gp() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.push_all(&[0x6000, u32::from(CODE0)]);
    b.faults(RETF, Exception::GeneralProtection(CODE0));
}

#[test]
fn real_mode_far_call_and_return() {
    let mut b = Bench::new();
    b.cpu.sys.cr0 &= !cr0::PE;
    b.cpu.state.seg = [Segment::real(0); 6];
    b.cpu.mode_changed();
    b.ok(&[0x9a, 0x34, 0x12, 0x00, 0x10]); // CALL 1000:1234
    assert_eq!(b.cpu.state.segment(SegReg::Cs).base, 0x10000);
    assert_eq!(b.cpu.state.eip, 0x1234);
    b.ok(RETF);
    assert_eq!((b.cpu.state.eip, b.selector(SegReg::Cs)), (CODE_AT + 5, 0));
}
