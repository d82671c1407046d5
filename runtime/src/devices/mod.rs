//! The devices of the PC: plain structs that know only their own offsets.
//!
//! Each file is one chip, named after its data sheet. A chip gets the clock
//! when it is made, drives an `IrqPin` if it can interrupt, and keeps whatever
//! it wants the machine to do (reset, power off) until the board asks. Only
//! `pc` knows ports and interrupt numbers. Everything runs on the vCPU thread:
//! no chip starts a thread or takes a lock.
//!
//! Invariant: given the trace of accesses and the clock, every device is
//! deterministic (ARCHITECTURE, invariant 6); the console's input counts as
//! part of the trace.

pub mod acpi;
pub mod card;
pub mod cmos;
pub mod coprocessor;
pub mod debug;
pub mod i8042;
pub mod lapic;
pub mod pc;
pub mod pic;
pub mod pit;
pub mod rom;
pub mod serial;
pub mod testdev;

/// The devices of the board, in the order of the access ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceId {
    /// The pair of 8259A interrupt controllers.
    Pic,
    /// The 8254 interval timer and system control port B.
    Pit,
    /// The MC146818 real-time clock and its memory.
    Cmos,
    /// The 16550A of COM1.
    Serial,
    /// The keyboard controller and system control port A.
    I8042,
    /// The coprocessor's error logic.
    Coprocessor,
    /// ACPI power management registers.
    Power,
    /// The reset control register at 0xCF9.
    ResetControl,
    /// POST code, debug console and debug exit.
    Debug,
    /// The test device.
    Test,
    /// An embedder's card, by its number.
    Card(u8),
}

impl DeviceId {
    /// All devices of the board itself, in the order of [`DeviceId::index`].
    pub const ALL: [DeviceId; 10] = [
        DeviceId::Pic,
        DeviceId::Pit,
        DeviceId::Cmos,
        DeviceId::Serial,
        DeviceId::I8042,
        DeviceId::Coprocessor,
        DeviceId::Power,
        DeviceId::ResetControl,
        DeviceId::Debug,
        DeviceId::Test,
    ];

    /// The place in the access ledger: the board's own devices, then the cards.
    pub fn index(self) -> usize {
        match self {
            DeviceId::Pic => 0,
            DeviceId::Pit => 1,
            DeviceId::Cmos => 2,
            DeviceId::Serial => 3,
            DeviceId::I8042 => 4,
            DeviceId::Coprocessor => 5,
            DeviceId::Power => 6,
            DeviceId::ResetControl => 7,
            DeviceId::Debug => 8,
            DeviceId::Test => 9,
            DeviceId::Card(n) => Self::ALL.len() + usize::from(n),
        }
    }

    /// The name in statistics.
    pub fn name(self) -> &'static str {
        match self {
            DeviceId::Pic => "8259A interrupt controllers",
            DeviceId::Pit => "8254 timer",
            DeviceId::Cmos => "MC146818 clock",
            DeviceId::Serial => "16550A serial port",
            DeviceId::I8042 => "8042 keyboard controller",
            DeviceId::Coprocessor => "coprocessor error logic",
            DeviceId::Power => "ACPI power management",
            DeviceId::ResetControl => "reset control",
            DeviceId::Debug => "debug ports",
            DeviceId::Test => "test device",
            DeviceId::Card(_) => "card",
        }
    }
}
