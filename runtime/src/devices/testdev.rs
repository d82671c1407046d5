//! The device that CPU test suites bring along: something simple to access.
//!
//! It has a register of four ports, which keeps what is written in units of any
//! size; 64 KiB of memory that is a device, so that an access takes the path of
//! memory-mapped I/O; and ports that drive the interrupt lines. QEMU has it as
//! `pc-testdev`. A machine has it only if asked; else its ports are an empty
//! socket.
//!
//! Offsets: 0–3 register (0xE0), 16–31 interrupt lines 0 to 15 (0x2000).

use crate::bus::{Device, undriven};

/// Where the memory is.
pub const MEMORY: std::ops::Range<u64> = 0xFF00_0000..0xFF01_0000;

/// Offset of interrupt line 0.
const LINES: u16 = 16;

/// The device, or the empty socket.
#[derive(Default)]
pub struct TestDevice {
    register: [u8; 4],
    /// Empty if the device is not there.
    memory: Vec<u8>,
    line: Option<(u8, bool)>,
}

impl TestDevice {
    /// The device.
    pub fn new() -> Self {
        Self {
            memory: vec![0; (MEMORY.end - MEMORY.start) as usize],
            ..Self::default()
        }
    }

    fn present(&self) -> bool {
        !self.memory.is_empty()
    }

    /// The byte of its memory at a physical address, if that is one.
    pub fn byte(&mut self, phys: u64) -> Option<&mut u8> {
        let at = usize::try_from(phys.checked_sub(MEMORY.start)?).ok()?;
        self.memory.get_mut(at)
    }

    /// The interrupt line that was driven last, and how.
    pub fn take_line(&mut self) -> Option<(u8, bool)> {
        self.line.take()
    }

    /// The bytes of the register at `offset`; as many as there are.
    fn part(&mut self, offset: u16, size: u8) -> &mut [u8] {
        let from = usize::from(offset & 3);
        let to = (from + usize::from(size)).min(4);
        &mut self.register[from..to]
    }
}

impl Device for TestDevice {
    fn read(&mut self, offset: u16, size: u8) -> u32 {
        let mut bytes = undriven(size).to_le_bytes();
        if self.present() && offset < LINES {
            let part = self.part(offset, size);
            bytes[..part.len()].copy_from_slice(part);
        }
        u32::from_le_bytes(bytes)
    }

    fn write(&mut self, offset: u16, size: u8, value: u32) {
        if !self.present() {
            return;
        }
        match offset.checked_sub(LINES) {
            Some(line) => self.line = Some((line as u8 & 15, value != 0)),
            None => {
                let part = self.part(offset, size);
                let len = part.len();
                part.copy_from_slice(&value.to_le_bytes()[..len]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_register_keeps_what_is_written_in_any_size() {
        let mut device = TestDevice::new();
        device.write(0, 4, 0x1122_3344);
        device.write(1, 2, 0xAABB);
        assert_eq!(device.read(0, 4), 0x11AA_BB44);
        assert_eq!(device.read(2, 1), 0xAA);
        assert_eq!(device.read(3, 4), 0xFFFF_FF11);
    }

    #[test]
    fn lines_are_reported_once() {
        let mut device = TestDevice::new();
        device.write(LINES + 11, 4, 1);
        assert_eq!(device.take_line(), Some((11, true)));
        assert_eq!(device.take_line(), None);
        device.write(LINES + 11, 1, 0);
        assert_eq!(device.take_line(), Some((11, false)));
    }

    #[test]
    fn memory_has_bounds() {
        let mut device = TestDevice::new();
        assert!(device.byte(MEMORY.start).is_some());
        assert!(device.byte(MEMORY.end - 1).is_some());
        assert!(device.byte(MEMORY.start - 1).is_none());
        assert!(device.byte(MEMORY.end).is_none());
        assert!(device.byte(u64::MAX).is_none());
    }

    #[test]
    fn an_empty_socket_is_undriven() {
        let mut socket = TestDevice::default();
        socket.write(0, 4, 1);
        socket.write(LINES, 1, 1);
        assert_eq!((socket.read(0, 2), socket.take_line()), (0xFFFF, None));
        assert!(socket.byte(MEMORY.start).is_none());
    }
}
