//! Flags and halting.

use super::*;
use crate::vcpu::Shadow;
use translator::flags::{IF, IOPL, TF};

/// Sets up the interrupt controller and starts the timer, whose line rises.
fn raise_timer(b: &mut Bench) {
    let controller = [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0x21, 0)];
    let timer = [(0x43, 0x34), (0x40, 0x9c), (0x40, 0x2e)];
    for (port, value) in controller.into_iter().chain(timer) {
        b.cpu.pc.port_write(port, 1, value);
    }
    assert!(b.cpu.pc.interrupt_pending());
}

#[test]
fn unmasking_asks_for_attention_if_an_interrupt_is_pending() {
    let mut b = Bench::new();
    b.push_all(&[IF, IF]);
    b.cpu.attention = false;
    b.ok(&[0xfb]); // STI
    b.ok(&[0xfa]);
    b.ok(&[0x9d]); // POPF
    b.ok(&[0xfa]);
    assert!(!b.cpu.attention);
    raise_timer(&mut b);
    b.ok(&[0xfb]);
    assert!(std::mem::take(&mut b.cpu.attention));
    b.ok(&[0xfa]);
    assert!(!b.cpu.attention);
    b.ok(&[0x9d]);
    assert!(b.cpu.attention);
}

#[test]
fn sti_shadows_one_instruction() {
    let mut b = Bench::new();
    b.ok(&[0xfb]);
    assert_eq!(b.cpu.shadow, Shadow::Sti);
    b.cpu.shadow = Shadow::None;
    b.ok(&[0xfb]);
    assert_eq!(b.cpu.shadow, Shadow::None, "IF was set already");
    b.ok(&[0xfa]);
    assert_eq!(b.cpu.state.eflags & IF, 0);
}

#[test]
fn cli_obeys_iopl() {
    let mut b = Bench::new();
    b.enter_ring3();
    b.faults(&[0xfa], Exception::GeneralProtection(0));
    b.cpu.state.eflags |= IOPL;
    b.ok(&[0xfa]);
}

#[test]
fn popf_changes_if_and_iopl_by_privilege_and_silently() {
    let mut b = Bench::new();
    b.push_all(&[IF | IOPL | 2]);
    b.ok(&[0x9d]);
    assert_eq!(b.cpu.state.eflags, IF | IOPL | 2);
    b.enter_ring3();
    b.push_all(&[2]);
    b.ok(&[0x9d]);
    assert_eq!(b.cpu.state.eflags, IOPL | 2, "IOPL stays");
    b.cpu.state.eflags = IF | 2;
    b.push_all(&[2]);
    b.ok(&[0x9d]);
    assert_eq!(b.cpu.state.eflags, IF | 2, "so does IF above IOPL");
}

#[test]
fn popf_of_tf_changes_the_mode() {
    let mut b = Bench::new();
    b.push_all(&[TF]);
    b.ok(&[0x9d]);
    assert!(b.cpu.mode().single());
}

#[test]
fn pushf_has_the_arithmetic_flags() {
    let mut b = Bench::new();
    b.cpu.state.set_eflags_image(0x8d5 | IF);
    b.ok(&[0x9c]);
    assert_eq!(b.stack(), [0x8d7 | IF]);
    b.ok(&[0x66, 0x9d]); // POPF
    assert_eq!(b.cpu.state.gpr[4], STACK - 2);
}

#[test]
fn hlt_is_privileged() {
    let mut b = Bench::new();
    b.ok(&[0xfb]);
    b.ok(&[0xf4]);
    assert!(b.cpu.halted && b.cpu.attention && b.cpu.shadow == Shadow::None);
    b.cpu.halted = false;
    b.enter_ring3();
    b.faults(&[0xf4], Exception::GeneralProtection(0));
}

#[test]
fn undefined_and_unannounced_instructions_are_ud() {
    let mut b = Bench::new();
    for bytes in [
        &[0x0f, 0x0b][..],   // UD2
        &[0x0f, 0xaa],       // RSM
        &[0x0f, 0x01, 0xc8], // MONITOR
        &[0x0f, 0x01, 0xc9], // MWAIT
        &[0x0f, 0x05],       // SYSCALL
    ] {
        b.faults(bytes, Exception::InvalidOpcode);
    }
}
