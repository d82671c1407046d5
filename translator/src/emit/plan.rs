//! Which accesses of a block one check can cover.
//!
//! A check is the dearest thing in a block, to compile and to run, and most
//! accesses have company: the arguments and locals of a frame, the pushes of a
//! prologue, the fields of a structure share a root and lie a few bytes apart. So
//! a block is emitted once to see its accesses, and again with each first access
//! of a group checking the whole range that the group touches.
//!
//! The price: a range that crosses into a page which is no neighbour on the host
//! leaves the block at its first access, although each access may be fine.
//! [`MAX_SPAN_BYTES`] bounds how often that can be: a span of n bytes crosses at
//! n − 1 of 4,096 positions. Wider spans save nothing more.

use super::window::MAX_WINDOWS;
use cranelift_codegen::ir::Value;

/// Most bytes that one check covers, unless the address is a constant.
pub const MAX_SPAN_BYTES: u32 = 128;

/// One memory access, in the order of emission.
#[derive(Clone, Copy)]
pub struct Access {
    /// How many callouts came before: a check is worth nothing after the next.
    pub epoch: u32,
    /// Root of the linear address; `None` for constants.
    pub root: Option<Value>,
    /// Offset from the root.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
    /// The access writes.
    pub write: bool,
}

/// A range of addresses relative to a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Offset of the first byte.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
    /// Some access writes.
    pub write: bool,
}

/// What each access of a block should check.
#[derive(Default)]
pub struct Plan {
    groups: Vec<(Access, Range)>,
    /// By number of the access.
    members: Vec<usize>,
}

impl Plan {
    /// Plans nothing: each access checks itself.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.members.clear();
    }

    /// Groups the accesses of a block.
    pub fn make(&mut self, accesses: &[Access]) {
        self.clear();
        for access in accesses {
            let joined = self
                .groups
                .iter()
                .enumerate()
                .find_map(|(n, (first, range))| Some((n, join(first, range, access)?)));
            let n = match joined {
                Some((n, wider)) => {
                    self.groups[n].1 = wider;
                    n
                }
                None => {
                    let &Access {
                        offset, len, write, ..
                    } = access;
                    self.groups.push((*access, Range { offset, len, write }));
                    self.groups.len() - 1
                }
            };
            self.members.push(n);
        }
    }

    /// Number of checks the plan comes to.
    pub fn checks(&self) -> usize {
        self.groups.len()
    }

    /// How many windows a loop has: see [`super::window`].
    pub fn windows(&self) -> usize {
        let moving = self.groups.iter().filter(|(a, _)| a.root.is_some());
        moving.count().min(MAX_WINDOWS)
    }

    /// The window that access number `n` goes through.
    pub fn window(&self, n: usize) -> Option<usize> {
        let group = *self.members.get(n)?;
        self.groups.get(group)?.0.root?;
        let before = self.groups[..group].iter();
        let number = before.filter(|(a, _)| a.root.is_some()).count();
        (number < MAX_WINDOWS).then_some(number)
    }

    /// What access number `n` should check, if it is planned.
    pub fn range(&self, n: usize) -> Option<Range> {
        let group = *self.members.get(n)?;
        Some(self.groups.get(group)?.1)
    }
}

/// `range` widened to cover `access`, if they can share a check.
fn join(first: &Access, range: &Range, access: &Access) -> Option<Range> {
    if (first.epoch, first.root) != (access.epoch, access.root) {
        return None;
    }
    // Distances from the range's first byte; those backwards are negative.
    let from = access.offset.wrapping_sub(range.offset) as i32;
    let low = from.min(0);
    let high = i64::from(from) + i64::from(access.len);
    let high = high.max(i64::from(range.len));
    let len = u32::try_from(high - i64::from(low)).ok()?;
    let offset = range.offset.wrapping_add_signed(low);
    let fits = match first.root {
        Some(_) => len <= MAX_SPAN_BYTES,
        None => (offset & 0xfff) + len <= 0x1000,
    };
    let write = range.write || access.write;
    fits.then_some(Range { offset, len, write })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(offset: u32, len: u32, write: bool) -> Access {
        let root = Some(Value::from_u32(1));
        Access {
            epoch: 0,
            root,
            offset,
            len,
            write,
        }
    }

    #[test]
    fn neighbours_share_a_check_that_covers_them_all() {
        let mut plan = Plan::default();
        plan.make(&[
            access(0_u32.wrapping_sub(4), 4, true),
            access(8, 4, false),
            access(0_u32.wrapping_sub(8), 4, false),
        ]);
        let all = Range {
            offset: 0_u32.wrapping_sub(8),
            len: 20,
            write: true,
        };
        assert_eq!(plan.checks(), 1);
        assert_eq!(
            (0..3).filter_map(|n| plan.range(n)).collect::<Vec<_>>(),
            [all; 3]
        );
    }

    #[test]
    fn distant_accesses_do_not() {
        let mut plan = Plan::default();
        plan.make(&[access(0, 4, true), access(MAX_SPAN_BYTES - 3, 4, true)]);
        assert_eq!(plan.checks(), 2);
        plan.make(&[access(0, 4, true), access(0x8000_0000, 4, true)]);
        assert_eq!(plan.checks(), 2);
    }

    #[test]
    fn constants_share_a_check_within_their_page_only() {
        let at = |offset| Access {
            root: None,
            ..access(offset, 4, false)
        };
        let mut plan = Plan::default();
        plan.make(&[at(0x1ffc), at(0x1000), at(0x2000), at(0x2ffd)]);
        assert_eq!(plan.checks(), 3);
    }
}
