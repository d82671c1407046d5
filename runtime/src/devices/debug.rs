//! Four ports for people who write kernels: exit, console, progress code, report.
//!
//! Writing `n` to the exit port ends the machine with process status
//! `(n << 1) | 1`, so that success of the guest is never mistaken for success
//! of the program. Bytes to the console port appear at once, with no driver;
//! it reads 0xE9 to say that it is there. The progress port (0x80) keeps the
//! last byte, and takes the writes that systems make only to pass time.
//!
//! The report port takes 32-bit words in pairs, a key and its value, and keeps
//! them for whoever runs the machine (`samples/guests/README.md` has the keys).
//!
//! Offsets: 0 exit (0xF4), 4 console (0xE9), 5 progress code (0x80), 6 report (0xF5).

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
    report_key: Option<u32>,
    reports: Vec<(u32, u32)>,
}

/// Most reports kept.
const MAX_REPORTS: usize = 64;

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
            report_key: None,
            reports: Vec::new(),
        }
    }

    /// Takes away where the console port writes; it writes to nowhere then.
    pub fn unplug(&mut self) -> Box<dyn Write + Send> {
        std::mem::replace(&mut self.output, Box::new(std::io::sink()))
    }

    /// The last progress code.
    pub fn post_code(&self) -> u8 {
        self.post_code
    }

    /// The pairs of key and value that the guest reported, in order.
    pub fn reports(&self) -> &[(u32, u32)] {
        &self.reports
    }

    fn report(&mut self, word: u32) {
        match self.report_key.take() {
            None => self.report_key = Some(word),
            Some(key) if self.reports.len() < MAX_REPORTS => self.reports.push((key, word)),
            Some(_) => {}
        }
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
            0 | 6 => 0,
            4 => u32::from(PRESENT),
            _ => u32::from(self.post_code),
        }
    }

    fn write(&mut self, offset: u16, _size: u8, value: u32) {
        match offset {
            0 => {
                self.flush();
                self.event = Some(PcEvent::DebugExit(value));
            }
            4 => self.put(value as u8),
            6 => self.report(value),
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
    fn reports_come_in_pairs() {
        let mut ports = DebugPorts::new(Box::new(std::io::sink()));
        for word in [1, 1234, 2] {
            ports.write(6, 4, word);
        }
        assert_eq!(ports.reports(), [(1, 1234)]);
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
