//! Instructions that are looked at anew whenever they run.
//!
//! Where stores keep hitting code ([`crate::cache`] counts them), dropping blocks and
//! decoding them again costs far more than what the guest does. There an instruction
//! is *volatile*: instead of it, the block it belongs to ends with a stand-in, which
//! reads the guest's bytes when it runs, compares them with those it has seen, and
//! runs what they mean. Some meanings are remembered for each address, and where only
//! an immediate or a displacement is new, that is replaced in the one remembered.
//! For compiled code a stand-in is a callout, which runs on as far as it can
//! ([`chain`]).
//!
//! Invariants: no block holds the bytes of a volatile instruction, so a store to them
//! drops nothing and need not leave the block it is in; a stand-in is the last of its
//! block, so nothing has been read ahead of it; what is remembered is used only if the
//! bytes are the same now.

pub mod chain;
mod edge;

use crate::cache::overwrites::FIRST_PRICE;
use crate::interp::Op;
use crate::vcpu::{Cpu, Raised};
use chain::Chain;
use shadow_mmu::PhysAddr;
use std::ops::Range;
use translator::block::{Block, Terminal};
use translator::decode::{
    Incomplete, MAX_BLOCK_INSNS, MAX_INSN_BYTES, decode_block_for, operand_bytes,
};
use translator::exception::Exception;
use translator::insn::{Flow, Insn, Operand, Rep, SegReg, Width};
use translator::mode::Mode;

/// Addresses remembered, a power of two.
const SLOTS: usize = 1 << 10;
/// Meanings remembered for each.
const MAX_MEANINGS: usize = 16;

/// What is known of volatile instructions.
#[derive(Default)]
pub struct Volatile {
    slots: Vec<Slot>,
    chain: Chain,
}

/// An instruction that has run unchanged for long.
pub struct Calm {
    /// Its guest-physical address.
    pub phys: u64,
    /// Its length in bytes.
    pub len: usize,
    /// Where those are that are in the next page, if any.
    pub second: Option<u64>,
    /// For how many runs.
    pub runs: u32,
}

/// What is remembered of one address.
#[derive(Clone, Default)]
struct Slot {
    phys: u64,
    eip: u32,
    mode: u32,
    meanings: Vec<Meaning>,
    /// The one that was last run, or is to be replaced.
    last: usize,
    /// Runs since the bytes were others.
    unchanged: u32,
}

/// What some bytes mean.
#[derive(Clone)]
struct Meaning {
    bytes: u128,
    /// Ones for the bytes of the instruction.
    whole: u128,
    /// The same without those that may be others.
    fixed: u128,
    imm: Constant,
    disp: Constant,
    /// Length in bytes.
    len: usize,
    /// The next page's frame as last seen, if some of them are there.
    second: Option<u64>,
    op: Op,
}

/// An operand in the bytes of an instruction.
#[derive(Clone, Copy)]
struct Constant {
    /// In bits.
    offset: u32,
    /// How far its sign is extended, in bits; 32 if there is none.
    extended: u32,
    /// Ones for what the definition gets of it; 0 if there is none.
    mask: u32,
}

/// The stand-in for an instruction.
fn stand_in(eip: u32, phys: PhysAddr, mode: Mode) -> Insn {
    Insn {
        imm: phys.0 as u32,
        imm2: (phys.0 >> 32) as u32,
        ..Insn::blank(eip, mode)
    }
}

/// Where the instruction is that this one stands for, if it is a stand-in: only they
/// have no length.
pub fn address(insn: &Insn) -> Option<u64> {
    (insn.len == 0).then_some(u64::from(insn.imm2) << 32 | u64::from(insn.imm))
}

/// The block of a volatile instruction.
pub fn alone(eip: u32, mode: Mode, phys: PhysAddr) -> Block {
    Block {
        eip,
        mode,
        insns: vec![stand_in(eip, phys, mode)],
        len_bytes: 0,
        terminal: Terminal::System,
    }
}

/// A block, which begins at `phys` and is followed by a volatile instruction unless
/// it ends before.
pub fn continued(mut block: Block, phys: PhysAddr) -> Block {
    let most = if block.mode.single() {
        1
    } else {
        MAX_BLOCK_INSNS
    };
    if let Terminal::Next(eip) = block.terminal
        && block.insns.len() < most
    {
        let next = PhysAddr(phys.0 + u64::from(block.len_bytes));
        block.insns.push(stand_in(eip, next, block.mode));
        block.terminal = Terminal::System;
    }
    block
}

/// Runs what the stand-in `i` stands for.
pub fn run(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    // No stand-in stands for another, so nobody misses it meanwhile.
    let mut volatile = cpu.volatile.take().unwrap_or_default();
    let done = volatile.run(cpu, address(i).unwrap_or_default(), i.eip);
    cpu.volatile = Some(volatile);
    done
}

/// Number of the slot of an address.
fn slot_of(phys: u64) -> usize {
    (phys ^ phys >> 10) as usize & (SLOTS - 1)
}

impl Volatile {
    /// Runs what the bytes at `phys` mean.
    #[inline(always)]
    fn run(&mut self, cpu: &mut Cpu, phys: u64, eip: u32) -> Result<(), Raised> {
        let meaning = self.meaning(cpu, phys, eip).map_err(|e| cpu.raise(e))?;
        let insn = meaning.op.insn();
        cpu.state.eip = insn.next_eip;
        if insn.rep == Rep::None {
            return meaning.op.run(cpu);
        }
        // A repetition that changes itself is looked at anew, as it would be elsewhere.
        cpu.running = meaning.extent(phys);
        if let Some(second) = meaning.second {
            cpu.mmu.protect_code(PhysAddr(second));
        }
        let done = meaning.op.run(cpu);
        cpu.running = 0..0;
        done
    }

    /// Whether the instruction there is volatile, or has been, or is a companion.
    #[inline]
    fn knows(&self, phys: u64, eip: u32, mode: u32) -> bool {
        let slot = self.slots.get(slot_of(phys));
        slot.is_some_and(|s| !s.meanings.is_empty() && (s.phys, s.eip, s.mode) == (phys, eip, mode))
    }

    /// What the bytes at `phys` mean now, where EIP is `eip`.
    #[inline(never)]
    fn meaning(&mut self, cpu: &mut Cpu, phys: u64, eip: u32) -> Result<&Meaning, Exception> {
        let slot = self.slot(phys, eip, cpu.state.mode);
        let n = match edge::room(phys) {
            None => slot.find_in_page(cpu)?,
            Some(room) => slot.find_at_edge(cpu, room)?,
        };
        let meaning = &slot.meanings[n];
        if slot.unchanged >= FIRST_PRICE && slot.unchanged.is_power_of_two() {
            let calm = Calm {
                phys,
                len: meaning.len,
                second: meaning.second,
                runs: slot.unchanged,
            };
            report(cpu, calm);
        }
        let cs = cpu.state.segment(SegReg::Cs);
        match cs.hi.checked_sub(eip) {
            Some(left) if left >= meaning.len as u32 - 1 => Ok(meaning),
            _ => Err(Exception::GeneralProtection(0)),
        }
    }

    #[inline]
    fn slot(&mut self, phys: u64, eip: u32, mode: u32) -> &mut Slot {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Slot::default());
        }
        let slot = &mut self.slots[slot_of(phys)];
        if (slot.phys, slot.eip, slot.mode) != (phys, eip, mode) {
            slot.take(phys, eip, mode);
        }
        slot
    }
}

/// Has the run loop look at what has become calm.
#[cold]
#[inline(never)]
fn report(cpu: &mut Cpu, calm: Calm) {
    cpu.calm.push(calm);
    cpu.request_attention();
}

impl Slot {
    /// Becomes that of another address.
    #[cold]
    fn take(&mut self, phys: u64, eip: u32, mode: u32) {
        self.meanings.clear();
        (self.phys, self.eip, self.mode) = (phys, eip, mode);
        (self.last, self.unchanged) = (0, 0);
    }

    /// Number of what the bytes there mean, where an instruction cannot reach the next
    /// page.
    #[inline(always)]
    fn find_in_page(&mut self, cpu: &Cpu) -> Result<usize, Exception> {
        let at = PhysAddr(self.phys);
        let now = cpu.mmu.ram().read_u128(at).unwrap_or(u128::MAX);
        if let Some(n) = self.find(now) {
            return Ok(n);
        }
        self.decode(cpu, &now.to_le_bytes()[..MAX_INSN_BYTES])
            .map_err(|_| Exception::GeneralProtection(0))
    }

    /// Number of the meaning of these bytes, if it is remembered.
    #[inline]
    fn find(&mut self, now: u128) -> Option<usize> {
        let same = |m: &Meaning| (now ^ m.bytes) & m.fixed == 0;
        let n = match self.meanings.get(self.last) {
            Some(last) if same(last) => self.last,
            _ => self.meanings.iter().position(same)?,
        };
        let changed = n != self.last;
        self.last = n;
        let meaning = &mut self.meanings[n];
        if changed || (now ^ meaning.bytes) & meaning.whole != 0 {
            self.unchanged = 0;
            meaning.renew(now);
        }
        self.unchanged = self.unchanged.saturating_add(1);
        Some(n)
    }

    /// Decodes what the bytes mean, and remembers that under the number returned.
    #[cold]
    #[inline(never)]
    fn decode(&mut self, cpu: &Cpu, bytes: &[u8]) -> Result<usize, Incomplete> {
        let (known, mode) = (cpu.model.decodable(), Mode(self.mode));
        let block = decode_block_for(known, bytes, self.eip, mode, 1)?;
        Ok(self.learn(bytes, Op::new(block.insns[0]), mode))
    }

    /// Remembers what `bytes` mean, under the number returned.
    fn learn(&mut self, bytes: &[u8], op: Op, mode: Mode) -> usize {
        let meaning = Meaning::new(bytes, op, mode);
        self.unchanged = 0;
        if self.meanings.len() < MAX_MEANINGS {
            self.last = self.meanings.len();
            self.meanings.push(meaning);
        } else {
            self.last = (self.last + 1) % MAX_MEANINGS;
            self.meanings[self.last] = meaning;
        }
        self.last
    }
}

impl Meaning {
    fn new(bytes: &[u8], op: Op, mode: Mode) -> Self {
        let mut now = [0; 16];
        now[..bytes.len()].copy_from_slice(bytes);
        // What is too long is so whatever comes behind.
        let len = usize::from(op.insn().len).min(MAX_INSN_BYTES);
        let whole = ones(&(0..len));
        let (imm, disp) = changeable(bytes, &op, mode);
        let width = op.insn().ops.iter().find_map(|op| match op {
            Operand::Imm(w) => Some(*w),
            _ => None,
        });
        Self {
            bytes: u128::from_le_bytes(now) & whole,
            whole,
            fixed: whole & !ones(&imm) & !ones(&disp),
            imm: Constant::new(&imm, width.unwrap_or(Width::D)),
            disp: Constant::new(&disp, Width::D),
            len,
            second: None,
            op,
        }
    }

    /// Guest-physical addresses among which all its bytes are, if it begins at `phys`.
    fn extent(&self, phys: u64) -> Range<u64> {
        let Some(second) = self.second else {
            return phys..phys + self.len as u64;
        };
        let in_first = 0x1000 - (phys & 0xfff);
        let end = second + (self.len as u64).saturating_sub(in_first);
        phys.min(second)..end.max(phys + in_first)
    }

    /// Takes the operands of `now`, which is the same otherwise.
    #[inline]
    fn renew(&mut self, now: u128) {
        self.bytes = now & self.whole;
        self.op.set_operands(self.imm.of(now), self.disp.of(now));
    }
}

impl Constant {
    /// The operand in these bytes, if any, of which `w` is used.
    fn new(bytes: &Range<usize>, w: Width) -> Self {
        let bits = 8 * bytes.len() as u32;
        Self {
            offset: 8 * bytes.start as u32,
            extended: 32u32.saturating_sub(bits),
            mask: if bits == 0 { 0 } else { w.mask() },
        }
    }

    #[inline]
    fn of(self, bytes: u128) -> Option<u32> {
        if self.mask == 0 {
            return None;
        }
        let v = ((bytes >> self.offset) as u32) << (self.extended & 31);
        let v = (v as i32 >> (self.extended & 31)) as u32;
        Some(v & self.mask)
    }
}

/// The bytes of immediate and displacement, where the definition takes these as they
/// are: not those of branches and of what has other operands than the usual.
fn changeable(bytes: &[u8], op: &Op, mode: Mode) -> (Range<usize>, Range<usize>) {
    let usual = |op: &Operand| {
        matches!(
            op,
            Operand::None | Operand::Gpr(..) | Operand::Mem(_) | Operand::Imm(_)
        )
    };
    let ops = &op.insn().ops;
    if !(op.takes_operands() && op.insn().flow == Flow::Next && ops.iter().all(usual)) {
        return (0..0, 0..0);
    }
    let at = operand_bytes(bytes, mode);
    let immediates = ops.iter().filter(|op| matches!(op, Operand::Imm(_)));
    let memory = ops.iter().any(|op| matches!(op, Operand::Mem(_)));
    let imm = if immediates.count() == 1 {
        at.imm
    } else {
        0..0
    };
    let disp = match at.disp.len() {
        1 | 4 if memory && !op.insn().mem.addr16 => at.disp,
        _ => 0..0,
    };
    (imm, disp)
}

/// Ones for the bytes in `range`.
fn ones(range: &Range<usize>) -> u128 {
    let below = |n: usize| match n {
        0..16 => (1 << (8 * n)) - 1,
        _ => u128::MAX,
    };
    below(range.end) & !below(range.start)
}
