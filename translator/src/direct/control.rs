//! How control goes from block to block, and out of them.
//!
//! **Budget.** R13 holds minus the instructions that may still run. Every block adds
//! its length; whoever jumps back or to a computed address looks whether the upper
//! half has become 0, for without one of these there is no loop. (A pair of call and
//! return leads forward.) On the way to another page its gate looks.
//!
//! **Links.** A jump to a fixed EIP is one that the runtime fills in; until then it
//! leads to the *stub* of its link slot ([`super::gate`]), which leaves and names it.
//! In the end it leads to the target's code, if that is in the page; to one in another
//! page through a [gate](super::gate): what that page maps to can change without this
//! page's code being touched. A block that jumps to its own start just does, or
//! rather to a second copy of itself, which knows what defined its flags. Who finds the
//! budget spent in front of a link goes to its stub, too.
//!
//! **Stepping stones.** JRCXZ, the only branch that does not look at flags, reaches
//! 127 bytes. So branches out of line go to near jumps, which are put behind the
//! code, or in between if it gets long.

use super::asm::{Assembler, Branch, Mem, Size, reg};
use super::exit::{NOT_SIGN, SIGN, field};
use super::flags::{Flags, Recipe};
use super::stores::Refused;
use super::{Cold, Emitter, hint};
use crate::compile::{ExitKind, Jump, Link, Numbered};
use crate::emit::loc;
use crate::state::CpuState;
use std::mem::offset_of;

/// Longest body of a loop that is emitted twice, in instructions.
const MAX_REPEATED: usize = 24;
/// How far a short branch reaches.
const SHORT: usize = 127;
/// Length of a stepping stone: a near jump, and before it at most a MOV.
const STONE: usize = 8;
/// Longest code to make flags again that is shorter than code that spares them.
const SHORT_RECIPE: usize = 8;

/// Where a check of the budget goes that belongs to a link.
#[derive(Clone, Copy)]
enum Spent {
    /// There is none.
    Unchecked,
    /// Here, if the budget is spent. RCX is in R11 unless a recipe has the flags.
    Goes(Branch, Option<Recipe>),
}

impl Emitter<'_> {
    /// Counts the block's instructions.
    pub(super) fn spend_budget(&mut self) {
        let spent = Mem::at(reg::R13, self.block.insns.len() as i32);
        self.asm.lea(Size::Q, reg::R13, spent);
    }

    /// Leaves if the budget is spent. Moves RCX to R11.
    pub(super) fn check_budget(&mut self, eip: Option<u32>) {
        self.reserve(30);
        let spent = self.is_spent();
        self.s.near.push((spent, Cold::Budget(eip)));
    }

    /// A branch that is taken if the budget is spent. Moves RCX to R11.
    fn is_spent(&mut self) -> Branch {
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.rotate_right_wide(reg::RCX, reg::R13, 32);
        asm.jecxz()
    }

    /// Goes on at a fixed EIP, by a jump or call of its own, if the budget is not spent;
    /// with the flags in EFLAGS, and after `before`.
    pub(super) fn go(
        &mut self,
        eip: u32,
        before: impl FnOnce(&mut Self),
        go: impl FnOnce(&mut Assembler) -> Branch,
    ) {
        let spent = match self.is_checked(eip) {
            true => self.look_at_budget(),
            false => Spent::Unchecked,
        };
        self.restore_flags();
        before(self);
        let jump = go(&mut self.asm);
        let number = self.link(jump, eip);
        match spent {
            Spent::Goes(branch, None) => self.s.near.push((branch, Cold::Spent(number))),
            Spent::Goes(branch, Some(recipe)) => {
                self.s.cold.push((branch, Cold::LostSpent(number, recipe)));
            }
            Spent::Unchecked => {}
        }
    }

    /// Looks at the budget in the shorter of two ways. Afterwards RCX is where it belongs.
    fn look_at_budget(&mut self) -> Spent {
        self.reserve(40);
        match self.recipe().filter(|r| r.code().len() <= SHORT_RECIPE) {
            Some(recipe) => {
                self.flags = Flags::Lost(recipe);
                Spent::Goes(self.is_spent_losing_flags(), Some(recipe))
            }
            None => {
                self.restore_flags();
                let spent = self.is_spent();
                self.asm.mov(Size::Q, reg::RCX, reg::R11);
                Spent::Goes(spent, None)
            }
        }
    }

    fn is_spent_losing_flags(&mut self) -> Branch {
        self.test_budget();
        self.asm.jump_if(NOT_SIGN)
    }

    fn test_budget(&mut self) {
        // TEST R13, R13
        self.asm.op_reg(Size::Q, &[0x85], reg::R13, reg::R13);
    }

    /// A branch that is taken unless RCX is 0. Afterwards RCX is what R11 has.
    pub(super) fn unless_zero(&mut self) -> Branch {
        let asm = &mut self.asm;
        let zero = asm.jrcxz();
        let other = asm.jump();
        asm.land(zero);
        asm.mov(Size::Q, reg::RCX, reg::R11);
        other
    }

    /// A branch that is taken unless RCX and R8 are equal, likewise.
    pub(super) fn unless_equal(&mut self) -> Branch {
        let asm = &mut self.asm;
        asm.not(Size::Q, reg::RCX);
        let difference = Mem::indexed(reg::RCX, reg::R8, 0).plus(1);
        asm.lea(Size::Q, reg::RCX, difference);
        self.unless_zero()
    }

    /// A branch that is taken unless R8 is what lies there; RCX is in R11 then.
    pub(super) fn unless_r8_is(&mut self, size: Size, place: Mem) -> Branch {
        self.asm.mov(Size::Q, reg::R11, reg::RCX);
        self.asm.load(size, reg::RCX, place);
        self.unless_equal()
    }

    /// Goes to `other` unless R8 is the quadword there.
    pub(super) fn go_on_if_r8_is(&mut self, place: Mem, other: Refused) {
        let different = self.unless_r8_is(Size::Q, place);
        self.s.cold.push((different, other.cold(self.index)));
    }

    /// Leaves unless RCX is 0; restores it from R11.
    pub(super) fn go_on_if_zero(&mut self) {
        let exit = self.unless_zero();
        self.s.cold.push((exit, Cold::Exit(self.index)));
    }

    /// A jump from the current instruction to `eip` may close a loop.
    fn is_backward(&self, eip: u32) -> bool {
        let here = self.block.insns.get(self.index).map_or(0, |i| i.eip);
        eip <= here
    }

    /// Nobody else looks at the budget on the way to `eip`, and somebody must.
    pub(super) fn is_checked(&self, eip: u32) -> bool {
        self.is_backward(eip) && self.block.may_link_to(eip)
    }

    /// Continues at a fixed EIP.
    pub(super) fn transfer(&mut self, eip: u32) {
        let repeats = eip == self.block.eip && self.block.may_link_to(eip);
        if let (true, Some((head, recipe))) = (repeats, self.loop_head)
            && self.recipe() == Some(recipe)
        {
            return self.next_turn(head, recipe);
        }
        if !repeats {
            return self.go(eip, |_| (), Assembler::jump);
        }
        self.restore_flags();
        self.check_budget(Some(eip));
        self.asm.mov(Size::Q, reg::RCX, reg::R11);
        self.repeats = self.loop_head.is_none()
            && self.recipe().is_some()
            && self.block.insns.len() <= MAX_REPEATED;
        if !self.repeats {
            self.asm.jump_to(0);
            self.note_turn(0);
        }
    }

    /// Goes on with a loop whose flags a recipe has, or leaves if the budget is spent.
    fn next_turn(&mut self, head: usize, recipe: Recipe) {
        self.test_budget();
        self.asm.jump_back_if(SIGN, head);
        self.note_turn(head);
        let part = loc::exit(ExitKind::Budget, 0);
        self.mark(part.bits(), self.block.eip);
        self.leave_spent(recipe, Some(self.block.eip));
    }

    /// What has been emitted from `head` on is a loop.
    fn note_turn(&mut self, head: usize) {
        self.code.turn = Some(head as u32..self.asm.here() as u32);
    }

    /// Leaves if the budget is spent, for the EIP in R8, where a recipe has the flags, which
    /// are lost; RCX stays.
    pub(super) fn check_budget_losing_flags(&mut self, recipe: Recipe) {
        let spent = self.is_spent_losing_flags();
        self.s.cold.push((spent, Cold::LostBudget(recipe)));
    }

    /// Leaves because the budget is spent, likewise; for the EIP in R8 if it is not known.
    fn leave_spent(&mut self, recipe: Recipe, eip: Option<u32>) {
        self.asm.raw(recipe.code());
        self.store_eip(eip);
        self.leave(ExitKind::Budget as u64);
    }

    /// Continues at a fixed EIP if `condition` holds.
    pub(super) fn jump_if(&mut self, condition: u8, eip: u32) {
        let jump = self.asm.jump_if(condition);
        match self.is_checked(eip) {
            true => self.s.cold.push((jump, Cold::Transfer(eip))),
            false => {
                self.link(jump, eip);
            }
        }
    }

    /// Makes `jump` one that the runtime fills in, and says which link it is.
    fn link(&mut self, jump: Branch, eip: u32) -> usize {
        let number = self.code.links.len();
        let slot = self.link_base.wrapping_add(number as u32);
        if let Branch::Near(at) = jump {
            let (at, spent) = (at as u32, None);
            let jump = Some(Jump { at, spent });
            self.code.links.push(Link { slot, eip, jump });
        }
        self.s.unmade.push(jump);
        number
    }

    /// A jump to the stub of a link.
    fn jump_to_stub(&mut self, number: usize) {
        let jump = self.asm.jump();
        if let Branch::Near(at) = jump
            && let Some(Link { jump: Some(j), .. }) = self.code.links.get_mut(number)
        {
            j.spent = Some(at as u32);
        }
        self.s.unmade.push(jump);
    }

    /// Has the jumps lead to the block that the runtime fills in before anything runs.
    pub(super) fn leave_unmade(&mut self) {
        for n in 0..self.s.unmade.len() {
            self.asm.land_at(self.s.unmade[n], 0);
        }
    }

    /// Makes sure that the short branches so far can reach stepping stones behind
    /// the next `bytes` bytes.
    pub(super) fn reserve(&mut self, bytes: usize) {
        if let Some(&(Branch::Short(oldest), _)) = self.s.near.first()
            && self.asm.here() + bytes + (self.s.near.len() + 3) * STONE > oldest + SHORT
        {
            self.stepping_stones(true);
        }
    }

    /// Puts stepping stones here for the short branches so far.
    pub(super) fn stepping_stones(&mut self, in_between: bool) {
        if self.s.near.is_empty() {
            return;
        }
        if in_between && self.s.near_before.is_none() {
            let before = self.s.near.get(..self.s.near_count);
            self.s.near_before = before.map(<[_]>::to_vec);
        }
        let over = in_between.then(|| self.asm.jump_short());
        if !in_between {
            self.mark(loc::NOTHING, self.block.eip);
        }
        for n in 0..self.s.near.len() {
            let (branch, cold) = self.s.near[n];
            self.asm.land(branch);
            if let Cold::Spent(number) = cold {
                let part = loc::exit(ExitKind::Budget, 0);
                self.mark(part.bits(), self.block.eip);
                self.asm.mov(Size::Q, reg::RCX, reg::R11);
                self.jump_to_stub(number);
                continue;
            }
            let far = self.asm.jump();
            self.s.cold.push((far, cold));
        }
        self.s.near.clear();
        if let Some(over) = over {
            self.asm.land(over);
        }
    }

    /// Emits code out of line.
    pub(super) fn out_of_line(&mut self, branch: Branch, cold: Cold) {
        if let Cold::Exit(index) | Cold::SharedExit(index) = cold
            && let Some(place) = self
                .s
                .exits
                .get(exit_number(index, cold))
                .copied()
                .flatten()
        {
            return self.asm.land_at(branch, place);
        }
        if let Cold::Store { index, resume } = cold {
            return self.store_refused(branch, index, resume);
        }
        self.asm.land(branch);
        self.mark_cold(cold);
        match cold {
            Cold::Exit(index) | Cold::SharedExit(index) => self.side_exit(index, cold),
            Cold::Budget(eip) => {
                let first = self.block.eip;
                self.mark(loc::exit(ExitKind::Budget, 0).bits(), first);
                self.asm.mov(Size::Q, reg::RCX, reg::R11);
                self.store_eip(eip);
                self.leave(ExitKind::Budget as u64);
            }
            Cold::Crossing {
                index,
                access,
                bytes,
                refused,
                back,
            } => {
                self.mark_insn(index);
                self.crossing(access, bytes, back, refused.cold(index));
            }
            Cold::LostExit {
                index,
                recipe,
                refused,
            } => {
                self.mark_insn(index);
                self.asm.raw(recipe.code());
                self.asm.mov(Size::Q, reg::R11, reg::RCX);
                let jump = self.asm.jump();
                self.s.cold.push((jump, refused.cold(index)));
            }
            Cold::LostCrossing {
                index,
                recipe,
                access,
                bytes,
                refused,
                back,
            } => {
                self.mark_insn(index);
                let exit = Cold::LostExit {
                    index,
                    recipe,
                    refused,
                };
                self.crossing_losing_flags(access, bytes, back, exit);
            }
            Cold::LostBudget(recipe) => self.leave_spent(recipe, None),
            Cold::LostMiss(recipe) => {
                self.asm.raw(recipe.code());
                self.store_eip(None);
                self.leave(ExitKind::Next as u64);
            }
            Cold::Vector { index, back } => {
                self.mark_insn(index);
                self.load_vector(index, back);
            }
            Cold::Transfer(eip) => {
                self.mark_insn(self.block.insns.len() - 1);
                self.transfer(eip);
            }
            Cold::LostSpent(number, recipe) => {
                self.asm.raw(recipe.code());
                self.jump_to_stub(number);
            }
            Cold::LostUnpaired(recipe) => self.unpaired(Some(recipe)),
            Cold::Unpaired => self.unpaired(None),
            Cold::CallOut(index) => self.late_callout(index),
            Cold::Landing | Cold::Store { .. } | Cold::Spent(_) => {}
            Cold::Miss => {
                self.asm.mov(Size::Q, reg::RCX, reg::R11);
                self.store_eip(None);
                self.leave(ExitKind::Next as u64);
            }
        }
    }

    /// Notes what code out of line is for, where that does not say so itself.
    fn mark_cold(&mut self, cold: Cold) {
        let last = self.block.insns.len() - 1;
        let part = match cold {
            Cold::LostBudget(_) | Cold::LostSpent(..) => loc::exit(ExitKind::Budget, 0),
            Cold::Miss | Cold::LostMiss(_) | Cold::Unpaired | Cold::LostUnpaired(_) => {
                loc::exit(ExitKind::Next, last)
            }
            Cold::CallOut(index) => loc::insn(index),
            _ => return,
        };
        self.mark(part.bits(), self.block.eip);
    }

    pub(super) fn mark_insn(&mut self, index: usize) {
        if let Some(insn) = self.block.insns.get(index) {
            self.mark(loc::insn(index).bits(), insn.eip);
        }
    }

    /// Stores EIP, which is in R8 unless it is known.
    fn store_eip(&mut self, eip: Option<u32>) {
        let place = field(offset_of!(CpuState, eip));
        match eip {
            Some(eip) => {
                self.asm.store_imm(place, eip);
                self.relocate(Numbered::Eip);
            }
            None => self.asm.store(Size::D, place, reg::R8),
        }
    }

    /// Leaves with the instruction numbered `index` and those after it not done.
    fn side_exit(&mut self, index: usize, cold: Cold) {
        let Some(insn) = self.block.insns.get(index) else {
            return;
        };
        if let Some(place) = self.s.exits.get_mut(exit_number(index, cold)) {
            *place = Some(self.asm.here());
        }
        self.mark(loc::exit(ExitKind::Interpret, index).bits(), insn.eip);
        self.asm.mov(Size::Q, reg::RCX, reg::R11);
        self.leave_before(index, insn.eip, cold);
    }

    pub(super) fn leave_before(&mut self, index: usize, eip: u32, cold: Cold) {
        self.note_x87_at(index);
        self.store_eip(Some(eip));
        let rest = (self.block.insns.len() - index) as i32;
        self.asm.lea(Size::Q, reg::R13, Mem::at(reg::R13, -rest));
        let why = match cold {
            Cold::SharedExit(_) => hint::SHARED,
            Cold::Vector { .. } => hint::VECTOR,
            Cold::Landing => hint::MIRROR,
            _ => 0,
        };
        self.leave_naming(self.link_base, why | ExitKind::Interpret as u64);
    }

    /// Leaves because the vector state cannot be loaded.
    pub(super) fn leave_without_vector(&mut self, index: usize) {
        if let Some(insn) = self.block.insns.get(index) {
            self.leave_before(index, insn.eip, Cold::Vector { index, back: 0 });
        }
    }

    /// Returns to the run loop with an exit word that has no payload.
    pub(super) fn leave(&mut self, word: u64) {
        self.asm.mov_imm(reg::R8, word as u32);
        self.jump_to_leave();
    }

    /// The same with a link slot as the payload.
    fn leave_naming(&mut self, slot: u32, word: u64) {
        self.asm.mov_imm64(reg::R8, u64::from(slot) << 32 | word);
        self.relocate(Numbered::Link);
        self.jump_to_leave();
    }

    fn jump_to_leave(&mut self) {
        let leave = field(offset_of!(CpuState, direct_leave));
        self.asm.jump_mem(leave);
    }
}

/// Index into the side exits emitted.
fn exit_number(index: usize, cold: Cold) -> usize {
    2 * index + usize::from(matches!(cold, Cold::SharedExit(_)))
}
