//! Host faults in code that accesses guest memory through a mirror.
//!
//! A mirror lacks most pages most of the time. The host then signals SIGSEGV to the
//! vCPU's thread, at an instruction that the cache has listed with its *landing*:
//! where to continue instead. The signal handler looks the instruction up, notes
//! the address, and continues there; the block leaves as by any side exit, and the
//! run loop does the rest in peace. A misaligned SSE operand arrives the same way.
//!
//! Any other SIGSEGV goes to whoever had it before.
//!
//! The handler runs on the thread that owns the list, and only ever while that
//! thread is inside host code, where nothing changes the list. It allocates nothing
//! and takes no lock.

#![allow(unsafe_code)] // Signal handling.

use std::cell::{Cell, UnsafeCell};
use std::ptr::{NonNull, null};
use translator::compile::Landing;

thread_local! {
    /// The list for the code that this thread runs, if it runs any.
    static CURRENT: Cell<*const List> = const { Cell::new(null()) };
}

/// A fault that the handler has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostFault {
    /// The host address; 0 if it was no page fault.
    pub address: u64,
    /// It was a store.
    pub write: bool,
}

/// By host addresses, ascending.
#[derive(Clone, Copy)]
struct Entry {
    start: u64,
    end: u64,
    at: u64,
}

#[derive(Default)]
struct List {
    entries: UnsafeCell<Vec<Entry>>,
    fault: Cell<HostFault>,
}

impl List {
    /// Where to continue after a fault at `ip`.
    fn find(&self, ip: u64) -> Option<u64> {
        // SAFETY: nobody changes the list while host code runs; see the module.
        let entries = unsafe { &*self.entries.get() };
        let behind = entries.partition_point(|entry| entry.end <= ip);
        let entry = entries.get(behind)?;
        (entry.start <= ip).then_some(entry.at)
    }
}

/// The landings of all code in a cache.
pub struct Landings(NonNull<List>);

// SAFETY: the list is owned by this value alone; a thread refers to it only
// between `enter` and the end of the `Entered`.
unsafe impl Send for Landings {}

impl Default for Landings {
    fn default() -> Self {
        // The handler reads the list behind everybody's back, so no reference to it
        // may be assumed unique: it is kept by pointer.
        Self(NonNull::from(Box::leak(Box::default())))
    }
}

impl Landings {
    fn list(&self) -> &List {
        // SAFETY: allocated by `default`, freed by `drop`.
        unsafe { self.0.as_ref() }
    }

    /// Adds the landings of code that has been placed at `address`, behind all code
    /// so far.
    pub fn add(&mut self, address: u64, landings: &[Landing]) {
        let of = |offset: u32| address + u64::from(offset);
        let entries = landings.iter().map(|landing| Entry {
            start: of(landing.start),
            end: of(landing.end),
            at: of(landing.at),
        });
        // SAFETY: no host code runs on this thread now, so the handler does not read.
        unsafe { &mut *self.list().entries.get() }.extend(entries);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        // SAFETY: as in `add`.
        unsafe { &mut *self.list().entries.get() }.clear();
    }

    /// The last fault.
    pub fn fault(&self) -> HostFault {
        self.list().fault.get()
    }

    /// Makes this list the one for host code that this thread runs, until the value
    /// returned is dropped. The `Landings` must live as long.
    #[must_use]
    pub fn enter(&self) -> Entered {
        let before = CURRENT.replace(self.0.as_ptr());
        Entered { before }
    }
}

impl Drop for Landings {
    fn drop(&mut self) {
        // SAFETY: allocated by `default`; no thread refers to it any more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// See [`Landings::enter`].
pub struct Entered {
    before: *const List,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

pub use handler::{install, land};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod handler {
    use super::{CURRENT, HostFault};
    use libc::{REG_ERR, REG_RIP, SIGSEGV, c_int, c_void, sigaction, siginfo_t, ucontext_t};
    use std::mem::MaybeUninit;
    use std::ptr::null_mut;
    use std::sync::OnceLock;

    /// Bit of the error code of a page fault: it was a store.
    const WRITE: i64 = 2;

    /// Who had SIGSEGV before. `None` if the handler could not be installed.
    static PREVIOUS: OnceLock<Option<Previous>> = OnceLock::new();

    struct Previous(sigaction);

    // SAFETY: plain data.
    unsafe impl Send for Previous {}
    // SAFETY: plain data, never changed.
    unsafe impl Sync for Previous {}

    /// Installs the handler, once per process. False if the host refuses.
    pub fn install() -> bool {
        PREVIOUS.get_or_init(set).is_some()
    }

    fn set() -> Option<Previous> {
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_fault;
        // SAFETY: all-zero is a valid `sigaction`, and so are its mask and old value.
        unsafe {
            let mut action: sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            let mut previous = MaybeUninit::zeroed();
            let done = libc::sigaction(SIGSEGV, &action, previous.as_mut_ptr()) == 0;
            done.then(|| Previous(previous.assume_init()))
        }
    }

    extern "C" fn on_fault(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
        // SAFETY: the host passes valid pointers.
        unsafe {
            if land(info, context) {
                return;
            }
            // It happens again, to whoever was here before.
            match PREVIOUS.get() {
                Some(Some(Previous(action))) => libc::sigaction(SIGSEGV, action, null_mut()),
                _ => libc::signal(SIGSEGV, libc::SIG_DFL) as c_int,
            };
        }
    }

    /// Has the code that caused SIGSEGV continue at its landing. False if it has none.
    /// For handlers installed after this one, which must ask first.
    ///
    /// # Safety
    /// To be called by a handler for SIGSEGV, with what it got.
    pub unsafe fn land(info: *mut siginfo_t, context: *mut c_void) -> bool {
        // SAFETY: the host passes valid pointers to handlers, and the list of a
        // thread that is in host code lives.
        let (info, registers, list) = unsafe {
            let registers = &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs;
            (&*info, registers, CURRENT.get().as_ref())
        };
        let ip = registers[REG_RIP as usize] as u64;
        let Some((list, landing)) = list.and_then(|list| Some((list, list.find(ip)?))) else {
            return false;
        };
        list.fault.set(HostFault {
            // SAFETY: SIGSEGV comes with an address.
            address: unsafe { info.si_addr() } as u64,
            write: registers[REG_ERR as usize] & WRITE != 0,
        });
        registers[REG_RIP as usize] = landing as i64;
        true
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod handler {
    use libc::{c_void, siginfo_t};

    /// There is no handler on this host.
    pub fn install() -> bool {
        false
    }

    /// Nothing to do.
    ///
    /// # Safety
    /// None needed.
    pub unsafe fn land(_: *mut siginfo_t, _: *mut c_void) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_landing_of_an_address_is_found() {
        let mut landings = Landings::default();
        let code = |start, end, at| Landing { start, end, at };
        landings.add(0x1000, &[code(4, 8, 100), code(8, 9, 120)]);
        landings.add(0x2000, &[code(0, 5, 64)]);
        let find = |ip| landings.list().find(ip);
        assert_eq!(find(0x1003), None);
        assert_eq!(find(0x1004), Some(0x1064));
        assert_eq!(find(0x1008), Some(0x1078));
        assert_eq!(find(0x1009), None);
        assert_eq!(find(0x2004), Some(0x2040));
        assert_eq!(find(0x2005), None);
    }
}
