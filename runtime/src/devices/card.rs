//! Cards: devices that an embedder adds to the board.
//!
//! A card is a [`Device`] that sees offsets, as the board's own chips do, and whatever
//! else of [`Card`] it needs: an interrupt output, time, a reset, an end of the machine.
//! A [`Slot`] is the card with its wiring: its ports, its addresses in memory, its
//! interrupt line. The board checks the wiring when the card is inserted, so that no two
//! devices answer to one address.
//!
//! Cards run on the vCPU's thread like all devices. What they share with other threads
//! they share by their own means.

use crate::bus::Device;
use crate::devices::pc::{Accesses, PcEvent};
use crate::irq::IrqPin;
use std::ops::RangeInclusive;

/// A device that is not part of the board.
pub trait Card: Device + Send {
    /// Its interrupt output, if it has one. The board looks at it after each access to
    /// the card and each [`Card::poll`].
    fn pin(&mut self) -> Option<&mut IrqPin> {
        None
    }

    /// Does what time asks for; called when [`Card::next_deadline_ns`] has come, and
    /// whenever the board's own timers run.
    fn poll(&mut self, _now_ns: u64) {}

    /// When the card must be polled next, in nanoseconds of the machine's clock. It may
    /// change in an access to the card and in a poll, and not elsewhere.
    fn next_deadline_ns(&self) -> Option<u64> {
        None
    }

    /// What the card asks of the machine since the last call: to end, to be reset.
    fn take_event(&mut self) -> Option<PcEvent> {
        None
    }

    /// The machine is reset.
    fn reset(&mut self) {}
}

/// A card and how it is wired.
pub struct Slot {
    pub(super) name: String,
    pub(super) card: Box<dyn Card>,
    pub(super) ports: Vec<Window<u16>>,
    pub(super) memory: Vec<Window<u64>>,
    pub(super) irq: Option<u8>,
    pub(super) accesses: Accesses,
}

/// Consecutive addresses of a card, and the offset that it sees at the first.
#[derive(Clone, Copy)]
pub(super) struct Window<T> {
    pub first: T,
    pub count: u16,
    pub offset: u16,
}

impl Window<u64> {
    /// The card's offset at `phys`, if that is in the window.
    pub fn offset_of(&self, phys: u64) -> Option<u16> {
        let at = u16::try_from(phys.checked_sub(self.first)?).ok()?;
        (at < self.count).then(|| self.offset.wrapping_add(at))
    }
}

/// A card that cannot be wired as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// No ports, ports that do not exist, or ports of another device.
    #[error("card {0}: ports {1:#x} to {2:#x} are not free")]
    Ports(String, u16, u16),
    /// No addresses, or addresses of RAM or another card.
    #[error("card {0}: addresses {1:#x} to {2:#x} are not free")]
    Memory(String, u64, u64),
    /// An interrupt line of the board's own.
    #[error("card {0}: interrupt line {1} belongs to the board")]
    Irq(String, u8),
    /// More cards than a board has slots.
    #[error("card {0}: all {most} slots are taken", most = MOST_CARDS)]
    Full(String),
}

/// Most cards.
pub const MOST_CARDS: usize = 64;

/// Interrupt lines on the board's connectors, but for those of its own devices.
pub const FREE_LINES: [u8; 10] = [1, 3, 5, 6, 7, 10, 11, 12, 14, 15];

/// RAM that a PC has not: where display adapters answer.
pub const VIDEO: RangeInclusive<u64> = 0xa_0000..=0xb_ffff;

impl Slot {
    /// A card that is not wired yet. Statistics call it `name`.
    pub fn new(name: &str, card: impl Card + 'static) -> Self {
        Self {
            name: name.into(),
            card: Box::new(card),
            ports: Vec::new(),
            memory: Vec::new(),
            irq: None,
            accesses: Accesses::default(),
        }
    }

    /// `count` ports from `first` on. Offsets go on where those of the ports and
    /// addresses given before end.
    #[must_use]
    pub fn ports(mut self, first: u16, count: u16) -> Self {
        let offset = self.offsets();
        self.ports.push(Window {
            first,
            count,
            offset,
        });
        self
    }

    /// `bytes` physical addresses from `first` on, above RAM or in the hole for display
    /// adapters.
    #[must_use]
    pub fn memory(mut self, first: u64, bytes: u16) -> Self {
        let offset = self.offsets();
        self.memory.push(Window {
            first,
            count: bytes,
            offset,
        });
        self
    }

    /// The line that [`Card::pin`] drives, one of [`FREE_LINES`].
    #[must_use]
    pub fn irq(mut self, line: u8) -> Self {
        self.irq = Some(line);
        self
    }

    /// How many offsets have been given.
    fn offsets(&self) -> u16 {
        let ports = self.ports.iter().map(|w| w.count);
        let memory = self.memory.iter().map(|w| w.count);
        ports
            .chain(memory)
            .fold(0, |sum, count| sum.wrapping_add(count))
    }
}
