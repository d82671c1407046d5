//! Task switches.

use super::*;
use translator::flags::NT;

/// JMP or CALL to a selector; the offset does not matter.
fn far(opcode: u8, selector: u16) -> Vec<u8> {
    let mut bytes = vec![opcode, 0, 0, 0, 0];
    bytes.extend(selector.to_le_bytes());
    bytes
}

/// A bench with a ring-0 task in TSS2.
fn with_task() -> Bench {
    let mut b = Bench::new();
    b.poke(TSS2 + 32, 0x6000);
    b.poke(TSS2 + 36, 2);
    for n in 0..8 {
        b.poke(TSS2 + 40 + 4 * n, 0x100 + n);
    }
    b.poke(TSS2 + 40 + 16, 0x6f00);
    for n in 0..6 {
        b.poke(TSS2 + 72 + 4 * n, u32::from(DATA0));
    }
    b.poke(TSS2 + 76, u32::from(CODE0));
    b
}

fn kind(b: &Bench, selector: u16) -> u32 {
    b.descriptor(selector).high >> 8 & 0xf
}

#[test]
fn jmp_hands_the_processor_over() {
    let mut b = with_task();
    b.cpu.state.gpr[3] = 0xbbbb;
    b.ok(&far(0xea, TASK2));
    assert_eq!((b.cpu.state.eip, b.cpu.state.gpr[4]), (0x6000, 0x6f00));
    assert_eq!(b.cpu.state.gpr[7], 0x107);
    assert_eq!(b.cpu.sys.tr.selector, TASK2);
    assert_ne!(b.cpu.sys.cr0 & cr0::TS, 0);
    assert_eq!((kind(&b, TASK), kind(&b, TASK2)), (9, 11));
    assert_eq!(b.peek(TSS + 32), CODE_AT + 7);
    assert_eq!(b.peek(TSS + 52), 0xbbbb);
    assert_eq!(b.peek(TSS + 76), u32::from(CODE0));
    assert_eq!(b.cpu.state.eflags & NT, 0);
}

#[test]
fn call_nests_and_iret_returns() {
    for selector in [TASK2, TASK_GATE] {
        let mut b = with_task();
        b.ok(&far(0x9a, selector));
        assert_eq!(b.peek(TSS2) & 0xffff, u32::from(TASK));
        assert_ne!(b.cpu.state.eflags & NT, 0);
        assert_eq!((kind(&b, TASK), kind(&b, TASK2)), (11, 11));
        b.ok(&[0xcf]);
        assert_eq!((b.cpu.state.eip, b.cpu.state.gpr[4]), (CODE_AT + 7, STACK));
        assert_eq!((kind(&b, TASK), kind(&b, TASK2)), (11, 9));
        assert_eq!(b.cpu.state.eflags & NT, 0);
        assert_eq!(b.peek(TSS2 + 36) & NT, 0);
    }
}

#[test]
fn an_exception_through_a_task_gate_pushes_its_code_there() {
    let mut b = with_task();
    b.set_gate(8, gate(TASK2, 0, 0x85, 0));
    b.cpu.state.gpr[4] = 0xdead_0000;
    b.raise(Exception::DoubleFault);
    assert_eq!((b.cpu.state.eip, b.cpu.state.gpr[4]), (0x6000, 0x6efc));
    assert_eq!(b.stack(), [0]);
    assert_eq!(b.peek(TSS + 56), 0xdead_0000);
}

#[test]
fn a_busy_task_cannot_be_entered() {
    let mut b = with_task();
    b.faults(&far(0xea, TASK), Exception::GeneralProtection(TASK));
    b.set_descriptor(TASK_GATE, gate(TASK, 0, 0xe5, 0));
    b.faults(&far(0xea, TASK_GATE), Exception::GeneralProtection(TASK));
}

#[test]
fn a_short_tss_is_ts_in_the_old_task() {
    let mut b = with_task();
    b.set_descriptor(TASK2, describe(TSS2, 0x66, 0x89, 0));
    b.faults(&far(0xea, TASK2), Exception::InvalidTss(TASK2));
}

#[test]
fn a_bad_selector_is_a_fault_of_the_new_task() {
    let mut b = with_task();
    b.poke(TSS2 + 84, u32::from(CALL_GATE)); // DS
    b.ok(&far(0xea, TASK2));
    assert_eq!(b.cpu.sys.tr.selector, TASK2);
    assert_eq!(b.cpu.state.eip, HANDLERS + 10 * 16);
    assert_eq!(b.stack(), [u32::from(CALL_GATE), 0x6000, u32::from(CODE0)]);
}

#[test]
fn iret_needs_a_busy_task_in_the_link() {
    let mut b = with_task();
    b.cpu.state.eflags |= NT;
    b.poke(TSS, u32::from(TASK2));
    b.faults(&[0xcf], Exception::InvalidTss(TASK2));
}

#[test]
fn sixteen_bit_tasks_switch_too() {
    let mut b = with_task();
    b.set_descriptor(TASK2, describe(TSS2, 0x2b, 0x81, 0));
    for (offset, value) in [(14, 0x6000), (16, 2), (26, 0x6f00), (42, 0)] {
        b.poke16(TSS2 + offset, value);
    }
    for (offset, value) in [(34, DATA0), (36, CODE16), (38, DATA0), (40, DATA0)] {
        b.poke16(TSS2 + offset, value);
    }
    b.ok(&far(0xea, TASK2));
    assert_eq!((b.cpu.state.eip, b.selector(SegReg::Cs)), (0x6000, CODE16));
    assert_eq!(b.selector(SegReg::Fs), 0);
    assert_eq!(b.cpu.state.gpr[4] & 0xffff, 0x6f00);
}

#[test]
fn the_t_bit_traps_after_the_switch() {
    let mut b = with_task();
    b.poke16(TSS2 + 100, 1);
    b.ok(&far(0xea, TASK2));
    assert_eq!(b.cpu.state.eip, 0x6000);
    assert_eq!(b.cpu.pending_debug, crate::system::debug::DR6_BT);
}
