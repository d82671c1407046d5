//! One counter of the 8254, as a function of time.
//!
//! A counter remembers the tick at which its count was loaded; the count, the
//! output and the next rising edge follow from the ticks passed since. The six
//! modes differ only in those three functions and in what the gate does:
//!
//! | mode | gate low | gate rises | output rises |
//! | --- | --- | --- | --- |
//! | 0 interrupt on terminal count | holds the count | – | once, at N |
//! | 1 one-shot | – | starts | once, at N |
//! | 2 rate generator | output high | starts over | every N |
//! | 3 square wave | output high | starts over | every N |
//! | 4 software strobe | holds the count | – | once, at N + 1 |
//! | 5 hardware strobe | – | starts | once, at N + 1 |
//!
//! QUIRK: a new count in mode 3 takes effect at the end of the whole period,
//! not of the half.

/// How a count is transferred: the RW field of the control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Low,
    High,
    LowThenHigh,
}

/// What the counting element is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A control word came, but no count yet.
    Empty,
    /// Waits for a rising gate.
    Armed,
    /// Counting since `start`.
    Running { start: u64 },
    /// The gate is low; `elapsed` ticks had passed.
    Held { elapsed: u64 },
}

/// One counter.
#[derive(Clone, Debug)]
pub struct Counter {
    mode: u8,
    access: Access,
    bcd: bool,
    gate: bool,
    state: State,
    /// The count in force, 1 to 65,536 (10,000 in BCD).
    count: u64,
    /// A count written but not loaded yet.
    pending: Option<u64>,
    /// In modes 2 and 3, the tick at which `pending` is loaded.
    pending_at: u64,
    /// The low byte, when the high one is still to come.
    low_written: Option<u8>,
    /// The next read gives the high byte.
    read_high: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Counter {
    /// A counter without a count; `gate` is the level its gate is wired to.
    pub fn new(gate: bool) -> Self {
        Self {
            mode: 0,
            access: Access::LowThenHigh,
            bcd: false,
            gate,
            state: State::Empty,
            count: 0x1_0000,
            pending: None,
            pending_at: 0,
            low_written: None,
            read_high: false,
            latched_count: None,
            latched_status: None,
        }
    }

    /// A control word that sets the mode.
    pub fn control(&mut self, value: u8) {
        *self = Self {
            // Modes 6 and 7 are 2 and 3.
            mode: match value >> 1 & 7 {
                mode @ 6.. => mode - 4,
                mode => mode,
            },
            access: match value >> 4 & 3 {
                1 => Access::Low,
                2 => Access::High,
                _ => Access::LowThenHigh,
            },
            bcd: value & 1 != 0,
            ..Self::new(self.gate)
        };
    }

    /// A byte of a new count.
    pub fn write(&mut self, tick: u64, value: u8) {
        let raw = match (self.access, self.low_written.take()) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::LowThenHigh, Some(low)) => u16::from_le_bytes([low, value]),
            (Access::LowThenHigh, None) => {
                self.low_written = Some(value);
                if self.mode == 0 {
                    // The first byte stops the count and sets the output low.
                    self.state = State::Empty;
                }
                return;
            }
        };
        self.new_count(tick, self.decode(raw));
    }

    fn new_count(&mut self, tick: u64, count: u64) {
        match (self.mode, self.state) {
            (2 | 3, State::Running { .. }) => {
                self.advance(tick);
                self.pending = Some(count);
                self.pending_at = self.next_edge(tick).unwrap_or(u64::MAX);
            }
            (1 | 5, State::Running { .. }) => self.pending = Some(count),
            (1 | 5, _) => {
                self.pending = Some(count);
                self.state = State::Armed;
            }
            (2 | 3, _) if !self.gate => {
                self.pending = None;
                self.count = count;
                self.state = State::Armed;
            }
            _ => {
                self.count = count;
                self.state = if self.gate {
                    Self::started(tick)
                } else {
                    State::Held { elapsed: 0 }
                };
            }
        }
    }

    /// The count is loaded on the tick after the write or the trigger.
    fn started(tick: u64) -> State {
        State::Running {
            start: tick.saturating_add(1),
        }
    }

    /// Drives the gate input.
    pub fn set_gate(&mut self, tick: u64, gate: bool) {
        let rising = gate && !self.gate;
        let falling = !gate && self.gate;
        self.gate = gate;
        match (self.mode, self.state) {
            (0 | 4, State::Running { .. }) if falling => {
                let elapsed = self.elapsed(tick);
                self.state = State::Held { elapsed };
            }
            (0 | 4, State::Held { elapsed }) if rising => {
                let start = tick.saturating_sub(elapsed);
                self.state = State::Running { start };
            }
            (2 | 3, State::Running { .. }) if falling => self.state = State::Armed,
            (1 | 2 | 3 | 5, State::Running { .. } | State::Armed) if rising => {
                self.count = self.pending.take().unwrap_or(self.count);
                self.state = Self::started(tick);
            }
            _ => {}
        }
    }

    /// Loads a pending count if the period it waits for has ended.
    fn advance(&mut self, tick: u64) {
        let periodic = matches!((self.mode, self.state), (2 | 3, State::Running { .. }));
        if !periodic || tick < self.pending_at {
            return;
        }
        if let Some(count) = self.pending.take() {
            self.count = count;
            self.state = State::Running {
                start: self.pending_at,
            };
        }
    }

    fn elapsed(&self, tick: u64) -> u64 {
        match self.state {
            State::Empty | State::Armed => 0,
            State::Running { start } => tick.saturating_sub(start),
            State::Held { elapsed } => elapsed,
        }
    }

    /// The level of the output at `tick`.
    pub fn output(&mut self, tick: u64) -> bool {
        self.advance(tick);
        let elapsed = self.elapsed(tick);
        if matches!(self.state, State::Empty | State::Armed) {
            return self.mode != 0;
        }
        match self.mode {
            0 | 1 => elapsed >= self.count,
            2 => self.count == 1 || elapsed % self.count != self.count - 1,
            3 => elapsed % self.count < self.count.div_ceil(2),
            _ => elapsed != self.count,
        }
    }

    /// The number of rising edges of the output after `from`, up to `to`.
    pub fn take_edges(&mut self, from: u64, to: u64) -> u64 {
        if self.pending.is_none() || to < self.pending_at {
            return self.edges_between(from, to);
        }
        let before = self.edges_between(from, self.pending_at);
        let from = from.max(self.pending_at);
        self.advance(to);
        before + self.edges_between(from, to)
    }

    fn edges_between(&self, from: u64, to: u64) -> u64 {
        let State::Running { start } = self.state else {
            return 0;
        };
        let periods = |tick: u64| tick.saturating_sub(start) / self.count;
        match self.mode {
            2 | 3 => periods(to).saturating_sub(periods(from)),
            _ => u64::from(
                self.one_shot_edge(start)
                    .is_some_and(|edge| from < edge && edge <= to),
            ),
        }
    }

    fn one_shot_edge(&self, start: u64) -> Option<u64> {
        start.checked_add(self.count + u64::from(self.mode >= 4))
    }

    /// The next rising edge of the output after `tick`, if there is one.
    pub fn next_edge(&self, tick: u64) -> Option<u64> {
        let State::Running { start } = self.state else {
            return None;
        };
        match self.mode {
            2 | 3 => {
                let periods = tick.saturating_sub(start) / self.count;
                start.checked_add((periods + 1).checked_mul(self.count)?)
            }
            _ => self.one_shot_edge(start).filter(|&edge| edge > tick),
        }
    }

    /// The counting element at `tick`, as the bus would see it.
    fn current(&mut self, tick: u64) -> u16 {
        self.advance(tick);
        let elapsed = self.elapsed(tick);
        let modulus = if self.bcd { 10_000 } else { 0x1_0000 };
        let value = match self.mode {
            2 => self.count - elapsed % self.count,
            3 => self.square_wave_value(elapsed % self.count),
            _ => (self.count + modulus - elapsed % modulus) % modulus,
        };
        self.encode(value % modulus)
    }

    /// Mode 3 counts down by two, once for each half of the wave.
    fn square_wave_value(&self, phase: u64) -> u64 {
        let high = self.count.div_ceil(2);
        let in_half = if phase < high { phase } else { phase - high };
        (self.count & !1).saturating_sub(2 * in_half)
    }

    /// Latches the count until it is read, unless one is latched already.
    pub fn latch_count(&mut self, tick: u64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.current(tick));
        }
    }

    /// Latches the status byte until it is read.
    pub fn latch_status(&mut self, tick: u64) {
        if self.latched_status.is_some() {
            return;
        }
        let output = self.output(tick);
        let loading = matches!(self.state, State::Running { start } if tick < start);
        let null_count = loading || self.pending.is_some() || self.state == State::Empty;
        let access = match self.access {
            Access::Low => 1,
            Access::High => 2,
            Access::LowThenHigh => 3,
        };
        self.latched_status = Some(
            u8::from(output) << 7
                | u8::from(null_count) << 6
                | access << 4
                | self.mode << 1
                | u8::from(self.bcd),
        );
    }

    /// A read of the counter's port.
    pub fn read(&mut self, tick: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let value = match self.latched_count {
            Some(latched) => latched,
            None => self.current(tick),
        };
        let [low, high] = value.to_le_bytes();
        let (byte, last) = match self.access {
            Access::Low => (low, true),
            Access::High => (high, true),
            Access::LowThenHigh => {
                self.read_high = !self.read_high;
                if self.read_high {
                    (low, false)
                } else {
                    (high, true)
                }
            }
        };
        if last {
            self.latched_count = None;
        }
        byte
    }

    /// The count that a written value means; zero is the largest.
    fn decode(&self, raw: u16) -> u64 {
        let (value, modulus) = if self.bcd {
            let digit = |shift: u32| u64::from(raw >> shift & 0xF);
            (
                digit(12) * 1_000 + digit(8) * 100 + digit(4) * 10 + digit(0),
                10_000,
            )
        } else {
            (u64::from(raw), 0x1_0000)
        };
        if value == 0 { modulus } else { value }
    }

    fn encode(&self, value: u64) -> u16 {
        if !self.bcd {
            return value as u16;
        }
        let digit = |divisor: u64| (value / divisor % 10) as u16;
        digit(1_000) << 12 | digit(100) << 8 | digit(10) << 4 | digit(1)
    }
}
