//! The direct tier: on x86-64 hosts, guest code re-encoded instead of compiled.
//!
//! The guest's instruction set is nearly the host's. Most instructions are carried
//! over with their registers renamed ([`rename`]) and their memory operand replaced
//! by one that has been looked up ([`memory`]); some need a short sequence
//! ([`special`]); the rest are carried out by the runtime. That takes microseconds a
//! block, and flags are the silicon's own.
//!
//! | host | holds |
//! | --- | --- |
//! | EAX, ECX, EDX, EBX, EBP, ESI, EDI | the guest's of the same name, zero-extended |
//! | R12 | ESP |
//! | EFLAGS | the guest's arithmetic flags; DF is clear |
//! | R13 | minus the budget |
//! | R14 | the read table; the write table lies behind it |
//! | GS.base | the user view's mirror, where the host permits that ([`mirror`]) |
//! | R15 | the address of [`CpuState`] |
//! | R8 – R11 | nothing between instructions |
//! | RSP | the host's stack, a multiple of 16: the calls made so far ([`returns`]) |
//!
//! This holds at every instruction boundary and from block to block, so the state
//! is exact wherever a block is left: a side exit names the instruction, and the
//! seam ([`exit`]) stores the registers.
//!
//! Invariant: generated code reaches only [`CpuState`], the shadow tables, memory
//! they permit, link slots, the jump cache and the callout.

mod asm;
mod bits;
mod control;
mod crossing;
mod divide;
mod effects;
mod encode;
mod exit;
mod flags;
pub mod gate;
mod last_x87;
mod memory;
mod mirror;
mod probe;
mod relocation;
mod rename;
mod repeat;
mod returns;
mod segment_load;
mod selectors;
mod special;
mod stores;
mod string;
mod system;
mod vector;
pub mod verify;
pub mod way;

pub use exit::{Routines, routines};
pub use last_x87::is_remembered;
pub use stores::STORE;

use crate::block::Block;
use crate::compile::{Callout, CompileRequest, ExitKind, HostCode, Numbered};
use crate::emit::loc;
use crate::error::CompileError;
use crate::insn::{Flow, Gpr, Insn, Operand, SegReg, Width};
use crate::state::CpuState;
use asm::{Assembler, Branch, Mem, Reg, reg};
use effects::{Traits, access};
use encode::{Forms, swap};
use exit::field;
use flags::{Flags, Recipe, Touch};
use iced_x86::{ConditionCode, Encoder, Mnemonic};
use memory::{Access, Known};
use mirror::Faulting;
use std::mem::offset_of;
use stores::{Refused, Resume};
use way::Way;

/// Most instructions in a block.
const MAX_INSNS: usize = crate::emit::MAX_INSNS;

/// Re-encodes blocks one after the other.
pub struct DirectCompiler {
    encoder: Encoder,
    forms: Forms,
    scratch: Scratch,
}

/// Allocations that outlive one block.
#[derive(Default)]
struct Scratch {
    /// Short branches to code out of line, which need a stepping stone nearby.
    near: Vec<(Branch, Cold)>,
    /// `near` as of the current instruction's beginning, if stepping stones have been put
    /// into its code.
    near_before: Option<Vec<(Branch, Cold)>>,
    /// Length of `near` then.
    near_count: usize,
    /// Code out of line, with the branches that lead there.
    cold: Vec<(Branch, Cold)>,
    /// Where the side exits of each instruction are, once they have been emitted.
    exits: Vec<Option<usize>>,
    /// What was due of the last x87 instruction before each instruction.
    x87_before: Vec<last_x87::Due>,
    known: Known,
    /// What there is to know of each instruction.
    traits: Vec<Traits>,
    /// Jumps that are filled in when the code is placed.
    unmade: Vec<Branch>,
    /// Code that may fault.
    faulting: Vec<Faulting>,
    /// How stores go on that the table does not permit.
    resumes: Vec<Resume>,
}

impl Default for DirectCompiler {
    fn default() -> Self {
        Self::new()
    }
}

impl DirectCompiler {
    /// A compiler. The host must have BMI2.
    pub fn new() -> Self {
        Self {
            encoder: Encoder::new(64),
            forms: Forms::default(),
            scratch: Scratch::default(),
        }
    }

    /// Re-encodes a block, to be entered by [`Routines::trampoline`] or by another
    /// block of this tier.
    ///
    /// # Errors
    /// [`CompileError::Length`], [`CompileError::Mode`]. The block can be
    /// interpreted all the same.
    pub fn compile(&mut self, request: &CompileRequest) -> Result<HostCode, CompileError> {
        let block = request.block;
        let count = block.insns.len();
        if count == 0 || count > MAX_INSNS {
            return Err(CompileError::Length(count));
        }
        // Nothing here checks the target of a transfer against a limit of CS.
        let any_target = block.mode.unlimited(SegReg::Cs);
        if !block.mode.code32() || block.mode.single() || !any_target {
            return Err(CompileError::Mode);
        }
        self.scratch.start(block);
        let mut emitter = Emitter {
            asm: Assembler::with_capacity(64 * count + 192),
            encoder: &mut self.encoder,
            forms: &mut self.forms,
            block,
            link_base: request.link_base,
            callout_base: request.callout_base,
            grouped: request.grouped,
            native_vectors: request.native_vectors,
            mirrored: request.mirrored,
            by_gs: request.relies_on_gs(),
            listing: request.listing,
            moves: block.moves(),
            s: &mut self.scratch,
            index: 0,
            reaches_mirror: false,
            swapped: None,
            stores: false,
            vector_loaded: false,
            x87: last_x87::Due::default(),
            flags: Flags::Live,
            loop_head: None,
            repeats: false,
            code: HostCode {
                relocations: Vec::with_capacity(2 * count + 8),
                ..HostCode::default()
            },
        };
        emitter.emit();
        let mut code = emitter.code;
        if emitter.asm.out_of_reach {
            return Err(CompileError::Length(count));
        }
        code.bytes = emitter.asm.bytes;
        Ok(code)
    }
}

impl Scratch {
    fn start(&mut self, block: &Block) {
        let count = block.insns.len();
        self.near.clear();
        self.cold.clear();
        self.exits.clear();
        self.exits.resize(2 * count, None);
        self.x87_before.clear();
        self.x87_before.resize(count, last_x87::Due::default());
        self.known.start();
        self.traits.clear();
        self.traits.extend(block.insns.iter().map(Traits::of));
        self.unmade.clear();
        self.faulting.clear();
        self.resumes.clear();
    }
}

/// What comes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The next one.
    Insn,
    /// Nothing: control has been transferred.
    Ended,
}

/// Code out of line. In all but transfers RCX is in R11.
#[derive(Clone, Copy)]
enum Cold {
    /// To the interpreter, before the instruction with this number.
    Exit(usize),
    /// The same, because of a range that several accesses share.
    SharedExit(usize),
    /// To the runtime, for the store with this number, and back behind it.
    Store { index: usize, resume: usize },
    /// An access that may cross a page boundary.
    Crossing {
        index: usize,
        access: Access,
        bytes: u32,
        refused: Refused,
        back: usize,
    },
    /// An exit where only a recipe has the flags, and RCX is where it belongs.
    LostExit {
        index: usize,
        recipe: Recipe,
        refused: Refused,
    },
    /// The same for an access that may cross.
    LostCrossing {
        index: usize,
        recipe: Recipe,
        access: Access,
        bytes: u32,
        refused: Refused,
        back: usize,
    },
    /// The budget is spent, likewise; goes on at the EIP in R8.
    LostBudget(Recipe),
    /// The jump cache has no code for the EIP in R8, likewise.
    LostMiss(Recipe),
    /// The vector state is not loaded.
    Vector { index: usize, back: usize },
    /// The budget is spent; goes on at this EIP, or at the one in R8.
    Budget(Option<u32>),
    /// Continues at a fixed EIP. RCX is where it belongs.
    Transfer(u32),
    /// The budget is spent in front of the link with this number.
    Spent(usize),
    /// The same where a recipe has the flags, and RCX is where it belongs.
    LostSpent(usize, Recipe),
    /// The jump cache has no code for the EIP in R8.
    Miss,
    /// A RET to the EIP in R8 does not match the last call.
    Unpaired,
    /// The same where a recipe has the flags, and RCX is where it belongs.
    LostUnpaired(Recipe),
    /// The runtime must carry out the instruction with this number, the last.
    CallOut(usize),
    /// The host has faulted in the mirror: only a reason to leave.
    Landing,
}

/// Why a side exit is taken, in bits 8 and up of the exit word: a hint how the block
/// should be compiled if it takes that exit often.
pub mod hint {
    /// The vector state could not be loaded.
    pub const VECTOR: u64 = 1 << 8;
    /// A range wider than the access was not permitted.
    pub const SHARED: u64 = 1 << 9;
    /// The mirror lacks the page, or the host found another fault.
    pub const MIRROR: u64 = 1 << 10;
}

/// Emits one block.
struct Emitter<'a> {
    asm: Assembler,
    encoder: &'a mut Encoder,
    forms: &'a mut Forms,
    block: &'a Block,
    link_base: u32,
    callout_base: u32,
    /// Checks look ahead.
    grouped: bool,
    /// Vector instructions run as they are.
    native_vectors: bool,
    /// Accesses go through the mirror.
    mirrored: bool,
    /// … and its address is in GS.
    by_gs: bool,
    /// Note what code is for.
    listing: bool,
    /// List what depends on EIP.
    moves: bool,
    s: &'a mut Scratch,
    /// Number of the current instruction.
    index: usize,
    /// The current instruction accesses the mirror.
    reaches_mirror: bool,
    /// … while the bytes of this register are swapped.
    swapped: Option<Reg>,
    /// The current instruction stores and can go on if that is refused.
    stores: bool,
    /// The vector state is in the host's registers.
    vector_loaded: bool,
    /// What the state does not have of the last x87 instruction.
    x87: last_x87::Due,
    flags: Flags,
    /// Where the second copy of a loop's body begins, and where its flags are from.
    loop_head: Option<(usize, Recipe)>,
    /// The block wants such a copy.
    repeats: bool,
    code: HostCode,
}

impl Emitter<'_> {
    fn emit(&mut self) {
        self.body();
        if let (true, Some(recipe)) = (self.repeats, self.recipe()) {
            // The second and later turns of a loop know where its flags are from.
            self.loop_head = Some((self.asm.here(), recipe));
            self.flags = Flags::Lost(recipe);
            self.s.known.forget();
            self.body();
        }
        self.flags = Flags::Live;
        self.stepping_stones(false);
        let mut n = 0;
        while let Some(&(branch, cold)) = self.s.cold.get(n) {
            self.out_of_line(branch, cold);
            self.stepping_stones(false);
            n += 1;
        }
        self.leave_unmade();
        self.landings();
    }

    fn body(&mut self) {
        self.spend_budget();
        let block = self.block;
        let mut next = Next::Insn;
        for (index, insn) in block.insns.iter().enumerate() {
            self.index = index;
            self.mark(loc::insn(index).bits(), insn.eip);
            let Some(&traits) = self.s.traits.get(index) else {
                break;
            };
            next = self.instruction(insn, &traits);
            if next == Next::Ended {
                break;
            }
            self.s.known.after(traits.effects);
        }
        if let (Next::Insn, Some(last)) = (next, block.insns.last()) {
            self.note_x87();
            self.transfer(last.next_eip);
        }
    }

    /// Notes what the code from here on is for.
    fn mark(&mut self, part: u32, eip: u32) {
        if !self.listing {
            return;
        }
        let here = self.asm.here() as u32;
        self.code.parts.push((here, part));
        self.code.insn_map.push((here, eip));
    }

    /// Emits one instruction, in one of three ways.
    fn instruction(&mut self, i: &Insn, traits: &Traits) -> Next {
        self.note_x87_before(i, traits);
        self.reserve(60);
        self.flags_before(i, traits);
        let flags = self.flags;
        let (start, cold) = (self.asm.here(), self.s.cold.len());
        let (links, numbers) = (self.code.links.len(), self.code.relocations.len());
        let unmade = self.s.unmade.len();
        (self.s.near_count, self.s.near_before) = (self.s.near.len(), None);
        let done = match traits.plain {
            true => self.plain(i, traits.touch).map(|()| Next::Insn),
            false => self.special(i, traits),
        };
        if done.is_some() {
            self.note_faulting(start, flags);
            self.note_store(i);
        }
        done.unwrap_or_else(|| {
            self.asm.bytes.truncate(start);
            self.s.cold.truncate(cold);
            self.code.links.truncate(links);
            self.s.unmade.truncate(unmade);
            self.code.relocations.truncate(numbers);
            match self.s.near_before.take() {
                Some(before) => self.s.near = before,
                None => self.s.near.truncate(self.s.near_count),
            }
            self.flags = flags;
            (self.reaches_mirror, self.stores, self.swapped) = (false, false, None);
            self.call_out(i)
        })
    }

    /// The general rule.
    fn plain(&mut self, i: &Insn, touch: Touch) -> Option<()> {
        let mut place = None;
        for op in i.ops {
            if let Operand::Mem(w) = op {
                place = Some(self.check(&i.mem, access(i), w.bytes())?);
            }
        }
        let start = self.asm.here();
        self.encode(i, place)?;
        if touch == Touch::Defines {
            self.flags_defined(i, start);
        }
        Some(())
    }

    /// Appends the host's form of an instruction.
    fn encode(&mut self, i: &Insn, place: Option<Mem>) -> Option<()> {
        if self.forms.encode(&mut self.asm, i, place).is_some() {
            return Some(());
        }
        let renamed = rename::rename(i, place)?;
        swap(&mut self.asm, renamed.swapped);
        self.encoder.set_buffer(std::mem::take(&mut self.asm.bytes));
        // Nothing here depends on where it runs.
        let encoded = self.encoder.encode(&renamed.instruction, 0);
        self.asm.bytes = self.encoder.take_buffer();
        swap(&mut self.asm, renamed.swapped);
        encoded.ok().map(|_| ())
    }

    /// The runtime carries the instruction out.
    fn call_out(&mut self, i: &Insn) -> Next {
        self.call_out_to(i, offset_of!(CpuState, direct_callout), |_| ())
    }

    /// A routine does if it can, with what `prepare` puts into R10 and R11.
    fn call_out_by(&mut self, i: &Insn, way: Way, prepare: impl FnOnce(&mut Self)) -> Next {
        self.call_out_to(i, way.offset(), prepare)
    }

    fn call_out_to(&mut self, i: &Insn, routine: usize, prepare: impl FnOnce(&mut Self)) -> Next {
        self.note_x87();
        self.restore_flags();
        self.flags = Flags::Live;
        self.s.known.forget();
        self.vector_loaded = false;
        prepare(self);
        let rest = (self.block.insns.len() - self.index - 1) as u32;
        let number = self.callout_base.wrapping_add(self.index as u32);
        self.asm.mov_imm(reg::R8, number);
        self.relocate(Numbered::Callout);
        self.asm.mov_imm(reg::R9, rest);
        self.asm.call_mem(field(routine));
        self.code.callouts.push(Callout {
            position: self.index as u32,
            mnemonic: i.mnemonic,
        });
        if i.flow == Flow::Next {
            return Next::Insn;
        }
        // The callout has set EIP and gone on there; nothing comes back.
        self.leave(ExitKind::Next as u64);
        Next::Ended
    }
}

/// The general rule fits: the instruction does nothing but read and write its
/// operands, EAX, EDX, ECX and the arithmetic flags, as on the host.
fn is_plain(i: &Insn) -> bool {
    use Mnemonic as M;
    if i.flow != Flow::Next {
        return false;
    }
    match i.mnemonic {
        // A register counts bits beyond the operand.
        M::Bt | M::Bts | M::Btr | M::Btc => {
            !(matches!(i.ops[0], Operand::Mem(_)) && matches!(i.ops[1], Operand::Gpr(..)))
        }
        // AL is an operand too, so the bytes of EAX cannot be swapped.
        M::Cmpxchg => i.ops[1] != Operand::Gpr(Gpr::AH, Width::B),
        M::Mov => !i.ops.iter().any(|op| matches!(op, Operand::Seg(_))),
        M::Movzx | M::Movsx | M::Xchg | M::Xadd | M::Bswap => true,
        M::Add | M::Or | M::Adc | M::Sbb | M::And | M::Sub | M::Xor | M::Cmp | M::Test => true,
        M::Inc | M::Dec | M::Neg | M::Not | M::Mul | M::Imul => true,
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr => true,
        M::Shld | M::Shrd | M::Bsf | M::Bsr => true,
        M::Cbw | M::Cwde | M::Cwd | M::Cdq => true,
        M::Clc | M::Stc | M::Cmc | M::Lahf | M::Sahf => true,
        // SETcc and CMOVcc.
        _ => i.code.condition_code() != ConditionCode::None,
    }
}
