//! COM1: vm-superio's 16550A, joined to the console.
//!
//! vm-superio keeps the registers and never makes the guest wait: the
//! transmitter is always empty. Three things are added here.
//!
//! - *The interrupt is a level.* vm-superio only says "trigger"; a PC's line is
//!   high while an enabled cause is pending and OUT2 lets it through. The level
//!   is worked out after each access that can change it, so a driver that has
//!   already served a cause gets no second, empty interrupt for it.
//! - *One cause at a time in IIR.* vm-superio would return "data available" and
//!   "transmitter empty" or-ed together, which means "line status" to a driver.
//!   Data comes first, and stays until it has been read.
//! - *Input waits at the console*, and a byte enters the receiver when it is
//!   empty, so each byte is announced and none is lost to a full FIFO.
//!
//! Output is collected and handed to the console at the end of a line, when it
//! gets long, and at each poll.
//!
//! QUIRK: no line speed, no FIFO trigger levels, no break or modem interrupts.

use std::convert::Infallible;

use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial as Uart};

use crate::bus::Device;
use crate::console::{BufferConsole, Console};
use crate::irq::IrqPin;

const DATA: u8 = 0;
const IER: u8 = 1;
const IIR: u8 = 2;
const LCR: u8 = 3;
const MCR: u8 = 4;

const IIR_NONE: u8 = 0x01;
const IIR_TRANSMITTER_EMPTY: u8 = 0x02;
const IIR_DATA: u8 = 0x04;
const IER_DATA: u8 = 0x01;
const IER_TRANSMITTER_EMPTY: u8 = 0x02;
const LCR_DIVISOR_LATCH: u8 = 0x80;
const MCR_OUT2: u8 = 0x08;
const MCR_LOOPBACK: u8 = 0x10;

/// Room of vm-superio's receiver: all of it free means that it is empty.
const RECEIVER_BYTES: usize = 64;
/// Output kept before it goes to the console without an end of line.
const LINE_LIMIT_BYTES: usize = 512;

/// The level is derived from the registers instead.
struct NoTrigger;

impl Trigger for NoTrigger {
    type E = Infallible;
    fn trigger(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The serial port. Offsets are the UART's registers 0–7.
pub struct Serial {
    uart: Uart<NoTrigger, NoEvents, Vec<u8>>,
    console: Box<dyn Console>,
    pin: IrqPin,
}

impl Serial {
    /// A port whose other end is `console`.
    pub fn new(console: Box<dyn Console>) -> Self {
        Self {
            uart: Uart::new(NoTrigger, Vec::with_capacity(LINE_LIMIT_BYTES)),
            console,
            pin: IrqPin::default(),
        }
    }

    /// Takes the console away; nobody is at the other end then.
    pub fn unplug(&mut self) -> Box<dyn Console> {
        std::mem::replace(&mut self.console, Box::new(BufferConsole::new(&[]).0))
    }

    /// IRQ 4.
    pub fn pin(&mut self) -> &mut IrqPin {
        &mut self.pin
    }

    /// Hands over waiting output and takes waiting input; whether the
    /// interrupt line may have changed.
    pub fn poll(&mut self) -> bool {
        self.flush();
        self.receive()
    }

    /// Hands waiting output to the console.
    pub fn flush(&mut self) {
        let output = self.uart.writer_mut();
        if !output.is_empty() {
            self.console.write(output);
            output.clear();
        }
    }

    fn receive(&mut self) -> bool {
        if self.uart.fifo_capacity() < RECEIVER_BYTES || self.register(MCR) & MCR_LOOPBACK != 0 {
            return false;
        }
        let Some(byte) = self.console.read() else {
            return false;
        };
        // Cannot fail: the receiver is empty and the trigger does nothing.
        let _ = self.uart.enqueue_raw_bytes(&[byte]);
        self.update_pin();
        true
    }

    /// A register whose reading has no side effect.
    fn register(&mut self, offset: u8) -> u8 {
        self.uart.read(offset)
    }

    fn update_pin(&mut self) {
        let state = self.uart.state();
        let pending = state.interrupt_identification;
        let enabled = state.interrupt_enable;
        let cause = pending & IIR_NONE == 0
            && ((pending & IIR_DATA != 0 && enabled & IER_DATA != 0)
                || (pending & IIR_TRANSMITTER_EMPTY != 0 && enabled & IER_TRANSMITTER_EMPTY != 0));
        let connected = state.modem_control & (MCR_OUT2 | MCR_LOOPBACK) == MCR_OUT2;
        self.pin.set(cause && connected);
    }

    fn read_iir(&mut self) -> u8 {
        let iir = self.uart.read(IIR);
        if iir & IIR_DATA == 0 || self.register(LCR) & LCR_DIVISOR_LATCH != 0 {
            return iir;
        }
        // Reading clears only "transmitter empty", and only if that is what it
        // reports. Writing IER back makes vm-superio look again at both causes.
        let ier = self.register(IER);
        let _ = self.uart.write(IER, ier);
        iir & !IIR_TRANSMITTER_EMPTY
    }
}

impl Device for Serial {
    fn read(&mut self, offset: u16, _size: u8) -> u32 {
        let value = match offset as u8 {
            IIR => {
                let iir = self.read_iir();
                self.update_pin();
                iir
            }
            DATA => {
                let data = self.uart.read(DATA);
                self.receive();
                self.update_pin();
                data
            }
            offset => self.uart.read(offset),
        };
        u32::from(value)
    }

    fn write(&mut self, offset: u16, _size: u8, value: u32) {
        let value = value as u8;
        // Writing to memory and a trigger that does nothing cannot fail.
        let _ = self.uart.write(offset as u8, value);
        if offset <= u16::from(MCR) {
            self.update_pin();
        }
        let output = self.uart.writer();
        if output.last() == Some(&b'\n') || output.len() >= LINE_LIMIT_BYTES {
            self.flush();
        }
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::{BufferConsole, Captured};

    const LSR: u16 = 5;

    fn port(input: &[u8]) -> (Serial, Captured) {
        let (console, captured) = BufferConsole::new(input);
        (Serial::new(Box::new(console)), captured)
    }

    fn get(serial: &mut Serial, register: u8) -> u8 {
        serial.read(u16::from(register), 1) as u8
    }

    fn put(serial: &mut Serial, register: u8, value: u8) {
        serial.write(u16::from(register), 1, u32::from(value));
    }

    #[test]
    fn output_reaches_the_console_by_lines() {
        let (mut serial, captured) = port(b"");
        for byte in *b"ok\nlogin: " {
            assert_eq!(serial.read(LSR, 1) & 0x60, 0x60);
            put(&mut serial, DATA, byte);
        }
        assert_eq!(captured.text(), "ok\n");
        serial.poll();
        assert_eq!(captured.text(), "ok\nlogin: ");
    }

    #[test]
    fn each_input_byte_is_announced() {
        let (mut serial, _captured) = port(b"ab");
        put(&mut serial, MCR, MCR_OUT2);
        put(&mut serial, IER, IER_DATA);
        assert!(serial.poll());
        assert!(serial.pin().level());
        assert_eq!(get(&mut serial, IIR) & 0xF, IIR_DATA);
        assert!(serial.pin().level(), "stays until the data is read");
        assert_eq!(get(&mut serial, DATA), b'a');
        assert!(serial.pin().level(), "the next byte has arrived");
        assert_eq!(get(&mut serial, DATA), b'b');
        assert!(!serial.pin().level());
        assert_eq!(get(&mut serial, IIR) & 0xF, IIR_NONE);
    }

    #[test]
    fn transmitter_interrupt_is_a_level_that_iir_clears() {
        let (mut serial, _captured) = port(b"");
        put(&mut serial, MCR, MCR_OUT2);
        put(&mut serial, IER, IER_TRANSMITTER_EMPTY);
        assert!(serial.pin().level());
        assert_eq!(get(&mut serial, IIR) & 0xF, IIR_TRANSMITTER_EMPTY);
        assert!(!serial.pin().level());
        put(&mut serial, DATA, b'x');
        assert!(serial.pin().level());
        put(&mut serial, IER, 0);
        assert!(!serial.pin().level());
    }

    #[test]
    fn data_is_reported_before_transmitter_empty() {
        let (mut serial, _captured) = port(b"k");
        put(&mut serial, MCR, MCR_OUT2);
        put(&mut serial, IER, IER_DATA | IER_TRANSMITTER_EMPTY);
        serial.poll();
        assert_eq!(get(&mut serial, IIR) & 0xF, IIR_DATA);
        assert_eq!(get(&mut serial, DATA), b'k');
        assert_eq!(get(&mut serial, IIR) & 0xF, IIR_TRANSMITTER_EMPTY);
        assert_eq!(get(&mut serial, IIR) & 0xF, IIR_NONE);
    }

    #[test]
    fn out2_gates_the_line() {
        let (mut serial, _captured) = port(b"");
        put(&mut serial, MCR, 0);
        put(&mut serial, IER, IER_TRANSMITTER_EMPTY);
        assert!(!serial.pin().level());
        put(&mut serial, MCR, MCR_OUT2);
        assert!(serial.pin().level());
    }

    /// What Linux's 8250 driver checks before it calls a port a 16550A.
    #[test]
    fn probes_as_a_16550a() {
        let (mut serial, _captured) = port(b"");
        put(&mut serial, IER, 0);
        assert_eq!(get(&mut serial, IER) & 0xF, 0);
        put(&mut serial, IER, 0x0F);
        assert_eq!(get(&mut serial, IER) & 0xF, 0x0F);
        put(&mut serial, IER, 0);
        put(&mut serial, MCR, 0x10 | 0x0A);
        assert_eq!(get(&mut serial, 6) & 0xF0, 0x90, "loopback: OUT2 and RTS");
        put(&mut serial, MCR, MCR_OUT2);
        assert_eq!(get(&mut serial, 6) & 0xB0, 0xB0, "carrier, ready, clear");
        put(&mut serial, IIR, 0x01);
        assert_eq!(get(&mut serial, IIR) >> 6, 3);
        put(&mut serial, 7, 0x5A);
        assert_eq!(get(&mut serial, 7), 0x5A);
    }

    #[test]
    fn divisor_latch_does_not_disturb_the_data_registers() {
        let (mut serial, captured) = port(b"");
        put(&mut serial, LCR, 0x83);
        put(&mut serial, DATA, 0x01);
        put(&mut serial, IER, 0x00);
        assert_eq!((get(&mut serial, DATA), get(&mut serial, IER)), (1, 0));
        put(&mut serial, LCR, 0x03);
        serial.poll();
        assert_eq!(captured.text(), "");
    }
}
