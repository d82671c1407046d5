//! The 8042 keyboard controller with nothing plugged in, and port 0x92.
//!
//! What systems still want of it is not a keyboard: it gates address line 20,
//! and a pulse on its output port resets the processor. It answers its self
//! tests, so a driver that probes it finishes at once; data meant for a
//! keyboard or mouse comes back as a transmit time-out with 0xFE, as from an
//! empty socket. (The FADT says that there is no controller worth probing.)
//!
//! QUIRK: the A20 gate is remembered and reported, but address line 20 is
//! always connected.
//!
//! Offsets: 0 data (0x60), 4 status and command (0x64), 5 port 0x92.

use crate::bus::Device;
use crate::devices::pc::PcEvent;

const STATUS_OUTPUT_FULL: u8 = 0x01;
const STATUS_SYSTEM: u8 = 0x04;
const STATUS_COMMAND: u8 = 0x08;
const STATUS_NOT_INHIBITED: u8 = 0x10;
const STATUS_AUX_DATA: u8 = 0x20;
const STATUS_TIME_OUT: u8 = 0x40;

const PORT_RESET_HIGH: u8 = 0x01;
const PORT_A20: u8 = 0x02;
const PORT_92_RESET: u8 = 0x01;
const COMMAND_BYTE_SYSTEM: u8 = 0x04;

/// What a device that does not answer leaves in the output buffer.
const RESEND: u8 = 0xFE;

/// The byte that the last command wants at the data port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Keyboard,
    CommandByte(u8),
    OutputPort,
    KeyboardOutput,
    AuxOutput,
    Aux,
}

/// The keyboard controller and system control port A.
pub struct I8042 {
    memory: [u8; 32],
    output: Option<u8>,
    status: u8,
    expect: Expect,
    output_port: u8,
    event: Option<PcEvent>,
}

impl Default for I8042 {
    fn default() -> Self {
        Self::new()
    }
}

impl I8042 {
    /// The controller as firmware leaves it: self test passed, A20 open.
    pub fn new() -> Self {
        let mut memory = [0; 32];
        memory[0] = COMMAND_BYTE_SYSTEM;
        Self {
            memory,
            output: None,
            status: STATUS_SYSTEM | STATUS_NOT_INHIBITED,
            expect: Expect::Keyboard,
            output_port: PORT_RESET_HIGH | PORT_A20,
            event: None,
        }
    }

    /// Whether address line 20 is meant to be connected.
    pub fn a20(&self) -> bool {
        self.output_port & PORT_A20 != 0
    }

    /// What the guest asked of the machine since the last call.
    pub fn take_event(&mut self) -> Option<PcEvent> {
        self.event.take()
    }

    fn answer(&mut self, byte: u8, status: u8) {
        self.output = Some(byte);
        self.status &= !(STATUS_AUX_DATA | STATUS_TIME_OUT);
        self.status |= STATUS_OUTPUT_FULL | status;
    }

    fn write_output_port(&mut self, value: u8) {
        if value & PORT_RESET_HIGH == 0 {
            self.event = Some(PcEvent::Reset);
        }
        self.output_port = value | PORT_RESET_HIGH;
    }

    fn set_a20(&mut self, on: bool) {
        self.output_port = self.output_port & !PORT_A20 | if on { PORT_A20 } else { 0 };
    }

    fn command(&mut self, command: u8) {
        self.status |= STATUS_COMMAND;
        self.expect = Expect::Keyboard;
        match command {
            0x20..=0x3F => self.answer(self.memory[usize::from(command & 0x1F)], 0),
            0x60..=0x7F => self.expect = Expect::CommandByte(command & 0x1F),
            // Disable and enable the mouse and keyboard interfaces.
            0xA7 => self.memory[0] |= 0x20,
            0xA8 => self.memory[0] &= !0x20,
            0xAD => self.memory[0] |= 0x10,
            0xAE => self.memory[0] &= !0x10,
            // Interface tests: no fault on the lines.
            0xA9 | 0xAB => self.answer(0x00, 0),
            0xAA => self.answer(0x55, 0),
            // Input port: keyboard not locked.
            0xC0 => self.answer(0x80, 0),
            0xD0 => self.answer(self.output_port, 0),
            0xD1 => self.expect = Expect::OutputPort,
            0xD2 => self.expect = Expect::KeyboardOutput,
            0xD3 => self.expect = Expect::AuxOutput,
            0xD4 => self.expect = Expect::Aux,
            0xDD => self.set_a20(false),
            0xDF => self.set_a20(true),
            // Test inputs: both clock lines low.
            0xE0 => self.answer(0x00, 0),
            // Pulse the output port's low bits whose command bits are zero.
            0xF0..=0xFF if command & PORT_RESET_HIGH == 0 => self.event = Some(PcEvent::Reset),
            _ => {}
        }
    }

    fn data(&mut self, value: u8) {
        self.status &= !STATUS_COMMAND;
        match core::mem::replace(&mut self.expect, Expect::Keyboard) {
            Expect::Keyboard => self.answer(RESEND, STATUS_TIME_OUT),
            Expect::Aux => self.answer(RESEND, STATUS_TIME_OUT | STATUS_AUX_DATA),
            Expect::CommandByte(index) => self.memory[usize::from(index & 0x1F)] = value,
            Expect::OutputPort => self.write_output_port(value),
            Expect::KeyboardOutput => self.answer(value, 0),
            Expect::AuxOutput => self.answer(value, STATUS_AUX_DATA),
        }
    }

    fn read_data(&mut self) -> u8 {
        self.status &= !(STATUS_OUTPUT_FULL | STATUS_AUX_DATA | STATUS_TIME_OUT);
        self.output.take().unwrap_or(0)
    }
}

impl Device for I8042 {
    fn read(&mut self, offset: u16, _size: u8) -> u32 {
        let value = match offset {
            0 => self.read_data(),
            4 => self.status,
            _ => self.output_port & PORT_A20,
        };
        u32::from(value)
    }

    fn write(&mut self, offset: u16, _size: u8, value: u32) {
        let value = value as u8;
        match offset {
            0 => self.data(value),
            4 => self.command(value),
            _ => {
                self.set_a20(value & PORT_A20 != 0);
                if value & PORT_92_RESET != 0 {
                    self.event = Some(PcEvent::Reset);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(controller: &mut I8042, command: u32) -> u32 {
        controller.write(4, 1, command);
        assert_eq!(controller.read(4, 1) & 3, 1, "output full, input empty");
        controller.read(0, 1)
    }

    #[test]
    fn self_tests_pass() {
        let mut controller = I8042::new();
        assert_eq!(ask(&mut controller, 0xAA), 0x55);
        assert_eq!(ask(&mut controller, 0xAB), 0);
        assert_eq!(controller.read(4, 1) & 1, 0);
    }

    #[test]
    fn command_byte_reads_back() {
        let mut controller = I8042::new();
        controller.write(4, 1, 0x60);
        controller.write(0, 1, 0x45);
        assert_eq!(ask(&mut controller, 0x20), 0x45);
        controller.write(4, 1, 0xAD);
        assert_eq!(ask(&mut controller, 0x20), 0x55);
    }

    #[test]
    fn nobody_answers_at_the_keyboard() {
        let mut controller = I8042::new();
        controller.write(0, 1, 0xED);
        assert_eq!(controller.read(4, 1) & 0x41, 0x41);
        assert_eq!(controller.read(0, 1), 0xFE);
        controller.write(4, 1, 0xD4);
        controller.write(0, 1, 0xF2);
        assert_eq!(controller.read(4, 1) & 0x61, 0x61);
    }

    #[test]
    fn reset_by_pulse_by_output_port_and_by_port_92() {
        let mut controller = I8042::new();
        controller.write(4, 1, 0xFE);
        assert_eq!(controller.take_event(), Some(PcEvent::Reset));
        controller.write(4, 1, 0xD1);
        controller.write(0, 1, 0xFE);
        assert_eq!(controller.take_event(), Some(PcEvent::Reset));
        controller.write(5, 1, 0x01);
        assert_eq!(controller.take_event(), Some(PcEvent::Reset));
        controller.write(4, 1, 0xFF);
        assert_eq!(controller.take_event(), None);
    }

    #[test]
    fn a20_through_all_three_doors() {
        let mut controller = I8042::new();
        assert!(controller.a20());
        controller.write(4, 1, 0xDD);
        assert!(!controller.a20());
        controller.write(5, 1, 0x02);
        assert!(controller.a20());
        controller.write(4, 1, 0xD1);
        controller.write(0, 1, 0xDD);
        assert!(!controller.a20());
        assert_eq!(controller.read(5, 1), 0);
    }
}
