//! The host CPU as judge: runs 32-bit code natively, inside this 64-bit process.
//!
//! An x86-64 kernel keeps a 32-bit user code segment (selector 0x23) in every
//! CPU's descriptor table, also for 64-bit processes. An `IRETQ` to it enters
//! compatibility mode, and the CPU executes i386 code exactly as an i386 would.
//! Memory that this code may touch is mapped at fixed addresses below 4 GiB.
//! The way back is an exception: its signal handler copies the registers out of
//! the interrupted context and redirects that context to a 64-bit landing place.
//!
//! Invariants:
//! - FS and GS are never loaded, they hold the thread's local storage;
//!   callers must not pass code that loads them, nor code that enters the kernel
//!   (`INT 80h`, `SYSENTER`, `SYSCALL`).
//! - One [`Silicon`] exists at a time (a global lock it holds), and it stays on
//!   the thread that made it: signal stack and timer belong to that thread.
//! - The handlers act only between entry and landing; any other signal goes to
//!   whoever was registered before.

mod arena;
mod signals;

use crate::selftest::case::{Case, Oracle, Subject};
use crate::selftest::state::{
    CODE_BASE, CODE_BYTES, CODE_FILL, DATA_BASE, DATA_BYTES, Outcome, Run, SENTINEL, STACK_BASE,
    STACK_BYTES, State,
};
use arena::{Arena, CodeArena};
use std::sync::{Mutex, MutexGuard, PoisonError};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// TF, the single-step flag (SDM vol. 1, "EFLAGS Register").
const TF: u32 = 1 << 8;

/// The right to run 32-bit code on the host CPU.
pub struct Silicon {
    code: CodeArena,
    data: Arena,
    stack: Arena,
    dirty: std::ops::Range<usize>,
    _signals: signals::Installed,
    _lock: MutexGuard<'static, ()>,
}

impl Silicon {
    /// Maps the arenas and installs the handlers. `None` where the low addresses
    /// are taken or the kernel has no 32-bit code segment.
    pub fn new() -> Option<Silicon> {
        let lock = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut silicon = Silicon {
            code: CodeArena::new(CODE_BASE, CODE_BYTES)?,
            data: Arena::new(DATA_BASE, DATA_BYTES)?,
            stack: Arena::new(STACK_BASE, STACK_BYTES)?,
            dirty: 0..0,
            _signals: signals::install()?,
            _lock: lock,
        };
        silicon.code.bytes().fill(CODE_FILL);
        let (_, outcome) = silicon.run(&[], &State::new());
        (outcome == Outcome::END).then_some(silicon)
    }

    /// The data arena.
    pub fn data(&mut self) -> &mut [u8] {
        self.data.bytes()
    }

    /// The stack arena.
    pub fn stack(&mut self) -> &mut [u8] {
        self.stack.bytes()
    }

    /// Both arenas at once: data, stack.
    pub fn arenas(&mut self) -> (&mut [u8], &mut [u8]) {
        (self.data.bytes(), self.stack.bytes())
    }

    /// Runs `code` from `entry` until its first exception. The code is placed at
    /// `entry.eip` and followed by [`SENTINEL`] unless the code pages end there.
    ///
    /// # Panics
    /// If `entry.eip` is outside the code pages, or the code does not fit, or the
    /// CPU refuses the FXSAVE image (reserved bits in MXCSR).
    pub fn run(&mut self, code: &[u8], entry: &State) -> (State, Outcome) {
        self.place(code, entry.eip);
        signals::enter(entry)
    }

    /// As [`run`](Silicon::run), with everything left behind copied out.
    pub fn run_all(&mut self, code: &[u8], entry: &State) -> Run {
        let (state, outcome) = self.run(code, entry);
        Run {
            state,
            outcome,
            data: self.data().to_vec(),
            stack: self.stack().to_vec(),
        }
    }

    /// Single-steps `code`: the states before each executed instruction (at most
    /// `limit`), then the final one. TF is set throughout, so a `PUSHF` shows it.
    pub fn trace(&mut self, code: &[u8], entry: &State, limit: usize) -> Vec<State> {
        self.place(code, entry.eip);
        let mut stepping = *entry;
        stepping.eflags |= TF;
        let mut states = vec![*entry];
        let (last, _) = signals::enter_stepping(&stepping, limit, &mut states);
        states.push(last);
        for state in &mut states {
            state.eflags &= !TF;
        }
        states
    }

    /// Puts `code` at `eip` and restores the fill where the last sequence was.
    fn place(&mut self, code: &[u8], eip: u32) {
        let start = eip.wrapping_sub(CODE_BASE) as usize;
        assert!(
            start + code.len() <= CODE_BYTES,
            "a sequence must lie in the code pages"
        );
        let pages = self.code.bytes();
        pages[self.dirty.clone()].fill(CODE_FILL);
        let end = start + code.len();
        pages[start..end].copy_from_slice(code);
        if let Some(after) = pages.get_mut(end) {
            *after = SENTINEL;
        }
        self.dirty = start..CODE_BYTES.min(end + 1);
    }
}

impl Silicon {
    /// Fills the arenas for `case` and protects what it wants protected.
    fn load(&mut self, case: &Case) {
        self.data.protect(None);
        let (data, stack) = self.arenas();
        case.fill(data, stack);
        self.data.protect(case.read_only_page);
    }
}

impl Subject for Silicon {
    fn run(&mut self, case: &Case) -> Run {
        self.load(case);
        self.run_all(&case.code, &case.entry)
    }
}

impl Oracle for Silicon {
    fn trace(&mut self, case: &Case, limit: usize) -> Vec<State> {
        self.load(case);
        Silicon::trace(self, &case.code, &case.entry, limit)
    }
}
