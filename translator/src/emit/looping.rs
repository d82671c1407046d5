//! A block that branches to its own start: a loop inside one function.
//!
//! The registers the block writes, the budget and the windows ([`super::window`])
//! are parameters of the loop's head; registers it only reads are loaded once
//! before it, and so are the tables' addresses:
//!
//! ```text
//! entry: budget, loads            head(written registers): the body
//!          └──────► head             ├─ falls through: store registers, go on
//!                    ▲               └─ repeats: budget ─┐
//!                    └────────────────────────────────────┘
//! ```
//!
//! How the flags go around is in [`super::carry`].
//!
//! Only blocks without callouts loop: a callout leaves nothing in registers.

use super::Emitter;
use super::carry::Carried;
use super::regs::Registers;
use super::value::{Bool, Val};
use super::window::Window;
use crate::flags::LazyFlags;
use cranelift_codegen::cursor::Cursor;
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, Value, types};

/// What a first pass over a block saw that a loop needs to know.
#[derive(Clone, Copy, Default)]
pub struct Survey {
    /// Bit n: register n is loaded from memory.
    pub read: u8,
    /// Bit n: register n is written.
    pub written: u8,
    /// The read table is used.
    pub reads: bool,
    /// The write table is used.
    pub writes: bool,
    /// The flags at the block's start are read.
    pub flags_read: bool,
    /// A side exit shows them.
    pub flags_shown: bool,
    /// Their definition at the block's end, if it is not in memory.
    pub flags_after: Option<LazyFlags<Val>>,
}

/// The loop being emitted.
#[derive(Clone, Copy)]
pub struct Loop {
    head: Block,
    survey: Survey,
    /// How the flags go around.
    pub carried: Carried,
    /// What was left of the budget in the first iteration.
    pub first_budget: Value,
    /// What is left of the budget in this iteration.
    pub budget: Value,
}

impl Emitter<'_> {
    /// Begins the loop; the budget has been spent for the first iteration, `rest` is left.
    pub(super) fn begin_loop(&mut self, survey: Survey, rest: Value) {
        let head = self.cur.func.dfg.make_block();
        let mut args = Vec::with_capacity(8);
        for n in (0..8).filter(|n| (survey.read | survey.written) >> n & 1 != 0) {
            let v = self.full(n);
            if survey.written >> n & 1 != 0 {
                args.push(BlockArg::Value(self.value(v)));
            }
        }
        if survey.reads {
            self.table(false);
        }
        if survey.writes {
            self.table(true);
        }
        args.push(BlockArg::Value(rest));
        let carried = Carried::of(&survey);
        self.enter_with_flags(carried, &mut args);
        let windows = self.scratch.plan.windows();
        for _ in 0..windows {
            args.extend(Window::empty(self));
        }
        self.ins().jump(head, &args);
        self.cur.insert_block(head);
        for n in (0..8).filter(|n| survey.written >> n & 1 != 0) {
            let param = self.cur.func.dfg.append_block_param(head, types::I32);
            let param = self.fresh(param);
            self.regs.replace(n, param);
        }
        let budget = self.cur.func.dfg.append_block_param(head, types::I64);
        self.take_flags(carried, head);
        for _ in 0..windows {
            let window = Window::params(self, head);
            self.windows.push(window);
        }
        // Keeps loads of guest memory inside the loop: another may change it.
        self.ins().sequence_point();
        self.looping = Some(Loop {
            head,
            survey,
            carried,
            first_budget: rest,
            budget,
        });
    }

    /// Goes back to the head if `c` holds, else on to `out`.
    pub(super) fn repeat(&mut self, this: Loop, c: Bool, out: u32) {
        let (back, leave) = (
            self.cur.func.dfg.make_block(),
            self.cur.func.dfg.make_block(),
        );
        self.branch_on(c, back, leave);
        let regs = self.regs;
        self.cur.insert_block(leave);
        self.enter_leaf(leave);
        self.flush();
        self.transfer(out);
        self.cur.insert_block(back);
        self.enter_leaf(back);
        self.regs = regs;
        self.go_back(this);
    }

    /// Goes back to the head.
    pub(super) fn repeat_always(&mut self, this: Loop) {
        self.go_back(this);
    }

    fn go_back(&mut self, this: Loop) {
        let regs: Registers = self.regs;
        let rest = self.spend_budget(regs);
        let mut args = Vec::with_capacity(8);
        for n in (0..8).filter(|n| this.survey.written >> n & 1 != 0) {
            let v = self.full(n);
            args.push(BlockArg::Value(self.value(v)));
        }
        args.push(BlockArg::Value(rest));
        self.pass_flags(this.carried, &mut args);
        for window in std::mem::take(&mut self.windows) {
            args.extend(window.args());
        }
        self.ins().jump(this.head, &args);
    }
}
