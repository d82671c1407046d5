//! Scripted register accesses against the manual's description of the local APIC.

use super::*;
use crate::clock::FakeClock;

const TPR: u32 = 0x80;
const EOI: u32 = 0xB0;
const SVR: u32 = 0xF0;
const ESR: u32 = 0x280;
const ICR: u32 = 0x300;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const LVT_ERROR: u32 = 0x370;
const INITIAL: u32 = 0x380;
const CURRENT: u32 = 0x390;

/// ICR: shorthand self.
const SELF: u32 = 1 << 18;

fn apic() -> (LocalApic, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::new(0));
    (LocalApic::new(clock.clone()), clock)
}

fn set(apic: &mut LocalApic, offset: u32, value: u32) {
    apic.write(offset, 4, value);
}

#[test]
fn virtual_wire_mode_passes_the_8259() {
    let (mut apic, _) = apic();
    assert!(!apic.output());
    apic.drive_lint0(true);
    assert!(apic.output());
    assert_eq!(apic.acknowledge(), None);
    set(&mut apic, LVT_LINT0, EXTINT_MASKED);
    assert!(!apic.output());
}

const EXTINT_MASKED: u32 = 1 << 16 | 7 << 8;

#[test]
fn without_the_apic_lint0_is_intr() {
    let (mut apic, _) = apic();
    set(&mut apic, LVT_LINT0, EXTINT_MASKED);
    apic.drive_lint0(true);
    assert!(apic.set_base(apic.base() & !BASE_ENABLE));
    assert!(apic.output());
    assert_eq!(apic.offset_of(DEFAULT_BASE), None);
}

#[test]
fn switching_on_again_finds_the_power_up_state() {
    let (mut apic, _) = apic();
    let base = apic.base();
    apic.set_base(base & !BASE_ENABLE);
    apic.set_base(base);
    apic.drive_lint0(true);
    assert!(!apic.output());
    assert_eq!(apic.read(SVR, 4), 0xFF);
    assert_eq!(apic.read(LVT_LINT0, 4), 1 << 16);
}

#[test]
fn reserved_bits_of_the_base_are_refused() {
    let (mut apic, _) = apic();
    let base = apic.base();
    for bit in [0, 10, 36, 63] {
        assert!(!apic.set_base(base | 1 << bit), "bit {bit}");
    }
    assert_eq!(apic.base(), base);
}

#[test]
fn an_interrupt_waits_for_the_one_in_service() {
    let (mut apic, _) = apic();
    set(&mut apic, ICR, SELF | 0x51);
    assert_eq!(apic.acknowledge(), Some(0x51));
    set(&mut apic, ICR, SELF | 0x5F); // The same class.
    assert!(!apic.output());
    set(&mut apic, ICR, SELF | 0x60); // A higher one.
    assert_eq!(apic.acknowledge(), Some(0x60));
    set(&mut apic, EOI, 0);
    assert!(!apic.output());
    set(&mut apic, EOI, 0);
    assert_eq!(apic.acknowledge(), Some(0x5F));
}

#[test]
fn the_task_priority_holds_back_its_class_and_below() {
    let (mut apic, _) = apic();
    set(&mut apic, TPR, 0x50);
    set(&mut apic, ICR, SELF | 0x5F);
    assert!(!apic.output());
    assert_eq!(apic.read(0x220, 4), 1 << 31, "IRR");
    set(&mut apic, TPR, 0x4F);
    assert!(apic.output());
}

#[test]
fn nothing_to_acknowledge_is_the_spurious_vector() {
    let (mut apic, _) = apic();
    set(&mut apic, SVR, 0x1EF);
    assert_eq!(apic.acknowledge(), Some(0xEF));
    assert_eq!(apic.read(0x170, 4), 0, "ISR");
}

#[test]
fn disabling_by_software_masks_and_holds() {
    let (mut apic, _) = apic();
    set(&mut apic, ICR, SELF | 0x51);
    set(&mut apic, SVR, 0xFF);
    assert!(!apic.output());
    set(&mut apic, LVT_TIMER, 0x40);
    assert_eq!(apic.read(LVT_TIMER, 4), 1 << 16 | 0x40);
    set(&mut apic, SVR, 0x1FF);
    assert_eq!(apic.acknowledge(), Some(0x51));
}

#[test]
fn destinations() {
    const LOGICAL: u32 = 1 << 11;
    for (ldr, dfr, high, low, reached) in [
        (0, u32::MAX, 0, 0, true),
        (0, u32::MAX, 1 << 24, 0, false),
        (0, u32::MAX, 0xFF << 24, 0, true),
        (0, u32::MAX, 1 << 24, 2 << 18, true),
        (0, u32::MAX, 0, 3 << 18, false),
        (0x04 << 24, u32::MAX, 0x0C << 24, LOGICAL, true),
        (0x04 << 24, u32::MAX, 0x08 << 24, LOGICAL, false),
        (0x24 << 24, 0, 0x24 << 24, LOGICAL, true),
        (0x24 << 24, 0, 0x14 << 24, LOGICAL, false),
        (0x24 << 24, 0, 0xF4 << 24, LOGICAL, true),
    ] {
        let (mut apic, _) = apic();
        set(&mut apic, 0xD0, ldr);
        set(&mut apic, 0xE0, dfr);
        set(&mut apic, 0x310, high);
        set(&mut apic, ICR, low | 0x40);
        assert_eq!(apic.output(), reached, "{ldr:x} {dfr:x} {high:x} {low:x}");
    }
}

#[test]
fn nmi_and_init_to_oneself() {
    let (mut apic, _) = apic();
    set(&mut apic, ICR, SELF | 4 << 8);
    assert_eq!((apic.take_nmi(), apic.take_nmi()), (true, false));
    set(&mut apic, ICR, 1 << 15 | 5 << 8);
    assert!(!apic.take_init(), "level de-assert");
    set(&mut apic, ICR, 1 << 14 | 5 << 8);
    assert!(apic.take_init());
    assert!(!apic.output());
}

#[test]
fn the_timer_interrupts_once() {
    let (mut apic, clock) = apic();
    set(&mut apic, LVT_TIMER, 0x40);
    set(&mut apic, INITIAL, 1000); // Divided by 2: 20 µs.
    assert_eq!(apic.next_deadline_ns(), Some(20_000));
    clock.advance(10_000);
    assert_eq!(apic.read(CURRENT, 4), 500);
    assert!(!apic.output());
    clock.advance(10_000);
    apic.poll(clock.now_ns());
    assert_eq!(apic.acknowledge(), Some(0x40));
    assert_eq!(apic.next_deadline_ns(), None);
}

#[test]
fn a_masked_timer_counts_in_silence() {
    let (mut apic, clock) = apic();
    set(&mut apic, LVT_TIMER, 1 << 17 | 1 << 16 | 0x40);
    set(&mut apic, INITIAL, 1000);
    assert_eq!(apic.next_deadline_ns(), None);
    clock.advance(30_000);
    assert_eq!(apic.read(CURRENT, 4), 500);
    assert!(!apic.output());
}

#[test]
fn errors_show_after_a_write_of_the_esr() {
    let (mut apic, _) = apic();
    set(&mut apic, LVT_ERROR, 0xFE);
    set(&mut apic, ICR, SELF | 5);
    assert_eq!(apic.read(ESR, 4), 0);
    set(&mut apic, ESR, 0);
    assert_eq!(apic.read(ESR, 4), 0x60);
    assert_eq!(apic.acknowledge(), Some(0xFE));
    assert_eq!(apic.read(0x3F0, 4), 0);
    set(&mut apic, ESR, 0);
    assert_eq!(apic.read(ESR, 4), 0x80);
}

#[test]
fn an_error_interrupt_with_an_illegal_vector_does_not_loop() {
    let (mut apic, _) = apic();
    set(&mut apic, LVT_ERROR, 3);
    set(&mut apic, ICR, SELF | 5);
    set(&mut apic, ESR, 0);
    assert_eq!(apic.read(ESR, 4), 0x60);
}

#[test]
fn only_aligned_doublewords_write() {
    let (mut apic, _) = apic();
    apic.write(TPR, 1, 0x20);
    apic.write(TPR + 4, 4, 0x20);
    assert_eq!(apic.read(TPR, 4), 0);
    assert_eq!(apic.read(0x30, 4), 0x0005_0014, "version");
    assert_eq!((apic.read(0x32, 1), apic.read(0x34, 4)), (5, 0));
}

#[test]
fn lint0_can_bring_a_vector_of_its_own() {
    let (mut apic, _) = apic();
    set(&mut apic, LVT_LINT0, 0x33);
    apic.drive_lint0(true);
    apic.drive_lint0(true);
    assert_eq!(apic.acknowledge(), Some(0x33));
    set(&mut apic, EOI, 0);
    assert!(!apic.output());
}
