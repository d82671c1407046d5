//! Volatile instructions and what is around them, run in one go.
//!
//! A callout costs more than most instructions that it carries out: registers and
//! flags go to memory and back, and the way on is looked up. A loop that patches
//! itself would pay that twice a round, for the store and for the instruction that it
//! patches, and most often the two are neighbours. So whoever runs one of them runs on:
//!
//! - behind a volatile instruction follow those that [`Volatile`] knows. Besides
//!   volatile ones these are *companions*: stores that compiled code had to call out
//!   for just behind such a run;
//! - behind a store that was called out for follows the stand-in at the next EIP, if
//!   one has been entered there in this context.
//!
//! Invariants: a companion is run as a volatile instruction is, by the bytes that are
//! there now, so nothing depends on how it became one; a run does not leave its page,
//! and ends where the run loop or a debugger wants to look.

use super::Volatile;
use crate::tags::Context;
use crate::vcpu::{Cpu, Raised, Shadow};
use translator::insn::Insn;

/// Stand-ins remembered by EIP, a power of two.
const ENTRIES: usize = 16;

/// Where runs begin and end.
pub struct Chain {
    /// By EIP: stand-ins that compiled code has called out for.
    entries: [(Context, At); ENTRIES],
    /// Where the last run ended, and its mode.
    end: (At, u32),
}

/// Where an instruction is.
#[derive(Clone, Copy)]
pub struct At {
    /// Its guest-physical address.
    pub phys: u64,
    /// Its EIP.
    pub eip: u32,
}

impl Default for Chain {
    fn default() -> Self {
        let nowhere = At { phys: 0, eip: 0 };
        Self {
            entries: [(Context::NOWHERE, nowhere); ENTRIES],
            end: (nowhere, u32::MAX),
        }
    }
}

/// Index of an EIP's entry.
fn entry(eip: u32) -> usize {
    eip as usize & (ENTRIES - 1)
}

/// Runs the volatile instruction at `at`, which a stand-in stands for, and what
/// follows. False if an exception was raised.
#[inline]
pub fn run(cpu: &mut Cpu, at: At) -> bool {
    let mut volatile = cpu.volatile.take().unwrap_or_default();
    volatile.chain.entries[entry(at.eip)] = (cpu.tagged, at);
    let done = volatile.run_on(cpu, at);
    cpu.volatile = Some(volatile);
    done
}

/// Goes on behind a store that was called out for. `None` if nothing follows it at
/// once; false if what followed has raised an exception.
#[inline]
pub fn run_behind(cpu: &mut Cpu, store: &Insn) -> Option<bool> {
    let mut volatile = cpu.volatile.take()?;
    if volatile.chain.end.0.eip == store.eip {
        volatile.befriend(cpu);
    }
    let (context, at) = volatile.chain.entries[entry(store.next_eip)];
    let follows = at.eip == store.next_eip && context == cpu.tagged && may_go_on(cpu);
    let done = follows.then(|| {
        cpu.state.budget -= 1;
        volatile.run_on(cpu, at)
    });
    cpu.volatile = Some(volatile);
    done
}

/// Whether another instruction may run before somebody looks.
fn may_go_on(cpu: &Cpu) -> bool {
    !cpu.attention && cpu.state.budget > 0 && !cpu.asks()
}

impl Volatile {
    /// Runs the instruction at `at` and those behind it that are known. False if an
    /// exception was raised.
    fn run_on(&mut self, cpu: &mut Cpu, at: At) -> bool {
        let mut next = self.step(cpu, at);
        while let Ok(Some(at)) = next {
            // Nothing comes between an instruction that casts a shadow and the next.
            cpu.shadow = Shadow::None;
            cpu.state.budget -= 1;
            next = self.step(cpu, at);
        }
        next.is_ok()
    }

    /// Runs the instruction at `at`. Returns the next if that is known and may run.
    #[inline(always)]
    fn step(&mut self, cpu: &mut Cpu, at: At) -> Result<Option<At>, Raised> {
        if let Err(raised) = self.run(cpu, at.phys, at.eip) {
            cpu.state.eip = at.eip;
            return Err(raised);
        }
        if !may_go_on(cpu) {
            return Ok(None);
        }
        // Mode and address space are the same, so linear addresses differ as much.
        let (eip, mode) = (cpu.state.eip, cpu.state.mode);
        let offset = (at.phys as u32 & 0xfff).wrapping_add(eip.wrapping_sub(at.eip));
        if offset > 0xfff {
            return Ok(None);
        }
        let phys = at.phys & !0xfff | u64::from(offset);
        let next = At { phys, eip };
        if self.knows(phys, eip, mode) {
            return Ok(Some(next));
        }
        self.chain.end = (next, mode);
        Ok(None)
    }

    /// The store where the last run ended was called out for.
    #[cold]
    fn befriend(&mut self, cpu: &mut Cpu) {
        let (At { phys, eip }, mode) = self.chain.end;
        if mode == cpu.state.mode {
            // What cannot be decoded has not been called out for.
            let _ = self.meaning(cpu, phys, eip);
        }
    }
}
