//! Whether a space is *settled*: whether mirrors pay there.
//!
//! A page that comes to a mirror or leaves it costs the host a system call, most often
//! a signal, and what its TLB held: 7 to 14 microseconds all in all, where a shadow
//! entry costs a fraction of one. A slice of time is shorter by 5 to 10 microseconds
//! with mirrors. So a space must have been run for a while before its mirrors are
//! used, which most processes of a shell script never are. Then it gets a purse, out of
//! which each change of its mirrors is paid and into which each slice pays. There is
//! more in it the longer the space has run, for all that it uses must come to its
//! mirrors, and who has run for long will run for long. One that has spent it, a parent
//! that forks all the time, say, is not settled any more, for longer each time; its
//! mirrors are emptied, so that nothing in them has to be taken out either.
//!
//! What "using mirrors" means is the caller's: it has two sets of code, one for spaces
//! that are settled and one for those that are not.

use crate::mmu::ShadowMmu;
use crate::table::Side;

/// Slices that a space must run before it is settled for the first time.
const YOUNG: i64 = 64;
/// Half of the slices that it must wait after it has spent its purse once.
const WAIT: i64 = 256;
/// Slices that pay for one change.
const PRICE: i64 = 2;
/// Changes that the purse pays for at least, when a space is settled, and at most.
const FIRST: i64 = 128;
const MOST: i64 = 8192;
/// Slices that a space has run, for each that comes into its purse then.
const RUN_FOR_ONE: i64 = 2;
/// Times that the wait doubles.
const MOST_DOUBLINGS: u32 = 10;

/// The purse of a space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settling {
    settled: bool,
    /// Slices to spend; below 0, slices to wait.
    balance: i64,
    /// Times that it was spent.
    failures: u32,
    /// Slices run.
    age: i64,
}

impl Default for Settling {
    fn default() -> Self {
        Settling {
            settled: false,
            balance: -YOUNG,
            failures: 0,
            age: 0,
        }
    }
}

impl Settling {
    /// One more slice, and so many changes since the last. True if the space is not
    /// settled any more.
    fn pass(&mut self, changes: u32) -> bool {
        self.balance += 1;
        self.age += 1;
        if !self.settled {
            if self.balance >= 0 {
                (self.settled, self.balance) = (true, FIRST * PRICE + self.age / RUN_FOR_ONE);
            }
            return false;
        }
        self.balance = (self.balance - PRICE * i64::from(changes)).min(MOST * PRICE);
        if self.balance < 0 {
            self.failures = (self.failures + 1).min(MOST_DOUBLINGS);
            (self.settled, self.balance) = (false, -WAIT << self.failures);
        }
        !self.settled
    }
}

impl ShadowMmu {
    /// Whether mirrors pay in the current space. Changes in
    /// [`set_paging`](Self::set_paging) and [`pass_slice`](Self::pass_slice).
    #[inline]
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.spaces[self.current].settling.settled
    }

    /// Tells that a slice of time has passed, of some 10 microseconds. Whoever uses
    /// mirrors whatever they cost need not.
    pub fn pass_slice(&mut self) {
        let space = &mut self.spaces[self.current];
        let changes = Side::ALL.map(|side| space.mirror_mut(side).take_changes());
        self.counters.settled_slices += u64::from(space.settling.settled);
        if space.settling.pass(changes.into_iter().sum()) {
            space.empty_mirrors();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slices until it is settled, if it ever is.
    fn wait(settling: &mut Settling) -> usize {
        (0..1 << 30)
            .take_while(|_| {
                settling.pass(0);
                !settling.settled
            })
            .count()
    }

    #[test]
    fn who_changes_its_mirrors_all_the_time_waits_longer_and_longer() {
        let mut settling = Settling::default();
        let first = wait(&mut settling);
        assert!((0..2 * FIRST).any(|_| settling.pass(2)), "spent");
        let second = wait(&mut settling);
        assert!(second > first);
        assert!((0..4 * FIRST).any(|_| settling.pass(2)), "spent again");
        assert!(wait(&mut settling) > second);
    }

    #[test]
    fn who_has_run_for_long_may_use_many_pages_at_once() {
        let mut settling = Settling::default();
        let ages = (0..).map(|_| {
            wait(&mut settling);
            let age = settling.age;
            (
                age,
                (0..1 << 20).take_while(|_| !settling.pass(1000)).count(),
            )
        });
        let purses: Vec<_> = ages.take(8).collect();
        assert!(purses.is_sorted(), "{purses:?}");
        let (age, turns) = purses[5];
        assert!(turns as i64 * 1000 > age / 8, "{purses:?}");
    }

    #[test]
    fn a_change_now_and_then_does_no_harm() {
        let mut settling = Settling::default();
        wait(&mut settling);
        assert!((0..10_000).all(|slice| !settling.pass(u32::from(slice % PRICE == 0))));
    }
}
