//! The instructions that compiled code calls out for, by number.
//!
//! Code has their numbers as constants. They are given out in a row, in the share of the
//! current [generation](crate::cache::generations), and go with it.

use crate::cache::generations::GENERATIONS;
use crate::interp::Op;

/// Numbers of a share, a power of two, most of which are never used.
const SHARE: usize = 1 << 24;

/// See the module's essay.
#[derive(Default)]
pub struct Callouts {
    shares: [Vec<Op>; GENERATIONS],
    current: usize,
}

impl Callouts {
    /// The instruction with this number.
    #[inline]
    pub fn get(&self, number: usize) -> Option<&Op> {
        self.shares.get(number / SHARE)?.get(number % SHARE)
    }

    /// How many the current share has.
    pub fn len(&self) -> usize {
        self.share().len()
    }

    /// The number that the next instruction gets.
    pub fn next(&self) -> u32 {
        (self.current * SHARE + self.len()) as u32
    }

    fn share(&self) -> &[Op] {
        self.shares.get(self.current).map_or(&[], Vec::as_slice)
    }

    /// Adds instructions, with numbers from [`Callouts::next`] on.
    pub fn extend(&mut self, ops: impl IntoIterator<Item = Op>) {
        if let Some(share) = self.shares.get_mut(self.current) {
            share.extend(ops);
        }
    }

    /// Goes on with a share, whose instructions are forgotten.
    pub fn begin(&mut self, share: usize) {
        self.current = share % GENERATIONS;
        self.shares[self.current].clear();
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.shares.iter_mut().for_each(Vec::clear);
    }

    /// Lends the share that a number is in, which is empty until it is given back, and
    /// the number's place there.
    #[inline]
    pub fn lend(&mut self, number: usize) -> (usize, Vec<Op>) {
        let share = self.shares.get_mut(number / SHARE);
        let ops = share.map(std::mem::take).unwrap_or_default();
        (number % SHARE, ops)
    }

    /// See [`Callouts::lend`].
    #[inline]
    pub fn give_back(&mut self, number: usize, ops: Vec<Op>) {
        if let Some(share) = self.shares.get_mut(number / SHARE) {
            *share = ops;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use translator::insn::Insn;
    use translator::mode::Mode;

    fn op(eip: u32) -> Op {
        Op::new(Insn::blank(eip, Mode(0)))
    }

    #[test]
    fn numbers_lead_to_their_instructions_until_their_share_begins_anew() {
        let mut callouts = Callouts::default();
        let eip = |callouts: &Callouts, number: u32| {
            let op = callouts.get(number as usize);
            op.map(|op| op.insn().eip)
        };
        let first = callouts.next();
        callouts.extend([op(1), op(2)]);
        assert_eq!(eip(&callouts, first + 1), Some(2));
        callouts.begin(3);
        let later = callouts.next();
        callouts.extend([op(3)]);
        assert_eq!(eip(&callouts, first), Some(1));
        assert_eq!(eip(&callouts, later), Some(3));
        assert_eq!(eip(&callouts, later + 1), None);
        callouts.begin(0);
        assert_eq!(eip(&callouts, first), None);
        assert_eq!(eip(&callouts, later), Some(3));
        assert_eq!(eip(&callouts, u32::MAX >> 1), None);
    }
}
