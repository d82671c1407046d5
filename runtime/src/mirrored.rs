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
//! A block that keeps faulting, because it works through fresh memory, on a device or
//! on a page that is traced, goes back to lookups. Each fault adds to its *debt*, time
//! takes from it; if the debt grows beyond [`MAX_DEBT`] the block gives up, and must be
//! sampled sixteen times as often before it may try again.

use crate::cache::{BlockId, Cache, Compiled};
use crate::native;
use crate::run::Part;
use crate::vm::Vm;
use clap::ValueEnum;
use shadow_mmu::{Access, LinearAddr};
use translator::block::Terminal;
use translator::state::MIRROR_DISTANCE;

/// Samples after which a block is worth it.
const WANTED_SAMPLES: u32 = 3;

/// Blocks compiled again together.
const MOST_TOGETHER: usize = 64;

/// Debt at which a block gives up.
const MAX_DEBT: u32 = 64;

/// What a fault adds if its page could be mapped, and if not.
const DEBT: [u32; 2] = [4, 1];

/// Slices that take 1 from a debt.
const SLICES_PER_DEBT: u64 = 4;

/// When code accesses guest memory through mirrors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MirrorPolicy {
    /// Where it is hot
    #[default]
    Auto,
    /// Always (slow; for tests)
    Always,
    /// Never
    Never,
}

impl MirrorPolicy {
    /// What of this policy the host can do. Installs the handler for its faults.
    pub fn supported(self) -> Self {
        match self {
            MirrorPolicy::Never => self,
            _ if native::landing::install() => self,
            _ => MirrorPolicy::Never,
        }
    }
}

/// What is known of a block and the mirror.
#[derive(Clone, Copy, Debug, Default)]
pub struct MirrorUse {
    /// Its code uses the mirror, or will when it is compiled next.
    pub on: bool,
    samples: u32,
    debt: u32,
    /// Slice in which the debt was last looked at.
    since: u64,
    given_up: u32,
}

impl MirrorUse {
    /// Counts a sample. True if the block should use the mirror now and does not.
    fn sampled(&mut self) -> bool {
        self.samples = self.samples.saturating_add(1);
        let wanted = WANTED_SAMPLES << (4 * self.given_up).min(24);
        !self.on && self.samples >= wanted
    }

    /// Counts a fault in this slice. True if the block should give up.
    fn faulted(&mut self, mapped: bool, slice: u64) -> bool {
        let paid = slice.saturating_sub(self.since) / SLICES_PER_DEBT;
        self.since = slice;
        let left = u64::from(self.debt).saturating_sub(paid) as u32;
        self.debt = left + DEBT[usize::from(mapped)];
        if self.debt < MAX_DEBT {
            return false;
        }
        *self = Self {
            given_up: self.given_up + 1,
            ..Self::default()
        };
        true
    }
}

impl Vm {
    /// A slice has ended before the block at EIP.
    pub(crate) fn sample(&mut self) {
        if self.tiers.mirror != MirrorPolicy::Auto {
            return;
        }
        let Some(id) = self.cache.recent(self.cpu.state.eip, self.tag) else {
            return;
        };
        if let Some(block) = self.cache.get_mut(id)
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
                if let Some(next) = self.cache.recent(eip, self.tag)
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

    /// The code of `owner` has landed after a fault of the host: the interpreter does
    /// the access, and the mirror gets the page if it may. True to leave the slice.
    #[cold]
    pub(crate) fn landed(&mut self, owner: Option<BlockId>) -> bool {
        self.counters.host_faults += 1;
        let fault = self.cache.landings.fault();
        let (space, user) = (self.cpu.mmu.space_id(), self.cpu.sys.cpl == 3);
        let mirror = self.cpu.state.read_table.wrapping_add(MIRROR_DISTANCE);
        let eip = self.cpu.state.eip;
        let leave = self
            .block_at(eip)
            .is_none_or(|id| self.interpret(id, Part::All));
        if self.cpu.mmu.space_id() != space {
            return leave;
        }
        let access = match fault.write {
            true => Access::Write,
            false => Access::Read,
        };
        let linear = u32::try_from(fault.address.wrapping_sub(mirror)).map(LinearAddr);
        let mapped = linear.is_ok_and(|linear| self.cpu.mmu.mirror(linear, access, user));
        if let Some(owner) = owner {
            self.charge(owner, mapped);
        }
        leave
    }

    fn charge(&mut self, id: BlockId, mapped: bool) {
        if self.tiers.mirror == MirrorPolicy::Auto
            && let Some(block) = self.cache.get_mut(id)
            && block.mirror.faulted(mapped, self.counters.slices)
        {
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
    fn faults_in_quick_succession_end_it_and_rare_ones_do_not() {
        let mut rare = MirrorUse::default();
        assert!((0..10_000).all(|n| !rare.faulted(true, n * SLICES_PER_DEBT)));
        let mut often = MirrorUse::default();
        assert!((0..MAX_DEBT).any(|_| often.faulted(true, 7)));
    }

    #[test]
    fn who_gave_up_must_wait_longer() {
        let wait = |mut mirror: MirrorUse| (1..).find(|_| mirror.sampled());
        let mut mirror = MirrorUse::default();
        assert_eq!(wait(mirror), Some(WANTED_SAMPLES));
        while !mirror.faulted(false, 0) {}
        assert_eq!(wait(mirror), Some(16 * WANTED_SAMPLES));
    }
}
