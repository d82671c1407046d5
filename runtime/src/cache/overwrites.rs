//! Code that keeps being overwritten.
//!
//! A block is dropped when its bytes are stored to, and decoded again when it
//! runs again. For a loop that patches itself that would be a compilation a
//! round. So the cache counts, by the byte, the stores that dropped a block, and a
//! byte that has seen a few of them is *volatile*. An instruction with
//! volatile bytes is looked at anew whenever it runs ([`crate::volatile`]); a block
//! ends with the first, and does not hold its bytes.
//!
//! Code that is made anew now and then, all of it, is not like that: a frame that no
//! store has hit for [`CALM_SLICES`] starts from nothing.
//!
//! A volatile instruction must run unchanged for a number of times that doubles with
//! each store that drops it. Then its bytes are tried as usual code; the next store
//! takes that back and doubles the price. So whatever the rhythm in which code is
//! patched, compiling it takes little time beside the interpreting in between.
//!
//! An instruction that crosses into the next page is volatile if a byte of it is, in
//! either.

use super::Map;
use std::ops::Range;

/// Bytes of a page frame.
const FRAME_BYTES: usize = 0x1000;
/// Stores that drop a block before a byte is volatile.
const TOLERATED: u8 = 4;
/// Unchanged runs that an instruction just become volatile must show.
pub const FIRST_PRICE: u32 = 64;
/// Most doublings of it.
const MAX_DOUBLINGS: u8 = 14;
/// Slices of the budget without a store after which a frame's counts are void: long
/// enough to have paid for decoding and compiling what has changed.
const CALM_SLICES: u64 = 16;
/// Frames remembered; beyond, all are forgotten.
const MAX_FRAMES: usize = 1024;
/// The price has been paid: usual code until the next store.
const PAID: u8 = 0x80;

/// The counts of the bytes of each frame.
#[derive(Default)]
pub struct Overwrites(Map<u64, Box<Counts>>);

/// Those of one frame.
struct Counts {
    bytes: [u8; FRAME_BYTES],
    /// Bits of those that are volatile.
    volatile: [u64; FRAME_BYTES / 64],
    /// Slice in which a store last hit a block.
    last: u64,
}

impl Counts {
    fn get(&self, bytes: &Range<usize>) -> &[u8] {
        self.bytes.get(bytes.clone()).unwrap_or_default()
    }

    /// Changes the counts of `bytes`.
    fn change(&mut self, bytes: &Range<usize>, how: impl Fn(u8) -> u8) {
        let counts = self.bytes.iter_mut().enumerate();
        for (n, count) in counts.take(bytes.end).skip(bytes.start) {
            *count = how(*count);
            let bit = 1 << (n % 64);
            let word = &mut self.volatile[n / 64];
            match price_of(*count) != 0 {
                true => *word |= bit,
                false => *word &= !bit,
            }
        }
    }
}

/// The runs that a byte's count asks for.
fn price_of(count: u8) -> u32 {
    if count & PAID == 0 && count >= TOLERATED {
        FIRST_PRICE << (count - TOLERATED)
    } else {
        0
    }
}

impl Overwrites {
    /// Counts a store of `bytes` of a frame that drops a block, in this slice.
    pub fn count(&mut self, frame: u64, bytes: &Range<usize>, slice: u64) {
        if self.0.len() >= MAX_FRAMES {
            self.0.clear();
        }
        let fresh = || {
            Box::new(Counts {
                bytes: [0; FRAME_BYTES],
                volatile: [0; FRAME_BYTES / 64],
                last: slice,
            })
        };
        let counts = self.0.entry(frame).or_insert_with(fresh);
        if slice.saturating_sub(counts.last) > CALM_SLICES {
            counts.bytes.fill(0);
            counts.volatile.fill(0);
        }
        counts.last = slice;
        let most = TOLERATED + MAX_DOUBLINGS;
        counts.change(bytes, |n| (n & !PAID).saturating_add(1).min(most));
    }

    /// The runs that a new block of `bytes` must show; 0 where code is as usual.
    pub fn price(&self, frame: u64, bytes: &Range<usize>) -> u32 {
        let counts = self.0.get(&frame).map(|counts| counts.get(bytes));
        let prices = counts.unwrap_or_default().iter();
        prices.map(|&count| price_of(count)).max().unwrap_or(0)
    }

    /// How many bytes from `phys` on are before the next that is volatile, or before
    /// the end of the frame.
    pub fn stable(&self, phys: u64) -> usize {
        let offset = (phys & 0xfff) as usize;
        let Some(counts) = self.0.get(&(phys >> 12)) else {
            return FRAME_BYTES - offset;
        };
        let mut mask = u64::MAX << (offset % 64);
        for (n, word) in counts.volatile.iter().enumerate().skip(offset / 64) {
            if word & mask != 0 {
                let first = n * 64 + (word & mask).trailing_zeros() as usize;
                return first - offset;
            }
            mask = u64::MAX;
        }
        FRAME_BYTES - offset
    }

    /// A block of `bytes` has paid its price.
    pub fn forgive(&mut self, frame: u64, bytes: &Range<usize>) {
        if let Some(counts) = self.0.get_mut(&frame) {
            counts.change(bytes, |n| n | PAID);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_doubles_and_is_paid_for_until_the_next_store() {
        let mut overwrites = Overwrites::default();
        let mut prices = Vec::new();
        for _ in 0..7 {
            prices.push(overwrites.price(1, &(0x10..0x20)));
            overwrites.count(1, &(0x17..0x18), 9);
        }
        assert_eq!(prices, [0, 0, 0, 0, 64, 128, 256]);
        assert_eq!(overwrites.price(1, &(0x18..0x20)), 0);
        assert_eq!(overwrites.price(1, &(0x17..0x17)), 0);
        overwrites.forgive(1, &(0x10..0x20));
        assert_eq!(overwrites.price(1, &(0x10..0x20)), 0);
        overwrites.count(1, &(0x14..0x18), 9);
        assert_eq!(overwrites.price(1, &(0x10..0x20)), 1024);
        (0..300).for_each(|_| overwrites.count(1, &(0x14..0x18), 9));
        assert_eq!(overwrites.price(1, &(0x10..0x20)), 64 << 14);
    }

    #[test]
    fn calm_makes_stores_forgotten() {
        let mut overwrites = Overwrites::default();
        for slice in [0, 1, 2, 30, 31] {
            overwrites.count(1, &(0..4), slice);
        }
        assert_eq!(overwrites.price(1, &(0..4)), 0);
        overwrites.count(1, &(0..4), 32);
        overwrites.count(1, &(0..4), 33);
        assert_eq!(overwrites.price(1, &(0..4)), 64);
    }

    #[test]
    fn code_is_stable_up_to_what_is_volatile() {
        let mut overwrites = Overwrites::default();
        assert_eq!(overwrites.stable(0x1ffe), 2);
        (0..TOLERATED).for_each(|_| overwrites.count(1, &(0x102..0x109), 9));
        assert_eq!(overwrites.stable(0x10f0), 0x12);
        assert_eq!(overwrites.stable(0x1003), 0xff);
        assert_eq!(overwrites.stable(0x1102), 0);
        assert_eq!(overwrites.stable(0x1108), 0);
        assert_eq!(overwrites.stable(0x1109), 0x1000 - 0x109);
        assert_eq!(overwrites.stable(0x2000), 0x1000);
    }

    #[test]
    fn the_last_byte_of_a_page_is_like_any() {
        let mut overwrites = Overwrites::default();
        (0..TOLERATED).for_each(|_| overwrites.count(1, &(0xfff..0x1000), 9));
        assert_eq!(overwrites.stable(0x1ff0), 15);
        assert_eq!(overwrites.stable(0x1fff), 0);
        assert_eq!(overwrites.stable(0x2000), 0x1000);
    }
}
