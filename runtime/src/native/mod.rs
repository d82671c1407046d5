//! Entering host code, and the callout by which it reaches back.
//!
//! Compiled code holds one pointer, to [`CpuState`]; it is the first field of
//! [`Cpu`], so the callout recovers the whole CPU from it.

#![allow(unsafe_code)] // Calls generated code.

pub mod gs;
pub mod landing;

use crate::config::Tier;
use crate::interp::Op;
use crate::ledger::Account;
use crate::vcpu::{Cpu, Shadow};
use crate::volatile;
use crate::volatile::chain::{self, At};
use anyhow::ensure;
use iced_x86::Mnemonic;
use translator::compile::Compiler;
use translator::direct::STORE;
use translator::insn::Flow;
use translator::state::CpuState;

/// The routines that every block of a tier relies on.
pub use translator::direct::Routines;

/// Names of the routines, in the order that the cache holds them.
pub const ROUTINE_NAMES: [&str; 14] = [
    "ring1:unlinked",
    "ring1:gate_closed",
    "ring1:trampoline",
    "ring1:callout",
    "ring1:load_vectors",
    "ring1:unpaired_return",
    "ring1:load_fs",
    "ring1:load_gs",
    "ring1:sysenter",
    "ring1:sysexit",
    "ring1:stac",
    "ring1:clac",
    "ring1:int",
    "ring1:iret",
];

/// Makes the routines of the compiler that `tier` uses. (The interpreter uses
/// none; it gets the ones that every host has.)
///
/// # Errors
/// The host has no such tier.
pub fn routines(tier: Tier) -> anyhow::Result<Routines> {
    ensure!(
        !tier.pins_direct_code() || direct_supported(),
        "direct code needs an x86-64 host with BMI2"
    );
    if uses_direct_code(tier) {
        return Ok(translator::direct::routines());
    }
    let mut compiler = Compiler::new()?;
    Ok(Routines {
        unlinked: compiler.unlinked_stub()?,
        closed: Vec::new(),
        trampoline: compiler.trampoline()?,
        leave: 0,
        callout: Vec::new(),
        vector: Vec::new(),
        unpaired: Vec::new(),
        ways: Vec::new(),
    })
}

/// Whether compiled code is direct code in `tier`.
pub fn uses_direct_code(tier: Tier) -> bool {
    match tier {
        Tier::Direct | Tier::Mirror => true,
        Tier::Auto => direct_supported(),
        Tier::Interp | Tier::Cranelift => false,
    }
}

/// Whether the host can run direct code.
pub fn direct_supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("bmi2");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// The routine through which Rust calls a compiled block.
#[derive(Clone, Copy)]
pub struct Trampoline(extern "C" fn(*mut CpuState, *const u8) -> u64);

impl Trampoline {
    /// # Safety
    /// `address` must be that of the compiler's trampoline in executable memory
    /// that outlives the value.
    pub unsafe fn new(address: u64) -> Self {
        // SAFETY: the caller vouches for the address and hence the signature.
        Self(unsafe {
            std::mem::transmute::<usize, extern "C" fn(*mut CpuState, *const u8) -> u64>(
                address as usize,
            )
        })
    }

    /// Runs compiled code until it returns to the run loop, and returns the exit word.
    ///
    /// # Safety
    /// `code` must be the address of a live compiled block for the CPU's
    /// current mode and EIP, and the addresses in `cpu.state` must be current.
    #[inline(always)]
    pub unsafe fn enter(self, cpu: &mut Cpu, code: u64) -> u64 {
        cpu.follow_user_mirror();
        let state: *mut Cpu = cpu;
        let exit = cpu.on_account(Account::GUEST, |_| {
            (self.0)(state.cast(), code as *const u8)
        });
        take_over(cpu);
        exit
    }
}

/// Address of the callout, for [`CpuState::callout`].
pub fn callout_address() -> u64 {
    callout as *const () as u64
}

/// Address of the callout for [`CpuState::resuming_callout`].
pub fn resuming_callout_address() -> u64 {
    resuming_callout as *const () as u64
}

/// Address of the function for [`CpuState::vector_prepare`].
pub fn vector_prepare_address() -> u64 {
    vector_prepare as *const () as u64
}

/// Whether direct code may run vector and x87 instructions itself: 0 if so.
extern "C" fn vector_prepare(state: *mut CpuState) -> u64 {
    // SAFETY: as in `callout`.
    let cpu = unsafe { &mut *state.cast::<Cpu>() };
    cpu.catch_up();
    let entered = crate::fpu::enter_native(cpu);
    cpu.publish();
    u64::from(!entered)
}

/// Runs one instruction for compiled code: 0 to go on, 1 to leave.
extern "C" fn callout(state: *mut CpuState, index: u64) -> u64 {
    // SAFETY: `state` is the first field of the `Cpu` that `enter` was given,
    // which is not otherwise borrowed while compiled code runs.
    let cpu = unsafe { &mut *state.cast::<Cpu>() };
    let Some(op) = cpu.callouts.get(index as usize).copied() else {
        return 1;
    };
    u64::from(!run(cpu, &op) || cpu.attention)
}

/// Runs one instruction for direct code: 0 to go on behind it, 1 to leave, 2 to go
/// on at EIP in what may be another mode or address space.
extern "C" fn resuming_callout(state: *mut CpuState, index: u64) -> u64 {
    // SAFETY: as in `callout`.
    let cpu = unsafe { &mut *state.cast::<Cpu>() };
    let Some(op) = cpu.callouts.get(index as usize) else {
        return store(cpu, (index & !STORE) as usize);
    };
    if let Some(phys) = volatile::address(op.insn()) {
        let at = At {
            phys,
            eip: op.insn().eip,
        };
        return stand_in(cpu, at);
    }
    let op = *op;
    if !run(cpu, &op) {
        return 1;
    }
    if cpu.attention || op.insn().flow != Flow::Next {
        return go_on(cpu);
    }
    0
}

/// Runs the volatile instruction at `at`, and what follows, for direct code.
#[inline(never)]
fn stand_in(cpu: &mut Cpu, at: At) -> u64 {
    take_over(cpu);
    count(cpu, Mnemonic::INVALID);
    let done = match cpu.ledger.is_open() {
        false => chain::run(cpu, at),
        true => chain_on_account(cpu, at),
    };
    cpu.publish();
    if done { go_on(cpu) } else { 1 }
}

#[cold]
#[inline(never)]
fn chain_on_account(cpu: &mut Cpu, at: At) -> bool {
    let account = Account::callout(Mnemonic::INVALID);
    cpu.on_account(account, |cpu| chain::run(cpu, at))
}

/// Runs a store for direct code, which relies on what it knows of the tables, and what
/// is patched behind it.
#[inline(never)]
fn store(cpu: &mut Cpu, index: usize) -> u64 {
    // That looks for instructions among the callouts.
    take_over(cpu);
    // A copy would be made in pieces, and read as a whole at once, which is slow.
    let (place, ops) = cpu.callouts.lend(index);
    let done = ops.get(place).map_or(1, |op| store_by(cpu, op));
    cpu.callouts.give_back(index, ops);
    done
}

#[inline]
fn store_by(cpu: &mut Cpu, op: &Op) -> u64 {
    let dropped = cpu.mmu.counters().entries_dropped;
    if !run(cpu, op) {
        return 1;
    }
    if !cpu.attention {
        match chain::run_behind(cpu, op.insn()) {
            Some(false) => return 1,
            Some(true) => cpu.publish(),
            None => {
                let same = dropped == cpu.mmu.counters().entries_dropped;
                if same && !cpu.attention {
                    return 0;
                }
            }
        }
    }
    go_on(cpu)
}

/// What direct code is told that is to go on at EIP: 2 if it can.
#[inline]
fn go_on(cpu: &mut Cpu) -> u64 {
    if cpu.attention && !cpu.adopt_context() {
        return 1;
    }
    // Without attention the views are those from before.
    cpu.follow_user_mirror();
    // Nothing comes between an instruction that casts a shadow and the next.
    cpu.shadow = Shadow::None;
    2
}

/// Takes note of what direct code has done that the runtime keeps account of.
#[inline(always)]
fn take_over(cpu: &mut Cpu) {
    crate::fpu::after_native(cpu);
    cpu.catch_up();
}

/// Counts a callout.
#[inline]
fn count(cpu: &mut Cpu, mnemonic: Mnemonic) {
    if let Some(count) = cpu.callout_counts.get_mut(mnemonic as usize) {
        *count += 1;
    }
}

/// False if the instruction has raised an exception.
#[inline(always)]
fn run(cpu: &mut Cpu, op: &Op) -> bool {
    take_over(cpu);
    count(cpu, op.insn().mnemonic);
    cpu.state.eip = op.insn().next_eip;
    let done = match cpu.ledger.is_open() {
        false => op.run(cpu).is_ok(),
        true => run_on_account(cpu, op),
    };
    cpu.publish();
    if !done {
        cpu.state.eip = op.insn().eip;
    }
    done
}

/// Runs an instruction and has the ledger know. False if it has raised an exception.
#[cold]
#[inline(never)]
fn run_on_account(cpu: &mut Cpu, op: &Op) -> bool {
    let account = Account::callout(op.insn().mnemonic);
    cpu.on_account(account, |cpu| op.run(cpu).is_ok())
}
