//! Small numbers for (mode, fetch translations, code segment).
//!
//! The direct-mapped caches are keyed by EIP and a 32-bit tag. Giving each
//! combination that occurs its own tag makes a switch of mode or address space
//! free: entries of other tags just do not match.

use crate::cache::{Cache, Map};
use translator::records::{KnownTag, TAG_BITS, tag_slot};
use translator::state::TAG_STEP;

/// What an EIP needs beside it to name a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context {
    /// Mode bits.
    pub mode: u32,
    /// Number of the fetch translations: see `ShadowMmu::fetch_number`.
    pub fetches: u64,
    /// Base and highest offset of CS.
    pub code: (u32, u32),
}

impl Context {
    /// No block is ever found in this one.
    pub const NOWHERE: Context = Context {
        mode: u32::MAX,
        fetches: u64::MAX,
        code: (0, 0),
    };

    fn known_by(self, tag: u32) -> KnownTag {
        let Self {
            mode,
            fetches,
            code,
        } = self;
        KnownTag {
            fetches,
            mode,
            tag,
            code,
        }
    }
}

/// Combinations remembered before the table starts over.
const MAX_CONTEXTS: usize = 256;

/// Gives tags to contexts.
pub struct Tags {
    /// The last contexts, by a few of their bits: user and kernel of one address
    /// space alternate all the time. Direct code looks here, too.
    recent: Box<[KnownTag]>,
    known: Map<Context, u32>,
    next: u32,
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            recent: vec![Context::NOWHERE.known_by(0); 1 << TAG_BITS].into_boxed_slice(),
            known: Map::default(),
            next: 0,
        }
    }
}

impl Tags {
    /// Host address of the tags asked for lately, for direct code.
    pub fn address(&self) -> u64 {
        self.recent.as_ptr() as u64
    }

    /// The tag of `context`, never given to another one while entries with it
    /// can be in `cache`.
    #[inline]
    pub fn tag_of(&mut self, context: Context, cache: &mut Cache) -> u32 {
        if let Some(tag) = self.recent(&context) {
            return tag;
        }
        let tag = self.look_up(context, cache);
        self.recent[tag_slot(context.mode, context.fetches)] = context.known_by(tag);
        tag
    }

    /// The same, if it was asked for lately.
    #[inline]
    pub fn recent(&self, context: &Context) -> Option<u32> {
        let known = &self.recent[tag_slot(context.mode, context.fetches)];
        let same = known.mode == context.mode
            && known.fetches == context.fetches
            && known.code == context.code;
        same.then_some(known.tag)
    }

    fn look_up(&mut self, context: Context, cache: &mut Cache) -> u32 {
        if let Some(&tag) = self.known.get(&context) {
            return tag;
        }
        if self.known.len() >= MAX_CONTEXTS {
            self.known.clear();
        }
        self.next = self.next.checked_add(TAG_STEP).unwrap_or_else(|| {
            cache.forget_recent();
            self.recent.fill(Context::NOWHERE.known_by(0));
            self.known.clear();
            TAG_STEP
        });
        self.known.insert(context, self.next);
        self.next
    }
}
