//! The board as a system sees it: ports, interrupts, power.

use super::*;
use crate::clock::FakeClock;
use crate::console::{BufferConsole, Captured};

fn board(input: &[u8]) -> (Pc, Arc<FakeClock>, Captured) {
    let clock = Arc::new(FakeClock::new(1_700_000_000));
    let (console, captured) = BufferConsole::new(input);
    let pc = Pc::new(PcConfig {
        ram_bytes: 64 << 20,
        console: Box::new(console),
        debug_output: Box::new(std::io::sink()),
        clock: clock.clone(),
    });
    (pc, clock, captured)
}

fn out(pc: &mut Pc, writes: &[(u16, u32)]) {
    for &(port, value) in writes {
        pc.port_write(port, 1, value);
    }
}

fn init_pics(pc: &mut Pc) {
    for (command, vector, wiring, mask) in [(0x20, 0x30, 4, 0), (0xA0, 0x38, 2, 0)] {
        out(
            pc,
            &[
                (command, 0x11),
                (command + 1, vector),
                (command + 1, wiring),
                (command + 1, 1),
                (command + 1, mask),
            ],
        );
    }
}

#[test]
fn unclaimed_ports_read_ones() {
    let (mut pc, _clock, _) = board(b"");
    assert_eq!(pc.port_read(0x2F8, 1), 0xFF);
    assert_eq!(pc.port_read(0xCFC, 4), 0xFFFF_FFFF);
    assert_eq!(pc.port_read(0xFFFF, 2), 0xFFFF, "wraps at the last port");
    assert_eq!(pc.mmio_read(0xFEB0_0000, 4), 0xFFFF_FFFF);
    pc.port_write(0x378, 4, 0);
    pc.mmio_write(0xFEB0_0000, 4, 0);
}

#[test]
fn wide_access_to_byte_ports_is_split() {
    let (mut pc, _clock, _) = board(b"");
    pc.port_write(0x70, 2, 0x5A40);
    assert_eq!(pc.port_read(0x71, 1), 0x5A);
    assert_eq!(pc.port_read(0x71, 2), 0xFF5A);
}

#[test]
fn timer_interrupt_after_a_sleep_to_the_deadline() {
    let (mut pc, clock, _) = board(b"");
    init_pics(&mut pc);
    out(&mut pc, &[(0x43, 0x34), (0x40, 0x9C), (0x40, 0x2E)]);
    pc.poll();
    assert_eq!(pc.acknowledge(), 0x30, "the output rises with the mode");
    out(&mut pc, &[(0x20, 0x20)]);
    for _ in 0..3 {
        assert!(!pc.interrupt_pending());
        let deadline = pc.next_deadline_ns().expect("the timer runs");
        clock.skip_to(deadline);
        pc.poll();
        assert!(pc.interrupt_pending());
        assert_eq!(pc.acknowledge(), 0x30);
        out(&mut pc, &[(0x20, 0x20)]);
    }
}

#[test]
fn a_late_machine_gets_a_few_ticks_not_a_storm() {
    let (mut pc, clock, _) = board(b"");
    init_pics(&mut pc);
    out(&mut pc, &[(0x43, 0x34), (0x40, 0x9C), (0x40, 0x2E)]);
    pc.acknowledge();
    out(&mut pc, &[(0x20, 0x20)]);
    clock.advance(10_000_000_000);
    pc.poll();
    let mut ticks = 0;
    while pc.interrupt_pending() {
        assert_eq!(pc.acknowledge(), 0x30);
        out(&mut pc, &[(0x20, 0x20)]);
        ticks += 1;
    }
    assert_eq!(ticks, 1 + crate::devices::pit::MAX_BACKLOG);
}

#[test]
fn ticks_go_on_after_the_controller_was_reset() {
    let (mut pc, clock, _) = board(b"");
    init_pics(&mut pc);
    out(&mut pc, &[(0x43, 0x34), (0x40, 0x9C), (0x40, 0x2E)]);
    assert!(pc.interrupt_pending());
    init_pics(&mut pc);
    assert!(!pc.interrupt_pending());
    clock.advance(20_000_000);
    pc.poll();
    assert_eq!(pc.acknowledge(), 0x30);
}

#[test]
fn typed_byte_interrupts_on_irq_4() {
    let (mut pc, _clock, _) = board(b"q");
    init_pics(&mut pc);
    out(&mut pc, &[(0x3FC, 0x08), (0x3F9, 0x01)]);
    pc.poll();
    assert_eq!(pc.acknowledge(), 0x34);
    assert_eq!(pc.port_read(0x3F8, 1), u32::from(b'q'));
    out(&mut pc, &[(0x20, 0x20)]);
    pc.poll();
    assert!(!pc.interrupt_pending());
}

#[test]
fn clock_interrupt_comes_through_the_slave() {
    let (mut pc, clock, _) = board(b"");
    init_pics(&mut pc);
    out(&mut pc, &[(0x70, 0x0B), (0x71, 0x42)]);
    let deadline = pc.next_deadline_ns().expect("periodic");
    clock.skip_to(deadline);
    pc.poll();
    assert_eq!(pc.acknowledge(), 0x38);
    assert_eq!(pc.next_deadline_ns(), None, "until register C is read");
    out(&mut pc, &[(0x70, 0x0C)]);
    assert_eq!(pc.port_read(0x71, 1), 0xC0);
    assert!(pc.next_deadline_ns().is_some());
}

#[test]
fn events() {
    let (mut pc, _clock, _) = board(b"");
    assert!(!pc.has_event());
    pc.port_write(POWER_PORT + 4, 2, 0x2000);
    assert_eq!(pc.take_event(), Some(PcEvent::PowerOff));
    out(&mut pc, &[(0x64, 0xFE)]);
    assert_eq!(pc.take_event(), Some(PcEvent::Reset));
    out(&mut pc, &[(0xCF9, 0x02), (0xCF9, 0x06)]);
    assert_eq!(pc.take_event(), Some(PcEvent::Reset));
    pc.port_write(0xF4, 4, 0x10);
    pc.port_write(0xF4, 1, 0x20);
    assert_eq!(
        pc.take_event(),
        Some(PcEvent::DebugExit(0x10)),
        "the first one"
    );
    assert_eq!(pc.take_event(), None);
}

/// Function 4 of any device has the reset bit in the second byte of the address.
#[test]
fn probing_for_pci_does_not_reset() {
    let (mut pc, _clock, _) = board(b"");
    pc.port_write(0xCF8, 4, 0x8000_0400);
    assert!(!pc.has_event());
    assert_eq!(pc.port_read(0xCF8, 4), 0xFFFF_FFFF);
    assert_eq!(pc.port_read(0xCFC, 4), 0xFFFF_FFFF);
}

#[test]
fn ledger_counts_by_device() {
    let (mut pc, _clock, captured) = board(b"");
    out(&mut pc, &[(0x3F8, 0x41), (0x3F8, 0x0A), (0x80, 1)]);
    pc.port_read(0x3FD, 1);
    let serial = pc.counters().find(|(name, _)| name.contains("16550A"));
    let accesses = serial.expect("listed").1;
    assert_eq!((accesses.reads, accesses.writes), (1, 2));
    assert_eq!(captured.text(), "A\n");
}

#[test]
fn every_port_takes_every_access() {
    let (mut pc, clock, _) = board(b"xyz");
    let mut seed = 0x1234_5678u32;
    for round in 0..4u32 {
        for port in 0..=0xFFFFu16 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = [1, 2, 4][(seed >> 16) as usize % 3];
            pc.port_write(port, size, seed.rotate_left(round));
            pc.port_read(port, size);
            clock.advance(u64::from(seed >> 12));
            pc.poll();
            pc.acknowledge();
        }
    }
}
