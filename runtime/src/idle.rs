//! What a machine does when its guest has nothing to do: it gives memory back.
//!
//! While a guest works, memory is spent on speed: guest pages are mapped in mirrors
//! beside the one place where all of them are, code is mapped twice, and decoded
//! instructions wait for blocks to run again that ran once, when the guest booted. None
//! of that is needed to wait for a key. So a machine that has slept for half a second,
//! a few interrupts aside, lets go of what comes back by itself: mappings by a fault of
//! the host each, a fraction of a microsecond, instructions by being decoded again.
//!
//! It does so again only after the guest has worked for about a second. Both together,
//! some ten or twenty milliseconds, are a few hundredths of that at worst.

#![allow(unsafe_code)] // Calls the C library's allocator.

use crate::vm::Vm;

/// Sleep, in all, after which the machine gives memory back.
const LONG_NS: u64 = 500_000_000;

/// Slices within which a guest has not worked.
const FEW_SLICES: u64 = 500;

/// Slices after which there is enough again to give back.
const MANY_SLICES: u64 = 50_000;

/// Time until the next timer in which it can be done, or most of it. Timers of guests
/// that tick while they sleep come every few milliseconds.
const ENOUGH_NS: u64 = 2_000_000;

/// How long the guest has slept.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    slept_ns: u64,
    /// Slices when it began.
    since: u64,
    /// Slices when memory was given back last.
    given: Option<u64>,
}

impl Idle {
    /// Notes that the guest has slept, `slices` after its start.
    pub fn slept(&mut self, ns: u64, slices: u64) {
        if slices.saturating_sub(self.since) > FEW_SLICES {
            (self.since, self.slept_ns) = (slices, 0);
        }
        self.slept_ns = self.slept_ns.saturating_add(ns);
    }

    /// Whether it is time to give memory back, with so much time for it. The caller does
    /// it then.
    pub fn is_time(&mut self, left_ns: u64, slices: u64) -> bool {
        let enough = |given| slices.saturating_sub(given) >= MANY_SLICES;
        let asleep = self.slept_ns >= LONG_NS && left_ns >= ENOUGH_NS;
        let time = asleep && self.given.is_none_or(enough);
        if time {
            self.given = Some(slices);
        }
        time
    }
}

impl Vm {
    /// Gives memory back that the guest can do without while it sleeps.
    #[cold]
    pub(crate) fn give_back(&mut self) {
        self.cache.rest();
        self.cpu.mmu.rest();
        if let Some(disk) = &mut self.tiers.disk {
            disk.rest();
        }
        trim();
    }
}

/// Has the allocator return what is free.
fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only touches memory that the allocator itself holds.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_for_each_long_sleep_after_work() {
        let mut idle = Idle::default();
        let mut times = 0;
        for _ in 0..20 {
            idle.slept(LONG_NS / 4, 7);
            times += u32::from(idle.is_time(ENOUGH_NS, 7));
        }
        assert_eq!(times, 1);
        idle.slept(LONG_NS, 7 + FEW_SLICES);
        assert!(!idle.is_time(ENOUGH_NS, 7 + FEW_SLICES));
        idle.slept(LONG_NS, 7 + MANY_SLICES);
        assert!(!idle.is_time(ENOUGH_NS - 1, 7 + MANY_SLICES));
        assert!(idle.is_time(ENOUGH_NS, 7 + MANY_SLICES));
    }

    #[test]
    fn short_sleeps_between_work_are_none() {
        let mut idle = Idle::default();
        for slices in (0..100).map(|n| n * 2 * FEW_SLICES) {
            idle.slept(LONG_NS / 4, slices);
            assert!(!idle.is_time(ENOUGH_NS, slices));
        }
    }
}
