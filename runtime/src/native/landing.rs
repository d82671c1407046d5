//! Host faults in code that accesses guest memory through a mirror.
//!
//! A mirror lacks most pages most of the time. The host then signals SIGSEGV to the
//! vCPU's thread, at an instruction that the cache has listed with its *landing*:
//! how to leave the block. The signal handler looks the instruction up, notes the
//! address, sets EIP, budget and exit word, and continues where blocks leave to, or
//! in code of the block that does all this; so the block leaves as by any side exit,
//! and the run loop does the rest in peace. A misaligned SSE operand arrives the same
//! way.
//!
//! Any other SIGSEGV goes to whoever had it before.
//!
//! The handler runs on the thread that owns the list, and only ever while that
//! thread is inside host code, where nothing changes the list. It allocates nothing
//! and takes no lock.

#![allow(unsafe_code)] // Signal handling.

use crate::cache::BlockId;
use crate::cache::arena::Spans;
use crate::cache::generations::GENERATIONS;
use std::cell::{Cell, UnsafeCell};
use std::ptr::{NonNull, null};
use translator::compile::{Landing, WayOut};

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
    /// The block whose code it was.
    pub owner: Option<BlockId>,
}

/// Code and where it has been placed.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// Host address of its first byte.
    pub address: u64,
    /// EIP of the block.
    pub eip: u32,
    /// The block.
    pub owner: BlockId,
}

/// What is listed of one, in ascending order. Host addresses count from the list's
/// base.
#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    bytes: u16,
    /// Instructions that are not done, or [`BY_CODE`].
    rest: u16,
    /// EIP, or the host address of the code.
    at: u32,
    owner: BlockId,
}

/// See [`Entry::rest`].
const BY_CODE: u16 = u16::MAX;

impl Entry {
    /// `None` if it is out of all proportion.
    fn new(placed: Placed, base: u64, landing: &Landing) -> Option<Self> {
        let of = |offset: u32| u32::try_from(placed.address + u64::from(offset) - base).ok();
        let (at, rest) = match landing.way_out {
            WayOut::Here { eip, rest } => (placed.eip.wrapping_add(eip), rest.try_into().ok()?),
            WayOut::Code(at) => (of(at)?, BY_CODE),
        };
        Some(Self {
            start: of(landing.start)?,
            bytes: landing.end.checked_sub(landing.start)?.try_into().ok()?,
            rest,
            at,
            owner: placed.owner,
        })
    }
}

struct List {
    /// Where the code begins.
    base: u64,
    spans: Spans,
    /// One for each span of the code.
    entries: UnsafeCell<[Vec<Entry>; GENERATIONS]>,
    fault: Cell<HostFault>,
}

impl List {
    /// What is listed for a fault at `ip`.
    fn find(&self, ip: u64) -> Option<Entry> {
        // SAFETY: nobody changes the list while host code runs; see the module.
        let entries = unsafe { &*self.entries.get() }.get(self.spans.of(ip)?)?;
        let ip = u32::try_from(ip.checked_sub(self.base)?).ok()?;
        let behind = entries.partition_point(|entry| entry.start <= ip);
        let entry = entries.get(behind.checked_sub(1)?)?;
        (ip - entry.start < u32::from(entry.bytes)).then_some(*entry)
    }
}

/// The landings of all code in a cache.
pub struct Landings(NonNull<List>);

// SAFETY: the list is owned by this value alone; a thread refers to it only
// between `enter` and the end of the `Entered`.
unsafe impl Send for Landings {}

impl Landings {
    /// A list for code at host addresses from `base` on, in these spans.
    pub fn new(base: u64, spans: Spans) -> Self {
        let list = List {
            base,
            spans,
            entries: UnsafeCell::default(),
            fault: Cell::default(),
        };
        // The handler reads the list behind everybody's back, so no reference to it
        // may be assumed unique: it is kept by pointer.
        Self(NonNull::from(Box::leak(Box::new(list))))
    }

    fn list(&self) -> &List {
        // SAFETY: allocated by `new`, freed by `drop`.
        unsafe { self.0.as_ref() }
    }

    /// Adds the landings of code that has been placed behind all code of its span.
    pub fn add(&mut self, placed: Placed, landings: &[Landing]) {
        let base = self.list().base;
        let entries = landings.iter();
        let entries = entries.filter_map(|landing| Entry::new(placed, base, landing));
        // SAFETY: no host code runs on this thread now, so the handler does not read.
        let spans = unsafe { &mut *self.list().entries.get() };
        let span = self.list().spans.of(placed.address);
        if let Some(span) = span.and_then(|number| spans.get_mut(number)) {
            span.extend(entries);
        }
    }

    /// Forgets what is listed of a span.
    pub fn clear_span(&mut self, number: usize) {
        // SAFETY: as in `add`.
        let spans = unsafe { &mut *self.list().entries.get() };
        if let Some(span) = spans.get_mut(number) {
            span.clear();
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        (0..GENERATIONS).for_each(|span| self.clear_span(span));
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
        // SAFETY: allocated by `new`; no thread refers to it any more.
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
    use super::{BY_CODE, CURRENT, Entry, HostFault};
    use libc::{
        REG_ERR, REG_R8, REG_R13, REG_R15, REG_RIP, SIGSEGV, c_int, c_void, sigaction, siginfo_t,
        ucontext_t,
    };
    use std::mem::MaybeUninit;
    use std::ptr::null_mut;
    use std::sync::OnceLock;
    use translator::compile::ExitKind;
    use translator::direct::hint;
    use translator::state::CpuState;

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
        let Some((list, entry)) = list.and_then(|list| Some((list, list.find(ip)?))) else {
            return false;
        };
        list.fault.set(HostFault {
            // SAFETY: SIGSEGV comes with an address.
            address: unsafe { info.si_addr() } as u64,
            write: registers[REG_ERR as usize] & WRITE != 0,
            owner: Some(entry.owner),
        });
        match entry.rest {
            BY_CODE => registers[REG_RIP as usize] = (list.base + u64::from(entry.at)) as i64,
            // SAFETY: it was direct code that was interrupted.
            _ => unsafe { leave(registers, entry) },
        }
        true
    }

    /// Has direct code leave its block, as a side exit of it would.
    ///
    /// # Safety
    /// The registers are those of direct code.
    unsafe fn leave(registers: &mut [i64; 23], entry: Entry) {
        // SAFETY: the state is in R15 throughout, and belongs to the code that runs.
        let state = unsafe { &mut *(registers[REG_R15 as usize] as *mut CpuState) };
        state.eip = entry.at;
        registers[REG_R13 as usize] -= i64::from(entry.rest);
        registers[REG_R8 as usize] = (hint::MIRROR | ExitKind::Interpret as u64) as i64;
        registers[REG_RIP as usize] = state.direct_leave as i64;
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

    const SPANS: Spans = Spans {
        first: 0x1100,
        bytes: 0xf00,
    };

    fn found(landings: &Landings, ip: u64) -> Option<(u16, u32, u32)> {
        let entry = landings.list().find(ip);
        entry.map(|e| (e.rest, e.at, e.owner.0))
    }

    #[test]
    fn the_landing_of_an_address_is_found() {
        let mut landings = Landings::new(0x1000, SPANS);
        let landing = |start, end, way_out| Landing {
            start,
            end,
            way_out,
        };
        let placed = |address, owner| Placed {
            address,
            eip: 0xffff_fffe,
            owner: BlockId(owner),
        };
        let [here, code] = [WayOut::Here { eip: 3, rest: 2 }, WayOut::Code(100)];
        let two = [landing(4, 8, here), landing(8, 9, code)];
        landings.add(placed(0x1100, 7), &two);
        landings.add(placed(0x2000, 8), &[landing(0, 5, here)]);
        let find = |ip| found(&landings, ip);
        assert_eq!(find(0x0fff), None);
        assert_eq!(find(0x1103), None);
        assert_eq!(find(0x1104), Some((2, 1, 7)));
        assert_eq!(find(0x1108), Some((BY_CODE, 0x164, 7)));
        assert_eq!(find(0x1109), None);
        assert_eq!(find(0x2004), Some((2, 1, 8)));
        assert_eq!(find(0x2005), None);
        landings.clear_span(0);
        assert_eq!(found(&landings, 0x1104), None);
        assert_eq!(found(&landings, 0x2004), Some((2, 1, 8)));
    }
}
