//! ACPI power management registers, the reset register, and their tables.
//!
//! The registers are the fixed hardware of ACPI 6.5, 4.8: the PM1a event block
//! (status and enable), the PM1a control block, the 24-bit power management
//! timer at 3.579545 MHz. A system powers off by writing the S5 sleep type with
//! SLP_EN to PM1a control. There is no SMI command port: the machine is always
//! in ACPI mode. Two events can raise the SCI: the timer's carry and the power button.
//!
//! Port 0xCF9 is the chipset's reset control, which the FADT names as reset
//! register. The tables themselves are in `acpi::tables`.
//!
//! Offsets of the power block: 0 PM1_STS, 2 PM1_EN, 4 PM1_CNT, 8 PM_TMR.

use std::sync::Arc;

use crate::bus::{Device, undriven};
use crate::clock::Clock;
use crate::devices::pc::PcEvent;
use crate::irq::IrqPin;

pub mod tables;

pub use tables::{RSDP_ADDRESS, acpi_tables};

/// Sleep type of S5, as the DSDT's \_S5 says. It is QEMU's, as is the port, because small
/// systems write 2000h to port 604h without asking the DSDT.
pub const SLEEP_TYPE_S5: u8 = 0;

const CONTROL: u16 = 4;
const TIMER: u16 = 8;
const TIMER_STATUS: u16 = 0x0001;
const POWER_BUTTON_STATUS: u16 = 0x0100;
/// The enable bits that exist: timer, global lock, buttons, clock. All but the timer's
/// and the power button's guard events that never come, but systems check that they stick.
const ENABLE_WRITABLE: u16 = 0x0721;
const SCI_ENABLE: u16 = 0x0001;
const SLEEP_TYPE_SHIFT: u32 = 10;
const SLEEP_ENABLE: u16 = 0x2000;

const TIMER_MASK: u64 = 0xFF_FFFF;
/// The status bit is set whenever the timer's top bit changes.
const CARRY_TICKS: u64 = 0x80_0000;

/// Ticks of the power management timer at `ns`: 315/88 MHz.
fn timer_ticks(ns: u64) -> u64 {
    (ns / 88_000) * 315 + (ns % 88_000) * 315 / 88_000
}

fn ns_of_timer(ticks: u64) -> u64 {
    (ticks / 315)
        .saturating_mul(88_000)
        .saturating_add((ticks % 315 * 88_000).div_ceil(315))
}

/// The PM1a blocks and the power management timer.
pub struct PowerManagement {
    clock: Arc<dyn Clock>,
    status: u16,
    enable: u16,
    control: u16,
    /// Ticks up to which carries have been seen.
    seen_ticks: u64,
    pin: IrqPin,
    event: Option<PcEvent>,
}

impl PowerManagement {
    /// Registers as after power-on, in ACPI mode.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            seen_ticks: timer_ticks(clock.now_ns()),
            clock,
            status: 0,
            enable: 0,
            control: SCI_ENABLE,
            pin: IrqPin::default(),
            event: None,
        }
    }

    /// The system control interrupt.
    pub fn pin(&mut self) -> &mut IrqPin {
        &mut self.pin
    }

    /// What the guest asked of the machine since the last call.
    pub fn take_event(&mut self) -> Option<PcEvent> {
        self.event.take()
    }

    /// Brings the timer's carry up to the time `now_ns`.
    pub fn poll(&mut self, now_ns: u64) {
        let ticks = timer_ticks(now_ns);
        if ticks / CARRY_TICKS != self.seen_ticks / CARRY_TICKS {
            self.status |= TIMER_STATUS;
        }
        self.seen_ticks = ticks;
        self.pin.set(self.status & self.enable != 0);
    }

    /// The power button is pressed; returns whether that interrupts.
    pub fn press_button(&mut self) -> bool {
        self.status |= POWER_BUTTON_STATUS;
        self.pin.set(self.status & self.enable != 0);
        self.enable & POWER_BUTTON_STATUS != 0
    }

    /// When the timer carries next, if that may interrupt.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let wanted = self.enable & TIMER_STATUS != 0 && !self.pin.level();
        let carry = (self.seen_ticks / CARRY_TICKS + 1) * CARRY_TICKS;
        wanted.then(|| ns_of_timer(carry))
    }

    /// All twelve bytes, as the guest may read any part of them.
    fn image(&mut self) -> [u8; 12] {
        let now_ns = self.clock.now_ns();
        self.poll(now_ns);
        let mut image = [0; 12];
        image[0..2].copy_from_slice(&self.status.to_le_bytes());
        image[2..4].copy_from_slice(&self.enable.to_le_bytes());
        image[4..6].copy_from_slice(&self.control.to_le_bytes());
        let timer = (self.seen_ticks & TIMER_MASK) as u32;
        image[8..12].copy_from_slice(&timer.to_le_bytes());
        image
    }

    fn write_byte(&mut self, offset: u16, value: u8) {
        let high = offset & 1 != 0;
        let merge = |register: u16| {
            let [low_byte, high_byte] = register.to_le_bytes();
            if high {
                u16::from_le_bytes([low_byte, value])
            } else {
                u16::from_le_bytes([value, high_byte])
            }
        };
        match offset {
            // Status bits are cleared by writing ones.
            0 | 1 => self.status &= !merge(0),
            2 | 3 => self.enable = merge(self.enable) & ENABLE_WRITABLE,
            4 | 5 => self.control = merge(self.control) | SCI_ENABLE,
            // The timer is read-only.
            _ => {}
        }
    }

    /// SLP_EN is write-only and acts at once.
    fn sleep_if_asked(&mut self) {
        if self.control & SLEEP_ENABLE == 0 {
            return;
        }
        self.control &= !SLEEP_ENABLE;
        if (self.control >> SLEEP_TYPE_SHIFT) & 7 == u16::from(SLEEP_TYPE_S5) {
            self.event = Some(PcEvent::PowerOff);
        }
    }
}

impl Device for PowerManagement {
    fn read(&mut self, offset: u16, size: u8) -> u32 {
        if offset == TIMER && size == 4 {
            return (timer_ticks(self.clock.now_ns()) & TIMER_MASK) as u32;
        }
        let image = self.image();
        (0..u16::from(size)).rev().fold(0, |value, i| {
            let byte = image.get(usize::from(offset + i)).copied().unwrap_or(0xFF);
            value << 8 | u32::from(byte)
        })
    }

    fn write(&mut self, offset: u16, size: u8, value: u32) {
        let now_ns = self.clock.now_ns();
        self.poll(now_ns);
        for (i, &byte) in (0..u16::from(size)).zip(&value.to_le_bytes()) {
            self.write_byte(offset + i, byte);
        }
        if offset < CONTROL + 2 {
            self.sleep_if_asked();
        }
        self.pin.set(self.status & self.enable != 0);
    }
}

/// The value that resets the machine at port 0xCF9: hard reset, now.
pub const RESET_VALUE: u8 = RESET_CPU | RESET_SYSTEM;
const RESET_SYSTEM: u8 = 0x02;
const RESET_CPU: u8 = 0x04;

/// The chipset's reset control register, at offset 1.
///
/// It shares four ports with the PCI configuration address: an access that
/// begins at offset 0 is meant for that, and this board has no PCI.
#[derive(Debug, Default)]
pub struct ResetControl {
    value: u8,
    event: Option<PcEvent>,
}

impl ResetControl {
    /// What the guest asked of the machine since the last call.
    pub fn take_event(&mut self) -> Option<PcEvent> {
        self.event.take()
    }
}

impl Device for ResetControl {
    fn read(&mut self, offset: u16, size: u8) -> u32 {
        if offset == 0 {
            undriven(size)
        } else {
            u32::from(self.value)
        }
    }

    fn write(&mut self, offset: u16, _size: u8, value: u32) {
        if offset == 0 {
            return;
        }
        let value = value as u8;
        // RST_CPU acts when it rises.
        if value & RESET_CPU != 0 && self.value & RESET_CPU == 0 {
            self.event = Some(PcEvent::Reset);
        }
        self.value = value & (RESET_SYSTEM | RESET_CPU);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;

    fn block() -> (PowerManagement, Arc<FakeClock>) {
        let clock = Arc::new(FakeClock::new(0));
        (PowerManagement::new(clock.clone()), clock)
    }

    #[test]
    fn timer_runs_at_3_579545_megahertz_in_24_bits() {
        let (mut power, clock) = block();
        clock.advance(1_000_000_000);
        assert_eq!(power.read(TIMER, 4), 3_579_545);
        assert_eq!(power.read(TIMER, 2), 3_579_545 & 0xFFFF);
        clock.advance(4_000_000_000);
        assert_eq!(power.read(TIMER, 4), 17_897_727 - (1 << 24));
    }

    #[test]
    fn the_sleep_type_of_s5_powers_off() {
        let (mut power, _clock) = block();
        power.write(CONTROL, 2, 0x2000 | 1 << 10);
        assert_eq!(power.take_event(), None, "not S5");
        power.write(CONTROL, 2, u32::from(SLEEP_TYPE_S5) << 10);
        assert_eq!(power.take_event(), None, "no SLP_EN");
        power.write(CONTROL, 2, u32::from(SLEEP_TYPE_S5) << 10 | 0x2000);
        assert_eq!(power.take_event(), Some(PcEvent::PowerOff));
        assert_eq!(
            power.read(CONTROL, 2) & 0x2001,
            1,
            "SLP_EN reads 0, SCI_EN 1"
        );
    }

    #[test]
    fn timer_carry_interrupts_when_enabled() {
        let (mut power, clock) = block();
        assert_eq!(power.next_deadline_ns(), None);
        power.write(2, 2, 0xFFFF);
        assert_eq!(power.read(2, 2), u32::from(ENABLE_WRITABLE));
        let deadline = power.next_deadline_ns().expect("a carry is wanted");
        clock.advance(deadline);
        power.poll(clock.now_ns());
        assert!(power.pin().level());
        power.write(0, 2, 1);
        assert!(!power.pin().level());
        assert_eq!(power.read(0, 2), 0);
    }

    #[test]
    fn the_power_button_interrupts_when_enabled() {
        let (mut power, _clock) = block();
        assert!(!power.press_button());
        assert!(!power.pin().level());
        assert_eq!(power.read(0, 2), u32::from(POWER_BUTTON_STATUS));
        power.write(2, 2, u32::from(POWER_BUTTON_STATUS));
        assert!(power.pin().level());
        power.write(0, 2, u32::from(POWER_BUTTON_STATUS));
        assert!(!power.pin().level());
        assert!(power.press_button());
        assert!(power.pin().level());
    }

    #[test]
    fn reset_bit_acts_when_it_rises() {
        let mut reset = ResetControl::default();
        reset.write(1, 1, 0x02);
        assert_eq!(reset.take_event(), None);
        reset.write(1, 1, u32::from(RESET_VALUE));
        assert_eq!(reset.take_event(), Some(PcEvent::Reset));
        assert_eq!(reset.read(1, 1), 0x06);
    }
}
