//! The register page of the local APIC: one doubleword each 16 bytes, written
//! and read as aligned doublewords (SDM vol. 3A, "Local APIC Register Address
//! Map").

use super::{Delivery, LocalApic};

/// LVT: the interrupt is masked.
pub(super) const MASKED: u32 = 1 << 16;
/// LVT: the delivery mode by which the 8259As give the vector.
pub(super) const EXTINT: u32 = 7 << 8;
/// LVT: the delivery mode of a non-maskable interrupt.
pub(super) const NMI: u32 = 4 << 8;
/// LVT timer: it starts again at zero.
const PERIODIC: u32 = 1 << 17;

/// SVR: the APIC is enabled by software.
pub(super) const SVR_ENABLE: u32 = 1 << 8;
/// SVR: vector, enable, focus checking.
const SVR_WRITABLE: u32 = 0x3FF;

/// ESR: a message with a vector below 16 was sent.
const ESR_SEND_ILLEGAL: u32 = 1 << 5;
/// ESR: an interrupt with a vector below 16 has arrived.
pub(super) const ESR_RECEIVE_ILLEGAL: u32 = 1 << 6;
/// ESR: a register that does not exist was accessed.
const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;

/// ICR: vector, delivery mode, destination mode, level, trigger mode, shorthand.
const ICR_WRITABLE: u32 = 0x000C_CFFF;
const ICR_LOGICAL: u32 = 1 << 11;
const ICR_ASSERT: u32 = 1 << 14;
const ICR_LEVEL: u32 = 1 << 15;

/// The local vector table.
pub(super) struct Lvt;

impl Lvt {
    pub(super) const COUNT: usize = 6;
    pub(super) const TIMER: usize = 0;
    pub(super) const LINT0: usize = 3;
    pub(super) const LINT1: usize = 4;
    pub(super) const ERROR: usize = 5;

    /// Writable bits of timer, thermal sensor, performance counters, LINT0,
    /// LINT1, error.
    const WRITABLE: [u32; Self::COUNT] = [
        0x0003_00FF,
        0x0001_07FF,
        0x0001_07FF,
        0x0001_A7FF,
        0x0001_A7FF,
        0x0001_00FF,
    ];
}

/// Version 0x14, an integrated APIC with [`Lvt::COUNT`] entries.
const VERSION: u32 = 0x14 | (Lvt::COUNT as u32 - 1) << 16;

impl LocalApic {
    /// Reads the register page; parts of a register are its bytes.
    pub fn read(&mut self, offset: u32, size: u8) -> u32 {
        // Only the first four of each 16 bytes are the register.
        let value = match offset & 0xC {
            0 => self.read_register(offset >> 4),
            _ => 0,
        };
        let value = value >> (8 * (offset & 3));
        value & u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)))
    }

    /// Writes the register page; what is not an aligned doubleword is lost.
    pub fn write(&mut self, offset: u32, size: u8, value: u32) {
        if offset & 0xF == 0 && size == 4 {
            self.write_register(offset >> 4, value);
        }
    }

    /// Reads the register with number `number`: its offset in 16 bytes.
    fn read_register(&mut self, number: u32) -> u32 {
        match number {
            0x02 => self.id,
            0x03 => VERSION,
            0x08 => self.tpr,
            // Arbitration happens between processors.
            0x09 => 0,
            0x0A => self.ppr(),
            0x0D => self.ldr,
            0x0E => self.dfr,
            0x0F => self.svr,
            0x10..=0x17 => self.isr.0[number as usize - 0x10],
            0x18..=0x1F => self.tmr.0[number as usize - 0x18],
            0x20..=0x27 => self.irr.0[number as usize - 0x20],
            0x28 => self.esr,
            0x30 | 0x31 => self.icr[number as usize - 0x30],
            0x32..=0x37 => self.lvt[number as usize - 0x32],
            0x38 => self.timer.initial(),
            0x39 => {
                let now_ns = self.clock.now_ns();
                self.poll(now_ns);
                self.timer.current(now_ns)
            }
            0x3E => self.timer.divide(),
            // Write-only, and what later processors have.
            0x0B => 0,
            _ => {
                self.error(ESR_ILLEGAL_REGISTER);
                0
            }
        }
    }

    fn write_register(&mut self, number: u32, value: u32) {
        // To read the clock costs more than most writes do.
        if self.timer.next_deadline_ns().is_some() {
            self.poll(self.clock.now_ns());
        }
        match number {
            0x02 => self.id = value & 0xFF00_0000,
            0x08 => self.tpr = value & 0xFF,
            0x0B => self.end_of_interrupt(),
            0x0D => self.ldr = value & 0xFF00_0000,
            0x0E => self.dfr = value | 0x0FFF_FFFF,
            0x0F => self.write_svr(value),
            0x28 => self.esr = std::mem::take(&mut self.errors),
            0x30 => self.write_icr(value),
            0x31 => self.icr[1] = value & 0xFF00_0000,
            0x32..=0x37 => self.write_lvt(number as usize - 0x32, value),
            0x38 => self.timer.set_initial(value, self.clock.now_ns()),
            0x3E => self.timer.set_divide(value, self.clock.now_ns()),
            // Read-only.
            0x03 | 0x09 | 0x0A | 0x10..=0x27 | 0x39 => {}
            _ => self.error(ESR_ILLEGAL_REGISTER),
        }
    }

    fn write_svr(&mut self, value: u32) {
        self.svr = value & SVR_WRITABLE;
        if self.svr & SVR_ENABLE == 0 {
            // Disabling masks all local interrupts.
            for entry in &mut self.lvt {
                *entry |= MASKED;
            }
        }
    }

    fn write_lvt(&mut self, entry: usize, value: u32) {
        let mut value = value & Lvt::WRITABLE[entry];
        if self.svr & SVR_ENABLE == 0 {
            value |= MASKED;
        }
        self.lvt[entry] = value;
        if entry == Lvt::TIMER {
            self.timer.set_periodic(value & PERIODIC != 0);
        }
    }

    /// Sends an interprocessor interrupt. The only processor to receive it is this one.
    fn write_icr(&mut self, value: u32) {
        self.icr[0] = value & ICR_WRITABLE;
        let delivery = Delivery::of(value);
        let vector = value as u8;
        if delivery == Delivery::Fixed && vector < 16 {
            self.error(ESR_SEND_ILLEGAL);
        }
        // INIT with level de-assert only synchronises arbitration.
        let deassert = value & (ICR_LEVEL | ICR_ASSERT) == ICR_LEVEL;
        if self.is_destination() && !(deassert && delivery == Delivery::Init) {
            self.accept(delivery, vector);
        }
    }

    /// Whether the ICR names this processor.
    fn is_destination(&self) -> bool {
        let [low, high] = self.icr;
        match low >> 18 & 3 {
            0 if low & ICR_LOGICAL != 0 => self.is_logical_destination(high >> 24),
            0 => high >> 24 == 0xFF || high >> 24 == self.id >> 24,
            1 | 2 => true,
            // All excluding self: nobody.
            _ => false,
        }
    }

    fn is_logical_destination(&self, destination: u32) -> bool {
        let mine = self.ldr >> 24;
        match self.dfr >> 28 {
            0xF => mine & destination != 0,
            // Clusters: the upper half is a number, the lower half a set.
            _ => {
                let cluster = destination >> 4;
                (cluster == 0xF || cluster == mine >> 4) && mine & destination & 0xF != 0
            }
        }
    }
}
