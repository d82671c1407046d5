//! The guest's console: bytes out, bytes in, nothing about serial ports.
//!
//! [`StdioConsole`] is this process's standard input and output, in raw mode
//! when that is a terminal; [`BufferConsole`] is for tests: it captures what
//! the guest writes and answers by script. A console never blocks in `read`
//! and never fails: when nobody listens any more, output is dropped and the
//! guest runs on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

pub mod progress;
pub mod prompt;
pub mod stdio;
pub mod terminal;

pub use stdio::StdioConsole;

/// The other end of the serial line.
pub trait Console: Send {
    /// Takes what the guest wrote.
    fn write(&mut self, bytes: &[u8]);
    /// The next byte for the guest, if there is one; does not wait.
    fn read(&mut self) -> Option<u8>;
}

impl Console for Box<dyn Console> {
    fn write(&mut self, bytes: &[u8]) {
        (**self).write(bytes);
    }

    fn read(&mut self) -> Option<u8> {
        (**self).read()
    }
}

/// One step of a script: once `wait_for` has been written, `send` is typed.
#[derive(Clone, Debug)]
struct Step {
    wait_for: Vec<u8>,
    send: Vec<u8>,
}

/// A console that captures output and answers by script.
pub struct BufferConsole {
    captured: Captured,
    steps: VecDeque<Step>,
    /// Where in the captured output the current step looks from.
    searched: usize,
    input: VecDeque<u8>,
}

/// What the guest has written so far; a handle that tests keep.
#[derive(Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// A copy of the bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().clone()
    }

    /// The bytes as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock()).into_owned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BufferConsole {
    /// A console with `input` waiting from the start.
    pub fn new(input: &[u8]) -> (Self, Captured) {
        Self::scripted(&[("", input)])
    }

    /// A console that types each `send` once its `wait_for` has appeared in the
    /// output after the previous step's.
    pub fn scripted(script: &[(&str, &[u8])]) -> (Self, Captured) {
        let captured = Captured::default();
        let steps = script.iter().map(|&(wait_for, send)| Step {
            wait_for: wait_for.as_bytes().to_vec(),
            send: send.to_vec(),
        });
        let mut console = Self {
            captured: captured.clone(),
            steps: steps.collect(),
            searched: 0,
            input: VecDeque::new(),
        };
        console.follow_script();
        (console, captured)
    }

    fn follow_script(&mut self) {
        while let Some(step) = self.steps.front() {
            let output = self.captured.lock();
            let unsearched = output.get(self.searched..).unwrap_or_default();
            let Some(at) = find(unsearched, &step.wait_for) else {
                // The text may straddle this write and the next.
                let keep = step.wait_for.len() - 1;
                self.searched = self.searched.max(output.len().saturating_sub(keep));
                return;
            };
            self.searched += at + step.wait_for.len();
            self.input.extend(&step.send);
            drop(output);
            self.steps.pop_front();
        }
    }
}

impl Console for BufferConsole {
    fn write(&mut self, bytes: &[u8]) {
        self.captured.lock().extend_from_slice(bytes);
        self.follow_script();
    }

    fn read(&mut self) -> Option<u8> {
        self.input.pop_front()
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(console: &mut BufferConsole) -> Vec<u8> {
        std::iter::from_fn(|| console.read()).collect()
    }

    #[test]
    fn input_waits_from_the_start() {
        let (mut console, captured) = BufferConsole::new(b"in");
        console.write(b"out");
        assert_eq!(drain(&mut console), b"in");
        assert_eq!(captured.text(), "out");
    }

    #[test]
    fn script_follows_the_output() {
        let (mut console, _) = BufferConsole::scripted(&[("login: ", b"root\n"), ("# ", b"ls\n")]);
        console.write(b"# log");
        assert_eq!(drain(&mut console), b"");
        console.write(b"in: ");
        assert_eq!(drain(&mut console), b"root\n");
        console.write(b"#");
        console.write(b" ");
        assert_eq!(drain(&mut console), b"ls\n");
    }
}
