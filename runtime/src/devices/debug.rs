//! Three ports for people who write kernels: exit, console, progress code.
//!
//! Writing `n` to the exit port ends the machine with process status
//! `(n << 1) | 1`, so that success of the guest is never mistaken for success
//! of the program. Bytes to the console port appear at once, with no driver;
//! it reads 0xE9 to say that it is there. The progress port (0x80) keeps the
//! last byte, and takes the writes that systems make only to pass time.
//!
//! Offsets: 0–3 exit (0xF4), 4 console (0xE9), 5 progress code (0x80).

use std::io::Write;

use crate::bus::Device;
use crate::devices::pc::PcEvent;

/// What the console port reads when it is present.
const PRESENT: u8 = 0xE9;

/// The debug ports.
pub struct DebugPorts {
    output: Box<dyn Write + Send>,
    line: Vec<u8>,
    post_code: u8,
    event: Option<PcEvent>,
}

/// Bytes of an unfinished line kept before they are written all the same.
const LINE_LIMIT_BYTES: usize = 256;

impl DebugPorts {
    /// Debug ports whose console writes to `output`, line by line.
    pub fn new(output: Box<dyn Write + Send>) -> Self {
        Self {
            output,
            line: Vec::new(),
            post_code: 0,
            event: None,
        }
    }

    /// The last progress code.
    pub fn post_code(&self) -> u8 {
        self.post_code
    }

    /// What the guest asked of the machine since the last call.
    pub fn take_event(&mut self) -> Option<PcEvent> {
        self.event.take()
    }

    fn put(&mut self, byte: u8) {
        self.line.push(byte);
        if byte == b'\n' || self.line.len() >= LINE_LIMIT_BYTES {
            self.flush();
        }
    }

    /// Writes out an unfinished line.
    pub fn flush(&mut self) {
        if self.line.is_empty() {
            return;
        }
        // Nowhere to write to is no reason to stop the guest.
        let _ = self
            .output
            .write_all(&self.line)
            .and_then(|()| self.output.flush());
        self.line.clear();
    }
}

impl Drop for DebugPorts {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Device for DebugPorts {
    fn read(&mut self, offset: u16, _size: u8) -> u32 {
        match offset {
            0..=3 => 0,
            4 => u32::from(PRESENT),
            _ => u32::from(self.post_code),
        }
    }

    fn write(&mut self, offset: u16, _size: u8, value: u32) {
        match offset {
            0..=3 => {
                self.flush();
                self.event = Some(PcEvent::DebugExit(value));
            }
            4 => self.put(value as u8),
            _ => self.post_code = value as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn console_lines_and_presence() {
        let shared = Shared::default();
        let mut ports = DebugPorts::new(Box::new(shared.clone()));
        for byte in b"hi\nx" {
            ports.write(4, 1, u32::from(*byte));
        }
        assert_eq!(*shared.0.lock().expect("not poisoned"), b"hi\n");
        drop(ports);
        assert_eq!(*shared.0.lock().expect("not poisoned"), b"hi\nx");
    }

    #[test]
    fn exit_takes_wide_values() {
        let mut ports = DebugPorts::new(Box::new(std::io::sink()));
        ports.write(0, 4, 0x1234);
        let event = ports.take_event();
        assert_eq!(event, Some(PcEvent::DebugExit(0x1234)));
        assert_eq!(PcEvent::DebugExit(3).exit_status(), 7);
    }

    #[test]
    fn presence_and_progress_code() {
        let mut ports = DebugPorts::new(Box::new(std::io::sink()));
        ports.write(5, 1, 0x42);
        assert_eq!((ports.read(4, 1), ports.read(5, 1)), (0xE9, 0x42));
        assert_eq!(ports.post_code(), 0x42);
    }
}
