//! The run loop: finds the block for the current EIP, runs it in the tier it
//! has reached, and between blocks does all that no running code may do.
//!
//! Two levels. The inner one ([`Vm::run_slice`]) goes from block to block until
//! something needs attention or the slice's budget of instructions is spent. The
//! outer one ([`Vm::settle`]) then drops overwritten blocks, notices a change of
//! mode or address space, installs compiled code, advances the devices, delivers
//! interrupts, and sleeps while the CPU is halted.
//!
//! Compiled code polls nothing but its budget, so the slice bounds how late an
//! interrupt can be: [`SLICE`] instructions, some tens of microseconds.

#![allow(unsafe_code)] // Enters compiled code.

use crate::cache::generations::Exhausted;
use crate::cache::{BlockId, CachedBlock, Compiled};
use crate::devices::pc::PcEvent;
use crate::exit::Exit;
use crate::gdb::points::Stop;
use crate::interp;
use crate::ledger::Account;
use crate::mirrored::MirrorPolicy;
use crate::system::debug;
use crate::system::{Event, deliver, interrupt};
use crate::vcpu::{Cpu, Shadow};
use crate::vm::Vm;
use shadow_mmu::PhysAddr;
use translator::compile::ExitKind;
use translator::decode::MAX_BLOCK_INSNS;
use translator::direct::hint;
use translator::flags;

/// Guest instructions between two looks at the devices.
const SLICE: i64 = 20_000;

/// Events delivered one after the other, without an instruction in between, before
/// the run loop begins anew: a breakpoint on the stack can make more of them for ever.
const MOST_EVENTS: usize = 64;

/// Longest sleep of a halted CPU, so that a quit request is noticed.
const MAX_SLEEP_NS: u64 = 100_000_000;

/// How much of a block to interpret.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    All,
    First,
}

impl Vm {
    /// Runs until the machine stops.
    pub fn run(&mut self) -> Exit {
        let before = self.cpu.ledger.enter(Account::LOOP);
        let mut exit = self.run_to_exit();
        while self.take_reset() {
            if let Err(error) = self.reset() {
                tracing::error!("the machine cannot be reset: {error:#}");
                break;
            }
            exit = self.run_to_exit();
        }
        self.cpu.ledger.leave(before);
        self.tell_debugger(exit);
        exit
    }

    fn run_to_exit(&mut self) -> Exit {
        let _entered = self.cache.landings.enter();
        loop {
            if let Some(exit) = self.settle() {
                return exit;
            }
            if !self.cpu.attention {
                self.run_slice();
            }
        }
    }

    /// Gives the machine what attention it needs and runs one block, or what an
    /// exception or a request for attention leaves of it: what a test steps by.
    /// A block without compiled code may take a step to be compiled. Returns the
    /// reason to stop, if any.
    pub fn step_block(&mut self) -> Option<Exit> {
        self.step_ahead(0)
    }

    /// As [`Vm::step_block`], but compiled code may go on to other blocks until it
    /// has run `insns` instructions more.
    pub fn step_ahead(&mut self, insns: u32) -> Option<Exit> {
        let _entered = self.cache.landings.enter();
        if let Some(exit) = self.settle() {
            return Some(exit);
        }
        if self.cpu.attention || self.ran_in_shadow() {
            return None;
        }
        if let Some(id) = self.block_at(self.cpu.state.eip)
            && let Some(block) = self.cache.get(id)
        {
            // Compiled code leaves before what the budget does not cover.
            self.cpu.state.budget = i64::from(block.insns) + i64::from(insns);
            self.run_next();
        }
        self.cpu.state.budget = 0;
        None
    }

    /// Goes from block to block until attention is needed or the budget is spent.
    fn run_slice(&mut self) {
        if self.ran_in_shadow() {
            return;
        }
        while self.run_next() && !self.cpu.attention && self.cpu.state.budget >= 0 {}
    }

    /// Runs the one instruction before which interrupts are inhibited, if there is one.
    fn ran_in_shadow(&mut self) -> bool {
        let shadow = std::mem::take(&mut self.cpu.shadow);
        if shadow == Shadow::None {
            return false;
        }
        self.cpu.in_ss_shadow = shadow == Shadow::Ss;
        self.interpret_one();
        self.cpu.in_ss_shadow = false;
        if self.cpu.points.stop == Some(Stop::Breakpoint) {
            self.cpu.shadow = shadow; // It has not run.
        }
        true
    }

    /// Runs the block at EIP. False to leave the slice.
    #[inline(always)]
    fn run_next(&mut self) -> bool {
        let eip = self.cpu.state.eip;
        // Nothing came between the instruction that cast a shadow and the next.
        self.cpu.shadow = Shadow::None;
        if let Some(code) = self.code_at(eip) {
            return !self.run_compiled(eip, code);
        }
        let Some(id) = self.block_at(eip) else {
            return false;
        };
        let Some(block) = self.cache.get_mut(id) else {
            return true;
        };
        if let Compiled::At(code) = block.compiled {
            return !self.run_compiled(eip, code);
        }
        let warmth = block.warm();
        let (cache, cpu) = (&mut self.cache, &mut self.cpu);
        self.tiers.on_interpret(cache, cpu, id, warmth) || !self.interpret(id, Part::All)
    }

    /// Interprets a block or the first instruction of it. True to leave the slice.
    #[inline(always)]
    pub(crate) fn interpret(&mut self, id: BlockId, part: Part) -> bool {
        let Some(block) = self.cache.get(id) else {
            return true;
        };
        if block.unusual {
            return self.interpret_unusual(id, part);
        }
        let retired = interpret_usual(&mut self.cpu, block, part);
        self.has_interpreted(retired)
    }

    /// Counts a block that was interpreted, and delivers what it raised. True to leave
    /// the slice.
    #[inline(always)]
    fn has_interpreted(&mut self, retired: usize) -> bool {
        self.cpu.state.budget -= retired as i64;
        self.counters.interpreted_insns += retired as u64;
        self.counters.interpreted_blocks += 1;
        if self.cpu.raised.is_some() {
            self.deliver_raised();
            return true;
        }
        false
    }

    /// Interprets a block that has its instructions. True to leave the slice.
    fn interpret_known(&mut self, id: BlockId, part: Part) -> bool {
        let Some(block) = self.cache.get(id) else {
            return true;
        };
        let retired = interpret_usual(&mut self.cpu, block, part);
        self.has_interpreted(retired)
    }

    /// Interprets a block that asks, one whose instructions are forgotten, or the one
    /// instruction of a single one. True to leave the slice.
    #[cold]
    fn interpret_unusual(&mut self, id: BlockId, part: Part) -> bool {
        let block = self.cache.get(id);
        if block.is_some_and(|b| b.ops.is_empty()) && !self.recall(id) {
            return false; // What is there now is decoded next.
        }
        let block = self.cache.get(id);
        let (asks, single) = block.map_or((false, false), |b| (b.asks, b.is_single()));
        if asks {
            let (at, _) = self.for_breakpoints(self.cpu.state.eip);
            if !self.cpu.points.may_run(at) {
                self.cpu.request_attention();
                return true;
            }
            self.cpu.log_entry();
        }
        match single {
            true => self.interpret_single(id),
            false => self.interpret_known(id, part),
        }
    }

    /// Interprets the one instruction of a block with all that debugging adds:
    /// a breakpoint before it, RF, and the traps behind it. True: leaves the slice.
    #[cold]
    fn interpret_single(&mut self, id: BlockId) -> bool {
        let Some(block) = self.cache.get(id) else {
            return true;
        };
        if let Err(e) = debug::require_no_code_breakpoint(&mut self.cpu) {
            self.cpu.raised = Some(e);
            self.deliver_raised();
            return true;
        }
        let before = debug::begin(&mut self.cpu);
        let account = self.cpu.ledger.enter(Account::INTERPRETER);
        let retired = interp::run_first(&mut self.cpu, &block.ops, block.terminal);
        self.cpu.ledger.leave(account);
        self.cpu.state.budget -= retired as i64;
        self.counters.interpreted_insns += retired as u64;
        self.counters.interpreted_blocks += 1;
        if self.cpu.raised.is_some() {
            debug::undo(&mut self.cpu, &before);
            self.deliver_raised();
        } else {
            debug::finish(&mut self.cpu, &before);
            self.cpu.points.step_done();
        }
        self.cpu.request_attention();
        true
    }

    /// Enters compiled code. True to leave the slice.
    #[inline(always)]
    fn run_compiled(&mut self, eip: u32, code: u64) -> bool {
        self.cache.remember_code(eip, self.cpu.state.jump_tag, code);
        let before = self.cpu.state.budget;
        self.cpu.publish();
        // Set where the runtime has begun a repetition, which may end here.
        self.cpu.state.eflags &= !flags::RF;
        // SAFETY: `code` is the live code of the block found for the current EIP,
        // mode and address space; the addresses in the state were set by
        // `Vm::new`, `mode_changed` and `paging_changed`.
        let exit = unsafe { self.trampoline.enter(&mut self.cpu, code) };
        self.counters.compiled_insns += (before - self.cpu.state.budget) as u64;
        self.counters.compiled_entries += 1;
        match ExitKind::of(exit) {
            Some(ExitKind::Next) => false,
            Some(ExitKind::Interpret) => {
                self.counters.side_exits += 1;
                if exit & hint::MIRROR != 0 {
                    return self.landed();
                }
                if let Some(info) = self.cache.links.info(ExitKind::payload(exit)) {
                    self.tiers.on_side_exit(&mut self.cache, info.owner, exit);
                }
                let eip = self.cpu.state.eip;
                self.block_at(eip)
                    .is_none_or(|id| self.interpret(id, Part::All))
            }
            Some(ExitKind::Unlinked) => self.unlinked(ExitKind::payload(exit)),
            Some(ExitKind::Gate) => {
                self.reopen(ExitKind::payload(exit));
                false
            }
            Some(ExitKind::Budget) => self.is_spent(),
            Some(ExitKind::Leave) | None => {
                if self.cpu.raised.is_some() {
                    // The code has counted the instruction that it called out for.
                    self.counters.compiled_insns -= 1;
                    self.cpu.state.budget += 1;
                    self.deliver_raised();
                }
                true
            }
        }
    }

    /// The budget does not cover the block at EIP. True: leaves the slice.
    fn is_spent(&mut self) -> bool {
        self.cpu.state.budget = self.cpu.state.budget.min(-1);
        self.sample();
        true
    }

    /// Compiled code wants to go through an unlinked slot, or through any when the budget
    /// is spent. True to leave the slice.
    #[cold]
    fn unlinked(&mut self, slot: u32) -> bool {
        let Some(info) = self.cache.links.info(slot) else {
            return false;
        };
        self.cpu.state.eip = info.eip;
        if self.cpu.state.budget <= 0 {
            return self.is_spent();
        }
        if let Some(target) = self.block_at(info.eip) {
            self.cache.link(slot, target, self.cpu.state.jump_tag);
        }
        false
    }

    /// The gate for EIP is closed under this tag, and the jump cache has nothing.
    #[cold]
    fn reopen(&mut self, gate: u32) {
        if let Some(target) = self.block_at(self.cpu.state.eip) {
            self.cache.reopen(gate, target, self.cpu.state.jump_tag);
        }
    }

    /// Runs exactly one instruction, whatever tier its block is in.
    fn interpret_one(&mut self) {
        let eip = self.cpu.state.eip;
        if let Some(id) = self.block_at(eip) {
            self.interpret(id, Part::First);
        }
        self.cpu.request_attention();
    }

    /// Delivers the exception that an instruction raised.
    #[cold]
    pub(crate) fn deliver_raised(&mut self) {
        if let Some(e) = self.cpu.raised.take() {
            self.counters.exceptions[usize::from(e.vector() & 31)] += 1;
            // The handler may fault at once, and its handler.
            self.cpu.state.budget -= 1;
            self.cpu.points.forget_access();
            let before = self.cpu.ledger.enter(Account::EXCEPTION);
            deliver(&mut self.cpu, Event::Exception(e));
            self.cpu.ledger.leave(before);
            self.cpu.points.step_done();
            self.cpu.request_attention();
        }
    }

    /// Does what running code may not do. Returns the reason to stop, if any. There
    /// is more to do, and nothing may run, if attention is needed afterwards.
    fn settle(&mut self) -> Option<Exit> {
        for _ in 0..MOST_EVENTS {
            (self.cpu.attention, self.cpu.beyond_context) = (false, false);
            if self.cpu.shutdown {
                return Some(Exit::TripleFault);
            }
            self.drop_written_code();
            if self.monitor_is_due()
                && let Some(exit) = self.attend_monitor()
            {
                return Some(exit);
            }
            if self.debugger_is_due()
                && let Some(exit) = self.attend_debugger()
            {
                return Some(exit);
            }
            if self.is_paused() {
                break;
            }
            self.make_room();
            if self.cpu.pc.has_event()
                && let Some(exit) = self.device_event()
            {
                return Some(exit);
            }
            if (self.cpu.state.budget < MAX_BLOCK_INSNS as i64 || self.cpu.slice_over)
                && let Some(exit) = self.end_slice()
            {
                return Some(exit);
            }
            if self.cpu.pending_debug != 0 && self.cpu.shadow != Shadow::Ss {
                debug::deliver_pending(&mut self.cpu);
                self.cpu.state.budget -= 1;
                continue;
            }
            self.cpu.nmi_pending |= self.cpu.pc.take_nmi();
            if self.cpu.nmi_due() {
                interrupt::deliver_nmi(&mut self.cpu);
                self.cpu.state.budget -= 1;
                continue;
            }
            if self.interruptible() && self.cpu.pc.interrupt_pending() {
                if self.cpu.in_direct_shadow() {
                    self.cpu.shadow = Shadow::Sti;
                } else {
                    self.interrupt();
                    continue;
                }
            }
            if self.cpu.halted {
                if let Some(exit) = self.sleep() {
                    return Some(exit);
                }
                continue;
            }
            if !self.cpu.attention {
                self.refresh_tag();
                return None;
            }
        }
        self.cpu.request_attention();
        None
    }

    fn interruptible(&self) -> bool {
        let held = self.cpu.shadow != Shadow::None || self.cpu.holds_interrupts();
        self.cpu.state.eflags & flags::IF != 0 && !held
    }

    /// Delivers the interrupt that waits.
    fn interrupt(&mut self) {
        self.cpu.halted = false;
        let before = self.cpu.ledger.enter(Account::INTERRUPT);
        let vector = self.cpu.pc.acknowledge();
        self.counters.interrupts += 1;
        deliver(&mut self.cpu, Event::External(vector));
        self.cpu.ledger.leave(before);
        self.cpu.state.budget -= 1;
        self.cpu.points.step_done();
    }

    fn drop_written_code(&mut self) {
        if self.cpu.code_writes.is_empty() && self.cpu.calm.is_empty() {
            return;
        }
        let before = self.cpu.ledger.enter(Account::INVALIDATE);
        while let Some((phys, len)) = self.cpu.code_writes.pop() {
            let end = phys.0 + u64::from(len);
            let mut at = phys.0;
            while at < end {
                let next = ((at | 0xfff) + 1).min(end);
                let len = (next - at) as u32;
                let code = &mut self.cpu.code;
                if !self.cache.invalidate(code, PhysAddr(at), len) {
                    self.cpu.mmu.unprotect_code(PhysAddr(at & !0xfff));
                }
                at = next;
            }
        }
        for calm in std::mem::take(&mut self.cpu.calm) {
            let code = &mut self.cpu.code;
            self.cache.calmed(code, &calm);
        }
        self.cpu.ledger.leave(before);
    }

    fn device_event(&mut self) -> Option<Exit> {
        match self.cpu.pc.take_event()? {
            PcEvent::PowerOff => Some(Exit::PowerOff),
            PcEvent::Reset => Some(Exit::Reset),
            PcEvent::DebugExit(value) => Some(Exit::DebugExit(value)),
        }
    }

    /// The slice is over: devices, compiled code, limits, and a new budget.
    fn end_slice(&mut self) -> Option<Exit> {
        self.poll_devices();
        if self.tiers.mirror == MirrorPolicy::Settled {
            self.cpu.pass_slice();
        }
        self.tiers.collect(&mut self.cache);
        (self.cpu.state.budget, self.cpu.slice_over) = (SLICE, false);
        self.counters.slices += 1;
        self.cache.slice = self.counters.slices;
        self.limits_reached()
    }

    pub(crate) fn limits_reached(&self) -> Option<Exit> {
        if self.quit_requested() {
            return Some(Exit::Quit);
        }
        if self
            .deadline_ns
            .is_some_and(|end| self.clock.now_ns() >= end)
        {
            return Some(Exit::Timeout);
        }
        let retired = self.counters.retired();
        self.limit
            .is_some_and(|limit| retired >= limit)
            .then_some(Exit::Limit)
    }

    /// HLT: waits for the next device event.
    fn sleep(&mut self) -> Option<Exit> {
        if self.cpu.state.eflags & flags::IF == 0 {
            return Some(Exit::Halted);
        }
        self.tiers.collect(&mut self.cache);
        let now = self.clock.now_ns();
        let mut until = now + MAX_SLEEP_NS;
        if let Some(deadline) = self.cpu.pc.next_deadline_ns() {
            until = until.min(deadline);
        }
        if let Some(end) = self.deadline_ns {
            until = until.min(end);
        }
        if !self.cpu.pc.interrupt_pending() {
            let before = self.cpu.ledger.enter(Account::IDLE);
            let slices = self.counters.slices;
            if self.idle.is_time(until.saturating_sub(now), slices) {
                self.give_back();
            }
            self.waker.wait_until(Some(until));
            self.cpu.ledger.leave(before);
            let slept = self.clock.now_ns() - now;
            self.counters.idle_ns += slept;
            self.idle.slept(slept, slices);
        }
        self.poll_devices();
        self.limits_reached()
    }

    fn poll_devices(&mut self) {
        let before = self.cpu.ledger.enter(Account::TIMERS);
        self.cpu.pc.poll();
        self.cpu.ledger.leave(before);
    }

    /// Recomputes the tag of the direct-mapped caches.
    #[inline]
    pub(crate) fn refresh_tag(&mut self) {
        let now = self.cpu.context();
        if now != self.cpu.tagged {
            self.cpu.tagged = now;
            let tag = self.cpu.tags.tag_of(now, &mut self.cache);
            self.cpu.set_tag(tag);
        }
    }

    /// Drops old blocks and compiled code, if there is no room for new ones.
    fn make_room(&mut self) {
        if self.cache.exhausted == Exhausted::Nothing {
            return;
        }
        let before = self.cpu.ledger.enter(Account::INVALIDATE);
        if self.cache.exhausted == Exhausted::Share {
            let share = self.cache.begin_generation(&mut self.cpu.code);
            self.cpu.callouts.begin(share);
        } else {
            for frame in self.cache.clear(&mut self.cpu.code) {
                self.cpu.mmu.unprotect_code(frame);
            }
            self.cpu.callouts.clear();
        }
        self.cpu.ledger.leave(before);
    }
}

/// Runs a block or its first instruction. Returns how many instructions are done.
#[inline(always)]
fn interpret_usual(cpu: &mut Cpu, block: &CachedBlock, part: Part) -> usize {
    // Nobody sees it before the first instruction is over.
    cpu.state.eflags &= !flags::RF;
    let run = |cpu: &mut Cpu| match part {
        Part::All => interp::run_block(cpu, &block.ops, block.terminal),
        Part::First => interp::run_first(cpu, &block.ops, block.terminal),
    };
    cpu.on_account(Account::INTERPRETER, run)
}
