//! Blocks to CLIF: the definitions of [`crate::semantics`] run on an [`Emitter`].
//!
//! A compiled block is `fn(state, from) -> exit` in Cranelift's tail convention.
//! The hot path is one straight line of CLIF blocks, so a value made anywhere on
//! it can be used everywhere after; cold blocks and the two arms of a branch are
//! leaves. The files beside: [`value`] folds constants and offsets, [`regs`]
//! keeps guest registers in SSA form, [`flags`] fuses conditions, [`memory`]
//! looks addresses up in the shadow tables, [`exit`] leaves.
//!
//! Invariant: wherever the block can be left, [`CpuState`] holds the exact guest
//! state of an instruction boundary, and every effect before it has happened
//! once, every effect after it not at all.

mod carry;
mod divide;
mod exit;
mod flags;
mod looping;
mod machine;
mod memory;
mod plan;
mod regs;
mod value;
mod window;

use crate::block::{Block, Terminal};
use crate::insn::Insn;
use crate::mode::Mode;
use crate::semantics;
use crate::state::CpuState;
use cranelift_codegen::Context;
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::{
    AliasRegionData, Function, InsertBuilder, InstBuilder, MemFlagsData, SigRef, Signature, Type,
    Value, types,
};
use iced_x86::Mnemonic;
use memory::AccessFlags;
use std::borrow::Cow;
use std::mem::offset_of;
use value::Val;

/// A link slot that a block jumps through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index into the array at [`CpuState::links`].
    pub slot: u32,
    /// The EIP the slot leads to.
    pub eip: u32,
    /// The jump that is filled in, where it is not the slot that is read.
    pub jump: Option<Jump>,
}

/// A direct jump within the code, by offsets into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Where its 32-bit displacement is.
    pub at: u32,
    /// Where that of another jump is, which is taken when the budget is spent and always
    /// leads where this one does while there is no link.
    pub spent: Option<u32>,
}

impl Jump {
    /// Bytes of a near JMP.
    pub const BYTES: usize = 5;

    /// Whether it is a JMP, and all code before it falls through to it.
    pub fn is_last(&self, code: &[u8]) -> bool {
        let at = self.at as usize;
        at + 4 == code.len() && code.get(at.wrapping_sub(1)) == Some(&0xe9)
    }
}

/// An instruction of a block that is carried out by the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callout {
    /// Position of the instruction in its block.
    pub position: u32,
    /// Its name.
    pub mnemonic: Mnemonic,
}

/// Source locations of emitted code: which instruction or exit it belongs to.
pub mod loc {
    use crate::compile::ExitKind;
    use cranelift_codegen::ir::SourceLoc;

    /// Not code.
    pub const NOTHING: u32 = u32::MAX;
    const EXIT: u32 = 1 << 16;

    /// What a piece of host code is for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Part {
        /// The instruction with this number.
        Insn(usize),
        /// A side exit of this kind, resuming at the instruction with this number.
        Exit(ExitKind, usize),
    }

    /// The location of instruction number `n`.
    pub fn insn(n: usize) -> SourceLoc {
        SourceLoc::new(n as u32)
    }

    /// The location of a side exit.
    pub fn exit(kind: ExitKind, resume: usize) -> SourceLoc {
        SourceLoc::new(EXIT | (kind as u32) << 12 | resume as u32)
    }

    /// What `bits` of a source location mean.
    pub fn part(bits: u32) -> Option<Part> {
        let n = (bits & 0xfff) as usize;
        match bits >> 16 {
            0 => Some(Part::Insn(n)),
            1 => Some(Part::Exit(ExitKind::of(u64::from(bits >> 12 & 0xf))?, n)),
            _ => None,
        }
    }
}

/// Most instructions in a block that can be compiled (source locations hold no more).
pub const MAX_INSNS: usize = 0xfff;

/// Allocations that outlive one function.
#[derive(Default)]
pub struct Scratch {
    facts: value::Facts,
    exits: Vec<exit::Exit>,
    /// The accesses emitted so far, in order.
    accesses: Vec<plan::Access>,
    plan: plan::Plan,
}

/// What to emit, and with which numbers.
pub struct Job<'a> {
    /// The block.
    pub block: &'a Block,
    /// First link slot the block may use.
    pub link_base: u32,
    /// One check may cover neighbouring accesses.
    pub grouped: bool,
    /// Number of the block's first instruction among the callouts.
    pub callout_base: u32,
    /// Signature of compiled blocks.
    pub block_signature: &'a Signature,
    /// Signature of [`CpuState::callout`].
    pub callout_signature: &'a Signature,
}

/// What has been emitted.
pub struct Emitted {
    /// Link slots, in the order of their numbers.
    pub links: Vec<Link>,
    /// Instructions carried out by the runtime.
    pub callouts: Vec<Callout>,
}

/// Emits CLIF for one block; the [`crate::machine::Machine`] of the compiled tier.
pub struct Emitter<'a> {
    cur: FuncCursor<'a>,
    scratch: &'a mut Scratch,
    block: &'a Block,
    mode: Mode,
    link_base: u32,
    callout_base: u32,
    block_signature: SigRef,
    callout_signature: SigRef,
    flags: AccessFlags,
    /// The pointer to [`CpuState`].
    state: Value,
    regs: regs::Registers,
    memory: memory::MemoryFacts,
    interval: exit::Interval,
    /// The last sum of base and scaled index.
    last_sum: Option<((Val, Val, u8), Val)>,
    last_division: divide::LastDivision,
    links: Vec<Link>,
    callouts: Vec<Callout>,
    /// Number of table checks emitted.
    checks: usize,
    /// Number of the current instruction.
    index: usize,
    /// An effect since the interval began: the next instruction begins a new one.
    effect: bool,
    /// The current instruction has stored.
    stored_in_insn: bool,
    /// The first instruction in which a check followed a store.
    unredoable: Option<usize>,
    /// The terminal has been emitted.
    ended: bool,
    /// What a second pass may want to know.
    survey: looping::Survey,
    /// The loop, if the block is one.
    looping: Option<looping::Loop>,
    /// The flags did not go around the loop as the survey had it.
    failed_loop: bool,
    /// The windows of the loop.
    windows: Vec<window::Window>,
}

/// Emits `job` into `ctx`.
pub fn emit(ctx: &mut Context, scratch: &mut Scratch, job: &Job) -> Emitted {
    let mut force_callout = Vec::new();
    loop {
        // Once to see what the block does …
        scratch.plan.clear();
        let attempt = pass(ctx, scratch, job, &force_callout, None);
        let mut plan = std::mem::take(&mut scratch.plan);
        if job.grouped {
            plan.make(&scratch.accesses);
        }
        let fewer_checks = job.grouped && plan.checks() < attempt.checks;
        scratch.plan = plan;
        let looping = repeats(job.block) && attempt.emitted.callouts.is_empty();
        let survey = looping.then_some(attempt.survey);
        // … and again if that helps.
        let attempt = match looping || fewer_checks {
            true => second_pass(ctx, scratch, job, &force_callout, survey),
            false => attempt,
        };
        match attempt.unredoable {
            Some(index) => force_callout.push(index),
            None => return attempt.emitted,
        }
    }
}

/// The block ends with a jump to its own start.
fn repeats(block: &Block) -> bool {
    let to = match block.terminal {
        Terminal::Branch { taken, .. } => taken,
        Terminal::Jump(to) => to,
        _ => return false,
    };
    to == block.eip && !block.mode.single()
}

/// One attempt at emitting a block.
struct Attempt {
    emitted: Emitted,
    /// Number of table checks.
    checks: usize,
    survey: looping::Survey,
    /// The flags did not go around the loop as the survey had it.
    failed_loop: bool,
    /// An instruction that stores and may then have to leave, so that it could
    /// not be redone: it must be a callout.
    unredoable: Option<usize>,
}

/// Emits the block by its plan and survey, flags the plain way if they must.
fn second_pass(
    ctx: &mut Context,
    scratch: &mut Scratch,
    job: &Job,
    force_callout: &[usize],
    survey: Option<looping::Survey>,
) -> Attempt {
    let attempt = pass(ctx, scratch, job, force_callout, survey);
    if !attempt.failed_loop {
        return attempt;
    }
    let survey = survey.map(|seen| looping::Survey {
        flags_read: true,
        ..seen
    });
    pass(ctx, scratch, job, force_callout, survey)
}

/// Emits the block by the plan in `scratch`, as a loop if `looping` tells how.
fn pass(
    ctx: &mut Context,
    scratch: &mut Scratch,
    job: &Job,
    force_callout: &[usize],
    looping: Option<looping::Survey>,
) -> Attempt {
    ctx.clear();
    scratch.facts.clear();
    scratch.exits.clear();
    scratch.accesses.clear();
    let mut emitter = Emitter::new(&mut ctx.func, scratch, job);
    let budget = emitter.spend_budget(regs::Registers::default());
    if let Some(survey) = looping {
        emitter.begin_loop(survey, budget);
    }
    emitter.begin_interval(0);
    for (index, insn) in job.block.insns.iter().enumerate() {
        emitter.instruction(index, insn, force_callout.contains(&index));
        if emitter.ended {
            break;
        }
    }
    if !emitter.ended
        && let Some(last) = job.block.insns.last()
    {
        emitter.go_to(last.next_eip);
    }
    emitter.emit_exits();
    Attempt {
        emitted: Emitted {
            links: emitter.links,
            callouts: emitter.callouts,
        },
        checks: emitter.checks,
        survey: emitter.survey,
        failed_loop: emitter.failed_loop,
        unredoable: emitter.unredoable,
    }
}

impl<'a> Emitter<'a> {
    fn new(func: &'a mut Function, scratch: &'a mut Scratch, job: &Job<'a>) -> Self {
        func.signature = job.block_signature.clone();
        let block_signature = func.import_signature(job.block_signature.clone());
        let callout_signature = func.import_signature(job.callout_signature.clone());
        let flags = access_flags(func);
        let entry = func.dfg.make_block();
        let state = func.dfg.append_block_param(entry, types::I64);
        func.dfg.append_block_param(entry, types::I64);
        let mut cur = FuncCursor::new(func);
        cur.insert_block(entry);
        cur.set_srcloc(loc::insn(0));
        Self {
            cur,
            scratch,
            block: job.block,
            mode: job.block.mode,
            link_base: job.link_base,
            callout_base: job.callout_base,
            block_signature,
            callout_signature,
            flags,
            state,
            regs: regs::Registers::default(),
            memory: memory::MemoryFacts::default(),
            interval: exit::Interval::default(),
            last_sum: None,
            last_division: None,
            links: Vec::new(),
            callouts: Vec::new(),
            checks: 0,
            index: 0,
            effect: false,
            stored_in_insn: false,
            unredoable: None,
            ended: false,
            survey: looping::Survey::default(),
            looping: None,
            failed_loop: false,
            windows: Vec::new(),
        }
    }

    /// Emits one instruction.
    fn instruction(&mut self, index: usize, insn: &Insn, force_callout: bool) {
        self.index = index;
        self.cur.set_srcloc(loc::insn(index));
        if std::mem::take(&mut self.effect) {
            self.begin_interval(index);
        }
        self.stored_in_insn = false;
        let definition = match force_callout {
            true => None,
            false => semantics::lookup::<Self>(insn),
        };
        let Ok(()) = definition.unwrap_or(semantics::system)(self, insn);
    }

    /// The current instruction has stored to guest memory.
    fn stored(&mut self) {
        self.stored_in_insn = true;
        self.effect = true;
    }

    /// An instruction builder at the current position.
    fn ins(&mut self) -> InsertBuilder<'_, &mut FuncCursor<'a>> {
        self.cur.ins()
    }

    /// Loads a field of the state.
    fn load_state(&mut self, ty: Type, offset: usize) -> Value {
        let (flags, state) = (self.flags.state, self.state);
        self.ins().load(ty, flags, state, offset as i32)
    }

    /// Stores a field of the state.
    fn store_state(&mut self, v: Value, offset: usize) {
        let (flags, state) = (self.flags.state, self.state);
        self.ins().store(flags, v, state, offset as i32);
    }

    fn read_eflags(&mut self) -> Val {
        let v = self.load_state(types::I32, offset_of!(CpuState, eflags));
        self.fresh(v)
    }

    fn write_eflags(&mut self, v: Val) {
        let v = self.value(v);
        self.store_state(v, offset_of!(CpuState, eflags));
        // Not undone by a side exit, so nothing before may be redone.
        self.stored();
    }

    /// `base + (index << shift)`; an instruction asks for its own twice.
    fn scaled_sum(&mut self, base: Val, index: Val, shift: u8) -> Val {
        if let Some((operands, sum)) = self.last_sum
            && operands == (base, index, shift)
        {
            return sum;
        }
        let scaled = crate::machine::Machine::shl(self, index, Val::Imm(u32::from(shift)));
        let sum = self.add_values(base, scaled);
        self.last_sum = Some(((base, index, shift), sum));
        sum
    }
}

/// The alias regions: the state, the tables and guest memory never overlap.
fn access_flags(func: &mut Function) -> AccessFlags {
    let mut region = |user_id: u32, description: &'static str| {
        Some(func.dfg.alias_regions.insert(AliasRegionData {
            user_id,
            description: Cow::Borrowed(description),
        }))
    };
    let little = cranelift_codegen::ir::Endianness::Little;
    AccessFlags {
        state: MemFlagsData::trusted().with_alias_region(region(1, "state")),
        table: MemFlagsData::trusted().with_alias_region(region(2, "tables")),
        guest: MemFlagsData::new()
            .with_notrap()
            .with_endianness(little)
            .with_alias_region(region(3, "guest")),
    }
}
