//! A debugger: GDB's remote protocol, by which a guest is stopped, looked into and
//! changed from outside, without the guest's knowing.
//!
//! `gdbstub` speaks the protocol; [`target`] carries out what it asks. All of that
//! happens on the vCPU's thread, between two instructions, in the run loop's
//! [`settle`](crate::vm::Vm): whoever has been heard by the thread that listens
//! ([`connection`]) is attended to there, and there the vCPU stays while the guest is
//! *held*. What makes it stop by itself is in [`points`].
//!
//! * A machine without a port for debuggers looks at one empty word where it settles,
//!   and one to which nobody has come runs as fast.
//! * A debugger that comes stops the guest. Detaching lets it run on, without any
//!   breakpoint; a connection that breaks takes the breakpoints along and leaves the
//!   guest as it is, held or running, for another to come. Killing ends the machine.
//! * What is not the protocol ends the connection, as if it had broken.
//! * The guest's time goes on while it is held.

mod arch;
pub mod connection;
pub mod options;
pub mod points;
mod target;

use crate::exit::Exit;
use crate::ledger::Account;
use crate::vm::Vm;
use connection::{Address, Event, Link, Port};
use gdbstub::common::Signal;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, SingleThreadStopReason};
use points::Stop;
use std::time::Duration;

/// How often a held machine looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Longest packet: a page of memory in hexadecimal, and more.
const PACKET_BYTES: usize = 0x4000;

type Session = GdbStubStateMachine<'static, Vm, Link>;

/// A machine's debugger, or the place it would come to.
pub struct Debugger {
    port: Port,
    session: Option<Session>,
    /// The guest does not run.
    held: bool,
    /// The machine is to end.
    killed: bool,
}

impl Vm {
    /// Lets debuggers come to `address`, which is returned with the number of its
    /// port. With `wait` the guest does not run before one has come and let it.
    ///
    /// # Errors
    /// The host refuses the address or a thread.
    pub fn listen_for_debugger(
        &mut self,
        address: &Address,
        wait: bool,
    ) -> std::io::Result<Address> {
        let port = Port::open(address, std::sync::Arc::clone(&self.waker))?;
        let address = port.address.clone();
        self.debugger = Some(Box::new(Debugger {
            port,
            session: None,
            held: wait,
            killed: false,
        }));
        Ok(address)
    }

    /// Whether the CPU must not go on before the debugger has been attended to.
    #[inline]
    pub(crate) fn debugger_is_due(&self) -> bool {
        self.debugger
            .as_ref()
            .is_some_and(|d| d.held || self.cpu.points.stop.is_some() || d.port.called())
    }

    /// Attends to the debugger between two instructions, as long as the guest is held.
    /// Returns the reason to stop the machine, if any.
    #[cold]
    pub(crate) fn attend_debugger(&mut self) -> Option<Exit> {
        let mut debugger = self.debugger.take()?;
        let before = self.cpu.ledger.enter(Account::HELD);
        let exit = debugger.attend(self);
        self.cpu.ledger.leave(before);
        self.debugger = Some(debugger);
        // Code and tables may be others now.
        self.cpu.request_attention();
        exit
    }

    /// Whether a debugger is there.
    pub(crate) fn has_debugger(&self) -> bool {
        let debugger = self.debugger.as_ref();
        debugger.is_some_and(|d| d.session.is_some())
    }

    /// Tells the debugger that the guest has ended.
    pub(crate) fn tell_debugger(&mut self, exit: Exit) {
        if let Some(mut debugger) = self.debugger.take() {
            debugger.report(self, end_of(exit));
        }
    }

    /// Makes blocks respect the breakpoints, and the CPU its next way to go on.
    pub(crate) fn release(&mut self) {
        if !self.cpu.points.stepping {
            for at in self.cpu.points.apply() {
                self.cache.remove_containing(&mut self.cpu.code, at.0);
            }
        }
        self.cpu.points.stop = None;
        self.cpu.mode_changed();
    }
}

/// What GDB is told of a machine's end.
fn end_of(exit: Exit) -> SingleThreadStopReason<u32> {
    use crate::cli::{debug_exit_status, status};
    SingleThreadStopReason::Exited(match exit {
        Exit::TripleFault => return SingleThreadStopReason::Terminated(Signal::SIGABRT),
        Exit::PowerOff | Exit::Quit => status::POWERED_OFF,
        Exit::DebugExit(value) => debug_exit_status(value as u8),
        Exit::Timeout | Exit::Limit => status::LIMIT_REACHED,
        Exit::Reset | Exit::Halted => status::RESET,
    })
}

impl Debugger {
    fn attend(&mut self, vm: &mut Vm) -> Option<Exit> {
        if let Some(stop) = vm.cpu.points.stop.take() {
            self.stop(vm, stop);
        }
        self.port.answer();
        while let Some(event) = self.port.next() {
            self.hear(vm, event);
        }
        while self.held && !self.killed {
            match self.port.wait(LOOK) {
                Some(event) => self.hear(vm, event),
                None => {
                    let exit = vm.serve_monitor().or_else(|| vm.limits_reached());
                    if exit.is_some() {
                        return exit;
                    }
                }
            }
        }
        vm.release();
        self.killed.then_some(Exit::Quit)
    }

    /// The CPU has stopped by itself.
    fn stop(&mut self, vm: &mut Vm, stop: Stop) {
        if self.session.is_none() {
            return;
        }
        if stop == Stop::Stepped && vm.cpu.points.steps_on(arch::next_instruction(&vm.cpu)) {
            return;
        }
        self.held = true;
        let reason = match stop {
            Stop::Asked => SingleThreadStopReason::Signal(Signal::SIGINT),
            Stop::Stepped => SingleThreadStopReason::DoneStep,
            Stop::Breakpoint if vm.cpu.points.is_hardware(arch::next_instruction(&vm.cpu)) => {
                SingleThreadStopReason::HwBreak(())
            }
            Stop::Breakpoint => SingleThreadStopReason::SwBreak(()),
            Stop::Watchpoint(kind, at) => SingleThreadStopReason::Watch {
                tid: (),
                kind,
                addr: at.0,
            },
        };
        self.report(vm, reason);
    }

    /// Tells a debugger that waits for the guest to stop.
    fn report(&mut self, vm: &mut Vm, reason: SingleThreadStopReason<u32>) {
        vm.cpu.points.stepping = false;
        match self.session.take() {
            Some(Session::Running(running)) => {
                let session = running.report_stop(vm, reason);
                self.go_on(vm, session);
            }
            other => self.session = other,
        }
    }

    fn hear(&mut self, vm: &mut Vm, event: Event) {
        match event {
            Event::Came(link) => self.meet(vm, link),
            Event::Said(bytes) => bytes.into_iter().for_each(|byte| self.byte(vm, byte)),
            // Who has detached wanted nothing any more, and others may want something now.
            Event::Left if self.session.is_none() => {}
            Event::Left => self.forget(vm),
        }
    }

    /// A debugger has come: the guest is held until it lets it go.
    fn meet(&mut self, vm: &mut Vm, link: Link) {
        vm.end_monitor_step();
        vm.cpu.points.clear();
        let stub = GdbStub::builder(link)
            .packet_buffer_size(PACKET_BYTES)
            .build();
        let Ok(stub) = stub else {
            unreachable!("a buffer is given by its size alone")
        };
        let session = stub.run_state_machine(vm);
        self.go_on(vm, session);
    }

    fn byte(&mut self, vm: &mut Vm, byte: u8) {
        let session = match self.session.take() {
            Some(Session::Idle(idle)) => idle.incoming_data(vm, byte),
            Some(Session::Running(running)) => running.incoming_data(vm, byte),
            // Nobody listens to who has detached.
            _ => return,
        };
        self.go_on(vm, session);
    }

    /// Adopts what the protocol makes of the session.
    fn go_on<E: std::fmt::Display>(&mut self, vm: &mut Vm, session: Result<Session, E>) {
        let interrupt = SingleThreadStopReason::Signal(Signal::SIGINT);
        let session = match session {
            Ok(Session::CtrlCInterrupt(asked)) => {
                vm.cpu.points.stepping = false;
                asked
                    .interrupt_handled(vm, Some(interrupt))
                    .map_err(|e| e.to_string())
            }
            other => other.map_err(|e| e.to_string()),
        };
        match session {
            Ok(Session::Disconnected(ended)) => {
                self.killed = ended.get_reason() == DisconnectReason::Kill;
                self.held = false;
                self.forget(vm);
            }
            Ok(session) => {
                self.held = !matches!(session, Session::Running(_));
                self.session = Some(session);
            }
            Err(error) => {
                tracing::warn!("the debugger is sent away: {error}");
                self.forget(vm);
            }
        }
    }

    /// Drops the session and all that it wanted.
    fn forget(&mut self, vm: &mut Vm) {
        self.session = None;
        vm.cpu.points.clear();
        vm.watch_pages();
    }
}
