//! The terminal's raw mode, and the ways back out of it.
//!
//! A terminal left raw is a broken terminal, so the saved settings are put back
//! on every way out of the process that can be caught:
//! - [`RawMode`] dropped, which includes a panic that unwinds;
//! - `exit`, from anywhere (an `atexit` handler);
//! - SIGHUP, SIGINT, SIGQUIT, SIGTERM (a thread waits for them, restores and
//!   then dies of the signal, so the parent sees the truth);
//! - SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE: a handler restores, puts the
//!   former handler back and returns, so the fault happens again and is
//!   reported as if this handler had never been there. A signal that a process
//!   sent does not come again by itself: it is raised, to its default action.
//!
//! There is no panic hook: a panic caught elsewhere must not end raw mode.
//! Output processing stays on, so messages of ours on the same terminal do not
//! walk down the screen.
//!
//! Invariant: [`SAVED`] is set before the terminal becomes raw and never
//! changes; restoring is one system call, which is safe in a signal handler.
#![allow(unsafe_code)]

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr,
    tcsetattr,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

/// The settings the terminal had before us.
static SAVED: OnceLock<Termios> = OnceLock::new();
/// Whether the terminal is raw now.
static RAW: AtomicBool = AtomicBool::new(false);

/// Signals that mean a defect of this program.
const CRASHES: [libc::c_int; 5] = [
    libc::SIGABRT,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
];
/// The handlers of [`CRASHES`] before ours.
static FORMER: OnceLock<[libc::sigaction; CRASHES.len()]> = OnceLock::new();

/// Keeps the terminal raw while it lives.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Makes the terminal on standard input raw; `None` if it is not one.
    ///
    /// # Errors
    /// When the host refuses the settings or a signal handler.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let current = tcgetattr(stdin)?;
        let first = SAVED.set(current.clone()).is_ok();
        if first {
            restore_on_exit();
            restore_on_signals()?;
            restore_on_crashes();
        }
        RAW.store(true, Ordering::SeqCst);
        tcsetattr(stdin, OptionalActions::Now, &raw(current))?;
        Ok(Some(Self(())))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back if it is raw. Safe in a signal handler, and for
/// signal handlers that replace those of this file.
pub fn restore() {
    if RAW.swap(false, Ordering::SeqCst)
        && let Some(saved) = SAVED.get()
    {
        // Nothing is left to do for a terminal that has gone.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, saved);
    }
}

/// Byte by byte, no echo, no signals from keys, no translation of input.
fn raw(mut settings: Termios) -> Termios {
    settings.input_modes -= InputModes::IGNBRK
        | InputModes::BRKINT
        | InputModes::PARMRK
        | InputModes::ISTRIP
        | InputModes::INLCR
        | InputModes::IGNCR
        | InputModes::ICRNL
        | InputModes::IXON;
    settings.local_modes -= LocalModes::ECHO
        | LocalModes::ECHONL
        | LocalModes::ICANON
        | LocalModes::ISIG
        | LocalModes::IEXTEN;
    settings.special_codes[SpecialCodeIndex::VMIN] = 1;
    settings.special_codes[SpecialCodeIndex::VTIME] = 0;
    settings
}

fn restore_on_exit() {
    extern "C" fn at_exit() {
        restore();
    }
    // SAFETY: `at_exit` is a plain function that lives as long as the process.
    unsafe {
        // If there is no room for it, dropping still restores.
        libc::atexit(at_exit);
    }
}

fn restore_on_signals() -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                restore();
                // Does not return for these signals.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        })?;
    Ok(())
}

fn restore_on_crashes() {
    let former = CRASHES.map(|signal| {
        // SAFETY: an all-zero sigaction is valid (default action, no flags), and
        // both pointers are to live values.
        unsafe {
            let mut former: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &mut former);
            former
        }
    });
    if FORMER.set(former).is_err() {
        return;
    }
    for signal in CRASHES {
        // SAFETY: `on_crash` has the signature that SA_SIGINFO asks for and calls
        // only async-signal-safe functions; FORMER is set.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_crash as CrashHandler as libc::sighandler_t;
            action.sa_flags = libc::SA_ONSTACK | libc::SA_SIGINFO;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

type CrashHandler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

extern "C" fn on_crash(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    restore();
    // SAFETY: `info` is what the kernel gave. Zeroed is the default action, and
    // what FORMER has was filled in by sigaction for this very signal. A raised
    // signal waits until this returns, for it is blocked here.
    unsafe {
        // Codes up to zero mean that a process sent it.
        if info.as_ref().is_none_or(|info| info.si_code <= 0) {
            let default: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, &default, std::ptr::null_mut());
            libc::raise(signal);
        } else if let Some(former) = former_of(signal) {
            libc::sigaction(signal, former, std::ptr::null_mut());
        }
    }
}

fn former_of(signal: libc::c_int) -> Option<&'static libc::sigaction> {
    let index = CRASHES.iter().position(|&crash| crash == signal)?;
    FORMER.get()?.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restoring_what_is_not_raw_does_nothing() {
        restore();
        assert!(!RAW.load(Ordering::SeqCst));
    }
}
