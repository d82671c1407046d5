//! The host's own FPU: the x87 register file as the home of a guest's, and the
//! call into a thunk.
//!
//! # Residency
//! Moving the x87 state in and out of memory costs many times what an x87
//! instruction costs. Nothing on an x86-64 host uses x87 registers: Rust and
//! Cranelift do floating point in SSE registers, and the host kernel keeps the
//! x87 registers per thread across signals and switches. So a guest's x87 state
//! stays in them between instructions, until something wants to see it in
//! memory or another guest's state needs the place.
//!
//! # Invariants
//! - A state is resident only while its control word masks every exception, so
//!   ES is clear and no host instruction can signal. A guest that unmasks one
//!   has its state loaded and saved around each instruction; the host raises
//!   x87 exceptions only at the *next* waiting instruction, and none runs before
//!   the state is saved and the registers are reset.
//! - `RESIDENT` names the state that is in this thread's registers. A displaced
//!   state waits in `DISPLACED` until its owner asks. [`X87`] cannot change
//!   threads, so both can be thread-local.
//! - MXCSR is the host's own except inside a thunk, which restores it.
//!
//! The calling convention asks for an empty x87 stack at calls; that this is
//! not kept is safe as long as nothing called uses x87, see above.

#![allow(unsafe_code)] // Host FPU state, generated code, operands in guest memory.

use crate::cache::arena::Arena;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use translator::state::VECTOR_MXCSR;

/// What FXSAVE writes.
#[repr(C, align(16))]
#[derive(Clone)]
pub struct Area(pub [u8; 512]);

/// What a thunk works on; it holds the address of this in RDX. Direct code knows
/// where the registers are.
#[repr(C, align(64))]
pub struct State {
    /// XMM0–XMM7.
    pub xmm: [[u8; 16]; 8],
    /// The guest's MXCSR.
    pub mxcsr: u32,
    /// The host's, for thunks that load the guest's.
    pub host_mxcsr: u32,
    /// Aligns what follows to 16 bytes.
    pub reserved: [u32; 2],
    /// A memory operand that is not in plain RAM, or an environment image.
    pub scratch: [u8; SCRATCH_BYTES],
}

const _: () = assert!(std::mem::offset_of!(State, xmm) == 0);
const _: () = assert!(std::mem::offset_of!(State, mxcsr) == VECTOR_MXCSR);
const _: () = assert!(std::mem::offset_of!(State, host_mxcsr) == VECTOR_MXCSR + 4);

impl Default for State {
    /// MXCSR as after reset.
    fn default() -> Self {
        Self {
            xmm: [[0; 16]; 8],
            scratch: [0; SCRATCH_BYTES],
            mxcsr: HOST_MXCSR,
            host_mxcsr: HOST_MXCSR,
            reserved: [0; 2],
        }
    }
}

/// MXCSR as the Rust code around the thunks wants it.
pub const HOST_MXCSR: u32 = 0x1f80;

/// Size of [`State::scratch`]; an FSAVE image fits.
pub const SCRATCH_BYTES: usize = 128;

/// Where a thunk finds its memory operand.
#[derive(Clone, Copy)]
pub struct Place(u64);

impl Place {
    /// The guest page itself, if `table`, a shadow table of the current address
    /// space, permits the whole access.
    #[inline(always)]
    pub fn direct(table: u64, addr: u32, bytes: u32) -> Option<Self> {
        // SAFETY: the table has 2^20 entries and lives until the next change of
        // paging; `addr >> 12` is below that.
        let entry = unsafe { (table as *const u64).add((addr >> 12) as usize).read() };
        (entry != 0 && addr & 0xfff <= 0x1000 - bytes)
            .then(|| Self(entry.wrapping_add(u64::from(addr))))
    }

    /// The state's scratch buffer.
    #[inline(always)]
    pub fn scratch(state: &mut State) -> Self {
        Self(state.scratch.as_mut_ptr() as u64)
    }
}

/// A generated function in executable memory.
#[derive(Clone, Copy)]
pub struct Entry(u64);

type Thunk = unsafe extern "sysv64" fn(u64, u64, *mut State, u64) -> u64;

impl Entry {
    /// Stands in where the code is not yet known; [`Entry::call`] does nothing.
    pub const NONE: Self = Self(0);

    /// Makes a thunk's code executable, if there is room. `code` must come from
    /// `thunk::generate`, and the arena live as long as the entry.
    pub fn publish(arena: &mut Arena, code: &[u8]) -> Option<Self> {
        arena.add(code).map(Self)
    }

    /// Runs the thunk. `input` is what it wants in RCX: the value of a register
    /// operand, or flags.
    #[inline(always)]
    pub fn call(self, place: Place, state: &mut State, input: u64) -> u64 {
        if self.0 == 0 {
            return 0;
        }
        // SAFETY: `publish` is given generated code only; a `Place` is guest RAM
        // or the scratch, both large enough for the operand of the thunk's plan.
        unsafe {
            let thunk: Thunk = std::mem::transmute::<u64, Thunk>(self.0);
            thunk(place.0, place.0, state, input)
        }
    }
}

thread_local! {
    /// Identity of the state in this thread's x87 registers, or 0.
    static RESIDENT: Cell<u64> = const { Cell::new(0) };
    /// States that had to give way, by identity.
    static DISPLACED: RefCell<BTreeMap<u64, Area>> = const { RefCell::new(BTreeMap::new()) };
}

/// A guest's x87 and MMX state, in memory or in the host's registers.
pub struct X87 {
    area: Area,
    /// `area` is stale: the state is in the registers, or displaced.
    away: bool,
    identity: u64,
    /// Residency is per thread.
    not_send: PhantomData<*const ()>,
}

impl X87 {
    /// The state after FNINIT.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut area = Area([0; 512]);
        area.0[..2].copy_from_slice(&0x037fu16.to_le_bytes());
        area.0[24..28].copy_from_slice(&HOST_MXCSR.to_le_bytes());
        Self {
            area,
            away: false,
            identity: NEXT.fetch_add(1, Ordering::Relaxed),
            not_send: PhantomData,
        }
    }

    /// The state is in the registers or displaced: its control word masks all
    /// exceptions.
    #[inline(always)]
    pub fn is_away(&self) -> bool {
        self.away
    }

    /// Puts the state into the registers.
    #[inline(always)]
    pub fn enter(&mut self) {
        if RESIDENT.get() != self.identity {
            self.enter_slow();
        }
    }

    #[cold]
    fn enter_slow(&mut self) {
        displace();
        self.recall();
        // SAFETY: `area` is an FXSAVE image written by FXSAVE or with a valid
        // MXCSR; see the module's notes on residency.
        unsafe { fxrstor(&self.area) };
        RESIDENT.set(self.identity);
        self.away = true;
    }

    /// Takes the state out of the registers, leaving them as after FNINIT.
    pub fn leave(&mut self) {
        if self.away && RESIDENT.get() == self.identity {
            self.save();
            reset();
            RESIDENT.set(0);
            self.away = false;
        }
        self.recall();
    }

    /// Forgets what is in the registers: the state is what it was when it was
    /// entered.
    pub fn abandon(&mut self) {
        if self.away && RESIDENT.get() == self.identity {
            reset();
            RESIDENT.set(0);
            self.away = false;
        }
    }

    /// The state in memory, up to date. It stays in the registers if it is there.
    pub fn area(&mut self) -> &Area {
        if self.away && RESIDENT.get() == self.identity {
            self.save();
        } else {
            self.recall();
        }
        &self.area
    }

    /// The state in memory, to be changed; MXCSR and the XMM fields are not the
    /// guest's.
    pub fn area_mut(&mut self) -> &mut Area {
        self.leave();
        &mut self.area
    }

    fn save(&mut self) {
        // SAFETY: `area` is 512 bytes, aligned to 16.
        unsafe { fxsave(&mut self.area) };
        // Opcode and addresses of the last instruction are not the guest's.
        self.area.0[6..24].fill(0);
    }

    /// Takes a displaced state back.
    fn recall(&mut self) {
        if self.away && RESIDENT.get() != self.identity {
            if let Some(area) = DISPLACED.with_borrow_mut(|d| d.remove(&self.identity)) {
                self.area = area;
            }
            self.away = false;
        }
    }
}

impl Default for X87 {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for X87 {
    fn drop(&mut self) {
        if !self.away {
            return;
        }
        // When the thread itself ends its table may be gone, and its registers are.
        let _ = RESIDENT.try_with(|r| {
            if r.get() == self.identity {
                r.set(0);
            }
        });
        let _ = DISPLACED.try_with(|d| d.borrow_mut().remove(&self.identity));
    }
}

/// Saves the state that is in the registers for its owner.
fn displace() {
    let resident = RESIDENT.replace(0);
    if resident == 0 {
        return;
    }
    let mut area = Area([0; 512]);
    // SAFETY: `area` is 512 bytes, aligned to 16.
    unsafe { fxsave(&mut area) };
    area.0[6..24].fill(0);
    DISPLACED.with_borrow_mut(|d| d.insert(resident, area));
}

/// The MXCSR bits the host has, those of a 32-bit guest.
pub fn mxcsr_mask() -> u32 {
    let mut area = Area([0; 512]);
    // SAFETY: `area` is 512 bytes, aligned to 16.
    unsafe { fxsave(&mut area) };
    let field = [area.0[28], area.0[29], area.0[30], area.0[31]];
    // A CPU that leaves the field zero has the first SSE's bits.
    match u32::from_le_bytes(field) {
        0 => 0xffbf,
        mask => mask & 0xffff,
    }
}

/// Leaves no x87 exception pending.
fn reset() {
    // SAFETY: FNINIT never faults and touches x87 state only.
    unsafe { std::arch::asm!("fninit", options(nomem, nostack, preserves_flags)) };
}

/// # Safety
/// None beyond that of a write to `area`.
unsafe fn fxsave(area: &mut Area) {
    // SAFETY: `Area` has FXSAVE's size and alignment.
    unsafe {
        std::arch::asm!("fxsave [{}]", in(reg) &raw mut *area, options(nostack, preserves_flags));
    }
}

/// # Safety
/// `area` must hold a valid MXCSR, with the host's control bits.
unsafe fn fxrstor(area: &Area) {
    // SAFETY: as the caller says; the XMM registers it loads are declared.
    unsafe {
        std::arch::asm!(
            "fxrstor [{}]",
            in(reg) &raw const *area,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack, preserves_flags, readonly),
        );
    }
}
