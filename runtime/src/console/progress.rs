//! A line that shows that a long start-up goes on.
//!
//! A kernel can compute for seconds before its first word. Meanwhile a line on standard
//! error tells what was started and for how long, if that is a terminal: a thread writes it
//! after half a second and again and again. The line must be gone before anything else
//! is written, so whoever writes to the terminal calls [`finish`] first. Like the
//! terminal, the line is one per process; without one, [`finish`] is a load and a branch.
//!
//! Invariant: the thread writes only with [`LINE`] locked and present, and it is
//! taken away under the same lock, by which it is erased.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a start-up may take without a line.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time between two looks of the line.
const PERIOD: Duration = Duration::from_millis(100);

/// Whether there is a line.
static ACTIVE: AtomicBool = AtomicBool::new(false);
/// The line of this process.
static LINE: Mutex<Option<Line>> = Mutex::new(None);

/// Shows from now on that a start-up goes on; `what` is started. Does nothing if standard
/// error is no terminal that can return to the beginning of a line.
pub fn start(what: String) {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if !std::io::stderr().is_terminal() || dumb {
        return;
    }
    let line = Line::new(what, columns(), Box::new(std::io::stderr()));
    *locked() = Some(line);
    ACTIVE.store(true, Ordering::Release);
    let thread = std::thread::Builder::new().name("progress".into());
    // Without a thread there is no line, which harms nobody.
    let _ = thread.spawn(|| {
        let started = Instant::now();
        loop {
            std::thread::sleep(PERIOD);
            let Some(line) = &mut *locked() else {
                return;
            };
            line.show(started.elapsed());
        }
    });
}

/// Erases the line, if there is one, for good.
#[inline]
pub fn finish() {
    if ACTIVE.load(Ordering::Acquire) {
        take_away();
    }
}

#[cold]
fn take_away() {
    ACTIVE.store(false, Ordering::Release);
    if let Some(mut line) = locked().take() {
        line.erase();
    }
}

fn locked() -> MutexGuard<'static, Option<Line>> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Columns of the terminal; 80 if it does not know.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
    match size.map_or(0, |size| size.ws_col) {
        0 => 80,
        columns => columns.into(),
    }
}

/// Standard error for what the guest writes there: the line goes first.
#[derive(Debug)]
pub struct GuestStderr;

impl Write for GuestStderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        finish();
        std::io::stderr().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// A size as people say it.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        _ if bytes.trailing_zeros() >= 20 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

struct Line {
    what: String,
    columns: usize,
    out: Box<dyn Write + Send>,
    /// Columns that are covered now.
    covered: usize,
}

impl Line {
    fn new(what: String, columns: usize, out: Box<dyn Write + Send>) -> Self {
        Self {
            what,
            columns,
            out,
            covered: 0,
        }
    }

    fn show(&mut self, elapsed: Duration) {
        if elapsed < PATIENCE {
            return;
        }
        let seconds = elapsed.as_secs_f64();
        let text = format!("ring1: starting: {}, {seconds:.1} s", self.what);
        // In the last column the cursor might wrap, and never find back.
        let room = self.columns.saturating_sub(1);
        let text: String = text.chars().take(room).collect();
        self.covered = self.covered.max(text.chars().count());
        self.write(&format!("\r{text}"));
    }

    fn erase(&mut self) {
        if self.covered > 0 {
            self.write(&format!("\r{:1$}\r", "", self.covered));
        }
    }

    fn write(&mut self, text: &str) {
        // Whoever cannot be shown a line does not miss it.
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Screen {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn line(columns: usize) -> (Line, Screen) {
        let screen = Screen::default();
        let line = Line::new("8 MiB".into(), columns, Box::new(screen.clone()));
        (line, screen)
    }

    #[test]
    fn a_short_start_up_shows_nothing() {
        let (mut line, screen) = line(80);
        line.show(Duration::from_millis(499));
        line.erase();
        assert_eq!(screen.text(), "");
    }

    #[test]
    fn a_long_one_shows_a_line_that_goes() {
        let (mut line, screen) = line(80);
        line.show(Duration::from_millis(500));
        line.show(Duration::from_millis(1240));
        line.erase();
        let shown = "\rring1: starting: 8 MiB, 0.5 s\rring1: starting: 8 MiB, 1.2 s";
        let erased = format!("\r{}\r", " ".repeat(29));
        assert_eq!(screen.text(), format!("{shown}{erased}"));
    }

    #[test]
    fn a_narrow_terminal_is_not_overrun() {
        let (mut line, screen) = line(10);
        line.show(Duration::from_secs(1));
        assert_eq!(screen.text(), "\rring1: st");
    }

    #[test]
    fn sizes_are_short() {
        let sizes = [512, 5 << 10, 128 << 20, (7 << 20) + (1 << 19)].map(size);
        assert_eq!(sizes, ["512 bytes", "5 KiB", "128 MiB", "7.5 MiB"]);
    }
}
