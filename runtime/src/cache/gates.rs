//! The gates: how direct code in one page goes to code in another.
//!
//! There is one for each EIP that such a jump has led to, and it knows one tag and the code
//! that is there under it ([`translator::direct::gate`]). Under other tags, jumps through
//! it are probes of the jump cache; where that has nothing either, the run loop gives the
//! gate to the tag that is current then. So programs that take turns at the same addresses
//! do not fight for it.
//!
//! Invariant: an open gate leads to code of a live block, which its tag and EIP stand for.

use super::Map;
use super::arena::Arena;
use translator::direct::gate::{CLOSED, gate};
use translator::state::GATE_BYTES;

/// See the module's essay.
pub struct Gates {
    /// Host address of the first.
    first: u64,
    /// Host address of what closed ones call.
    closed: u64,
    by_eip: Map<u32, u32>,
    all: Vec<Gate>,
    /// Those that nothing leads to any more.
    free: Vec<u32>,
    most: usize,
}

struct Gate {
    eip: u32,
    /// The code that it leads to, or 0.
    code: u64,
}

impl Gates {
    /// None yet, and at most so many.
    pub fn new(most: usize, first: u64, closed: u64) -> Self {
        Self {
            first,
            closed,
            by_eip: Map::default(),
            all: Vec::new(),
            free: Vec::new(),
            most,
        }
    }

    /// Host address of the first gate.
    pub fn address(&self) -> u64 {
        self.first
    }

    /// Opens the gate for `eip`, made if need be, under `tag` to `code`; its address, or
    /// `None` if there are too many.
    pub fn open(&mut self, arena: &mut Arena, eip: u32, tag: u32, code: u64) -> Option<u64> {
        let number = match self.by_eip.get(&eip) {
            Some(&number) => number,
            None => self.make(eip)?,
        };
        Some(self.set(arena, number, tag, code))
    }

    fn make(&mut self, eip: u32) -> Option<u32> {
        let next = self.all.len();
        let fresh = || (next < self.most).then_some(next as u32);
        let number = self.free.pop().or_else(fresh)?;
        let gate = Gate { eip, code: 0 };
        match self.all.get_mut(number as usize) {
            Some(place) => *place = gate,
            None => self.all.push(gate),
        }
        self.by_eip.insert(eip, number);
        Some(number)
    }

    /// Takes back all gates but those that a link slot leads to; `words` are what slots
    /// hold.
    pub fn reclaim(&mut self, words: &[u64]) {
        let mut wanted = vec![false; self.all.len()];
        for word in words {
            let number = word.wrapping_sub(self.first) / GATE_BYTES as u64;
            if let Some(gate) = wanted.get_mut(number as usize) {
                *gate = true;
            }
        }
        self.by_eip.retain(|_, number| wanted[*number as usize]);
        let unwanted = (0..).zip(&wanted).filter(|(_, wanted)| !**wanted);
        self.free = unwanted.map(|(number, _)| number).collect();
    }

    fn set(&mut self, arena: &mut Arena, number: u32, tag: u32, code: u64) -> u64 {
        let at = self.first + u64::from(number) * GATE_BYTES as u64;
        if let Some(known) = self.all.get_mut(number as usize) {
            known.code = code;
            arena.write(at, &gate(at, self.closed, known.eip, tag, code));
        }
        at
    }

    /// Closes the gate that leads to `code` at `eip`, if one does.
    pub fn close(&mut self, arena: &mut Arena, eip: u32, code: u64) {
        if let Some(&number) = self.by_eip.get(&eip)
            && self.leads(number) == Some(code)
        {
            self.set(arena, number, CLOSED, 0);
        }
    }

    fn leads(&self, number: u32) -> Option<u64> {
        let gate = self.all.get(number as usize)?;
        (gate.code != 0).then_some(gate.code)
    }

    /// The code to which the gate for `eip` leads.
    pub fn code_at(&self, eip: u32) -> Option<u64> {
        self.leads(*self.by_eip.get(&eip)?)
    }

    /// Whether there is a gate with this number.
    pub fn has(&self, number: u32) -> bool {
        self.all.len() > number as usize
    }

    /// Closes all.
    pub fn close_all(&mut self, arena: &mut Arena) {
        for number in 0..self.all.len() as u32 {
            self.set(arena, number, CLOSED, 0);
        }
    }

    /// Forgets all: nothing leads to them any more.
    pub fn clear(&mut self) {
        self.by_eip.clear();
        self.all.clear();
        self.free.clear();
    }
}
