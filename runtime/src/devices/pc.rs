//! The board: every port and every interrupt of the PC, in one place.
//!
//! [`PORTS`] and the `IRQ_` constants below are the whole wiring. [`Pc`] owns
//! the chips, finds the one a port belongs to, and after each access copies
//! what it drives (its interrupt pin, a wish to power off or reset) to where it
//! belongs. Physical addresses that are not RAM are in `pc::mmio`, what an embedder
//! adds to the board in `pc::slots`. The vCPU thread owns the `Pc`; nothing here is shared.
//!
//! Time passes in [`Pc::poll`], which the run loop calls every few ten
//! microseconds and around HLT. It reads the clock once and returns unless the
//! earliest deadline has come or a byte was typed.
//!
//! Invariants: the output of the interrupt controller, `interrupt_pending`, is
//! current when any public function returns; `next_due_ns` is not later than
//! the earliest deadline of any chip.

mod mmio;
mod slots;

use std::io::Write;
use std::sync::Arc;

use crate::bus::{Bus, Device, Lanes, PortRange, undriven};
use crate::clock::Clock;
use crate::console::Console;
use crate::devices::DeviceId;
use crate::devices::acpi::{PowerManagement, ResetControl};
use crate::devices::card::Slot;
use crate::devices::cmos::Cmos;
use crate::devices::coprocessor::Coprocessor;
use crate::devices::debug::DebugPorts;
use crate::devices::i8042::I8042;
use crate::devices::lapic::LocalApic;
use crate::devices::pic::{Acknowledge, ChipState, Pic};
use crate::devices::pit::Pit;
use crate::devices::rom::Rom;
use crate::devices::serial::Serial;
use crate::devices::testdev::TestDevice;

/// Counter 0 of the timer.
pub const IRQ_TIMER: u8 = 0;
/// COM1.
pub const IRQ_COM1: u8 = 4;
/// The real-time clock.
pub const IRQ_CLOCK: u8 = 8;
/// ACPI's system control interrupt.
pub const IRQ_SCI: u8 = 9;
/// The coprocessor's errors.
pub const IRQ_COPROCESSOR: u8 = 13;

/// First port of COM1.
pub const COM1_PORT: u16 = 0x3F8;
/// First port of the ACPI power management block.
pub const POWER_PORT: u16 = 0x600;
/// The reset control register.
pub const RESET_PORT: u16 = 0xCF9;

const fn ports(first: u16, count: u16, device: DeviceId, offset: u16, lanes: Lanes) -> PortRange {
    PortRange {
        first,
        count,
        device,
        offset,
        lanes,
    }
}

/// The port map. Absent: the DMA controllers, COM2–4, LPT, disks, display.
#[rustfmt::skip]
pub static PORTS: [PortRange; 20] = {
    use DeviceId::*;
    use Lanes::*;
    [
        ports(0x020, 2, Pic, 0, Narrow),            // master 8259A
        ports(0x040, 4, Pit, 0, Narrow),            // 8254
        ports(0x060, 1, I8042, 0, Narrow),          // keyboard data
        ports(0x061, 1, Pit, 4, Narrow),            // system control port B
        ports(0x064, 1, I8042, 4, Narrow),          // keyboard status and command
        ports(0x070, 2, Cmos, 0, Narrow),           // clock index and data
        ports(0x080, 1, Debug, 5, Narrow),          // progress code
        ports(0x092, 1, I8042, 5, Narrow),          // system control port A
        ports(0x0A0, 2, Pic, 2, Narrow),            // slave 8259A
        ports(0x0E0, 4, Test, 0, Wide),             // test device's register
        ports(0x0E9, 1, Debug, 4, Narrow),          // debug console
        ports(0x0F0, 2, Coprocessor, 0, Narrow),    // coprocessor error and reset
        ports(0x0F4, 1, Debug, 0, Wide),            // debug exit
        ports(0x0F5, 1, Debug, 6, Wide),            // reports
        ports(COM1_PORT, 8, Serial, 0, Narrow),     // COM1
        ports(0x4D0, 2, Pic, 4, Narrow),            // edge/level control
        ports(POWER_PORT, 6, Power, 0, Wide),       // PM1a event and control
        ports(POWER_PORT + 8, 4, Power, 8, Wide),   // power management timer
        ports(RESET_PORT - 1, 2, ResetControl, 0, Wide),
        ports(0x2000, 16, Test, 16, Wide),          // test device's interrupt lines
    ]
};

/// What the guest asked of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PcEvent {
    /// ACPI S5.
    PowerOff,
    /// Reset of the processor: keyboard controller, port 0x92 or 0xCF9.
    Reset,
    /// A value written to the debug exit port.
    DebugExit(u32),
}

impl PcEvent {
    /// The exit status of a process that ends because of this.
    pub fn exit_status(self) -> u8 {
        match self {
            PcEvent::PowerOff | PcEvent::Reset => 0,
            PcEvent::DebugExit(value) => (value << 1 | 1) as u8,
        }
    }
}

/// What a board is made from.
pub struct PcConfig {
    /// Size of guest memory, for the clock's configuration bytes.
    pub ram_bytes: u64,
    /// The other end of COM1.
    pub console: Box<dyn Console>,
    /// Where the debug console port writes.
    pub debug_output: Box<dyn Write + Send>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Port accesses of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accesses {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// The board.
pub struct Pc {
    bus: Bus,
    clock: Arc<dyn Clock>,
    lapic: LocalApic,
    pic: Pic,
    pit: Pit,
    cmos: Cmos,
    serial: Serial,
    i8042: I8042,
    coprocessor: Coprocessor,
    power: PowerManagement,
    reset: ResetControl,
    debug: DebugPorts,
    rom: Option<Rom>,
    test: TestDevice,
    interrupt: bool,
    event: Option<PcEvent>,
    next_due_ns: u64,
    slots: Vec<Slot>,
    ram_bytes: u64,
    ledger: [Accesses; DeviceId::ALL.len()],
}

impl Pc {
    /// A board as after power-on.
    pub fn new(config: PcConfig) -> Self {
        let clock = config.clock;
        Self {
            bus: Bus::new(&PORTS),
            lapic: LocalApic::new(clock.clone()),
            pic: Pic::new(),
            pit: Pit::new(clock.clone()),
            cmos: Cmos::new(clock.clone(), config.ram_bytes),
            serial: Serial::new(config.console),
            i8042: I8042::new(),
            coprocessor: Coprocessor::default(),
            power: PowerManagement::new(clock.clone()),
            reset: ResetControl::default(),
            debug: DebugPorts::new(config.debug_output),
            rom: None,
            test: TestDevice::default(),
            clock,
            interrupt: false,
            event: None,
            next_due_ns: u64::MAX,
            slots: Vec::new(),
            ram_bytes: config.ram_bytes,
            ledger: [Accesses::default(); DeviceId::ALL.len()],
        }
    }

    /// IN: `size` is 1, 2 or 4. Ports nobody claims read as all ones.
    pub fn port_read(&mut self, port: u16, size: u8) -> u32 {
        let Some(target) = self.bus.find(port) else {
            return if size == 1 {
                undriven(1)
            } else {
                self.read_split(port, size)
            };
        };
        if size > 1 && target.lanes == Lanes::Narrow {
            return self.read_split(port, size);
        }
        if let DeviceId::Card(n) = target.device {
            return self.card_read(n, target.offset, size);
        }
        self.ledger[target.device.index()].reads += 1;
        let value = self.device(target.device).read(target.offset, size);
        self.settle(target.device);
        value
    }

    /// OUT: `size` is 1, 2 or 4. Ports nobody claims ignore it.
    pub fn port_write(&mut self, port: u16, size: u8, value: u32) {
        let Some(target) = self.bus.find(port) else {
            if size > 1 {
                self.write_split(port, size, value);
            }
            return;
        };
        if size > 1 && target.lanes == Lanes::Narrow {
            return self.write_split(port, size, value);
        }
        if let DeviceId::Card(n) = target.device {
            return self.card_write(n, target.offset, size, value);
        }
        self.ledger[target.device.index()].writes += 1;
        self.device(target.device)
            .write(target.offset, size, value & undriven(size));
        self.settle(target.device);
    }

    /// A wide access to 8-bit ports: one byte each from consecutive ports.
    fn read_split(&mut self, port: u16, size: u8) -> u32 {
        (0..size.min(4)).fold(0, |value, i| {
            let byte = self.port_read(port.wrapping_add(u16::from(i)), 1);
            value | (byte & 0xFF) << (8 * u32::from(i))
        })
    }

    fn write_split(&mut self, port: u16, size: u8, value: u32) {
        for (i, byte) in (0..size).zip(value.to_le_bytes()) {
            self.port_write(port.wrapping_add(u16::from(i)), 1, u32::from(byte));
        }
    }

    /// Brings timers, input and output up to now; cheap when nothing is due.
    pub fn poll(&mut self) {
        let now_ns = self.clock.now_ns();
        if now_ns >= self.next_due_ns {
            self.run_timers(now_ns);
        }
        if self.serial.poll() {
            self.settle(DeviceId::Serial);
        }
        self.debug.flush();
    }

    /// When [`Pc::poll`] has something to do next, apart from console input.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        (self.next_due_ns != u64::MAX).then_some(self.next_due_ns)
    }

    /// Whether INTR is up.
    #[inline]
    pub fn interrupt_pending(&self) -> bool {
        self.interrupt
    }

    /// The interrupt acknowledge cycle: returns the vector.
    pub fn acknowledge(&mut self) -> u8 {
        if let Some(vector) = self.lapic.acknowledge() {
            self.interrupt = self.lapic.output();
            return vector;
        }
        let Acknowledge { vector, irq } = self.pic.acknowledge();
        if irq == Some(IRQ_TIMER) {
            self.pit.acknowledged();
            self.pic.drive(IRQ_TIMER, self.pit.pin().take());
        }
        self.drive_lint0();
        vector
    }

    /// The processor drives FERR#: an x87 exception is pending, and CR0.NE clear.
    pub fn set_ferr(&mut self, asserted: bool) {
        if self.coprocessor.ferr() != asserted {
            self.coprocessor.set_ferr(asserted);
            self.settle(DeviceId::Coprocessor);
        }
    }

    /// IGNNE#: the processor is to ignore pending x87 exceptions.
    pub fn ignne(&self) -> bool {
        self.coprocessor.ignne()
    }

    /// Whether [`Pc::take_event`] would return one.
    #[inline]
    pub fn has_event(&self) -> bool {
        self.event.is_some()
    }

    /// What the guest asked of the machine since the last call; the first
    /// wish counts.
    pub fn take_event(&mut self) -> Option<PcEvent> {
        self.event.take()
    }

    /// Whether the guest wants address line 20 connected.
    pub fn a20(&self) -> bool {
        self.i8042.a20()
    }

    /// Whether the guest has masked NMI.
    pub fn nmi_masked(&self) -> bool {
        self.cmos.nmi_masked()
    }

    /// The last byte written to the progress code port.
    pub fn post_code(&self) -> u8 {
        self.debug.post_code()
    }

    /// What the guest wrote to the report port: keys and values.
    pub fn reports(&self) -> &[(u32, u32)] {
        self.debug.reports()
    }

    /// Accesses by device: to ports, and of cards to memory, too.
    pub fn counters(&self) -> impl Iterator<Item = (&str, Accesses)> + '_ {
        let own = DeviceId::ALL.iter().map(|device| device.name());
        let cards = self
            .slots
            .iter()
            .map(|slot| (slot.name.as_str(), slot.accesses));
        own.zip(self.ledger).chain(cards)
    }

    fn device(&mut self, device: DeviceId) -> &mut dyn Device {
        match device {
            DeviceId::Pic => &mut self.pic,
            DeviceId::Pit => &mut self.pit,
            DeviceId::Cmos => &mut self.cmos,
            DeviceId::Serial => &mut self.serial,
            DeviceId::I8042 => &mut self.i8042,
            DeviceId::Coprocessor => &mut self.coprocessor,
            DeviceId::Power => &mut self.power,
            DeviceId::ResetControl => &mut self.reset,
            DeviceId::Debug => &mut self.debug,
            DeviceId::Test => &mut self.test,
            // Cards are accessed where they are.
            DeviceId::Card(_) => &mut self.reset,
        }
    }

    /// The ports of each device, first and last, in the order of [`Pc::counters`].
    pub fn ports_by_device(&self) -> Vec<Vec<(u16, u16)>> {
        let mut all = vec![Vec::new(); DeviceId::ALL.len() + self.slots.len()];
        for range in self.bus.ranges() {
            if let Some(ports) = all.get_mut(range.device.index()) {
                ports.push((range.first, range.first + (range.count - 1)));
            }
        }
        all
    }

    /// The master and the slave interrupt controller.
    pub fn pic_state(&self) -> [ChipState; 2] {
        self.pic.state()
    }

    /// The power button is pressed. Whether the guest has enabled its event.
    pub fn press_power_button(&mut self) -> bool {
        let enabled = self.power.press_button();
        self.settle(DeviceId::Power);
        enabled
    }

    /// Who answers at a port.
    pub fn device_at(&self, port: u16) -> Option<DeviceId> {
        self.bus.find(port).map(|target| target.device)
    }

    /// Copies what a device drives to where it is wired.
    fn settle(&mut self, device: DeviceId) {
        match device {
            DeviceId::Pic => {}
            DeviceId::Pit => self.pic.drive(IRQ_TIMER, self.pit.pin().take()),
            DeviceId::Cmos => self.pic.drive(IRQ_CLOCK, self.cmos.pin().take()),
            DeviceId::Serial => self.pic.drive(IRQ_COM1, self.serial.pin().take()),
            DeviceId::Power => {
                self.pic.drive(IRQ_SCI, self.power.pin().take());
                self.wish(|pc| pc.power.take_event());
            }
            DeviceId::Coprocessor => {
                let drive = self.coprocessor.pin().take();
                self.pic.drive(IRQ_COPROCESSOR, drive);
            }
            DeviceId::I8042 => self.wish(|pc| pc.i8042.take_event()),
            DeviceId::ResetControl => self.wish(|pc| pc.reset.take_event()),
            DeviceId::Debug => self.wish(|pc| pc.debug.take_event()),
            DeviceId::Test => self.settle_test(),
            DeviceId::Card(n) => self.settle_card(n),
        }
        if matches!(
            device,
            DeviceId::Pit | DeviceId::Cmos | DeviceId::Power | DeviceId::Card(_)
        ) {
            self.schedule();
        }
        self.drive_lint0();
    }

    fn wish(&mut self, take: impl FnOnce(&mut Self) -> Option<PcEvent>) {
        let event = take(self);
        if event.is_some() {
            // The guest's last words come before what is said about its end.
            self.serial.flush();
            self.debug.flush();
        }
        self.event = self.event.or(event);
    }

    fn run_timers(&mut self, now_ns: u64) {
        self.pit.poll(now_ns);
        self.cmos.poll();
        self.power.poll(now_ns);
        self.lapic.poll(now_ns);
        self.poll_cards(now_ns);
        self.settle(DeviceId::Pit);
        self.settle(DeviceId::Cmos);
        self.settle(DeviceId::Power);
    }

    fn schedule(&mut self) {
        let deadlines = [
            self.pit.next_deadline_ns(),
            self.cmos.next_deadline_ns(),
            self.power.next_deadline_ns(),
            self.lapic.next_deadline_ns(),
        ];
        self.next_due_ns = deadlines.into_iter().flatten().min().unwrap_or(u64::MAX);
        if !self.slots.is_empty() {
            let cards = self.cards_deadline_ns().unwrap_or(u64::MAX);
            self.next_due_ns = self.next_due_ns.min(cards);
        }
    }
}

#[cfg(test)]
#[path = "pc_tests.rs"]
mod tests;
