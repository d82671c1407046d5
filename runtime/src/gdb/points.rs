//! Where and when the debugger wants the CPU to stop: breakpoints, watchpoints,
//! and the step that is under way.
//!
//! **Breakpoints.** Guest memory is not patched, so the guest cannot find them,
//! and what it loads over its code needs no care. Instead a block ends before an
//! address with a breakpoint, and a block that begins at one *asks*: it is never
//! compiled, hence never linked to nor entered into the cache of indirect jumps,
//! so every way to it leads through the run loop, which looks here. All other
//! blocks run as ever, at full speed. A block knows its EIP, not its linear
//! address; under a CS whose base is not 0, offsets within the page decide what
//! asks, and what asks is compared exactly.
//!
//! A debugger takes its breakpoints out at each stop and puts them in again, so
//! the difference is applied only when the guest really runs on.
//!
//! **Watchpoints.** The shadow MMU withholds the pages: each access to one takes
//! the careful path, in any tier and through mirrors too, and is looked at here.
//! The instruction completes and the CPU stops behind it, as after a data
//! breakpoint of the processor. Behind a load in the midst of a block the flags
//! may not have been made; so while loads are watched, all instructions run one by
//! one.
//!
//! **Steps** use the mode bit of TF and the debug registers,
//! [`SINGLE`](translator::mode::Mode::SINGLE), without touching either. Interrupts
//! wait meanwhile, else stepping would seldom leave the timer's handler.

use gdbstub::target::ext::breakpoints::WatchKind;
use shadow_mmu::{Access, LinearAddr};
use std::collections::BTreeSet;
use std::ops::Range;

/// Why the CPU has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The debugger asked for it, or has just come.
    Asked,
    /// The step is done.
    Stepped,
    /// Before the instruction at a breakpoint.
    Breakpoint,
    /// Behind an instruction that has accessed what is watched.
    Watchpoint(WatchKind, LinearAddr),
}

/// Bytes that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchpoint {
    /// Their first.
    pub at: LinearAddr,
    /// How many.
    pub bytes: u32,
    /// Which accesses count.
    pub kind: WatchKind,
}

impl Watchpoint {
    /// Whether an access of `bytes` bytes at `at` is one that counts.
    fn meets(&self, at: LinearAddr, bytes: u32, access: Access) -> bool {
        let kind = match self.kind {
            WatchKind::Write => access == Access::Write,
            WatchKind::Read => access == Access::Read,
            WatchKind::ReadWrite => access != Access::Fetch,
        };
        // The distance is modulo 2^32, like addresses.
        let apart = at.0.wrapping_sub(self.at.0);
        kind && (apart < self.bytes || apart.wrapping_neg() < bytes)
    }

    /// The pages with such bytes.
    fn pages(&self) -> impl Iterator<Item = LinearAddr> {
        let first = self.at.0 >> 12;
        let more = (u64::from(self.at.0 & 0xfff) + u64::from(self.bytes.max(1)) - 1) >> 12;
        (0..=more as u32).map(move |n| LinearAddr((first + n) << 12))
    }
}

/// Bytes that one watchpoint may have.
pub const MOST_WATCHED_BYTES: u32 = 1 << 16;

/// What the CPU is to stop for.
#[derive(Debug, Default)]
pub struct Points {
    /// Breakpoints as the debugger has them, of memory and of hardware.
    wanted: [BTreeSet<u32>; 2],
    /// Breakpoints that blocks respect.
    applied: BTreeSet<u32>,
    watched: Vec<Watchpoint>,
    /// One instruction is to run, and others while they are in the range.
    pub stepping: bool,
    /// See [`Points::stepping`].
    pub range: Range<u32>,
    /// Why the CPU is to stop before the next instruction.
    pub stop: Option<Stop>,
}

impl Points {
    /// Inserts a breakpoint, which takes effect with [`Points::apply`].
    pub fn insert(&mut self, at: LinearAddr, hardware: bool) {
        self.wanted[usize::from(hardware)].insert(at.0);
    }

    /// Takes over what a debugger wants of a machine that is no more. The next
    /// [`Points::apply`] has it respected.
    pub fn adopt(&mut self, old: &mut Self) {
        self.wanted = std::mem::take(&mut old.wanted);
        self.watched = std::mem::take(&mut old.watched);
    }

    /// Takes one out; false if there is none.
    pub fn remove(&mut self, at: LinearAddr, hardware: bool) -> bool {
        self.wanted[usize::from(hardware)].remove(&at.0)
    }

    /// Takes all breakpoints and watchpoints out.
    pub fn clear(&mut self) {
        self.wanted = Default::default();
        self.watched.clear();
        self.stepping = false;
    }

    /// Makes blocks respect what the debugger has; returns where that is a change.
    #[must_use]
    pub fn apply(&mut self) -> Vec<LinearAddr> {
        let wanted = &self.wanted[0] | &self.wanted[1];
        let changed = &wanted ^ &self.applied;
        self.applied = wanted;
        changed.into_iter().map(LinearAddr).collect()
    }

    /// Whether a step goes on at `at`: in its range, and not where there is a
    /// breakpoint.
    pub fn steps_on(&self, at: LinearAddr) -> bool {
        let point = self.wanted.iter().any(|points| points.contains(&at.0));
        self.stepping && self.range.contains(&at.0) && !point
    }

    /// Whether blocks respect any breakpoint.
    pub fn any_applied(&self) -> bool {
        !self.applied.is_empty()
    }

    /// Whether there is a breakpoint of hardware alone.
    pub fn is_hardware(&self, at: LinearAddr) -> bool {
        !self.wanted[0].contains(&at.0) && self.wanted[1].contains(&at.0)
    }

    /// How many bytes from `at` on a block may have. Without `exact`, the address is
    /// right within its page only.
    pub fn room_at(&self, at: LinearAddr, exact: bool) -> usize {
        let last = at.0 | 0xfff;
        let all = || (u64::from(last) - u64::from(at.0) + 1) as usize;
        if self.applied.is_empty() || at.0 == last {
            return all();
        }
        let next = if exact {
            self.applied.range(at.0 + 1..=last).next().copied()
        } else {
            let offsets = self
                .applied
                .iter()
                .map(|point| last & !0xfff | point & 0xfff);
            offsets.filter(|&point| point > at.0).min()
        };
        next.map_or_else(all, |point| (point - at.0) as usize)
    }

    /// Whether a block at `at` must ask. Without `exact` as for [`Points::room_at`].
    pub fn asks(&self, at: LinearAddr, exact: bool) -> bool {
        match exact {
            true => self.applied.contains(&at.0),
            false => (self.applied.iter()).any(|point| (point ^ at.0) & 0xfff == 0),
        }
    }

    /// A block that asks is about to run at `at`. False if there is a breakpoint.
    pub fn may_run(&mut self, at: LinearAddr) -> bool {
        if self.stepping || !self.applied.contains(&at.0) {
            return true;
        }
        self.stop = Some(Stop::Breakpoint);
        false
    }

    /// An instruction has run, or an event has been delivered: a step is done.
    pub fn step_done(&mut self) {
        if self.stepping && self.stop.is_none() {
            self.stop = Some(Stop::Stepped);
        }
    }

    /// Whether all instructions must run one by one.
    #[inline]
    pub fn single(&self) -> bool {
        self.stepping || self.watches_loads()
    }

    fn watches_loads(&self) -> bool {
        self.watched.iter().any(|w| w.kind != WatchKind::Write)
    }

    /// Whether accesses must be looked at.
    #[inline]
    pub fn watches(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Adds a watchpoint; false if it is too long.
    pub fn watch(&mut self, watchpoint: Watchpoint) -> bool {
        let fits = (1..=MOST_WATCHED_BYTES).contains(&watchpoint.bytes);
        if fits {
            self.watched.push(watchpoint);
        }
        fits
    }

    /// Takes a watchpoint out; false if there is none.
    pub fn unwatch(&mut self, watchpoint: &Watchpoint) -> bool {
        let found = self.watched.iter().position(|w| w == watchpoint);
        found.map(|n| self.watched.swap_remove(n)).is_some()
    }

    /// The pages that the shadow MMU must withhold.
    pub fn watched_pages(&self) -> Vec<LinearAddr> {
        self.watched.iter().flat_map(Watchpoint::pages).collect()
    }

    /// Looks at an access before it is made. True if the CPU must stop behind it.
    #[cold]
    pub fn note(&mut self, at: LinearAddr, bytes: u32, access: Access) -> bool {
        let met = self.watched.iter().find(|w| w.meets(at, bytes, access));
        if let Some(w) = met
            && self.stop.is_none()
        {
            self.stop = Some(Stop::Watchpoint(w.kind, w.at));
        }
        met.is_some()
    }

    /// The instruction that has made an access faults, so has not made it.
    #[inline]
    pub fn forget_access(&mut self) {
        if let Some(Stop::Watchpoint(..)) = self.stop {
            self.stop = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(points: &[u32]) -> Points {
        let mut all = Points::default();
        points
            .iter()
            .for_each(|&at| all.insert(LinearAddr(at), false));
        let _ = all.apply();
        all
    }

    #[test]
    fn a_block_ends_before_a_breakpoint_or_with_its_page() {
        let points = with(&[0x1010, 0x3004]);
        assert_eq!(points.room_at(LinearAddr(0x1000), true), 0x10);
        assert_eq!(points.room_at(LinearAddr(0x1010), true), 0xff0);
        assert_eq!(points.room_at(LinearAddr(0x2000), true), 0x1000);
        assert_eq!(points.room_at(LinearAddr(0x2000), false), 4);
        assert_eq!(points.room_at(LinearAddr(u32::MAX), false), 1);
    }

    #[test]
    fn only_differences_are_applied() {
        let mut points = with(&[0x1000, 0x2000]);
        points.remove(LinearAddr(0x1000), false);
        points.insert(LinearAddr(0x1000), true);
        assert_eq!(points.apply(), []);
        points.insert(LinearAddr(0x3000), false);
        points.remove(LinearAddr(0x2000), false);
        assert_eq!(points.apply(), [LinearAddr(0x2000), LinearAddr(0x3000)]);
        points.clear();
        assert_eq!(points.apply().len(), 2);
    }

    #[test]
    fn accesses_meet_what_they_overlap() {
        let word = |kind| Watchpoint {
            at: LinearAddr(0x1ffe),
            bytes: 4,
            kind,
        };
        let w = word(WatchKind::Write);
        assert!(w.meets(LinearAddr(0x1ffb), 4, Access::Write));
        assert!(w.meets(LinearAddr(0x2001), 1, Access::Write));
        assert!(!w.meets(LinearAddr(0x2002), 4, Access::Write));
        assert!(!w.meets(LinearAddr(0x1ffe), 4, Access::Read));
        assert!(word(WatchKind::Read).meets(LinearAddr(0x1ffe), 4, Access::Read));
        let pages: Vec<_> = w.pages().collect();
        assert_eq!(pages, [LinearAddr(0x1000), LinearAddr(0x2000)]);
    }
}
