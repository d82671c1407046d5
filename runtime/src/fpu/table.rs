//! Finds what to do for an instruction, making its thunk the first time.

use super::host::Entry;
use super::plan::{self, Plan};
use super::{image, thunk};
use crate::cache::arena::Arena;
use crate::vcpu::Cpu;
use std::collections::HashMap;
use translator::exception::Exception;
use translator::insn::Insn;

/// An instruction that is done without a thunk.
pub type Special = fn(&mut Cpu, &Insn) -> Result<(), Exception>;

/// How an instruction is done.
#[derive(Clone, Copy)]
pub enum Action {
    /// By a thunk.
    Thunk(Plan),
    /// By a function.
    Special(Special),
    /// Not here.
    Foreign,
}

/// Executable memory for thunks; some 60 bytes each.
const ARENA_BYTES: usize = 1 << 20;

/// Most actions kept, so that a guest cannot make the table grow without end.
const MAX_ACTIONS: usize = 1 << 14;

/// The front table has 2^this slots.
const FRONT_BITS: u32 = 10;

/// All actions so far, by [`plan::key`].
pub struct Thunks {
    /// The last action of each hash value, so that most lookups are one compare.
    front: Box<[(u32, Action)]>,
    all: HashMap<u32, Action>,
    arena: Option<Arena>,
}

impl Default for Thunks {
    fn default() -> Self {
        Self {
            front: vec![(0, Action::Foreign); 1 << FRONT_BITS].into(),
            all: HashMap::new(),
            arena: None,
        }
    }
}

impl Thunks {
    /// The action of `i`, whose [`plan::key`] is `key`.
    #[inline(always)]
    pub fn find(&mut self, i: &Insn, key: u32) -> Action {
        let slot = (key.wrapping_mul(0x9e37_79b9) >> (32 - FRONT_BITS)) as usize;
        let (tag, action) = self.front[slot];
        if tag == key {
            return action;
        }
        let action = self.find_slow(i, key);
        self.front[slot] = (key, action);
        action
    }

    #[cold]
    fn find_slow(&mut self, i: &Insn, key: u32) -> Action {
        if let Some(&action) = self.all.get(&key) {
            return action;
        }
        if self.all.len() >= MAX_ACTIONS {
            self.clear();
        }
        let action = match image::special(i.mnemonic) {
            Some(special) => Action::Special(special),
            None => self.make(i).map_or(Action::Foreign, Action::Thunk),
        };
        self.all.insert(key, action);
        action
    }

    /// Forgets everything.
    fn clear(&mut self) {
        *self = Self {
            arena: self.arena.take(),
            ..Self::default()
        };
        if let Some(arena) = &mut self.arena {
            arena.begin_span(0);
        }
    }

    /// Generates the thunk of `i`.
    fn make(&mut self, i: &Insn) -> Option<Plan> {
        let unit = plan::unit(i)?;
        let host = thunk::host_form(i);
        let info = thunk::info(&host);
        let mut plan = plan::plan(i, unit, &host, &info, Entry::NONE);
        let code = thunk::generate(&host, &thunk::xmm_registers(&info), &plan)?;
        if self.arena.is_none() {
            self.arena = Some(Arena::new(ARENA_BYTES).ok()?);
        }
        plan.entry = match Entry::publish(self.arena.as_mut()?, &code) {
            Some(entry) => entry,
            None => {
                self.clear();
                Entry::publish(self.arena.as_mut()?, &code)?
            }
        };
        Some(plan)
    }
}
