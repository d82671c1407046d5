//! The board's physical addresses that are not RAM: local APIC, firmware ROM,
//! test device. Nothing here is ever mapped by a shadow entry.
//!
//! Accesses have 1, 2 or 4 bytes and may lie anywhere; only the local APIC cares
//! for their size.

use super::{Pc, PcEvent};
use crate::bus::undriven;
use crate::devices::rom::Rom;
use crate::devices::testdev::TestDevice;

impl Pc {
    /// Puts the firmware ROM into its socket.
    pub fn insert_rom(&mut self, rom: Rom) {
        self.rom = Some(rom);
    }

    /// Puts the test device into its socket.
    pub fn insert_test_device(&mut self) {
        self.test = TestDevice::new();
    }

    /// A read of physical memory that is not RAM; all ones where nothing answers.
    pub fn mmio_read(&mut self, phys: u64, size: u8) -> u32 {
        if let Some(offset) = self.lapic.offset_of(phys) {
            let value = self.lapic.read(offset, size);
            self.settle_lapic();
            return value;
        }
        if let Some((card, offset)) = self.card_at(phys) {
            return self.card_read(card, offset, size);
        }
        let mut bytes = undriven(size).to_le_bytes();
        for (at, slot) in (phys..).zip(&mut bytes[..usize::from(size.min(4))]) {
            if let Some(byte) = self.test.byte(at) {
                *slot = *byte;
            }
        }
        self.mmio_fetch(phys, &mut bytes[..usize::from(size.min(4))]);
        u32::from_le_bytes(bytes)
    }

    /// A fetch of code that is not in RAM: what nothing answers for stays as it is.
    pub fn mmio_fetch(&self, phys: u64, into: &mut [u8]) {
        if let Some(rom) = &self.rom {
            rom.fetch(phys, into);
        }
    }

    /// Reads ROM and nothing else; false if it is not there.
    pub fn rom_fetch(&self, phys: u64, into: &mut [u8]) -> bool {
        let rom = self.rom.as_ref().filter(|rom| rom.read(phys).is_some());
        rom.inspect(|rom| rom.fetch(phys, into)).is_some()
    }

    /// A write to physical memory that is not RAM; ignored where nothing answers.
    pub fn mmio_write(&mut self, phys: u64, size: u8, value: u32) {
        if let Some(offset) = self.lapic.offset_of(phys) {
            self.lapic.write(offset, size, value);
            self.settle_lapic();
            return;
        }
        if let Some((card, offset)) = self.card_at(phys) {
            return self.card_write(card, offset, size, value);
        }
        for (at, byte) in (phys..).zip(&value.to_le_bytes()[..usize::from(size.min(4))]) {
            if let Some(slot) = self.test.byte(at) {
                *slot = *byte;
            }
        }
    }

    /// IA32_APIC_BASE.
    pub fn apic_base(&self) -> u64 {
        self.lapic.base()
    }

    /// Writes IA32_APIC_BASE; false if a reserved bit is set.
    pub fn set_apic_base(&mut self, value: u64) -> bool {
        let accepted = self.lapic.set_base(value);
        self.settle_lapic();
        accepted
    }

    /// Whether IA32_APIC_BASE has the local APIC enabled.
    pub fn apic_enabled(&self) -> bool {
        self.lapic.enabled()
    }

    /// Takes an NMI that the processor sent to itself.
    pub fn take_nmi(&mut self) -> bool {
        self.lapic.take_nmi()
    }

    /// The 8259As' output goes through the local APIC to the processor.
    pub(super) fn drive_lint0(&mut self) {
        self.lapic.drive_lint0(self.pic.output());
        self.interrupt = self.lapic.output();
    }

    /// Copies what the local APIC drives to where it is wired.
    fn settle_lapic(&mut self) {
        self.wish(|pc| pc.lapic.take_init().then_some(PcEvent::Reset));
        self.schedule();
        self.interrupt = self.lapic.output();
    }

    /// Copies the test device's interrupt line to the 8259As.
    pub(super) fn settle_test(&mut self) {
        if let Some((irq, level)) = self.test.take_line() {
            let dipped = !level;
            self.pic.drive(irq, crate::irq::Drive { level, dipped });
        }
    }
}
