//! The monitor at the console: a line that is typed, and its answer on standard error.
//!
//! While the prompt is open, what is typed goes to it and not to the guest; the guest's
//! output comes as ever, on standard output. A terminal in raw mode echoes nothing, so the
//! prompt does; what comes from a pipe is not echoed.

use crate::monitor::inbox::{Caller, NoAnswer};
use crate::monitor::socket::PROMPT;
use std::io::Write;
use std::time::Duration;

/// How long the keyboard waits for an answer. A step of a halted guest may take longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest line.
const LINE_BYTES: usize = 1024;

const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;
const CONTROL_C: u8 = 0x03;
const CONTROL_D: u8 = 0x04;
const CONTROL_U: u8 = 0x15;

/// The monitor's end at the console.
pub struct Prompt {
    caller: Caller,
    out: Box<dyn Write + Send>,
    echo: bool,
    open: bool,
    line: Vec<u8>,
}

impl Prompt {
    /// A prompt that writes to `out`, and there also what is typed, if `echo` says so.
    pub fn new(caller: Caller, out: Box<dyn Write + Send>, echo: bool) -> Self {
        Self {
            caller,
            out,
            echo,
            open: false,
            line: Vec::new(),
        }
    }

    /// Whether what is typed is for the monitor.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Opens the prompt, or closes it.
    pub fn toggle(&mut self) {
        self.open = !self.open;
        self.line.clear();
        match self.open {
            true => {
                self.say("\nring1: help lists the commands; Ctrl-A c goes back to the guest\n");
                self.say(PROMPT);
            }
            false => self.say("\nring1: back to the guest\n"),
        }
    }

    /// Takes a byte that was typed while the prompt is open.
    pub fn take(&mut self, byte: u8) {
        match byte {
            b'\r' | b'\n' => {
                self.show("\n");
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                if !line.trim().is_empty() {
                    self.run(&line);
                }
                self.say(PROMPT);
            }
            BACKSPACE | DELETE => {
                let erased = self.line.pop().map_or("", |_| "\x08 \x08");
                self.show(erased);
            }
            CONTROL_U | CONTROL_C => {
                self.line.clear();
                self.show("\n");
                self.say(PROMPT);
            }
            CONTROL_D if self.line.is_empty() => self.toggle(),
            b' '..=b'~' if self.line.len() < LINE_BYTES => {
                self.line.push(byte);
                self.show(char::from(byte).encode_utf8(&mut [0; 4]));
            }
            // What a terminal sends for other keys means nothing here.
            _ => {}
        }
    }

    /// Carries out a command and shows its answer.
    pub fn run(&mut self, line: &str) {
        match self.caller.ask(line, Some(PATIENCE)) {
            Ok(Ok(answer)) => self.say(&answer.text),
            Ok(Err(error)) => self.say(&format!("error: {error}\n")),
            Err(NoAnswer::Late) => self.say("the machine has not answered yet\n"),
            Err(NoAnswer::Ended) => {}
        }
    }

    fn show(&mut self, text: &str) {
        if self.echo {
            self.say(text);
        }
    }

    fn say(&mut self, text: &str) {
        // Who cannot read it any more goes without.
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}
