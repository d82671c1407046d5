//! The MC146818 real-time clock and its battery-backed memory (data sheet).
//!
//! The time is not counted: it is the host's UTC plus an offset in seconds,
//! which a guest changes by setting the clock. Registers 0–9 are made from it
//! when they are read, and stand still only while register B's SET bit is on.
//! The three interrupt causes (periodic, alarm, update ended) are likewise
//! worked out from the time passed since they were last looked at; their flags
//! in register C drive IRQ 8 until C is read.
//!
//! The memory holds what a PC BIOS leaves there: the equipment byte, the memory
//! sizes, their checksum. Bit 7 of the index port masks NMI.
//!
//! Offsets: 0 index, 1 data.

use std::sync::Arc;

use self::date::{Calendar, SECONDS_PER_DAY};
use crate::bus::Device;
use crate::clock::{Clock, NS_PER_SECOND};
use crate::irq::IrqPin;

pub mod date;

const SECONDS: u8 = 0x00;
const SECONDS_ALARM: u8 = 0x01;
const MINUTES_ALARM: u8 = 0x03;
const HOURS_ALARM: u8 = 0x05;
const YEAR: u8 = 0x09;
const A: u8 = 0x0A;
const B: u8 = 0x0B;
const C: u8 = 0x0C;
const D: u8 = 0x0D;
/// Century in BCD, where the FADT says it is.
pub const CENTURY: u8 = 0x32;

const A_UPDATE_IN_PROGRESS: u8 = 0x80;
const B_SET: u8 = 0x80;
const B_PERIODIC: u8 = 0x40;
const B_ALARM: u8 = 0x20;
const B_UPDATE_ENDED: u8 = 0x10;
const C_IRQF: u8 = 0x80;
const CAUSES: u8 = B_PERIODIC | B_ALARM | B_UPDATE_ENDED;
const D_VALID: u8 = 0x80;

/// UIP rises 244 µs before an update, which takes 1,984 µs.
const UPDATE_NS: u64 = 2_228_000;

/// The real-time clock.
pub struct Cmos {
    clock: Arc<dyn Clock>,
    index: u8,
    nmi_masked: bool,
    /// All 128 bytes; of the time, only while SET is on.
    ram: [u8; 128],
    /// Guest time minus host time.
    offset_seconds: i64,
    /// Guest second and clock time up to which causes have been worked out.
    seen_second: i64,
    seen_ns: u64,
    pin: IrqPin,
}

impl Cmos {
    /// A clock set to the host's UTC, in a machine with `ram_bytes` of memory.
    pub fn new(clock: Arc<dyn Clock>, ram_bytes: u64) -> Self {
        let mut ram = [0; 128];
        ram[usize::from(A)] = 0x26;
        ram[usize::from(B)] = 0x02;
        fill_configuration(&mut ram, ram_bytes);
        Self {
            seen_second: clock.unix_seconds() as i64,
            seen_ns: clock.now_ns(),
            clock,
            index: 0,
            nmi_masked: false,
            ram,
            offset_seconds: 0,
            pin: IrqPin::default(),
        }
    }

    /// IRQ 8.
    pub fn pin(&mut self) -> &mut IrqPin {
        &mut self.pin
    }

    /// Whether the guest has masked NMI by bit 7 of the index port.
    pub fn nmi_masked(&self) -> bool {
        self.nmi_masked
    }

    /// Brings the interrupt flags up to now.
    pub fn poll(&mut self) {
        let now_ns = self.clock.now_ns();
        let second = self.guest_second();
        let mut causes = 0;
        if self.periods(now_ns) != self.periods(self.seen_ns) {
            causes |= B_PERIODIC;
        }
        if !self.is_set() && second > self.seen_second {
            causes |= B_UPDATE_ENDED;
            if self.alarm_within(self.seen_second, second) {
                causes |= B_ALARM;
            }
        }
        self.seen_ns = now_ns;
        self.seen_second = second;
        self.ram[usize::from(C)] |= causes;
        self.update_pin();
    }

    /// When an enabled interrupt may come next; none while one is pending.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let enabled = self.ram[usize::from(B)] & CAUSES;
        if enabled == 0 || self.pin.level() {
            return None;
        }
        let periodic = (enabled & B_PERIODIC != 0)
            .then(|| self.period_ticks())
            .flatten()
            .map(|ticks| ns_of_32k((ticks_32k(self.seen_ns) / ticks + 1) * ticks));
        let second = (enabled & (B_ALARM | B_UPDATE_ENDED) != 0 && !self.is_set()).then(|| {
            let into_second = self.clock.unix_ns() % NS_PER_SECOND;
            self.clock
                .now_ns()
                .saturating_add(NS_PER_SECOND - into_second)
        });
        periodic.into_iter().chain(second).min()
    }

    fn is_set(&self) -> bool {
        self.ram[usize::from(B)] & B_SET != 0
    }

    fn guest_second(&self) -> i64 {
        (self.clock.unix_seconds() as i64).wrapping_add(self.offset_seconds)
    }

    /// Ticks of the 32,768 Hz crystal in a period, by register A's rate.
    fn period_ticks(&self) -> Option<u64> {
        match self.ram[usize::from(A)] & 0xF {
            0 => None,
            rate @ 1..=2 => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    fn periods(&self, ns: u64) -> u64 {
        self.period_ticks().map_or(0, |ticks| ticks_32k(ns) / ticks)
    }

    /// Whether the alarm matches a second after `from`, up to `to`.
    fn alarm_within(&self, from: i64, to: i64) -> bool {
        let alarm = [HOURS_ALARM, MINUTES_ALARM, SECONDS_ALARM].map(|register| {
            let value = self.ram[usize::from(register)];
            // 11xxxxxx is "don't care".
            (value < 0xC0).then_some(value)
        });
        let from = from.max(to.saturating_sub(SECONDS_PER_DAY));
        let mode = self.ram[usize::from(B)];
        (from..to).any(|second| {
            let time = date::time_registers(second.wrapping_add(1), mode);
            (alarm.iter().zip(time)).all(|(want, have)| want.is_none_or(|want| want == have))
        })
    }

    fn update_pin(&mut self) {
        let c = &mut self.ram[usize::from(C)];
        let requested = *c & CAUSES & self.ram[usize::from(B)] != 0;
        let c = &mut self.ram[usize::from(C)];
        *c = (*c & CAUSES) | if requested { C_IRQF } else { 0 };
        self.pin.set(requested);
    }

    /// Writes the calendar into the memory, as the guest would read it.
    fn freeze(&mut self) {
        let mode = self.ram[usize::from(B)];
        Calendar::from_unix(self.guest_second()).store(&mut self.ram, mode);
    }

    /// Takes the calendar from the memory as the new time.
    fn thaw(&mut self) {
        let calendar = Calendar::load(&self.ram, self.ram[usize::from(B)]);
        let host = self.clock.unix_seconds() as i64;
        self.offset_seconds = calendar.to_unix().wrapping_sub(host);
        self.seen_second = self.guest_second();
    }

    fn is_time(index: u8) -> bool {
        matches!(index, SECONDS..=YEAR | CENTURY)
            && !matches!(index, SECONDS_ALARM | MINUTES_ALARM | HOURS_ALARM)
    }

    fn read_data(&mut self) -> u8 {
        match self.index {
            A => {
                let into_second = self.clock.unix_ns() % NS_PER_SECOND;
                let updating = !self.is_set() && into_second >= NS_PER_SECOND - UPDATE_NS;
                self.ram[usize::from(A)] | if updating { A_UPDATE_IN_PROGRESS } else { 0 }
            }
            C => {
                self.poll();
                let flags = core::mem::take(&mut self.ram[usize::from(C)]);
                self.pin.set(false);
                flags
            }
            D => D_VALID,
            index => {
                if Self::is_time(index) && !self.is_set() {
                    self.freeze();
                }
                self.ram[usize::from(index)]
            }
        }
    }

    fn write_data(&mut self, value: u8) {
        self.poll();
        match self.index {
            A => self.ram[usize::from(A)] = value & !A_UPDATE_IN_PROGRESS,
            B => self.write_b(value),
            // Read-only.
            C | D => {}
            index if Self::is_time(index) && !self.is_set() => {
                self.freeze();
                self.ram[usize::from(index)] = value;
                self.thaw();
            }
            index => self.ram[usize::from(index)] = value,
        }
    }

    fn write_b(&mut self, value: u8) {
        let (was_set, set) = (self.is_set(), value & B_SET != 0);
        if set && !was_set {
            self.freeze();
        }
        // SET also clears the update-ended interrupt enable.
        let value = if set { value & !B_UPDATE_ENDED } else { value };
        self.ram[usize::from(B)] = value;
        if was_set && !set {
            self.thaw();
        }
        self.update_pin();
    }
}

impl Device for Cmos {
    fn read(&mut self, offset: u16, _size: u8) -> u32 {
        match offset {
            // The index port is write-only.
            0 => 0xFF,
            _ => u32::from(self.read_data()),
        }
    }

    fn write(&mut self, offset: u16, _size: u8, value: u32) {
        let value = value as u8;
        if offset == 0 {
            self.index = value & 0x7F;
            self.nmi_masked = value & 0x80 != 0;
        } else {
            self.write_data(value);
        }
    }
}

/// Whole ticks of the crystal at `ns`.
fn ticks_32k(ns: u64) -> u64 {
    (ns / NS_PER_SECOND) * 32_768 + (ns % NS_PER_SECOND) * 32_768 / NS_PER_SECOND
}

fn ns_of_32k(ticks: u64) -> u64 {
    (ticks / 32_768)
        .saturating_mul(NS_PER_SECOND)
        .saturating_add((ticks % 32_768 * NS_PER_SECOND).div_ceil(32_768))
}

/// What the BIOS's power-on test leaves in the memory.
fn fill_configuration(ram: &mut [u8; 128], ram_bytes: u64) {
    const MIB: u64 = 1 << 20;
    let mut word = |low: u8, value: u64, limit: u64| {
        let [first, second] = (value.min(limit) as u16).to_le_bytes();
        ram[usize::from(low)] = first;
        ram[usize::from(low) + 1] = second;
    };
    let extended_kib = ram_bytes.saturating_sub(MIB) / 1024;
    word(0x15, ram_bytes / 1024, 640);
    word(0x17, extended_kib, 0xFFFF);
    word(0x30, extended_kib, 0xFFFF);
    // Memory above 16 MiB in units of 64 KiB.
    word(0x34, ram_bytes.saturating_sub(16 * MIB) / 65_536, 0xFFFF);
    // Equipment: a numeric coprocessor, no diskette.
    ram[0x14] = 0x02;
    let sum: u16 = ram[0x10..0x2E].iter().map(|&byte| u16::from(byte)).sum();
    [ram[0x2E], ram[0x2F]] = sum.to_be_bytes();
}

#[cfg(test)]
#[path = "cmos_tests.rs"]
mod tests;
