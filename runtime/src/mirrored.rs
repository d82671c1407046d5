//! Which blocks access guest memory through a mirror, and what happens when one
//! finds a page missing there.
//!
//! Code for the mirror needs no lookups but pays some ten microseconds for each page
//! that it is the first to touch, so it is for loops that stay on their pages.
//! Profiling is free: whenever a slice of the budget ends, in a jump backwards or to
//! a computed address, the target is *sampled*. A block that is sampled
//! [`WANTED_SAMPLES`] times is compiled again for the mirror, and with it the blocks
//! that follow it by fixed jumps: the rest of its loop, most often.
//!
//! Faults are paid from one purse. Each adds to the machine's *debt*, and time takes
//! from it, so that they cost a few percent at most; while the debt is above
//! [`MAX_DEBT`], each block that faults again *gives up*: it goes back to lookups and must be
//! sampled sixteen times as often before it may try again. So does a block that keeps
//! faulting where nothing can be mapped, on a device or a traced page. What remains is
//! what stays on its pages, also in guests that make and end processes all the time,
//! whose mirrors are always empty.

use crate::cache::{BlockId, Cache, Compiled};
use crate::config::Tier;
use crate::ledger::Account;
use crate::native;
use crate::run::Part;
use crate::vm::Vm;
use anyhow::ensure;
use shadow_mmu::{Access, LinearAddr};
use translator::block::Terminal;
use translator::state::MIRROR_DISTANCE;

// Generated code and the tables agree where a mirror is.
const _: () = assert!(MIRROR_DISTANCE == shadow_mmu::MIRROR_DISTANCE);

/// Samples after which a block is worth it.
const WANTED_SAMPLES: u32 = 3;

/// Blocks compiled again together.
const MOST_TOGETHER: usize = 32;

/// Faults owed beyond which blocks give up.
const MAX_DEBT: u64 = 1024;

/// Slices that pay for one fault: with some 7 µs to a slice and 10 to a fault, faults
/// take 1 part in 10.
const SLICES_PER_FAULT: u64 = 16;

/// Faults of one block that the machine's debt does not concern: it cannot use any
/// page without the first.
const FREE_FAULTS: u8 = 16;

/// Faults where nothing can be mapped, of one block.
const MAX_VAIN: u8 = 16;

/// When code accesses guest memory through mirrors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorPolicy {
    /// Where it is hot.
    Hot,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl MirrorPolicy {
    /// The policy of a tier, where there is `room` for mirrors.
    ///
    /// # Errors
    /// The tier needs mirrors, and the host cannot have any.
    pub fn of(tier: Tier, room: bool) -> anyhow::Result<Self> {
        let possible = || room && native::direct_supported() && native::landing::install();
        Ok(match tier {
            Tier::Mirror => {
                ensure!(
                    possible(),
                    "mirrors need 4 GiB of address space each and a handler for SIGSEGV"
                );
                MirrorPolicy::Always
            }
            Tier::Auto if possible() => MirrorPolicy::Hot,
            _ => MirrorPolicy::Never,
        })
    }
}

/// What is known of a block and the mirror.
#[derive(Clone, Copy, Debug, Default)]
pub struct MirrorUse {
    /// Its code uses the mirror, or will when it is compiled next.
    pub on: bool,
    // No more than their limits, or little more.
    faults: u8,
    vain: u8,
    given_up: u8,
    samples: u32,
}

impl MirrorUse {
    /// Counts a sample. True if the block should use the mirror now and does not.
    fn sampled(&mut self) -> bool {
        self.samples = self.samples.saturating_add(1);
        let wanted = WANTED_SAMPLES << (4 * u32::from(self.given_up)).min(24);
        !self.on && self.samples >= wanted
    }

    /// Whether a block of a settled space, or not, uses the mirror from the first.
    pub fn begins(&self, settled: bool) -> bool {
        settled && self.given_up == 0
    }

    /// Counts a fault, while the machine owes too many or not, and whether a page
    /// could be mapped. True if the block should give up.
    fn faulted(&mut self, owing: bool, mapped: bool) -> bool {
        self.faults = self.faults.saturating_add(1);
        self.vain = self.vain.saturating_add(u8::from(!mapped));
        owing && self.faults > FREE_FAULTS || self.vain >= MAX_VAIN
    }

    fn give_up(&mut self) {
        *self = Self {
            given_up: self.given_up.saturating_add(1),
            ..Self::default()
        };
    }
}

/// The faults that have not been paid for.
#[derive(Debug, Default)]
pub struct MirrorDebt {
    owed: u64,
    /// Slice up to which payments have been counted.
    since: u64,
}

impl MirrorDebt {
    /// Adds a fault in this slice. True if it was one too many.
    fn add(&mut self, slice: u64) -> bool {
        let paid = slice.saturating_sub(self.since) / SLICES_PER_FAULT;
        self.since += paid * SLICES_PER_FAULT;
        self.owed = self.owed.saturating_sub(paid) + 1;
        self.owed > MAX_DEBT
    }
}

impl Vm {
    /// A slice has ended before the block at EIP.
    pub(crate) fn sample(&mut self) {
        let Some(id) = self.known_at(self.cpu.state.eip) else {
            return;
        };
        let Some(block) = self.cache.get_mut(id) else {
            return;
        };
        block.samples = block.samples.saturating_add(1);
        if self.tiers.mirror == MirrorPolicy::Hot
            && self.cpu.mode().settled()
            && block.mirror.sampled()
        {
            self.use_mirror(id);
        }
    }

    /// Has a block and those that follow it compiled for the mirror.
    fn use_mirror(&mut self, id: BlockId) {
        let mut together = vec![id];
        let mut n = 0;
        while n < together.len() && together.len() < MOST_TOGETHER {
            for eip in successors(&self.cache, together[n]).into_iter().flatten() {
                if let Some(next) = self.known_at(eip)
                    && !together.contains(&next)
                {
                    together.push(next);
                }
            }
            n += 1;
        }
        for id in together {
            if let Some(block) = self.cache.get_mut(id)
                && matches!(block.compiled, Compiled::At(_))
                && !block.mirror.on
            {
                block.mirror.on = true;
                self.counters.mirrored_blocks += 1;
                self.cache.drop_code(id);
            }
        }
    }

    /// Code has landed after a fault of the host: the interpreter does the access, and the mirror gets the page if it may. True to leave the slice.
    #[cold]
    pub(crate) fn landed(&mut self) -> bool {
        self.counters.host_faults += 1;
        let fault = self.cache.landings.fault();
        let (table, user) = (self.cpu.state.read_table, self.cpu.sys.cpl == 3);
        let mirror = table.wrapping_add(MIRROR_DISTANCE);
        let eip = self.cpu.state.eip;
        let leave = self
            .block_at(eip)
            .is_none_or(|id| self.interpret(id, Part::All));
        let access = match fault.write {
            true => Access::Write,
            false => Access::Read,
        };
        let linear = u32::try_from(fault.address.wrapping_sub(mirror)).map(LinearAddr);
        // Where the block's rest has changed the view, nothing can be mapped now.
        let mapped = self.cpu.state.read_table == table
            && linear.is_ok_and(|linear| {
                let before = self.cpu.ledger.enter(Account::MIRROR);
                let mapped = self.cpu.mmu.mirror(linear, access, user);
                self.cpu.ledger.leave(before);
                mapped
            });
        if let Some(owner) = fault.owner {
            self.charge(owner, mapped);
        }
        leave
    }

    fn charge(&mut self, id: BlockId, mapped: bool) {
        if self.tiers.mirror != MirrorPolicy::Hot {
            return;
        }
        let owing = self.mirror_debt.add(self.counters.slices);
        if let Some(block) = self.cache.get_mut(id)
            && block.mirror.faulted(owing, mapped)
        {
            block.mirror.give_up();
            self.cache.drop_code(id);
        }
    }
}

/// Where a block goes by fixed jumps.
fn successors(cache: &Cache, id: BlockId) -> [Option<u32>; 2] {
    match cache.get(id).map(|block| block.terminal) {
        Some(Terminal::Next(eip) | Terminal::Jump(eip)) => [Some(eip), None],
        Some(Terminal::Branch { taken, fallthrough }) => [Some(taken), Some(fallthrough)],
        Some(Terminal::Call { target, ret }) => [Some(target), Some(ret)],
        _ => [None; 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_in_quick_succession_are_too_many_and_rare_ones_are_not() {
        let mut rare = MirrorDebt::default();
        assert!((0..10_000).all(|n| !rare.add(n * SLICES_PER_FAULT)));
        let mut often = MirrorDebt::default();
        assert!((0..=MAX_DEBT).any(|_| often.add(1000)));
    }

    #[test]
    fn who_gave_up_must_wait_longer() {
        let wait = |mut mirror: MirrorUse| (1..).find(|_| mirror.sampled());
        let mut mirror = MirrorUse::default();
        assert_eq!(wait(mirror), Some(WANTED_SAMPLES));
        mirror.give_up();
        assert_eq!(wait(mirror), Some(16 * WANTED_SAMPLES));
    }
}
