//! The monitor: commands that look into a machine, stop it, let it go on, change it.
//!
//! They come as lines of text, from a socket ([`socket`]), from the console behind
//! Ctrl-A c, or from an embedder ([`Builder::monitor`](crate::builder::Builder::monitor)),
//! and are carried out on the vCPU's thread between two instructions, where the run loop
//! settles: [`commands`] has their table, [`answer`] what they say. What they see is
//! therefore whole, and they need no lock.
//!
//! * A machine without a monitor looks at one empty word where it settles; one whose
//!   monitor nobody has called runs as fast.
//! * A paused guest does not run, but its time goes on, as under a debugger.
//! * With a debugger connected, stepping is the debugger's; all else goes on as ever. A
//!   guest that either of the two holds does not run.

pub mod answer;
mod blocks;
pub mod commands;
pub mod inbox;
mod info;
mod memory;
mod shadow;
pub mod socket;

use crate::exit::Exit;
use crate::gdb::points::Stop;
use crate::ledger::Account;
use crate::vm::Vm;
use answer::Outcome;
use inbox::{Caller, Inbox, Request};
use socket::Socket;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// How often a paused machine looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// A step that is under way.
struct Step {
    left: u64,
    answer: SyncSender<Outcome>,
}

/// A machine's monitor.
pub struct Monitor {
    // All that a client may wait for is dropped before the socket, which waits for its
    // clients: the commands not heard yet, and the step that is under way.
    inbox: Inbox,
    step: Option<Step>,
    caller: Caller,
    socket: Option<Socket>,
    paused: bool,
    ending: Option<Exit>,
    reset: bool,
    /// The debugger that holds the guest lets commands through.
    debugged: bool,
}

/// What a command does beyond its answer.
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// The guest does not run.
    Pause,
    /// It does.
    Continue,
    /// It runs so many instructions; the answer comes then.
    Step(u64),
    /// It starts over.
    Reset,
    /// The machine ends.
    Quit,
}

impl Monitor {
    pub(crate) fn new(caller: Caller, inbox: Inbox) -> Self {
        Self {
            inbox,
            step: None,
            caller,
            socket: None,
            paused: false,
            ending: None,
            reset: false,
            debugged: false,
        }
    }

    /// Whether a debugger keeps the guest from running.
    pub(crate) fn debugged(&self) -> bool {
        self.debugged
    }

    /// Whether the guest is paused.
    pub(crate) fn paused(&self) -> bool {
        self.paused && self.step.is_none()
    }

    /// Whether a step is under way.
    pub(crate) fn steps(&self) -> bool {
        self.step.is_some()
    }

    fn attend(&mut self, vm: &mut Vm) -> Option<Exit> {
        self.finish_step(vm);
        self.carry_out_all(vm);
        while self.paused() && self.ending.is_none() && !vm.debugger_is_due() {
            match self.inbox.wait(LOOK) {
                Some(request) => self.carry_out(vm, request),
                None => {
                    let exit = vm.limits_reached();
                    if exit.is_some() {
                        return exit;
                    }
                }
            }
        }
        self.ending.take()
    }

    /// Carries out what has come, up to what ends the run: the rest is for the next.
    fn carry_out_all(&mut self, vm: &mut Vm) {
        self.inbox.answer();
        while self.ending.is_none()
            && let Some(request) = self.inbox.next()
        {
            self.carry_out(vm, request);
        }
    }

    /// An instruction of a step may have run.
    fn finish_step(&mut self, vm: &mut Vm) {
        if vm.cpu.points.stop != Some(Stop::Stepped) {
            return;
        }
        let Some(mut step) = self.step.take() else {
            return;
        };
        vm.cpu.points.stop = None;
        step.left -= 1;
        if step.left > 0 {
            self.step = Some(step);
            return;
        }
        vm.cpu.points.stepping = false;
        vm.release();
        // Who has asked may have gone away.
        let _ = step.answer.send(Ok(info::position(vm)));
    }

    fn carry_out(&mut self, vm: &mut Vm, request: Request) {
        let Request { line, answer } = request;
        let outcome = commands::run(vm, self, &line).and_then(|(said, effect)| {
            if let Effect::Step(left) = effect {
                self.begin_step(vm, left, answer.clone())?;
                return Ok(None);
            }
            self.take_effect(vm, &effect);
            Ok(Some(said))
        });
        if let Some(outcome) = outcome.transpose() {
            let _ = answer.send(outcome);
        }
    }

    fn begin_step(
        &mut self,
        vm: &mut Vm,
        left: u64,
        answer: SyncSender<Outcome>,
    ) -> Result<(), String> {
        if self.debugged || vm.has_debugger() {
            return Err("a debugger is connected: step there".into());
        }
        if self.step.is_some() {
            return Err("a step is under way".into());
        }
        self.paused = true;
        self.step = Some(Step { left, answer });
        vm.cpu.points.stepping = true;
        vm.cpu.points.range = 0..0;
        vm.release();
        Ok(())
    }

    fn take_effect(&mut self, vm: &mut Vm, effect: &Effect) {
        match effect {
            Effect::None | Effect::Step(_) => {}
            Effect::Pause => self.paused = true,
            Effect::Continue => {
                self.paused = false;
                self.end_step(vm);
            }
            Effect::Reset => {
                self.end_step(vm);
                (self.reset, self.ending) = (true, Some(Exit::Reset));
            }
            Effect::Quit => {
                self.end_step(vm);
                self.ending = Some(Exit::Quit);
            }
        }
    }

    /// A step that will not be finished any more.
    fn end_step(&mut self, vm: &mut Vm) {
        if let Some(step) = self.step.take() {
            vm.cpu.points.stepping = false;
            vm.release();
            let _ = step
                .answer
                .send(Err("the step was ended before its time".into()));
        }
    }
}

impl Vm {
    /// Lets people and programs come to a socket in the file system.
    ///
    /// # Errors
    /// The host refuses the path or a thread.
    pub fn listen_for_monitor(&mut self, path: &Path) -> std::io::Result<()> {
        let monitor = self.monitor.get_or_insert_with(|| {
            let (caller, inbox) = inbox::inbox(std::sync::Arc::clone(&self.waker));
            Box::new(Monitor::new(caller, inbox))
        });
        monitor.socket = Some(Socket::open(path, monitor.caller.clone())?);
        Ok(())
    }

    /// Whether the CPU must not go on before the monitor has been attended to.
    #[inline]
    pub(crate) fn monitor_is_due(&self) -> bool {
        self.monitor.as_ref().is_some_and(|m| {
            m.inbox.called() || m.paused() || m.ending.is_some() || self.cpu.points.stop.is_some()
        })
    }

    /// Attends to the monitor between two instructions, as long as the guest is paused.
    /// Returns the reason to stop the machine, if any.
    #[cold]
    pub(crate) fn attend_monitor(&mut self) -> Option<Exit> {
        let mut monitor = self.monitor.take()?;
        let before = self.cpu.ledger.enter(Account::HELD);
        let exit = monitor.attend(self);
        self.cpu.ledger.leave(before);
        self.monitor = Some(monitor);
        self.cpu.request_attention();
        exit
    }

    /// Carries out the commands that have come while a debugger holds the guest.
    /// Returns the reason to stop the machine, if any.
    pub(crate) fn serve_monitor(&mut self) -> Option<Exit> {
        let mut monitor = self.monitor.take()?;
        monitor.debugged = true;
        monitor.carry_out_all(self);
        monitor.debugged = false;
        let ending = monitor.ending.take();
        self.monitor = Some(monitor);
        ending
    }

    /// Ends the monitor's step, as another is about to decide how the guest runs.
    pub(crate) fn end_monitor_step(&mut self) {
        if let Some(mut monitor) = self.monitor.take() {
            monitor.end_step(self);
            self.monitor = Some(monitor);
        }
    }

    /// Whether the monitor keeps the guest from running.
    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.monitor.as_ref().is_some_and(|m| m.paused())
    }

    /// Whether the monitor has asked for a reset; it has not any more then.
    pub(crate) fn take_reset(&mut self) -> bool {
        let monitor = self.monitor.as_mut();
        monitor.is_some_and(|m| std::mem::take(&mut m.reset))
    }
}
