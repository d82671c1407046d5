//! Standard input and output as the guest's console.
//!
//! A thread reads standard input, for reading waits and the vCPU must not. It
//! hands bytes over through a bounded channel and wakes a sleeping vCPU; when
//! the channel is full it waits, so a long script piped in is not lost. The end
//! of input ends the thread, not the guest. Output goes to the file descriptor
//! in one piece per call; if it was closed at the other end, it is dropped from
//! then on.
//!
//! Ctrl-A is the escape, from pipes too: `x` quits, `c` goes to the monitor and back,
//! `s` shows the statistics so far and `h` help, both on standard error, Ctrl-A sends
//! itself; anything else is dropped.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::prompt::Prompt;
use super::terminal::RawMode;
use super::{Console, progress};
use crate::clock::Waker;
use crate::monitor::inbox::Caller;

/// Bytes of input that wait for the guest before the reader waits, too.
const INPUT_BYTES: usize = 4096;

const ESCAPE: u8 = 0x01;
const HELP: &str = "\r\n\
    ring1: Ctrl-A x      quit\r\n\
    ring1: Ctrl-A c      the monitor, and back\r\n\
    ring1: Ctrl-A s      statistics so far\r\n\
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
    /// Puts a terminal on standard input into raw mode and starts to read; `monitor` is
    /// for the keys that lead to it.
    ///
    /// # Errors
    /// When the host cannot start a thread or install signal handlers.
    pub fn new(waker: Arc<Waker>, monitor: Caller) -> std::io::Result<Self> {
        let raw_mode = RawMode::enter()?;
        let echo = raw_mode.is_some();
        let (sender, input) = sync_channel(INPUT_BYTES);
        let quit = QuitFlag::default();
        let reader = Reader {
            sender,
            waker,
            quit: quit.clone(),
            prompt: Prompt::new(monitor, Box::new(std::io::stderr()), echo),
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
    prompt: Prompt,
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
            if self.prompt.is_open() && !self.escaped {
                self.prompt.take(byte);
                return true;
            }
            return self.escaped || self.send(byte);
        }
        match byte {
            ESCAPE => return self.send(ESCAPE),
            b'x' | b'X' => {
                self.quit.request();
                self.waker.wake();
            }
            b'c' | b'C' => {
                progress::finish();
                self.prompt.toggle();
            }
            b's' | b'S' => {
                progress::finish();
                self.prompt.run("info stats");
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
    use crate::monitor::inbox::inbox;

    fn reader() -> (Reader, Receiver<u8>) {
        let (sender, receiver) = sync_channel(16);
        let waker = Arc::new(Waker::new(Arc::new(HostClock::new())));
        let (caller, _) = inbox(Arc::clone(&waker));
        let reader = Reader {
            sender,
            waker,
            quit: QuitFlag::default(),
            prompt: Prompt::new(caller, Box::new(std::io::sink()), false),
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
    fn what_is_typed_at_the_monitor_is_not_for_the_guest() {
        let (mut reader, receiver) = reader();
        for byte in *b"a\x01chelp\n\x01c\x04b\x01cinfo\n\x04c" {
            assert!(reader.take(byte));
        }
        assert_eq!(receiver.try_iter().collect::<Vec<u8>>(), b"a\x04bc");
    }

    #[test]
    fn a_gone_console_ends_the_reader() {
        let (mut reader, receiver) = reader();
        drop(receiver);
        assert!(!reader.take(b'a'));
    }
}
