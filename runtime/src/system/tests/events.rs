//! Event delivery, IRET, fast calls.

use super::*;
use crate::system::interrupt;
use crate::vcpu::{Shadow, cr4};
use translator::flags::{IF, IOPL, NT, RF, TF, VM};

const IRETD: &[u8] = &[0xcf];
const INT_80: &[u8] = &[0xcd, 0x80];

#[test]
fn system_call_and_back() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.cpu.state.set_eflags_image(IF | 0x8d5);
    b.ok(INT_80);
    assert_eq!((b.cpu.sys.cpl, b.cpu.state.eip), (0, HANDLERS + 0x800));
    assert_eq!(
        b.stack(),
        [
            CODE_AT + 2,
            u32::from(CODE3),
            IF | 0x8d7,
            STACK,
            u32::from(DATA3)
        ]
    );
    // A trap gate leaves IF.
    assert_ne!(b.cpu.state.eflags & IF, 0);
    b.ok(IRETD);
    assert_eq!((b.cpu.sys.cpl, b.cpu.state.eip), (3, CODE_AT + 2));
    assert_eq!(b.cpu.state.gpr[4], STACK);
    assert_eq!(b.cpu.state.eflags_image(), IF | 0x8d7);
    assert!(b.cpu.mode().user());
}

#[test]
fn software_interrupts_respect_the_gates_dpl() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.faults(&[0xcd, 0x21], Exception::GeneralProtection(0x21 * 8 + 2));
    // Beyond the IDT.
    b.faults(&[0xcd, 0xff], Exception::GeneralProtection(0xff * 8 + 2));
}

#[test]
fn device_interrupts_do_not() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.cpu.state.eflags |= IF | TF | NT;
    b.cpu.halted = true;
    deliver(&mut b.cpu, Event::External(0x21));
    assert_eq!(b.cpu.state.eip, HANDLERS + 0x210);
    assert_eq!(b.cpu.state.eflags & (IF | TF | NT), 0);
    assert!(!b.cpu.halted);
}

#[test]
fn faults_push_rf_and_their_error_code() {
    let mut b = Bench::new();
    b.raise(Exception::GeneralProtection(0x18));
    assert_eq!(b.stack(), [0x18, CODE_AT, u32::from(CODE0), RF | 2]);
    assert_eq!(b.cpu.state.gpr[4], STACK - 16);
}

#[test]
fn page_fault_sets_cr2() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.raise(Exception::PageFault {
        addr: 0x1234_5678,
        error: 6,
    });
    assert_eq!(b.cpu.sys.cr2, 0x1234_5678);
    assert_eq!(b.stack(), [6, CODE_AT, u32::from(CODE3)]);
}

#[test]
fn sixteen_bit_gates_push_words() {
    let mut b = Bench::new();
    b.set_gate(0x40, gate(CODE16, 0x9000, 0x86, 0));
    b.ok(&[0xcd, 0x40]);
    assert_eq!(b.cpu.state.gpr[4], STACK - 6);
    assert_eq!(b.stack(), [u32::from(CODE0) << 16 | (CODE_AT + 2)]);
    b.ok(&[0xcf]); // IRET in 16-bit code
    assert_eq!((b.cpu.state.eip, b.cpu.state.gpr[4]), (CODE_AT + 2, STACK));
}

#[test]
fn a_fault_in_delivery_becomes_a_double_fault() {
    let mut b = Bench::new();
    b.set_gate(13, gate(DATA0, 0, 0x8e, 0));
    b.raise(Exception::GeneralProtection(0));
    assert_eq!(b.cpu.state.eip, HANDLERS + 8 * 16);
    assert_eq!(b.stack(), [0, CODE_AT, u32::from(CODE0), 2]);
}

#[test]
fn a_fault_after_a_benign_event_is_served_itself() {
    let mut b = Bench::new();
    b.set_gate(6, gate(DATA0, 0, 0x8e, 0));
    b.raise(Exception::InvalidOpcode);
    assert_eq!(b.cpu.state.eip, HANDLERS + 13 * 16);
    // EXT is set: the #GP came from delivering another exception.
    assert_eq!(b.stack(), [u32::from(DATA0) | 1, CODE_AT]);
}

#[test]
fn a_third_fault_shuts_down() {
    let mut b = Bench::new();
    b.cpu.sys.idtr.limit = 0;
    b.raise(Exception::GeneralProtection(0));
    assert!(b.cpu.shutdown);
    assert_eq!(b.cpu.state.eip, CODE_AT);
}

#[test]
fn a_bad_inner_stack_is_ts_and_leaves_the_state() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.poke(TSS + 8, u32::from(DATA3));
    b.faults(INT_80, Exception::InvalidTss(DATA3 & !3));
    b.poke(TSS + 8, 0);
    b.faults(INT_80, Exception::InvalidTss(0));
}

#[test]
fn int3_and_into_are_traps() {
    let mut b = Bench::new();
    b.ok(&[0xce]);
    assert_eq!(b.cpu.state.eip, CODE_AT + 1, "INTO without OF goes on");
    b.ok(&[0xcc]);
    assert_eq!(b.cpu.state.eip, HANDLERS + 3 * 16);
    assert_eq!(b.stack(), [CODE_AT + 2]);
}

#[test]
fn single_step_sets_bs() {
    let mut b = Bench::new();
    b.cpu.state.eflags |= TF;
    b.cpu.mode_changed();
    b.cpu.pending_debug = crate::system::debug::DR6_BS;
    crate::system::debug::deliver_pending(&mut b.cpu);
    assert_eq!(b.cpu.sys.dr[6] & 0x4000, 0x4000);
    assert_eq!(b.stack(), [CODE_AT, u32::from(CODE0), TF | 2]);
    assert!(!b.cpu.mode().single());
}

#[test]
fn an_nmi_blocks_the_next_until_iret() {
    let mut b = Bench::new();
    b.cpu.raise_nmi_line();
    assert!(b.cpu.nmi_due(), "IF does not mask it");
    interrupt::deliver_nmi(&mut b.cpu);
    assert_eq!(b.cpu.state.eip, HANDLERS + 2 * 16);
    b.cpu.raise_nmi_line();
    assert!(!b.cpu.nmi_due());
    b.ok(IRETD);
    assert!(b.cpu.nmi_due());
    b.cpu.shadow_of_ss();
    assert!(!b.cpu.nmi_due(), "in the shadow of a load of SS");
    b.cpu.shadow = Shadow::None;
    b.cpu.pc.port_write(0x70, 1, 0x80);
    assert!(!b.cpu.nmi_due(), "masked at the board");
    b.cpu.nmi_pending = true;
    assert!(b.cpu.nmi_due(), "a message is not");
    interrupt::deliver_nmi(&mut b.cpu);
    b.ok(IRETD);
    assert!(!b.cpu.nmi_due(), "the line's still waits");
    b.cpu.pc.port_write(0x70, 1, 0);
    assert!(b.cpu.nmi_due());
}

#[test]
fn iret_restores_only_what_the_level_may() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.push_all(&[0x6000, u32::from(CODE3), IF | IOPL | 0xd7]);
    b.ok(IRETD);
    assert_eq!(b.cpu.state.eflags_image(), 0xd7);
}

#[test]
fn iret_to_virtual_8086_mode_and_out_again() {
    let mut b = Bench::new();
    let selectors = [0x100, 0x200, 0x300, 0x400, 0x500];
    b.push_all(&selectors[1..]);
    b.push_all(&[0x1234, 0x40, VM | 2, 0xfff0, selectors[0]]);
    b.ok(IRETD);
    assert!(b.cpu.v86());
    assert_eq!(b.cpu.sys.cpl, 3);
    assert_eq!(b.cpu.state.segment(SegReg::Cs).base, 0x400);
    assert_eq!(b.cpu.state.segment(SegReg::Gs).base, 0x5000);
    assert!(!b.cpu.mode().code32());

    // IOPL is 0: sensitive instructions are #GP(0).
    for bytes in [&[0xcd, 0x80][..], &[0x9c], &[0x9d], &[0xfa], &[0xcf]] {
        b.faults(bytes, Exception::GeneralProtection(0));
    }
    b.raise(Exception::GeneralProtection(0));
    assert_eq!(b.cpu.sys.cpl, 0);
    assert!(!b.cpu.v86());
    assert_eq!(
        b.stack(),
        [
            0,
            0x1234,
            0x40,
            VM | RF | 2,
            0xfff0,
            0x100,
            0x200,
            0x300,
            0x400,
            0x500
        ]
    );
    assert_eq!(b.selector(SegReg::Gs), 0);
}

#[test]
fn real_mode_uses_the_vector_table() {
    let mut b = Bench::new();
    b.cpu.sys.cr0 &= !cr0::PE;
    b.cpu.state.seg = [Segment::real(0); 6];
    b.cpu.sys.idtr.base = 0;
    b.cpu.state.eflags |= IF;
    b.cpu.mode_changed();
    b.poke(0x21 * 4, 0x1000_0042);
    b.ok(&[0xcd, 0x21]);
    assert_eq!(b.cpu.state.segment(SegReg::Cs).base, 0x10000);
    assert_eq!(b.cpu.state.eip, 0x42);
    assert_eq!(b.cpu.state.eflags & IF, 0);
    b.ok(&[0xcf]);
    assert_eq!(b.cpu.state.eip, CODE_AT + 2);
    assert_ne!(b.cpu.state.eflags & IF, 0);
}

#[test]
fn fast_calls_make_their_segments_up() {
    let mut b = Bench::new();
    b.cpu.sys.sysenter = [u32::from(CODE0), KERNEL_STACK, 0x5000];
    b.enter_ring3();
    b.cpu.state.eflags |= IF;
    b.ok(&[0x0f, 0x34]);
    assert_eq!((b.cpu.sys.cpl, b.cpu.state.eip), (0, 0x5000));
    assert_eq!(b.cpu.state.gpr[4], KERNEL_STACK);
    assert_eq!(b.selector(SegReg::Ss), DATA0);
    assert_eq!(b.cpu.state.eflags & IF, 0);

    b.cpu.state.gpr[1] = 0x6ff0;
    b.cpu.state.gpr[2] = 0x6000;
    b.ok(&[0x0f, 0x35]);
    assert_eq!((b.cpu.sys.cpl, b.cpu.state.eip), (3, 0x6000));
    assert_eq!(b.selector(SegReg::Cs), CODE3);
    assert_eq!(b.selector(SegReg::Ss), DATA3);
    b.faults(&[0x0f, 0x35], Exception::GeneralProtection(0));
    b.cpu.sys.sysenter[0] = 3;
    b.faults(&[0x0f, 0x34], Exception::GeneralProtection(0));
}

#[test]
fn delivery_onto_an_unmapped_stack_is_a_page_fault_then_double() {
    let mut b = Bench::new();
    // One 4 MiB page, but the stack above it.
    b.poke(0x1_0000, 0x83);
    b.cpu.sys.cr4 = cr4::PSE;
    b.cpu.sys.cr3 = 0x1_0000;
    b.cpu.state.gpr[0] = b.cpu.sys.cr0 | cr0::PG;
    b.ok(&[0x0f, 0x22, 0xc0]);
    b.cpu.state.gpr[4] = 0x80_0000;
    b.cpu.sys.cr2 = 0;
    b.raise(Exception::GeneralProtection(0));
    // #GP, then #PF (served), then #PF again: #DF, which fails as well.
    assert!(b.cpu.shutdown);
    assert_eq!(b.cpu.sys.cr2, 0x7f_fffc);
    assert_eq!(b.cpu.state.gpr[4], 0x80_0000);
}
