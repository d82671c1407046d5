//! How the flags go around a loop.
//!
//! At the end of the body their definition is not the one at the entry, and to
//! store them each time costs more than many a body. So they are carried as the
//! body needs them:
//!
//! - *not at all*, if the body defines them before anything can see the old ones,
//!   or never;
//! - *as the two words* of the lazy form, if the body reads them;
//! - *as their definition*, if only side exits can see them: the operands of the
//!   last CMP or DEC become parameters of the head, and an exit that is hardly
//!   ever taken works out the rest. In the first iteration the flags are still in
//!   memory; the budget tells which iteration it is.

use super::Emitter;
use super::looping::Survey;
use super::value::Val;
use crate::flags::LazyFlags;
use crate::machine::Machine;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, Value, types};

/// What of the flags the head of a loop takes.
#[derive(Clone, Copy)]
pub enum Carried {
    /// Nothing.
    Nothing,
    /// The two words.
    Words,
    /// What is not constant in a definition of this shape.
    Definition(LazyFlags<Val>),
}

impl Carried {
    /// What the survey of the body asks for.
    pub fn of(survey: &Survey) -> Self {
        match survey.flags_after {
            None => Carried::Nothing,
            Some(_) if survey.flags_read => Carried::Words,
            Some(LazyFlags::Raw { .. }) if survey.flags_shown => Carried::Words,
            Some(shape) if survey.flags_shown => Carried::Definition(shape),
            Some(_) => Carried::Nothing,
        }
    }
}

/// The values of a definition that differ between iterations. The result of a
/// subtraction follows from its operands.
fn operands<V>(f: &mut LazyFlags<V>) -> Vec<&mut V> {
    match f {
        LazyFlags::Sub { a, b, .. } => vec![a, b],
        LazyFlags::Add { a, b, r, .. } | LazyFlags::Sbb { a, b, r, .. } => vec![a, b, r],
        LazyFlags::Logic { r, .. } => vec![r],
        LazyFlags::Result { r, cf, of, .. } => vec![r, cf, of],
        LazyFlags::Step { on, off, r, cf, .. } => vec![on, off, r, cf],
        LazyFlags::Raw { result, carries } => vec![result, carries],
    }
}

impl Emitter<'_> {
    /// Adds what the loop's head takes in the first iteration.
    pub(super) fn enter_with_flags(&mut self, carried: Carried, args: &mut Vec<BlockArg>) {
        match carried {
            Carried::Nothing => {}
            Carried::Words => self.pass_words(args),
            Carried::Definition(mut shape) => {
                for v in operands(&mut shape) {
                    if let Val::Sum(..) = v {
                        args.push(BlockArg::Value(self.constant(0)));
                    }
                }
            }
        }
    }

    /// Takes the flags at the loop's head.
    pub(super) fn take_flags(&mut self, carried: Carried, head: Block) {
        let param = |e: &mut Self| {
            let v = e.cur.func.dfg.append_block_param(head, types::I32);
            e.fresh(v)
        };
        match carried {
            Carried::Nothing => {}
            Carried::Words => {
                let (result, carries) = (param(self), param(self));
                self.define(LazyFlags::Raw { result, carries });
            }
            Carried::Definition(mut shape) => {
                for v in operands(&mut shape) {
                    if let Val::Sum(..) = v {
                        *v = param(self);
                    }
                }
                self.regs.carry_flags(shape);
            }
        }
    }

    /// Adds what the loop's head takes in the next iteration.
    pub(super) fn pass_flags(&mut self, carried: Carried, args: &mut Vec<BlockArg>) {
        match carried {
            Carried::Nothing => {}
            Carried::Words => self.pass_words(args),
            Carried::Definition(mut shape) => {
                let Some(mut now) = self.regs.flags() else {
                    return self.failed_loop = true;
                };
                let same = std::mem::discriminant(&shape) == std::mem::discriminant(&now);
                for (was, v) in operands(&mut shape).into_iter().zip(operands(&mut now)) {
                    match (was, v) {
                        (Val::Sum(..), v) => args.push(BlockArg::Value(self.value(*v))),
                        (was, v) => self.failed_loop |= was != v,
                    }
                }
                self.failed_loop |= !same;
            }
        }
    }

    fn pass_words(&mut self, args: &mut Vec<BlockArg>) {
        let (result, carries) = self.raw_flags();
        for word in [result, carries] {
            args.push(BlockArg::Value(self.value(word)));
        }
    }

    /// Stores, in a cold block, flags that came around the loop, if it is not the
    /// first iteration; `budget` is what is left in this one.
    pub(super) fn restore_carried(&mut self, mut f: LazyFlags<Val>, budget: Option<Value>) {
        let (Some(this), Some(budget)) = (self.looping, budget) else {
            return self.failed_loop = true;
        };
        let first = self.ins().icmp(IntCC::Equal, budget, this.first_budget);
        let (store, stored) = (self.cold_block(), self.cold_block());
        self.ins().brif(first, stored, &[], store, &[]);
        self.enter_leaf(store);
        if let LazyFlags::Sub { a, b, r, w } = &mut f {
            let difference = self.sub_values(*a, *b);
            *r = self.zext_value(difference, *w);
        }
        let (result, carries) = self.lower_flags(f);
        self.store_flags_here(result, carries);
        self.ins().jump(stored, &[]);
        self.enter_leaf(stored);
    }
}
