//! Standard input and output as the guest's console.
//!
//! A thread reads standard input, for reading waits and the vCPU must not. It
//! hands bytes over through a bounded channel and wakes a sleeping vCPU; when
//! the channel is full it waits, so a long script piped in is not lost. The end
//! of input ends the thread, not the guest. Output goes to the file descriptor
//! in one piece per call; if it was closed at the other end, it is dropped from
//! then on.
//!
//! Ctrl-A is the escape, from pipes too: `x` quits, `h` shows help on standard
//! error, Ctrl-A sends itself; anything else is dropped.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::terminal::RawMode;
use super::{Console, progress};
use crate::clock::Waker;

/// Bytes of input that wait for the guest before the reader waits, too.
const INPUT_BYTES: usize = 4096;

const ESCAPE: u8 = 0x01;
const HELP: &str = "\r\n\
    ring1: Ctrl-A x      quit\r\n\
    ring1: Ctrl-A h      this help\r\n\
    ring1: Ctrl-A Ctrl-A send Ctrl-A\r\n";

/// Says whether the user typed Ctrl-A x; any thread may ask.
#[derive(Clone, Debug, Default)]
pub struct QuitFlag(Arc<AtomicBool>);

impl QuitFlag {
    /// Whether the user wants to quit.
    #[inline]
    pub fn quit_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Asks the machine to end, as Ctrl-A x does.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Standard input and output; the terminal is raw while this lives.
pub struct StdioConsole {
    input: Receiver<u8>,
    output_open: bool,
    quit: QuitFlag,
    _raw_mode: Option<RawMode>,
}

impl StdioConsole {
    /// Puts a terminal on standard input into raw mode and starts to read.
    ///
    /// # Errors
    /// When the host cannot start a thread or install signal handlers.
    pub fn new(waker: Arc<Waker>) -> std::io::Result<Self> {
        let raw_mode = RawMode::enter()?;
        let (sender, input) = sync_channel(INPUT_BYTES);
        let quit = QuitFlag::default();
        let reader = Reader {
            sender,
            waker,
            quit: quit.clone(),
            escaped: false,
        };
        std::thread::Builder::new()
            .name("console".into())
            .spawn(move || reader.run())?;
        Ok(Self {
            input,
            output_open: true,
            quit,
            _raw_mode: raw_mode,
        })
    }

    /// A handle that tells whether the user typed Ctrl-A x.
    pub fn quit_flag(&self) -> QuitFlag {
        self.quit.clone()
    }
}

impl Console for StdioConsole {
    fn write(&mut self, bytes: &[u8]) {
        progress::finish();
        if self.output_open {
            self.output_open = write_all(rustix::stdio::stdout(), bytes);
        }
    }

    fn read(&mut self) -> Option<u8> {
        self.input.try_recv().ok()
    }
}

/// Writes everything; false when nobody will ever read it.
fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(file, PollFlags::OUT),
            Err(_) => return false,
        }
    }
    true
}

/// Waits until a non-blocking file is ready.
fn wait_for(file: BorrowedFd<'_>, flags: PollFlags) {
    // An interrupted wait only means another round of the caller's loop.
    let _ = poll(&mut [PollFd::from_borrowed_fd(file, flags)], None);
}

/// The thread that waits for standard input.
struct Reader {
    sender: SyncSender<u8>,
    waker: Arc<Waker>,
    quit: QuitFlag,
    /// The last byte was Ctrl-A.
    escaped: bool,
}

impl Reader {
    fn run(mut self) {
        let stdin = rustix::stdio::stdin();
        let mut buffer = [0u8; 256];
        loop {
            match rustix::io::read(stdin, &mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    for &byte in buffer.iter().take(count) {
                        if !self.take(byte) {
                            return;
                        }
                    }
                    self.waker.wake();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait_for(stdin, PollFlags::IN),
                Err(_) => return,
            }
        }
    }

    /// Passes a byte on or acts on an escape; false when the console is gone.
    fn take(&mut self, byte: u8) -> bool {
        if !std::mem::replace(&mut self.escaped, false) {
            self.escaped = byte == ESCAPE;
            return self.escaped || self.send(byte);
        }
        match byte {
            ESCAPE => return self.send(ESCAPE),
            b'x' | b'X' => {
                self.quit.request();
                self.waker.wake();
            }
            b'h' | b'H' | b'?' => {
                progress::finish();
                write_all(rustix::stdio::stderr(), HELP.as_bytes());
            }
            _ => {}
        }
        true
    }

    fn send(&self, byte: u8) -> bool {
        if let Err(full) = self.sender.try_send(byte) {
            // The vCPU may sleep on a full channel only if it is woken first.
            self.waker.wake();
            return match full {
                std::sync::mpsc::TrySendError::Full(byte) => self.sender.send(byte).is_ok(),
                std::sync::mpsc::TrySendError::Disconnected(_) => false,
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HostClock;

    fn reader() -> (Reader, Receiver<u8>) {
        let (sender, receiver) = sync_channel(16);
        let reader = Reader {
            sender,
            waker: Arc::new(Waker::new(Arc::new(HostClock::new()))),
            quit: QuitFlag::default(),
            escaped: false,
        };
        (reader, receiver)
    }

    #[test]
    fn escapes_are_not_sent() {
        let (mut reader, receiver) = reader();
        for byte in *b"a\x01\x01\x01zb" {
            assert!(reader.take(byte));
        }
        assert_eq!(receiver.try_iter().collect::<Vec<u8>>(), b"a\x01b");
        assert!(!reader.quit.quit_requested());
    }

    #[test]
    fn ctrl_a_x_quits() {
        let (mut reader, receiver) = reader();
        reader.take(ESCAPE);
        reader.take(b'x');
        assert!(reader.quit.quit_requested());
        assert_eq!(receiver.try_recv().ok(), None);
    }

    #[test]
    fn a_gone_console_ends_the_reader() {
        let (mut reader, receiver) = reader();
        drop(receiver);
        assert!(!reader.take(b'a'));
    }
}
