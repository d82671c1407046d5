//! Code that keeps being overwritten.
//!
//! A block is dropped when its bytes are stored to, and decoded again when it
//! runs again. For a loop that patches itself that would be a compilation a
//! round. So the cache counts, by the doubleword, the stores that dropped a block,
//! and a doubleword that has seen a few of them is *volatile*. An instruction with
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
//! The last bytes of a page are never volatile, because an instruction there may
//! cross into the next. A block there that has a price is interpreted until it has
//! paid.

use super::Map;
use std::ops::Range;
use translator::decode::MAX_INSN_BYTES;

/// Bytes counted together.
const GRANULE_BYTES: usize = 4;
/// Granules of a page frame.
const GRANULES: usize = 0x1000 / GRANULE_BYTES;
/// Stores that drop a block before a granule is volatile.
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
/// Granules that can be volatile: an instruction that reaches into one ends in its page.
const CAN_BE_VOLATILE: usize = GRANULES - MAX_INSN_BYTES.div_ceil(GRANULE_BYTES);

/// The counts of the granules of each frame.
#[derive(Default)]
pub struct Overwrites(Map<u64, Box<Counts>>);

/// Those of one frame.
struct Counts {
    granules: [u8; GRANULES],
    /// Slice in which a store last hit a block.
    last: u64,
}

impl Counts {
    fn get(&self, bytes: &Range<usize>) -> &[u8] {
        self.granules.get(granules(bytes)).unwrap_or_default()
    }

    fn get_mut(&mut self, bytes: &Range<usize>) -> &mut [u8] {
        self.granules.get_mut(granules(bytes)).unwrap_or_default()
    }
}

/// The runs that a granule asks for.
fn price_of(granule: u8) -> u32 {
    if granule & PAID == 0 && granule >= TOLERATED {
        FIRST_PRICE << (granule - TOLERATED)
    } else {
        0
    }
}

fn granules(bytes: &Range<usize>) -> Range<usize> {
    bytes.start / GRANULE_BYTES..bytes.end.div_ceil(GRANULE_BYTES).min(GRANULES)
}

impl Overwrites {
    /// Counts a store of `bytes` of a frame that drops a block, in this slice.
    pub fn count(&mut self, frame: u64, bytes: &Range<usize>, slice: u64) {
        if self.0.len() >= MAX_FRAMES {
            self.0.clear();
        }
        let fresh = || {
            let granules = [0; GRANULES];
            Box::new(Counts {
                granules,
                last: slice,
            })
        };
        let counts = self.0.entry(frame).or_insert_with(fresh);
        if slice.saturating_sub(counts.last) > CALM_SLICES {
            counts.granules.fill(0);
        }
        counts.last = slice;
        for granule in counts.get_mut(bytes) {
            *granule = (*granule & !PAID)
                .saturating_add(1)
                .min(TOLERATED + MAX_DOUBLINGS);
        }
    }

    /// The runs that a new block of `bytes` must show; 0 where code is as usual.
    pub fn price(&self, frame: u64, bytes: &Range<usize>) -> u32 {
        let counts = self.0.get(&frame).map(|counts| counts.get(bytes));
        let prices = counts.unwrap_or_default().iter();
        prices.map(|&granule| price_of(granule)).max().unwrap_or(0)
    }

    /// How many bytes from `phys` on are before the next that is volatile, or before
    /// the end of the frame.
    pub fn stable(&self, phys: u64) -> usize {
        let offset = (phys & 0xfff) as usize;
        let first = offset / GRANULE_BYTES;
        let counts = self.0.get(&(phys >> 12)).map(|counts| &counts.granules);
        let rest = counts.and_then(|granules| granules.get(first..CAN_BE_VOLATILE));
        let volatile = rest.and_then(|rest| rest.iter().position(|&g| price_of(g) != 0));
        volatile.map_or(0x1000 - offset, |n| {
            ((first + n) * GRANULE_BYTES).saturating_sub(offset)
        })
    }

    /// A block of `bytes` has paid its price.
    pub fn forgive(&mut self, frame: u64, bytes: &Range<usize>) {
        if let Some(counts) = self.0.get_mut(&frame) {
            for granule in counts.get_mut(bytes) {
                *granule |= PAID;
            }
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
        assert_eq!(overwrites.stable(0x10f0), 0x10);
        assert_eq!(overwrites.stable(0x1101), 0);
        assert_eq!(overwrites.stable(0x110b), 0);
        assert_eq!(overwrites.stable(0x110c), 0x1000 - 0x10c);
        assert_eq!(overwrites.stable(0x2000), 0x1000);
    }

    #[test]
    fn the_end_of_a_page_is_never_volatile() {
        let mut overwrites = Overwrites::default();
        (0..TOLERATED).for_each(|_| overwrites.count(1, &(0xfe0..0x1000), 9));
        assert_eq!(overwrites.stable(0x1fef), 0);
        assert_eq!(overwrites.stable(0x1ff0), 0x10);
    }
}
