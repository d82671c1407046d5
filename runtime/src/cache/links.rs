//! Link slots: the data words through which compiled blocks jump to each other.
//!
//! Compiled code loads a host address from its slot and jumps there. An unlinked
//! slot holds the address of a stub that returns to the run loop and names the
//! slot; linking and unlinking a jump is one store. Direct code has jumps instead
//! that are written themselves; their slots only say where they are.

use super::BlockId;

/// Most link slots before the cache is cleared.
pub const MAX_SLOTS: usize = 1 << 19;

/// What a slot is for.
#[derive(Clone, Copy, Debug)]
pub struct SlotInfo {
    /// The block whose code jumps through the slot.
    pub owner: BlockId,
    /// EIP of the target.
    pub eip: u32,
    /// The jump to be written, by host addresses of its displacement and of what
    /// it leads to without a link.
    pub jump: Option<(u64, u64)>,
}

/// All link slots. The array's address never changes.
pub struct Links {
    slots: Box<[u64]>,
    info: Vec<SlotInfo>,
    stub: u64,
}

impl Links {
    /// An empty array; `stub` is what unlinked slots hold.
    pub fn new(stub: u64) -> Self {
        Self {
            slots: vec![0; MAX_SLOTS].into_boxed_slice(),
            info: Vec::new(),
            stub,
        }
    }

    /// Host address of the array, for generated code.
    pub fn address(&self) -> u64 {
        self.slots.as_ptr() as u64
    }

    /// Reserves `count` unlinked slots and returns the first, or `None` if full.
    pub fn reserve(&mut self, owner: BlockId, count: usize) -> Option<u32> {
        let first = self.info.len();
        let slots = self.slots.get_mut(first..first + count)?;
        slots.fill(self.stub);
        let info = SlotInfo {
            owner,
            eip: 0,
            jump: None,
        };
        self.info.resize(first + count, info);
        Some(first as u32)
    }

    /// Notes where a slot leads, and the jump it stands for.
    pub fn describe(&mut self, slot: u32, eip: u32, jump: Option<(u64, u64)>) {
        if let Some(info) = self.info.get_mut(slot as usize) {
            info.eip = eip;
            info.jump = jump;
        }
    }

    /// What a slot is for.
    pub fn info(&self, slot: u32) -> Option<SlotInfo> {
        self.info.get(slot as usize).copied()
    }

    /// Makes a slot lead to `code`, or to the run loop if that is `None`. Returns
    /// the address of a jump's displacement and where it must lead now, if the
    /// slot stands for one.
    #[must_use]
    pub fn set(&mut self, slot: u32, code: Option<u64>) -> Option<(u64, u64)> {
        let word = self.slots.get_mut(slot as usize)?;
        *word = code.unwrap_or(self.stub);
        let (at, stub) = self.info.get(slot as usize)?.jump?;
        Some((at, code.unwrap_or(stub)))
    }

    /// Forgets all slots.
    pub fn clear(&mut self) {
        self.info.clear();
    }
}
