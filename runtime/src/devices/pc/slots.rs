//! The board's slots: the cards of an embedder, wired to bus, interrupts and time.

use super::Pc;
use crate::bus::{Lanes, PortRange, undriven};
use crate::console::Console;
use crate::devices::DeviceId;
use crate::devices::card::{FREE_LINES, MOST_CARDS, Slot, SlotError, VIDEO, Window};
use std::io::Write;

/// What survives a board's reset.
pub(crate) struct Parts {
    pub console: Box<dyn Console>,
    pub debug_output: Box<dyn Write + Send>,
    pub cards: Vec<Slot>,
}

impl Pc {
    /// Inserts a card.
    ///
    /// # Errors
    /// The wiring that is not possible. The card is not inserted then, although its
    /// first ports may be taken: such a board is of no use.
    pub fn insert_card(&mut self, slot: Slot) -> Result<(), SlotError> {
        let number = self.slots.len();
        let device = match u8::try_from(number) {
            Ok(n) if number < MOST_CARDS => DeviceId::Card(n),
            _ => return Err(SlotError::Full(slot.name)),
        };
        if let Some(line) = slot.irq
            && !FREE_LINES.contains(&line)
        {
            return Err(SlotError::Irq(slot.name, line));
        }
        if let Some(taken) = slot.memory.iter().find(|w| !self.is_free(w)) {
            let last = taken.first.saturating_add(u64::from(taken.count));
            return Err(SlotError::Memory(slot.name, taken.first, last));
        }
        for window in &slot.ports {
            let (first, count) = (window.first, window.count);
            let range = PortRange {
                first,
                count,
                device,
                offset: window.offset,
                lanes: Lanes::Wide,
            };
            if !self.bus.add(range) {
                let last = first.saturating_add(count.saturating_sub(1));
                return Err(SlotError::Ports(slot.name, first, last));
            }
        }
        self.slots.push(slot);
        self.settle(device);
        Ok(())
    }

    /// Whether addresses are neither RAM's nor another card's.
    fn is_free(&self, window: &Window<u64>) -> bool {
        let Some(last) = window
            .first
            .checked_add(u64::from(window.count))
            .map(|end| end - 1)
        else {
            return false;
        };
        let in_hole = VIDEO.contains(&window.first) && VIDEO.contains(&last);
        let others = self.slots.iter().flat_map(|slot| &slot.memory);
        let apart =
            |w: &Window<u64>| last < w.first || window.first - w.first >= u64::from(w.count);
        window.count > 0
            && (in_hole || window.first >= self.ram_bytes)
            && others.into_iter().all(apart)
    }

    /// Takes out what a new board can go on with, for a reset: the cards, reset, and
    /// what is plugged in. What is left is of no use.
    pub(crate) fn dismantle(&mut self) -> Parts {
        self.serial.flush();
        self.debug.flush();
        let mut cards = std::mem::take(&mut self.slots);
        cards.iter_mut().for_each(|slot| slot.card.reset());
        Parts {
            console: self.serial.unplug(),
            debug_output: self.debug.unplug(),
            cards,
        }
    }

    /// The card that answers at a physical address, and its offset there.
    pub(super) fn card_at(&self, phys: u64) -> Option<(u8, u16)> {
        if self.slots.is_empty() {
            return None;
        }
        (0u8..).zip(&self.slots).find_map(|(n, slot)| {
            let offset = slot.memory.iter().find_map(|w| w.offset_of(phys))?;
            Some((n, offset))
        })
    }

    #[cold]
    pub(super) fn card_read(&mut self, n: u8, offset: u16, size: u8) -> u32 {
        let Some(slot) = self.slots.get_mut(usize::from(n)) else {
            return undriven(size);
        };
        slot.accesses.reads += 1;
        let value = slot.card.read(offset, size);
        self.settle(DeviceId::Card(n));
        value
    }

    #[cold]
    pub(super) fn card_write(&mut self, n: u8, offset: u16, size: u8, value: u32) {
        let Some(slot) = self.slots.get_mut(usize::from(n)) else {
            return;
        };
        slot.accesses.writes += 1;
        slot.card.write(offset, size, value & undriven(size));
        self.settle(DeviceId::Card(n));
    }

    /// Copies what a card drives to where it is wired.
    pub(super) fn settle_card(&mut self, n: u8) {
        let Some(slot) = self.slots.get_mut(usize::from(n)) else {
            return;
        };
        let drive = slot.card.pin().map(crate::irq::IrqPin::take);
        if let (Some(line), Some(drive)) = (slot.irq, drive) {
            self.pic.drive(line, drive);
        }
        self.wish(|pc| pc.slots.get_mut(usize::from(n))?.card.take_event());
    }

    pub(super) fn poll_cards(&mut self, now_ns: u64) {
        for n in (0u8..).take(self.slots.len()) {
            if let Some(slot) = self.slots.get_mut(usize::from(n)) {
                slot.card.poll(now_ns);
            }
            self.settle_card(n);
        }
    }

    #[cold]
    pub(super) fn cards_deadline_ns(&self) -> Option<u64> {
        let all = self.slots.iter().map(|slot| slot.card.next_deadline_ns());
        all.flatten().min()
    }
}
