//! Small numbers for (mode, address space, fetch epoch, code segment).
//!
//! The direct-mapped caches are keyed by EIP and a 32-bit tag. Giving each
//! combination that occurs its own tag makes a switch of mode or address space
//! free: entries of other tags just do not match.

use crate::cache::Cache;
use std::collections::HashMap;

/// What an EIP needs beside it to name a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context {
    /// Mode bits.
    pub mode: u32,
    /// Number of the address space.
    pub space: u32,
    /// Fetch epoch.
    pub epoch: u64,
    /// Base and highest offset of CS.
    pub code: (u32, u32),
}

impl Context {
    /// No block is ever found in this one.
    pub const NOWHERE: Context = Context {
        mode: u32::MAX,
        space: u32::MAX,
        epoch: u64::MAX,
        code: (0, 0),
    };
}

/// Combinations remembered before the table starts over.
const MAX_CONTEXTS: usize = 256;

/// Size of the cache in front of the table, a power of two.
const RECENT: usize = 16;

/// Gives tags to contexts.
pub struct Tags {
    /// The last contexts, by a few of their bits: user and kernel of one address
    /// space alternate all the time.
    recent: [(Context, u32); RECENT],
    known: HashMap<Context, u32>,
    epoch: u64,
    next: u32,
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            recent: [(Context::NOWHERE, 0); RECENT],
            known: HashMap::new(),
            epoch: 0,
            next: 0,
        }
    }
}

impl Tags {
    /// The tag of `context`, never given to another one while entries with it
    /// can be in `cache`.
    #[inline]
    pub fn tag_of(&mut self, context: Context, cache: &mut Cache) -> u32 {
        let index = ((context.mode >> 2 & 1) | context.space << 1) as usize & (RECENT - 1);
        let (known, tag) = self.recent[index];
        if known == context {
            return tag;
        }
        let tag = self.look_up(context, cache);
        self.recent[index] = (context, tag);
        tag
    }

    fn look_up(&mut self, context: Context, cache: &mut Cache) -> u32 {
        if context.epoch != self.epoch || self.known.len() >= MAX_CONTEXTS {
            self.epoch = context.epoch;
            self.known.clear();
        }
        if let Some(&tag) = self.known.get(&context) {
            return tag;
        }
        self.next = self.next.wrapping_add(1);
        if self.next == u32::MAX {
            cache.forget_recent();
            self.recent = [(Context::NOWHERE, 0); RECENT];
            self.known.clear();
            self.next = 1;
        }
        self.known.insert(context, self.next);
        self.next
    }
}
