//! The crossing into compatibility mode and the way back through a signal.
//!
//! `enter` stores the callee-saved registers, loads the guest's and leaves by
//! `IRETQ`. The handler, on its own stack, copies what the kernel saved of the
//! 32-bit code into `CAPTURE` and makes the kernel return to the landing instead.
//! A timer on the thread's CPU time ends code that raises nothing: the run that
//! two ticks in a row find running is hung.

#![allow(unsafe_code)] // 32-bit code on the host CPU.

use crate::native::landing;
use crate::selftest::state::{Outcome, State};
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::{self, MaybeUninit};
use std::ptr;

const HANDLED: [i32; 6] = [
    libc::SIGTRAP,
    libc::SIGSEGV,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGBUS,
    libc::SIGALRM,
];
const ALT_STACK_BYTES: usize = 64 * 1024;
const TICK_NS: i64 = 100_000_000;
const USER_CODE_64: i64 = 0x33;
const USER_CODE_32: i64 = 0x23;
const USER_DATA: i64 = 0x2b;
const TF: i64 = 1 << 8;
/// Of `CAPTURE.vector`: the timer, not an exception, ended the run.
const HUNG: u8 = 0xff;

/// What the handler and the runner share.
struct Shared {
    /// Between entry and landing.
    running: bool,
    /// The run, or step, that was going on at the last tick.
    ticked: u64,
    /// Number of the current run, or of the current step of a traced one.
    run: u64,
    /// Single steps that may still be taken.
    steps_left: usize,
    /// Where the states of single steps go; null when not stepping.
    steps: *mut Vec<State>,
    /// The registers at the end of the run.
    state: State,
    vector: u8,
    error: u32,
    addr: u32,
    /// Whether the end came while in 32-bit code.
    in_guest: bool,
    previous: [MaybeUninit<libc::sigaction>; HANDLED.len()],
}

struct Global<T>(UnsafeCell<T>);

// SAFETY: only the holder of the lock in `silicon` and handlers that interrupt it
// between entry and landing reach the content.
unsafe impl<T> Sync for Global<T> {}

static SHARED: Global<Shared> = Global(UnsafeCell::new(Shared {
    running: false,
    ticked: 0,
    run: 0,
    steps_left: 0,
    steps: ptr::null_mut(),
    state: State {
        fxsave: [0; 512],
        gpr: [0; 8],
        eip: 0,
        eflags: 0,
    },
    vector: 0,
    error: 0,
    addr: 0,
    in_guest: false,
    previous: [const { MaybeUninit::uninit() }; HANDLED.len()],
}));

/// Host RSP between entry and landing.
static HOST_RSP: Global<u64> = Global(UnsafeCell::new(0));

std::arch::global_asm!(
    ".p2align 4",
    "silicon_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "sub rsp, 8",
    "stmxcsr [rsp]",
    "fnstcw [rsp + 4]",
    "mov [rip + {host_rsp}], rsp",
    "fxrstor [rdi + {fxsave}]",
    "mov eax, 0x2b",
    "mov ds, eax",
    "mov es, eax",
    // The frame of IRETQ: SS, RSP, RFLAGS, CS, RIP.
    "push 0x2b",
    "mov eax, [rdi + {gpr} + 16]",
    "push rax",
    "mov eax, [rdi + {eflags}]",
    "push rax",
    "push 0x23",
    "mov eax, [rdi + {eip}]",
    "push rax",
    "mov eax, [rdi + {gpr}]",
    "mov ecx, [rdi + {gpr} + 4]",
    "mov edx, [rdi + {gpr} + 8]",
    "mov ebx, [rdi + {gpr} + 12]",
    "mov ebp, [rdi + {gpr} + 20]",
    "mov esi, [rdi + {gpr} + 24]",
    "mov edi, [rdi + {gpr} + 28]",
    "iretq",
    // The handler resumes here with RSP = HOST_RSP.
    "silicon_landing:",
    // The kernel keeps NT and ID as the 32-bit code left them; IRETQ needs NT clear.
    "push 0x202",
    "popfq",
    "fninit",
    "fldcw [rsp + 4]",
    "ldmxcsr [rsp]",
    "xor eax, eax",
    "mov ds, eax",
    "mov es, eax",
    "add rsp, 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    // The kernel leaves AC as the 32-bit code had it; our code is not aligned.
    ".p2align 4",
    "silicon_signal:",
    "pushfq",
    "btr dword ptr [rsp], 18",
    "popfq",
    "jmp {on_signal}",
    on_signal = sym on_signal,
    host_rsp = sym HOST_RSP,
    fxsave = const mem::offset_of!(State, fxsave),
    gpr = const mem::offset_of!(State, gpr),
    eip = const mem::offset_of!(State, eip),
    eflags = const mem::offset_of!(State, eflags),
);

unsafe extern "C" {
    fn silicon_enter(state: *const State);
    fn silicon_landing();
    fn silicon_signal();
}

/// Runs 32-bit code from `entry` until an exception.
pub fn enter(entry: &State) -> (State, Outcome) {
    cross(entry, 0, ptr::null_mut())
}

/// As [`enter`], adding the state after each of at most `limit` single steps.
/// `entry` must have TF set.
pub fn enter_stepping(entry: &State, limit: usize, states: &mut Vec<State>) -> (State, Outcome) {
    // The handler must not allocate.
    states.reserve(limit);
    cross(entry, limit, states)
}

fn cross(entry: &State, steps_left: usize, steps: *mut Vec<State>) -> (State, Outcome) {
    let shared = SHARED.0.get();
    // SAFETY: the caller holds the lock of `silicon`, the handlers are installed,
    // and `running` tells them that the shared block is theirs until the landing.
    // The asm keeps the C calling convention; `State` has the layout it reads.
    unsafe {
        (*shared).run += 1;
        (*shared).steps_left = steps_left;
        (*shared).steps = steps;
        ptr::write_volatile(&raw mut (*shared).running, true);
        silicon_enter(entry);
        ptr::write_volatile(&raw mut (*shared).running, false);
        assert!(
            (*shared).in_guest,
            "the CPU refused the entry state: vector {} at {:08x}, MXCSR {:08x}",
            (*shared).vector,
            (*shared).state.eip,
            entry.mxcsr(),
        );
        let outcome = match (*shared).vector {
            HUNG => Outcome::Hung,
            vector => Outcome::Trap {
                vector,
                error: (*shared).error,
                addr: (*shared).addr,
            },
        };
        ((*shared).state, outcome)
    }
}

/// Handlers, signal stack and timer, in place until dropped.
pub struct Installed {
    timer: libc::timer_t,
    old_stack: libc::stack_t,
    _stack: Box<[u8]>,
}

/// Installs the handlers for this thread.
pub fn install() -> Option<Installed> {
    // Guests under test have faults of their own: their handler comes before.
    landing::install();
    let mut stack = vec![0u8; ALT_STACK_BYTES].into_boxed_slice();
    let new_stack = libc::stack_t {
        ss_sp: stack.as_mut_ptr().cast::<c_void>(),
        ss_flags: 0,
        ss_size: ALT_STACK_BYTES,
    };
    // SAFETY: plain system calls on values of ours; the stack lives as long as
    // `Installed`, whose drop puts the old one back. `SHARED` is ours by the lock.
    unsafe {
        let mut old_stack: libc::stack_t = mem::zeroed();
        if libc::sigaltstack(&new_stack, &mut old_stack) != 0 {
            return None;
        }
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = silicon_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigfillset(&mut action.sa_mask);
        for (i, &signal) in HANDLED.iter().enumerate() {
            let previous = (*SHARED.0.get()).previous[i].as_mut_ptr();
            libc::sigaction(signal, &action, previous);
        }
        Some(Installed {
            timer: start_timer()?,
            old_stack,
            _stack: stack,
        })
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // SAFETY: undoes what `install` did, on the same thread (`Silicon` is not
        // `Send`), while the lock is still held.
        unsafe {
            libc::timer_delete(self.timer);
            for (i, &signal) in HANDLED.iter().enumerate() {
                let previous = (*SHARED.0.get()).previous[i].as_ptr();
                libc::sigaction(signal, previous, ptr::null_mut());
            }
            libc::sigaltstack(&self.old_stack, ptr::null_mut());
        }
    }
}

/// A repeating SIGALRM to this thread, by the CPU time it uses.
fn start_timer() -> Option<libc::timer_t> {
    let tick = libc::timespec {
        tv_sec: 0,
        tv_nsec: TICK_NS,
    };
    let period = libc::itimerspec {
        it_interval: tick,
        it_value: tick,
    };
    // SAFETY: plain system calls; every pointer is to a live local.
    unsafe {
        let mut event: libc::sigevent = mem::zeroed();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        event.sigev_notify_thread_id = libc::gettid();
        let mut timer: libc::timer_t = ptr::null_mut();
        if libc::timer_create(libc::CLOCK_THREAD_CPUTIME_ID, &mut event, &mut timer) != 0 {
            return None;
        }
        libc::timer_settime(timer, 0, &period, ptr::null_mut());
        Some(timer)
    }
}

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    let shared = SHARED.0.get();
    // SAFETY: passes on what the kernel passed.
    if signal == libc::SIGSEGV && unsafe { landing::land(info, context) } {
        return;
    }
    // SAFETY: the kernel passes a valid context; `SHARED` is this handler's while
    // `running` (see `cross`), and only read otherwise.
    unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        if !ptr::read_volatile(&raw const (*shared).running) {
            return not_ours(signal);
        }
        let cs = context.uc_mcontext.gregs[libc::REG_CSGSFS as usize] & 0xffff;
        let in_guest = cs == USER_CODE_32;
        if signal == libc::SIGALRM {
            let hung = in_guest && (*shared).ticked == (*shared).run;
            (*shared).ticked = (*shared).run;
            if !hung {
                return;
            }
        }
        (*shared).in_guest = in_guest;
        capture(&mut *shared, signal, context);
        if stepped(&mut *shared, context) {
            return;
        }
        land(context);
    }
}

/// Copies the interrupted 32-bit state out of the kernel's frame.
///
/// # Safety
/// `context` must be a signal context with an FXSAVE image.
unsafe fn capture(shared: &mut Shared, signal: i32, context: &libc::ucontext_t) {
    let regs = &context.uc_mcontext.gregs;
    let order = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
    ];
    for (gpr, reg) in shared.state.gpr.iter_mut().zip(order) {
        *gpr = regs[reg as usize] as u32;
    }
    shared.state.eip = regs[libc::REG_RIP as usize] as u32;
    shared.state.eflags = regs[libc::REG_EFL as usize] as u32;
    let image = context.uc_mcontext.fpregs.cast::<[u8; 512]>();
    // SAFETY: on x86-64 `fpregs` points to at least an FXSAVE image in the frame.
    shared.state.fxsave = unsafe { *image };
    if signal == libc::SIGALRM {
        shared.vector = HUNG;
        return;
    }
    shared.vector = regs[libc::REG_TRAPNO as usize] as u8;
    shared.error = regs[libc::REG_ERR as usize] as u32;
    let page_fault = shared.vector == 14;
    shared.addr = if page_fault {
        regs[libc::REG_CR2 as usize] as u32
    } else {
        0
    };
}

/// Whether the signal was a single step to be recorded and followed by another.
///
/// # Safety
/// `shared.steps` must be null or a vector with room for `steps_left` states.
unsafe fn stepped(shared: &mut Shared, context: &mut libc::ucontext_t) -> bool {
    if shared.steps.is_null() || shared.vector != 1 || shared.steps_left == 0 {
        return false;
    }
    shared.steps_left -= 1;
    // To the timer every step is a run of its own: many of them are not a hang.
    shared.run += 1;
    // SAFETY: `enter_stepping` passed a live vector and reserved room in it.
    unsafe { (*shared.steps).push(shared.state) };
    // A POPF may have cleared it.
    context.uc_mcontext.gregs[libc::REG_EFL as usize] |= TF;
    true
}

/// Makes the kernel return to the landing in 64-bit mode.
///
/// # Safety
/// Only between entry and landing, when `HOST_RSP` is the stack of `silicon_enter`.
unsafe fn land(context: &mut libc::ucontext_t) {
    let regs = &mut context.uc_mcontext.gregs;
    regs[libc::REG_RIP as usize] = silicon_landing as *const () as i64;
    // SAFETY: set by `silicon_enter`, which this handler interrupts.
    regs[libc::REG_RSP as usize] = unsafe { *HOST_RSP.0.get() } as i64;
    regs[libc::REG_EFL as usize] = 0x202;
    let fs_gs = regs[libc::REG_CSGSFS as usize] & 0x0000_ffff_ffff_0000;
    regs[libc::REG_CSGSFS as usize] = fs_gs | USER_CODE_64 | (USER_DATA << 48);
}

/// A signal that does not concern 32-bit code: the timer is dropped, for anything
/// else the previous action is put back, and the instruction repeats into it.
///
/// # Safety
/// Must be called by a signal handler, after `install`.
unsafe fn not_ours(signal: i32) {
    if signal == libc::SIGALRM {
        return;
    }
    if let Some(i) = HANDLED.iter().position(|&handled| handled == signal) {
        // SAFETY: `install` filled the entry before this handler could run.
        unsafe {
            let previous = (*SHARED.0.get()).previous[i].as_ptr();
            libc::sigaction(signal, previous, ptr::null_mut());
        }
    }
}
