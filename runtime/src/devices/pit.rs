//! The 8254 interval timer (Intel 8254 data sheet) and port 0x61.
//!
//! Three counters run from one 1.193182 MHz clock: counter 0 is IRQ 0, counter 2
//! the speaker, with its gate and output in system control port B, counter 1
//! is only remembered as the refresh toggle bit of that port. The counters
//! themselves are in `pit::counter`, as functions of the tick number: reading
//! one is a subtraction, and nothing runs while nobody looks. Systems calibrate
//! their time-stamp counter by reading counter 2 in a loop, so a read is exact
//! to the tick.
//!
//! Ticks of counter 0 that fall due while the machine was kept from running
//! would come as a storm. One edge is given at a time; up to [`MAX_BACKLOG`]
//! further ones are given as the processor acknowledges; the rest is dropped.
//! QUIRK: real hardware drops all but one.
//!
//! Offsets: 0–2 counters, 3 control word, 4 port 0x61.

use std::sync::Arc;

use self::counter::Counter;
use crate::bus::Device;
use crate::clock::Clock;
use crate::irq::IrqPin;

pub mod counter;

/// Edges of counter 0 kept for later when the processor has not taken the last.
pub const MAX_BACKLOG: u64 = 3;

/// The refresh request toggles every 18 ticks, about 15 µs.
const REFRESH_TICKS: u64 = 18;

const PORT_B_GATE_2: u8 = 0x01;
/// Gate 2, speaker data and the two parity check masks are writable.
const PORT_B_WRITABLE: u8 = 0x0F;
const PORT_B_REFRESH: u8 = 0x10;
const PORT_B_OUT_2: u8 = 0x20;

/// Control word: counter field of the read-back command.
const READ_BACK: u8 = 3;
const READ_BACK_NO_COUNT: u8 = 0x20;
const READ_BACK_NO_STATUS: u8 = 0x10;

/// The tick that is in progress at `ns`. The clock is 105/88 MHz.
pub fn tick_at(ns: u64) -> u64 {
    // Split so that nothing overflows in 584 years.
    (ns / 88_000) * 105 + (ns % 88_000) * 105 / 88_000
}

/// The first nanosecond of `tick`.
pub fn ns_of(tick: u64) -> u64 {
    (tick / 105)
        .saturating_mul(88_000)
        .saturating_add(((tick % 105) * 88_000).div_ceil(105))
}

/// The 8254 and port 0x61.
pub struct Pit {
    clock: Arc<dyn Clock>,
    counters: [Counter; 3],
    port_b: u8,
    pin: IrqPin,
    /// Edges of counter 0 up to this tick have been given or dropped.
    seen_tick: u64,
    /// The last edge has not been acknowledged.
    in_flight: bool,
    backlog: u64,
}

impl Pit {
    /// A timer whose counters wait for their first control word.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            counters: [Counter::new(true), Counter::new(true), Counter::new(false)],
            port_b: 0,
            pin: IrqPin::default(),
            seen_tick: 0,
            in_flight: false,
            backlog: 0,
        }
    }

    /// IRQ 0.
    pub fn pin(&mut self) -> &mut IrqPin {
        &mut self.pin
    }

    /// Brings IRQ 0 up to the time `now_ns`.
    pub fn poll(&mut self, now_ns: u64) {
        self.catch_up(tick_at(now_ns));
    }

    /// When counter 0's output rises next.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.counters[0].next_edge(self.seen_tick).map(ns_of)
    }

    /// The processor took IRQ 0: a waiting edge may follow.
    pub fn acknowledged(&mut self) {
        self.in_flight = self.backlog > 0;
        if self.in_flight {
            self.backlog -= 1;
            self.pin.pulse();
        }
    }

    fn catch_up(&mut self, tick: u64) {
        let edges = self.counters[0].take_edges(self.seen_tick, tick);
        self.seen_tick = tick;
        if edges == 0 {
            return;
        }
        let waiting = if self.in_flight { edges } else { edges - 1 };
        self.backlog = self.backlog.saturating_add(waiting).min(MAX_BACKLOG);
        self.in_flight = true;
        // Also when one is in flight: the controller may have been reset.
        self.pin.pulse();
    }

    /// A write to counter 0 may change its output at once, and ends the past.
    fn reprogram_0(&mut self, tick: u64, change: impl FnOnce(&mut Counter)) {
        self.catch_up(tick);
        change(&mut self.counters[0]);
        self.backlog = 0;
        let output = self.counters[0].output(tick);
        if output != self.pin.level() {
            self.pin.set(output);
            self.in_flight = output;
        }
    }

    fn control(&mut self, tick: u64, value: u8) {
        let select = value >> 6;
        if select == READ_BACK {
            for (number, counter) in self.counters.iter_mut().enumerate() {
                if value & (2 << number) == 0 {
                    continue;
                }
                if value & READ_BACK_NO_COUNT == 0 {
                    counter.latch_count(tick);
                }
                if value & READ_BACK_NO_STATUS == 0 {
                    counter.latch_status(tick);
                }
            }
        } else if value & 0x30 == 0 {
            self.counters[usize::from(select)].latch_count(tick);
        } else if select == 0 {
            self.reprogram_0(tick, |counter| counter.control(value));
        } else {
            self.counters[usize::from(select)].control(value);
        }
    }

    fn read_port_b(&mut self, tick: u64) -> u8 {
        let mut value = self.port_b;
        if tick / REFRESH_TICKS % 2 == 1 {
            value |= PORT_B_REFRESH;
        }
        if self.counters[2].output(tick) {
            value |= PORT_B_OUT_2;
        }
        value
    }

    fn write_port_b(&mut self, tick: u64, value: u8) {
        self.port_b = value & PORT_B_WRITABLE;
        self.counters[2].set_gate(tick, value & PORT_B_GATE_2 != 0);
    }
}

impl Device for Pit {
    fn read(&mut self, offset: u16, _size: u8) -> u32 {
        let tick = tick_at(self.clock.now_ns());
        let value = match offset {
            0..=2 => self.counters[usize::from(offset)].read(tick),
            // The control word cannot be read.
            3 => 0xFF,
            _ => self.read_port_b(tick),
        };
        u32::from(value)
    }

    fn write(&mut self, offset: u16, _size: u8, value: u32) {
        let tick = tick_at(self.clock.now_ns());
        let value = value as u8;
        match offset {
            0 => self.reprogram_0(tick, |counter| counter.write(tick, value)),
            1 | 2 => self.counters[usize::from(offset)].write(tick, value),
            3 => self.control(tick, value),
            _ => self.write_port_b(tick, value),
        }
    }
}

#[cfg(test)]
#[path = "pit_tests.rs"]
mod tests;
