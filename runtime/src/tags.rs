//! Small numbers for (mode, address space, fetch epoch).
//!
//! The direct-mapped caches are keyed by EIP and a 32-bit tag. Giving each
//! combination that occurs its own tag makes a switch of mode or address space
//! free: entries of other tags just do not match.

use crate::cache::Cache;
use std::collections::HashMap;

/// Mode bits, address space number, fetch epoch.
pub type Context = (u32, u32, u64);

/// Combinations remembered before the table starts over.
const MAX_CONTEXTS: usize = 256;

/// Size of the cache in front of the table, a power of two.
const RECENT: usize = 16;

/// Gives tags to contexts.
#[derive(Default)]
pub struct Tags {
    /// The last contexts, by a few of their bits: user and kernel of one address
    /// space alternate all the time.
    recent: [(Context, u32); RECENT],
    known: HashMap<Context, u32>,
    epoch: u64,
    next: u32,
}

impl Tags {
    /// The tag of `context`, never given to another one while entries with it
    /// can be in `cache`.
    #[inline]
    pub fn tag_of(&mut self, context: Context, cache: &mut Cache) -> u32 {
        let (mode, space, _) = context;
        let index = ((mode >> 2 & 1) | space << 1) as usize & (RECENT - 1);
        let (known, tag) = self.recent[index];
        if known == context && tag != 0 {
            return tag;
        }
        let tag = self.look_up(context, cache);
        self.recent[index] = (context, tag);
        tag
    }

    fn look_up(&mut self, context: Context, cache: &mut Cache) -> u32 {
        if context.2 != self.epoch || self.known.len() >= MAX_CONTEXTS {
            self.epoch = context.2;
            self.known.clear();
        }
        if let Some(&tag) = self.known.get(&context) {
            return tag;
        }
        self.next = self.next.wrapping_add(1);
        if self.next == u32::MAX {
            cache.forget_recent();
            self.recent = Default::default();
            self.known.clear();
            self.next = 1;
        }
        self.known.insert(context, self.next);
        self.next
    }
}
