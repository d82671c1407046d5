//! Time spent on work that is done often and in small pieces.
//!
//! Reading the clock takes as long as a small piece, so one piece of [`SAMPLED`] is
//! timed and stands for the others. It is the clock on the wall: reading the thread's
//! own takes a system call, after which the host's predictors and caches are not what
//! they were, and pieces seem to take half as long again. A piece in which the host
//! did something else is told by its length and left out.

use std::time::{Duration, Instant};

/// Of so many pieces, one is timed.
const SAMPLED: u64 = 16;

/// A piece that took longer was interrupted.
const LONGEST: Duration = Duration::from_micros(50);

/// The time spent on one kind of work, by one thread.
#[derive(Default)]
pub struct Stopwatch {
    pieces: u64,
    timed: u32,
    /// Of the pieces timed.
    sum: Duration,
}

impl Stopwatch {
    /// A piece begins: when, if it is one to time.
    #[inline]
    pub fn start(&mut self) -> Option<Instant> {
        self.pieces += 1;
        self.pieces.is_multiple_of(SAMPLED).then(Instant::now)
    }

    /// The piece that began at `start` is done.
    #[inline]
    pub fn stop(&mut self, start: Option<Instant>) {
        if let Some(start) = start {
            self.count(start.elapsed());
        }
    }

    fn count(&mut self, piece: Duration) {
        if piece <= LONGEST {
            self.timed += 1;
            self.sum += piece;
        }
    }

    /// Nanoseconds that all pieces together have probably taken.
    pub fn ns(&self) -> u64 {
        let mean = self.sum.as_nanos() as f64 / f64::from(self.timed.max(1));
        (mean * self.pieces as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_timed_stand_for_the_others_and_interrupted_ones_do_not_count() {
        let mut watch = Stopwatch::default();
        let timed = (0..1000).filter(|_| watch.start().is_some());
        assert_eq!(timed.count() as u64, 1000 / SAMPLED);
        (0..61).for_each(|_| watch.count(Duration::from_micros(2)));
        watch.count(Duration::from_millis(8));
        assert_eq!(watch.ns(), 2_000_000);
    }
}
