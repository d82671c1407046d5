//! The local APIC's timer (SDM vol. 3A, "APIC Timer").
//!
//! A counter that runs down from an initial count, once or again and again. As
//! in the 8254, nothing runs while nobody looks: all that is kept is when the
//! count reaches zero, and a read is a subtraction.
//!
//! It counts the crystal's ticks, which CPUID leaf 0x15 announces.

/// Rate of the timer's input.
pub const CRYSTAL_HZ: u64 = 100_000_000;

const TICK_NS: u64 = 1_000_000_000 / CRYSTAL_HZ;

/// The counter, with its divider.
#[derive(Default)]
pub struct Timer {
    /// The divide configuration register.
    divide: u32,
    initial: u32,
    periodic: bool,
    /// When the count reaches zero; `None` while it stands at zero.
    expires_ns: Option<u64>,
}

impl Timer {
    /// Nanoseconds of one count. The divisor is 2 for the code 0, and so on up
    /// to 128 for 6; 7 divides by 1. Bit 2 of the code is bit 3 of the register.
    fn count_ns(&self) -> u64 {
        let code = self.divide & 3 | (self.divide >> 1) & 4;
        TICK_NS << ((code + 1) & 7)
    }

    /// The divide configuration register.
    pub fn divide(&self) -> u32 {
        self.divide
    }

    /// Sets the divide configuration register; the count goes on from where it is.
    pub fn set_divide(&mut self, value: u32, now_ns: u64) {
        let left = self.current(now_ns);
        self.divide = value & 0xB;
        self.expires_ns = self
            .expires_ns
            .map(|_| now_ns + u64::from(left) * self.count_ns());
    }

    /// The initial count.
    pub fn initial(&self) -> u32 {
        self.initial
    }

    /// Sets the initial count, which starts the timer; zero stops it.
    pub fn set_initial(&mut self, value: u32, now_ns: u64) {
        self.initial = value;
        self.expires_ns = (value != 0).then(|| now_ns + self.period_ns());
    }

    /// Chooses whether the timer starts again at zero.
    pub fn set_periodic(&mut self, periodic: bool) {
        self.periodic = periodic;
    }

    /// The current count. [`Timer::poll`] must have seen `now_ns`.
    pub fn current(&self, now_ns: u64) -> u32 {
        let left_ns = self.expires_ns.map_or(0, |end| end.saturating_sub(now_ns));
        left_ns.div_ceil(self.count_ns()) as u32
    }

    /// When the count reaches zero next.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.expires_ns
    }

    /// Brings the count up to `now_ns`; true if it has reached zero since the last call.
    pub fn poll(&mut self, now_ns: u64) -> bool {
        let Some(end) = self.expires_ns.filter(|&end| end <= now_ns) else {
            return false;
        };
        let periods = (now_ns - end) / self.period_ns().max(1) + 1;
        self.expires_ns = self
            .periodic
            .then(|| end.saturating_add(periods.saturating_mul(self.period_ns())));
        true
    }

    fn period_ns(&self) -> u64 {
        u64::from(self.initial) * self.count_ns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_are_those_of_the_manual() {
        let codes = [
            0b0000, 0b0001, 0b0010, 0b0011, 0b1000, 0b1001, 0b1010, 0b1011,
        ];
        let divisors = codes.map(|divide| {
            let timer = Timer {
                divide,
                ..Timer::default()
            };
            timer.count_ns() / TICK_NS
        });
        assert_eq!(divisors, [2, 4, 8, 16, 32, 64, 128, 1]);
    }

    #[test]
    fn one_shot_stops_at_zero() {
        let mut timer = Timer::default();
        timer.set_initial(100, 0); // Divided by 2: 20 ns each.
        assert_eq!((timer.current(0), timer.current(30)), (100, 99));
        assert!(!timer.poll(1999));
        assert!(timer.poll(2000));
        assert_eq!(timer.current(2000), 0);
        assert!(!timer.poll(1_000_000));
    }

    #[test]
    fn periodic_starts_again_and_late_periods_are_one() {
        let mut timer = Timer::default();
        timer.set_periodic(true);
        timer.set_initial(100, 0);
        assert!(timer.poll(2000));
        assert_eq!(timer.current(2000), 100);
        assert!(timer.poll(9000));
        assert_eq!(timer.next_deadline_ns(), Some(10_000));
    }

    #[test]
    fn another_divisor_keeps_the_count() {
        let mut timer = Timer::default();
        timer.set_initial(100, 0);
        timer.set_divide(0b1011, 1000);
        assert_eq!(timer.current(1000), 50);
        assert_eq!(timer.next_deadline_ns(), Some(1500));
    }

    #[test]
    fn zero_stops() {
        let mut timer = Timer::default();
        timer.set_initial(100, 0);
        timer.set_initial(0, 10);
        assert_eq!((timer.current(10), timer.next_deadline_ns()), (0, None));
    }
}
