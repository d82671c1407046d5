//! Time: the one clock that every device reads, and sleeping until it is later.
//!
//! Devices never ask the host what time it is; they ask the [`Clock`] they were
//! given. [`HostClock`] is the host's monotonic clock. [`FakeClock`] moves only
//! when told to, and jumps to the deadline when the vCPU would sleep, so a test
//! with timers is deterministic and never waits.
//!
//! [`Waker`] is how HLT sleeps: the vCPU thread waits for its next timer, other
//! threads (console input, a signal, a time limit) end the wait. A wake that
//! comes before the wait is kept, so none is lost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds in a second.
pub const NS_PER_SECOND: u64 = 1_000_000_000;

/// The time of the virtual machine.
pub trait Clock: Send + Sync {
    /// Nanoseconds since the machine was made. Never goes back.
    fn now_ns(&self) -> u64;

    /// Nanoseconds since 1970-01-01 00:00 UTC, for the real-time clock.
    fn unix_ns(&self) -> u64;

    /// Seconds since 1970-01-01 00:00 UTC.
    fn unix_seconds(&self) -> u64 {
        self.unix_ns() / NS_PER_SECOND
    }

    /// Moves a virtual clock to `deadline_ns` instead of sleeping until then;
    /// says whether it did. A real clock does not.
    fn skip_to(&self, _deadline_ns: u64) -> bool {
        false
    }
}

/// The host's monotonic clock, zero at construction.
pub struct HostClock {
    start: Instant,
}

impl HostClock {
    /// A clock that reads zero now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for HostClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for HostClock {
    #[inline]
    fn now_ns(&self) -> u64 {
        // 64 bits of nanoseconds last 584 years.
        self.start.elapsed().as_nanos() as u64
    }

    fn unix_ns(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64)
    }
}

/// A clock that moves only when told to.
pub struct FakeClock {
    now_ns: AtomicU64,
    unix_base_ns: u64,
}

impl FakeClock {
    /// A clock at zero; the Unix time is `unix_seconds` at that moment.
    pub fn new(unix_seconds: u64) -> Self {
        Self {
            now_ns: AtomicU64::new(0),
            unix_base_ns: unix_seconds.wrapping_mul(NS_PER_SECOND),
        }
    }

    /// Lets `ns` nanoseconds pass.
    pub fn advance(&self, ns: u64) {
        self.now_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    fn unix_ns(&self) -> u64 {
        self.unix_base_ns.wrapping_add(self.now_ns())
    }

    fn skip_to(&self, deadline_ns: u64) -> bool {
        self.now_ns.fetch_max(deadline_ns, Ordering::Relaxed);
        true
    }
}

/// Puts the vCPU thread to sleep, and wakes it from other threads.
pub struct Waker {
    clock: Arc<dyn Clock>,
    woken: Mutex<bool>,
    condvar: Condvar,
}

impl Waker {
    /// A waker whose deadlines are times of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            woken: Mutex::new(false),
            condvar: Condvar::new(),
        }
    }

    /// Ends the current wait, or the next one if there is none.
    pub fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.condvar.notify_one();
    }

    /// Sleeps until [`Waker::wake`] or until the clock reads `deadline_ns`;
    /// with no deadline, until woken. May return early, never much later.
    pub fn wait_until(&self, deadline_ns: Option<u64>) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !*woken {
            woken = match deadline_ns {
                None => self
                    .condvar
                    .wait(woken)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left_ns = deadline.saturating_sub(self.clock.now_ns());
                    if left_ns == 0 || self.clock.skip_to(deadline) {
                        break;
                    }
                    let left = Duration::from_nanos(left_ns);
                    self.condvar
                        .wait_timeout(woken, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        *woken = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fake_clock_skips_instead_of_sleeping() {
        let clock = Arc::new(FakeClock::new(100));
        let waker = Waker::new(clock.clone());
        waker.wait_until(Some(3_600 * NS_PER_SECOND));
        assert_eq!(clock.now_ns(), 3_600 * NS_PER_SECOND);
        assert_eq!(clock.unix_seconds(), 3_700);
    }

    #[test]
    fn host_clock_wait_ends_at_the_deadline() {
        let clock = Arc::new(HostClock::new());
        let waker = Waker::new(clock.clone());
        let deadline = clock.now_ns() + 2_000_000;
        waker.wait_until(Some(deadline));
        assert!(clock.now_ns() >= deadline);
    }

    #[test]
    fn a_wake_before_the_wait_is_kept_once() {
        let clock = Arc::new(FakeClock::new(0));
        let waker = Waker::new(clock.clone());
        waker.wake();
        waker.wait_until(None);
        waker.wait_until(Some(5));
        assert_eq!(clock.now_ns(), 5);
    }

    #[test]
    fn another_thread_ends_the_wait() {
        let waker = Arc::new(Waker::new(Arc::new(HostClock::new())));
        let other = waker.clone();
        let thread = std::thread::spawn(move || other.wake());
        waker.wait_until(None);
        thread.join().expect("the waking thread ends");
    }
}
