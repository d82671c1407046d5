//! Scripted port writes against the 8259A data sheet.

use super::*;

const MASTER: u16 = 0;
const MASTER_DATA: u16 = 1;
const SLAVE: u16 = 2;
const SLAVE_DATA: u16 = 3;

/// The initialisation every PC system does: vectors 0x20 and 0x28.
fn initialised(icw4: u32) -> Pic {
    let mut pic = Pic::new();
    for (command, data, base, wiring) in
        [(MASTER, MASTER_DATA, 0x20, 4), (SLAVE, SLAVE_DATA, 0x28, 2)]
    {
        pic.write(command, 1, 0x11);
        pic.write(data, 1, base);
        pic.write(data, 1, wiring);
        pic.write(data, 1, icw4);
        pic.write(data, 1, 0);
    }
    pic
}

fn set(pic: &mut Pic, irq: u8, level: bool) {
    pic.drive(
        irq,
        Drive {
            level,
            dipped: !level,
        },
    );
}

fn eoi(pic: &mut Pic) {
    pic.write(MASTER, 1, 0x20);
}

#[test]
fn edge_is_latched_once() {
    let mut pic = initialised(1);
    set(&mut pic, 4, true);
    assert!(pic.output());
    assert_eq!(pic.acknowledge().vector, 0x24);
    eoi(&mut pic);
    assert!(
        !pic.output(),
        "the line is still high, but no new edge came"
    );
    set(&mut pic, 4, false);
    set(&mut pic, 4, true);
    assert_eq!(pic.acknowledge().vector, 0x24);
}

#[test]
fn a_pulse_seen_late_is_an_edge() {
    let mut pic = initialised(1);
    set(&mut pic, 0, true);
    assert_eq!(pic.acknowledge().vector, 0x20);
    pic.drive(
        0,
        Drive {
            level: true,
            dipped: true,
        },
    );
    assert!(!pic.output(), "IRQ 0 is in service");
    eoi(&mut pic);
    assert_eq!(pic.acknowledge().vector, 0x20);
}

#[test]
fn level_input_asks_again_after_eoi() {
    let mut pic = initialised(1);
    pic.write(5, 1, 0x02);
    assert_eq!(pic.read(5, 1), 0x02);
    set(&mut pic, 9, true);
    assert_eq!(pic.acknowledge().vector, 0x29);
    pic.write(SLAVE, 1, 0x20);
    eoi(&mut pic);
    assert_eq!(pic.acknowledge().vector, 0x29);
    set(&mut pic, 9, false);
    pic.write(SLAVE, 1, 0x20);
    eoi(&mut pic);
    assert!(!pic.output());
}

#[test]
fn elcr_keeps_the_timer_edge_triggered() {
    let mut pic = initialised(1);
    pic.write(4, 1, 0xFF);
    pic.write(5, 1, 0xFF);
    assert_eq!((pic.read(4, 1), pic.read(5, 1)), (0xF8, 0xDE));
}

#[test]
fn higher_priority_nests_lower_waits() {
    let mut pic = initialised(1);
    set(&mut pic, 4, true);
    assert_eq!(pic.acknowledge().vector, 0x24);
    set(&mut pic, 5, true);
    assert!(!pic.output());
    set(&mut pic, 1, true);
    assert_eq!(pic.acknowledge().vector, 0x21);
    eoi(&mut pic);
    assert!(!pic.output());
    eoi(&mut pic);
    assert_eq!(pic.acknowledge().vector, 0x25);
}

#[test]
fn masked_request_stays_in_irr() {
    let mut pic = initialised(1);
    pic.write(MASTER_DATA, 1, 0x10);
    set(&mut pic, 4, true);
    assert!(!pic.output());
    assert_eq!(pic.read(MASTER, 1), 0x10);
    pic.write(MASTER_DATA, 1, 0);
    assert!(pic.output());
}

#[test]
fn slave_interrupts_through_input_2() {
    let mut pic = initialised(1);
    set(&mut pic, 8, true);
    set(&mut pic, 14, true);
    assert_eq!(pic.acknowledge().vector, 0x28);
    pic.write(MASTER, 1, 0x0B);
    assert_eq!(pic.read(MASTER, 1), 0x04, "OCW3 selects ISR");
    pic.write(SLAVE, 1, 0x20);
    eoi(&mut pic);
    assert_eq!(pic.acknowledge().vector, 0x2E);
}

#[test]
fn a_request_that_goes_is_spurious() {
    let mut pic = initialised(1);
    set(&mut pic, 4, true);
    set(&mut pic, 4, false);
    assert!(!pic.output());
    assert_eq!(pic.acknowledge().vector, 0x27);
    assert_eq!(pic.registers(false).1, 0, "no in-service bit");
}

#[test]
fn spurious_on_the_slave_sets_the_master_bit_only() {
    let mut pic = initialised(1);
    set(&mut pic, 8, true);
    pic.slave.irr = 0;
    assert_eq!(pic.acknowledge().vector, 0x2F);
    assert_eq!((pic.registers(false).1, pic.registers(true).1), (0x04, 0));
}

#[test]
fn automatic_eoi_leaves_nothing_in_service() {
    let mut pic = initialised(3);
    set(&mut pic, 4, true);
    assert_eq!(pic.acknowledge().vector, 0x24);
    assert_eq!(pic.registers(false).1, 0);
}

#[test]
fn rotation_gives_the_served_level_the_lowest_priority() {
    let mut pic = initialised(1);
    set(&mut pic, 0, true);
    assert_eq!(pic.acknowledge().vector, 0x20);
    pic.write(MASTER, 1, 0xA0);
    set(&mut pic, 0, false);
    set(&mut pic, 0, true);
    set(&mut pic, 7, true);
    assert_eq!(pic.acknowledge().vector, 0x27);
}

#[test]
fn set_priority_and_specific_eoi() {
    let mut pic = initialised(1);
    pic.write(MASTER, 1, 0xC3);
    set(&mut pic, 0, true);
    set(&mut pic, 4, true);
    assert_eq!(pic.acknowledge().vector, 0x24);
    pic.write(MASTER, 1, 0x64);
    assert_eq!(pic.acknowledge().vector, 0x20);
}

#[test]
fn special_mask_lets_lower_levels_through() {
    let mut pic = initialised(1);
    set(&mut pic, 3, true);
    assert_eq!(pic.acknowledge().vector, 0x23);
    set(&mut pic, 6, true);
    assert!(!pic.output());
    pic.write(MASTER_DATA, 1, 0x08);
    pic.write(MASTER, 1, 0x68);
    assert_eq!(pic.acknowledge().vector, 0x26);
    pic.write(MASTER, 1, 0x48);
    assert_eq!(pic.registers(false).1, 0x48);
}

#[test]
fn poll_mode_acknowledges_by_reading() {
    let mut pic = initialised(1);
    pic.write(MASTER, 1, 0x0C);
    assert_eq!(pic.read(MASTER, 1), 0);
    set(&mut pic, 4, true);
    pic.write(MASTER, 1, 0x0C);
    assert_eq!(pic.read(MASTER, 1), 0x84);
    assert_eq!(pic.registers(false).1, 0x10);
    assert_eq!(pic.read(MASTER_DATA, 1), 0, "the poll ends after one read");
}

#[test]
fn icw1_resets_masks_and_edges() {
    let mut pic = initialised(1);
    set(&mut pic, 4, true);
    pic.write(MASTER_DATA, 1, 0xFF);
    pic.write(MASTER, 1, 0x13);
    pic.write(MASTER_DATA, 1, 0x40);
    pic.write(MASTER_DATA, 1, 1);
    assert_eq!(pic.registers(false), (0, 0, 0));
    set(&mut pic, 1, true);
    assert_eq!(
        pic.acknowledge().vector,
        0x41,
        "single mode: ICW2, ICW4, then OCW1"
    );
}
