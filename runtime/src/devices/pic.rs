//! The pair of 8259A interrupt controllers (Intel 8259A data sheet).
//!
//! Each chip has eight inputs, a request register (IRR), an in-service register
//! (ISR) and a mask (IMR). An input in edge mode latches into IRR when it rises
//! and drops out again if it falls before it is acknowledged; in level mode
//! (the ELCR bits of PC chipsets, or LTIM) IRR follows the input. The highest
//! unmasked request that outranks everything in service drives INT. The slave's
//! INT is the master's input 2.
//!
//! The processor asks [`Pic::output`] whether INT is up and calls
//! [`Pic::acknowledge`] for the two INTA cycles. If the request has gone by
//! then, the chip answers with its input 7 and sets no in-service bit: the
//! spurious interrupt that every driver knows.
//!
//! Invariants: the cascade input always equals the slave's INT once a public
//! function has returned; IRR of a level input equals the input.

use crate::bus::Device;
use crate::irq::Drive;

/// Input of the master that the slave is wired to.
const CASCADE: u8 = 2;
/// ELCR bits that can be set: not the timer, keyboard, cascade, clock and FPU
/// lines, which are always edge-triggered.
const ELCR_WRITABLE: [u8; 2] = [0xF8, 0xDE];

const ICW1_ICW4_NEEDED: u8 = 0x01;
const ICW1_SINGLE: u8 = 0x02;
const ICW1_LEVEL: u8 = 0x08;
const ICW1: u8 = 0x10;
const OCW3: u8 = 0x08;
const OCW3_READ_ISR: u8 = 0x01;
const OCW3_READ_COMMAND: u8 = 0x02;
const OCW3_POLL: u8 = 0x04;
const OCW3_SPECIAL_MASK: u8 = 0x20;
const OCW3_SPECIAL_MASK_COMMAND: u8 = 0x40;
const ICW4_AUTO_EOI: u8 = 0x02;
const ICW4_SPECIAL_FULLY_NESTED: u8 = 0x10;

/// The command word a write to the odd port is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Ocw1,
    Icw2,
    Icw3,
    Icw4,
}

/// One 8259A.
#[derive(Debug)]
struct Chip {
    inputs: u8,
    irr: u8,
    isr: u8,
    imr: u8,
    elcr: u8,
    level_mode: bool,
    vector_base: u8,
    expect: Expect,
    single: bool,
    icw4_needed: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_fully_nested: bool,
    special_mask: bool,
    read_isr: bool,
    poll: bool,
    /// The input with the highest priority.
    highest: u8,
    is_master: bool,
}

impl Chip {
    fn new(is_master: bool) -> Self {
        Self {
            inputs: 0,
            irr: 0,
            isr: 0,
            imr: 0xFF,
            elcr: 0,
            level_mode: false,
            vector_base: 0,
            expect: Expect::Ocw1,
            single: false,
            icw4_needed: false,
            auto_eoi: false,
            rotate_on_auto_eoi: false,
            special_fully_nested: false,
            special_mask: false,
            read_isr: false,
            poll: false,
            highest: 0,
            is_master,
        }
    }

    fn level_inputs(&self) -> u8 {
        if self.level_mode { 0xFF } else { self.elcr }
    }

    fn set_input(&mut self, input: u8, level: bool) {
        let bit = 1u8 << (input & 7);
        let rising = level && self.inputs & bit == 0;
        if level {
            self.inputs |= bit;
            if rising || self.level_inputs() & bit != 0 {
                self.irr |= bit;
            }
        } else {
            self.inputs &= !bit;
            self.irr &= !bit;
        }
    }

    fn set_elcr(&mut self, elcr: u8) {
        self.elcr = elcr;
        self.irr |= self.inputs & elcr;
    }

    /// Rank of the best set bit of `bits`: 0 is the highest priority, 8 is none.
    fn rank(&self, bits: u8) -> u8 {
        // trailing_zeros of a zero byte is 8.
        bits.rotate_right(u32::from(self.highest)).trailing_zeros() as u8
    }

    fn input_of_rank(&self, rank: u8) -> u8 {
        self.highest.wrapping_add(rank) & 7
    }

    /// The input that INT is raised for.
    fn pending(&self) -> Option<u8> {
        let request = self.rank(self.irr & !self.imr);
        let mut blocking = self.isr;
        if self.special_mask {
            // A masked in-service level no longer inhibits lower ones.
            blocking &= !self.imr;
        }
        if self.special_fully_nested && self.is_master {
            // Further requests from the same slave get through.
            blocking &= !(1 << CASCADE);
        }
        let inhibited = request >= self.rank(blocking);
        (request < 8 && !inhibited).then(|| self.input_of_rank(request))
    }

    /// The INTA sequence for `input`: IRR to ISR, or nothing with automatic EOI.
    fn enter_service(&mut self, input: u8) {
        let bit = 1u8 << input;
        if self.level_inputs() & bit == 0 {
            self.irr &= !bit;
        }
        if !self.auto_eoi {
            self.isr |= bit;
        } else if self.rotate_on_auto_eoi {
            self.highest = (input + 1) & 7;
        }
    }

    fn write_command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            self.write_icw1(value);
        } else if value & OCW3 != 0 {
            self.write_ocw3(value);
        } else {
            self.write_ocw2(value);
        }
    }

    fn write_icw1(&mut self, value: u8) {
        self.level_mode = value & ICW1_LEVEL != 0;
        self.single = value & ICW1_SINGLE != 0;
        self.icw4_needed = value & ICW1_ICW4_NEEDED != 0;
        // The edge sense circuit is reset: an input must rise again.
        self.irr = self.inputs & self.level_inputs();
        self.imr = 0;
        self.isr = 0;
        self.highest = 0;
        self.special_mask = false;
        self.read_isr = false;
        self.poll = false;
        self.auto_eoi = false;
        self.rotate_on_auto_eoi = false;
        self.special_fully_nested = false;
        self.expect = Expect::Icw2;
    }

    fn write_ocw2(&mut self, value: u8) {
        let level = value & 7;
        match value >> 5 {
            0b001 => {
                self.end_of_interrupt();
            }
            0b011 => self.isr &= !(1 << level),
            0b101 => {
                if let Some(ended) = self.end_of_interrupt() {
                    self.highest = (ended + 1) & 7;
                }
            }
            0b111 => {
                self.isr &= !(1 << level);
                self.highest = (level + 1) & 7;
            }
            0b110 => self.highest = (level + 1) & 7,
            0b100 => self.rotate_on_auto_eoi = true,
            0b000 => self.rotate_on_auto_eoi = false,
            // 010 is "no operation".
            _ => {}
        }
    }

    /// Non-specific EOI: ends the highest level in service.
    fn end_of_interrupt(&mut self) -> Option<u8> {
        // In special mask mode a masked level is not cleared this way.
        let candidates = if self.special_mask {
            self.isr & !self.imr
        } else {
            self.isr
        };
        let rank = self.rank(candidates);
        let input = (rank < 8).then(|| self.input_of_rank(rank))?;
        self.isr &= !(1 << input);
        Some(input)
    }

    fn write_ocw3(&mut self, value: u8) {
        if value & OCW3_READ_COMMAND != 0 {
            self.read_isr = value & OCW3_READ_ISR != 0;
        }
        if value & OCW3_SPECIAL_MASK_COMMAND != 0 {
            self.special_mask = value & OCW3_SPECIAL_MASK != 0;
        }
        self.poll = value & OCW3_POLL != 0;
    }

    fn write_data(&mut self, value: u8) {
        match self.expect {
            Expect::Ocw1 => self.imr = value,
            Expect::Icw2 => {
                self.vector_base = value & 0xF8;
                self.expect = match (self.single, self.icw4_needed) {
                    (false, _) => Expect::Icw3,
                    (true, true) => Expect::Icw4,
                    (true, false) => Expect::Ocw1,
                };
            }
            // The wiring of the cascade is fixed on a PC.
            Expect::Icw3 => {
                self.expect = if self.icw4_needed {
                    Expect::Icw4
                } else {
                    Expect::Ocw1
                };
            }
            Expect::Icw4 => {
                self.auto_eoi = value & ICW4_AUTO_EOI != 0;
                self.special_fully_nested = value & ICW4_SPECIAL_FULLY_NESTED != 0;
                self.expect = Expect::Ocw1;
            }
        }
    }

    /// A read in poll mode: acknowledges and names the request.
    fn poll_word(&mut self) -> u8 {
        self.poll = false;
        match self.pending() {
            Some(input) => {
                self.enter_service(input);
                0x80 | input
            }
            None => 0,
        }
    }

    fn read(&mut self, offset: u16) -> u8 {
        match offset & 1 {
            _ if self.poll => self.poll_word(),
            0 if self.read_isr => self.isr,
            0 => self.irr,
            _ => self.imr,
        }
    }
}

/// The controllers' answer to an interrupt acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledge {
    /// The interrupt vector.
    pub vector: u8,
    /// The line that is now in service; none for a spurious interrupt.
    pub irq: Option<u8>,
}

impl Acknowledge {
    fn spurious(chip: &Chip) -> Self {
        Self {
            vector: chip.vector_base | 7,
            irq: None,
        }
    }
}

/// The master and the slave, with the edge/level control registers.
///
/// Offsets: 0–1 master, 2–3 slave, 4–5 ELCR.
#[derive(Debug)]
pub struct Pic {
    master: Chip,
    slave: Chip,
    output: bool,
}

impl Default for Pic {
    fn default() -> Self {
        Self::new()
    }
}

/// The registers of one 8259A, for onlookers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChipState {
    /// Levels of its inputs.
    pub inputs: u8,
    /// Interrupt request register.
    pub irr: u8,
    /// In-service register.
    pub isr: u8,
    /// Interrupt mask register.
    pub imr: u8,
    /// Inputs that are level-triggered by the chipset.
    pub elcr: u8,
    /// Vector of input 0.
    pub vector_base: u8,
}

impl Pic {
    /// The registers of master and slave.
    pub fn state(&self) -> [ChipState; 2] {
        [&self.master, &self.slave].map(|chip| ChipState {
            inputs: chip.inputs,
            irr: chip.irr,
            isr: chip.isr,
            imr: chip.imr,
            elcr: chip.elcr,
            vector_base: chip.vector_base,
        })
    }

    /// Both chips uninitialised, with all inputs masked.
    pub fn new() -> Self {
        Self {
            master: Chip::new(true),
            slave: Chip::new(false),
            output: false,
        }
    }

    /// Whether INT to the processor is up.
    #[inline]
    pub fn output(&self) -> bool {
        self.output
    }

    /// Copies what a device did on its line to input `irq` (0–15).
    pub fn drive(&mut self, irq: u8, drive: Drive) {
        let chip = if irq < 8 {
            &mut self.master
        } else {
            &mut self.slave
        };
        if drive.dipped {
            chip.set_input(irq & 7, false);
        }
        chip.set_input(irq & 7, drive.level);
        self.settle();
    }

    /// The interrupt acknowledge cycles.
    pub fn acknowledge(&mut self) -> Acknowledge {
        let Some(input) = self.master.pending() else {
            return Acknowledge::spurious(&self.master);
        };
        self.master.enter_service(input);
        let answer = if input == CASCADE {
            self.acknowledge_slave()
        } else {
            Acknowledge {
                vector: self.master.vector_base | input,
                irq: Some(input),
            }
        };
        self.settle();
        answer
    }

    fn acknowledge_slave(&mut self) -> Acknowledge {
        // The slave's INT falls during INTA, so that a further request is an edge.
        self.master.set_input(CASCADE, false);
        let Some(input) = self.slave.pending() else {
            return Acknowledge::spurious(&self.slave);
        };
        self.slave.enter_service(input);
        Acknowledge {
            vector: self.slave.vector_base | input,
            irq: Some(8 + input),
        }
    }

    fn settle(&mut self) {
        self.master
            .set_input(CASCADE, self.slave.pending().is_some());
        self.output = self.master.pending().is_some();
    }

    /// IRR, ISR and IMR of one chip, for tests and traces.
    pub fn registers(&self, slave: bool) -> (u8, u8, u8) {
        let chip = if slave { &self.slave } else { &self.master };
        (chip.irr, chip.isr, chip.imr)
    }
}

impl Device for Pic {
    fn read(&mut self, offset: u16, _size: u8) -> u32 {
        let value = match offset {
            0 | 1 => self.master.read(offset),
            2 | 3 => self.slave.read(offset),
            4 => self.master.elcr,
            _ => self.slave.elcr,
        };
        // A poll read acknowledges.
        self.settle();
        u32::from(value)
    }

    fn write(&mut self, offset: u16, _size: u8, value: u32) {
        let value = value as u8;
        match offset {
            0 => self.master.write_command(value),
            1 => self.master.write_data(value),
            2 => self.slave.write_command(value),
            3 => self.slave.write_data(value),
            4 => self.master.set_elcr(value & ELCR_WRITABLE[0]),
            _ => self.slave.set_elcr(value & ELCR_WRITABLE[1]),
        }
        self.settle();
    }
}

#[cfg(test)]
#[path = "pic_tests.rs"]
mod tests;
