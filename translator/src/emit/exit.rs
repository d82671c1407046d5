//! Leaving a block: side exits, callouts and terminals.
//!
//! **Side exits.** Cold blocks are what makes compiling memory accesses dear, so
//! there is one per *interval*, not one per access. An interval is the run of
//! instructions between effects that cannot be taken back: a store or a
//! callout. Its exit restores the state as of the interval's first instruction
//! and the interpreter runs from there; the loads done so far are done again,
//! which nobody can see, because the tables permit only plain memory. An
//! instruction that has stored and then needs another check could not be redone
//! in general: it is reported, and compiled again as a callout.
//!
//! **Terminals.** A jump inside the guest page goes through a link slot, one that
//! leaves the page or is computed through the jump cache, because what another
//! page maps to can change without this page's code being touched.

use super::regs::Registers;
use super::value::{Bool, Val};
use super::{Callout, Emitter, Link, loc};
use crate::compile::ExitKind;
use crate::insn::{Flow, Insn};
use crate::state::{CpuState, JUMP_ENTRIES, JUMP_SHIFT, JumpEntry, jump_index};
use cranelift_codegen::cursor::Cursor;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, InstBuilder, Value, types};
use std::mem::{offset_of, size_of};

/// A side exit to be emitted after the hot path.
pub struct Exit {
    block: Block,
    kind: ExitKind,
    /// Number of the first instruction that has not retired.
    resume: usize,
    /// What differs from memory there.
    state: Registers,
    /// The budget, if a loop keeps it in a register.
    budget: Option<Value>,
}

/// The interval being emitted.
#[derive(Default)]
pub struct Interval {
    /// Number of its first instruction.
    start: usize,
    /// The registers as of that instruction.
    state: Registers,
    /// Its side exit, once a check needed it.
    exit: Option<Block>,
}

impl Emitter<'_> {
    /// Begins an interval at instruction `index`.
    pub(super) fn begin_interval(&mut self, index: usize) {
        self.interval = Interval {
            start: index,
            state: self.regs,
            exit: None,
        };
    }

    /// Leaves to the interpreter, at the start of the interval, if `c` holds.
    pub(super) fn exit_if(&mut self, c: Bool) {
        if let Bool::Known(false) = c {
            return;
        }
        if self.stored_in_insn {
            self.unredoable.get_or_insert(self.index);
        }
        self.survey.flags_shown |= !self.interval.state.flags_dirty();
        let exit = match self.interval.exit {
            Some(block) => block,
            None => {
                let block = self.cold_block();
                self.interval.exit = Some(block);
                self.scratch.exits.push(Exit {
                    block,
                    kind: ExitKind::Interpret,
                    resume: self.interval.start,
                    state: self.interval.state,
                    budget: self.looping.map(|l| l.budget),
                });
                block
            }
        };
        let next = self.cur.func.dfg.make_block();
        self.branch_on(c, exit, next);
        self.cur.insert_block(next);
    }

    pub(super) fn cold_block(&mut self) -> Block {
        let block = self.cur.func.dfg.make_block();
        self.cur.func.layout.append_block(block);
        self.cur.func.layout.set_cold(block);
        block
    }

    /// Emits the cold blocks.
    pub(super) fn emit_exits(&mut self) {
        for exit in std::mem::take(&mut self.scratch.exits) {
            self.enter_leaf(exit.block);
            self.cur.set_srcloc(loc::exit(exit.kind, exit.resume));
            self.restore(&exit.state, exit.budget);
            if exit.kind == ExitKind::Budget {
                self.store_eip(self.block.eip);
                self.give_back(exit.budget, 0);
            } else {
                if exit.kind == ExitKind::Interpret
                    && let Some(insn) = self.block.insns.get(exit.resume)
                {
                    self.store_eip(insn.eip);
                }
                self.give_back(exit.budget, self.block.insns.len() - exit.resume);
            }
            self.leave(exit.kind);
        }
    }

    /// Goes on emitting in `block`, from which the hot path does not go on.
    pub(super) fn enter_leaf(&mut self, block: Block) {
        self.scratch.facts.forget_sums();
        self.cur.goto_bottom(block);
    }

    /// Takes the block's length from the budget, or leaves with `state`. Returns
    /// what is left of it.
    pub(super) fn spend_budget(&mut self, state: Registers) -> Value {
        let offset = offset_of!(CpuState, budget);
        let in_loop = self.looping.map(|l| l.budget);
        let budget = match in_loop {
            Some(budget) => budget,
            None => self.load_state(types::I64, offset),
        };
        let count = self.block.insns.len() as i64;
        let rest = self.ins().iadd_imm_s(budget, -count);
        let negative = self.ins().icmp_imm_s(IntCC::SignedLessThan, rest, 0);
        let (exit, next) = (self.cold_block(), self.cur.func.dfg.make_block());
        self.scratch.exits.push(Exit {
            block: exit,
            kind: ExitKind::Budget,
            resume: 0,
            state,
            budget: in_loop,
        });
        self.ins().brif(negative, exit, &[], next, &[]);
        self.cur.insert_block(next);
        if in_loop.is_none() {
            self.store_state(rest, offset);
        }
        rest
    }

    /// Adds instructions that did not run to the budget, which is `budget` if a
    /// loop has it.
    fn give_back(&mut self, budget: Option<Value>, count: usize) {
        if budget.is_none() && count == 0 {
            return;
        }
        let offset = offset_of!(CpuState, budget);
        let budget = match budget {
            Some(budget) => budget,
            None => self.load_state(types::I64, offset),
        };
        let budget = self.ins().iadd_imm_s(budget, count as i64);
        self.store_state(budget, offset);
    }

    fn store_eip(&mut self, eip: u32) {
        let eip = self.constant(eip);
        self.store_state(eip, offset_of!(CpuState, eip));
    }

    /// Returns to the run loop.
    fn leave(&mut self, kind: ExitKind) {
        let payload = match kind {
            ExitKind::Interpret => i64::from(self.link_base) << 32,
            _ => 0,
        };
        let outcome = self.ins().iconst(types::I64, payload | kind as i64);
        self.ins().return_(&[outcome]);
    }

    /// Runs instruction `i`, which is the current one, in the runtime.
    pub(super) fn call_out(&mut self, i: &Insn) {
        self.flush();
        let callout = self.load_state(types::I64, offset_of!(CpuState, callout));
        let index = i64::from(self.callout_base) + self.index as i64;
        let index = self.ins().iconst(types::I64, index);
        let (signature, state) = (self.callout_signature, self.state);
        let call = self
            .ins()
            .call_indirect(signature, callout, &[state, index]);
        let outcome = self.cur.func.dfg.first_result(call);
        self.callouts.push(Callout {
            position: self.index as u32,
            mnemonic: i.mnemonic,
        });
        self.regs = Registers::default();
        self.memory.clear();
        if i.flow != Flow::Next {
            // The callout has set EIP. NEXT is 0; anything else is LEAVE.
            let outcome = self.ins().icmp_imm_u(IntCC::NotEqual, outcome, 0);
            let outcome = self.ins().uextend(types::I64, outcome);
            let kind = self.ins().imul_imm_s(outcome, ExitKind::Leave as i64);
            self.ins().return_(&[kind]);
            self.ended = true;
            return;
        }
        let (exit, next) = (self.cold_block(), self.cur.func.dfg.make_block());
        self.scratch.exits.push(Exit {
            block: exit,
            kind: ExitKind::Leave,
            resume: self.index + 1,
            state: Registers::default(),
            budget: None,
        });
        self.ins().brif(outcome, exit, &[], next, &[]);
        self.cur.insert_block(next);
        self.effect = true;
    }

    /// Continues at a fixed EIP.
    pub(super) fn go_to(&mut self, eip: u32) {
        self.ended = true;
        self.survey.flags_after = self.regs.flags_to_store();
        match self.looping {
            Some(this) if eip == self.block.eip => self.repeat_always(this),
            _ => {
                self.flush();
                self.transfer(eip);
            }
        }
    }

    /// Continues at one of two fixed EIPs.
    pub(super) fn go_to_if(&mut self, c: Bool, taken: u32, fallthrough: u32) {
        if let Bool::Known(c) = c {
            return self.go_to(if c { taken } else { fallthrough });
        }
        self.ended = true;
        self.survey.flags_after = self.regs.flags_to_store();
        if let Some(this) = self.looping
            && taken == self.block.eip
        {
            return self.repeat(this, c, fallthrough);
        }
        self.flush();
        let (yes, no) = (
            self.cur.func.dfg.make_block(),
            self.cur.func.dfg.make_block(),
        );
        self.branch_on(c, yes, no);
        for (block, eip) in [(no, fallthrough), (yes, taken)] {
            self.cur.insert_block(block);
            self.enter_leaf(block);
            self.transfer(eip);
        }
    }

    /// Continues at a computed EIP.
    pub(super) fn go_to_value(&mut self, eip: Val) {
        if let Val::Imm(eip) = eip {
            return self.go_to(eip);
        }
        self.flush();
        let eip = self.value(eip);
        self.ended = true;
        if self.mode.single() {
            return self.leave_at(eip);
        }
        let folded = self.ins().ushr_imm_u(eip, i64::from(JUMP_SHIFT));
        let folded = self.ins().iadd(eip, folded);
        let index = self.ins().band_imm_u(folded, (JUMP_ENTRIES - 1) as i64);
        let index = self.ins().uextend(types::I64, index);
        let scaled = self
            .ins()
            .ishl_imm_u(index, i64::from(size_of::<JumpEntry>().trailing_zeros()));
        let cache = self.load_state(types::I64, offset_of!(CpuState, jump_cache));
        let entry = self.ins().iadd(cache, scaled);
        self.probe(eip, entry, 0);
    }

    /// To a fixed EIP; the state has been flushed.
    pub(super) fn transfer(&mut self, eip: u32) {
        if let Some(left) = self.looping {
            self.store_state(left.budget, offset_of!(CpuState, budget));
        }
        if self.mode.single() {
            let eip = self.constant(eip);
            return self.leave_at(eip);
        }
        if self.block.may_link_to(eip) {
            let slot = self.link_base + self.links.len() as u32;
            let jump = None;
            self.links.push(Link { slot, eip, jump });
            let links = self.load_state(types::I64, offset_of!(CpuState, links));
            let flags = self.flags.table;
            let target = self
                .ins()
                .load(types::I64, flags, links, (slot as i32).wrapping_mul(8));
            let from = self.ins().iconst(types::I64, i64::from(slot));
            self.tail_call(target, from);
            return;
        }
        let entry = self.load_state(types::I64, offset_of!(CpuState, jump_cache));
        let offset = jump_index(eip) * size_of::<JumpEntry>();
        let eip = self.constant(eip);
        self.probe(eip, entry, offset);
    }

    /// Returns to the run loop, which looks the block at `eip` up.
    fn leave_at(&mut self, eip: Value) {
        self.store_state(eip, offset_of!(CpuState, eip));
        self.leave(ExitKind::Next);
    }

    /// Goes to the code that the jump-cache entry has for `eip`, or to the run loop.
    fn probe(&mut self, eip: Value, entry: Value, offset: usize) {
        self.store_state(eip, offset_of!(CpuState, eip));
        let (flags, state) = (self.flags.state, self.state);
        let tag = self
            .ins()
            .uload32(flags, state, offset_of!(CpuState, jump_tag) as i32);
        let tag = self.ins().ishl_imm_u(tag, 32);
        let wide = self.ins().uextend(types::I64, eip);
        let wanted = self.ins().bor(wide, tag);
        let table = self.flags.table;
        let key = (offset + offset_of!(JumpEntry, key)) as i32;
        let key = self.ins().load(types::I64, table, entry, key);
        let hit = self.ins().icmp(IntCC::Equal, key, wanted);
        let (found, missed) = (self.cur.func.dfg.make_block(), self.cold_block());
        self.ins().brif(hit, found, &[], missed, &[]);
        self.cur.insert_block(found);
        let code = (offset + offset_of!(JumpEntry, code)) as i32;
        let code = self.ins().load(types::I64, table, entry, code);
        let from = self.ins().iconst(types::I64, 0);
        self.tail_call(code, from);
        self.enter_leaf(missed);
        self.leave(ExitKind::Next);
    }

    fn tail_call(&mut self, target: Value, from: Value) {
        let (signature, state) = (self.block_signature, self.state);
        self.ins()
            .return_call_indirect(signature, target, &[state, from]);
    }
}
