//! What GDB can do with a stopped machine: the packets as `gdbstub` has sorted
//! them, carried out on a [`Vm`].
//!
//! Memory is what [`crate::access`] says it is.

use super::arch::{self, I386};
use super::points::Watchpoint;
use crate::vm::Vm;
use gdbstub::common::Signal;
use gdbstub::outputln;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::singlethread::{
    SingleThreadBase, SingleThreadRangeStepping, SingleThreadRangeSteppingOps, SingleThreadResume,
    SingleThreadResumeOps, SingleThreadSingleStep, SingleThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps,
    SwBreakpoint, SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use gdbstub_arch::x86::reg::X86CoreRegs;
use shadow_mmu::LinearAddr;
use std::convert::Infallible;

/// Error numbers that GDB is sent.
mod errno {
    pub const EFAULT: u8 = 14;
    pub const EINVAL: u8 = 22;
}

impl Target for Vm {
    type Arch = I386;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, I386, Infallible> {
        BaseOps::SingleThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadBase for Vm {
    fn read_registers(&mut self, regs: &mut X86CoreRegs) -> TargetResult<(), Self> {
        *regs = arch::read(&mut self.cpu);
        Ok(())
    }

    fn write_registers(&mut self, regs: &X86CoreRegs) -> TargetResult<(), Self> {
        match arch::write(&mut self.cpu, regs) {
            true => Ok(()),
            false => Err(TargetError::Errno(errno::EINVAL)),
        }
    }

    fn read_addrs(&mut self, start: u32, data: &mut [u8]) -> TargetResult<usize, Self> {
        match self.read_some(LinearAddr(start), data) {
            0 if !data.is_empty() => Err(TargetError::Errno(errno::EFAULT)),
            done => Ok(done),
        }
    }

    fn write_addrs(&mut self, start: u32, data: &[u8]) -> TargetResult<(), Self> {
        self.write_memory(LinearAddr(start), data)
            .map_err(|_| TargetError::Errno(errno::EFAULT))
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl Vm {
    /// Has the shadow MMU withhold what is watched, and no more.
    pub(crate) fn watch_pages(&mut self) {
        let pages = self.cpu.points.watched_pages();
        self.cpu.mmu.withhold(&pages);
        self.cpu.mode_changed();
        self.cpu.request_attention();
    }
}

impl SingleThreadResume for Vm {
    fn resume(&mut self, _signal: Option<Signal>) -> Result<(), Infallible> {
        self.cpu.points.stepping = false;
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_range_step(&mut self) -> Option<SingleThreadRangeSteppingOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadSingleStep for Vm {
    fn step(&mut self, _signal: Option<Signal>) -> Result<(), Infallible> {
        self.resume_range_step(0, 0)
    }
}

impl SingleThreadRangeStepping for Vm {
    fn resume_range_step(&mut self, start: u32, end: u32) -> Result<(), Infallible> {
        self.cpu.points.stepping = true;
        self.cpu.points.range = start..end;
        Ok(())
    }
}

impl Breakpoints for Vm {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Vm {
    fn add_sw_breakpoint(&mut self, addr: u32, _kind: usize) -> TargetResult<bool, Self> {
        self.cpu.points.insert(LinearAddr(addr), false);
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, addr: u32, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.cpu.points.remove(LinearAddr(addr), false))
    }
}

impl HwBreakpoint for Vm {
    fn add_hw_breakpoint(&mut self, addr: u32, _kind: usize) -> TargetResult<bool, Self> {
        self.cpu.points.insert(LinearAddr(addr), true);
        Ok(true)
    }

    fn remove_hw_breakpoint(&mut self, addr: u32, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.cpu.points.remove(LinearAddr(addr), true))
    }
}

impl HwWatchpoint for Vm {
    fn add_hw_watchpoint(
        &mut self,
        addr: u32,
        bytes: u32,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let at = LinearAddr(addr);
        let added = self.cpu.points.watch(Watchpoint { at, bytes, kind });
        self.watch_pages();
        Ok(added)
    }

    fn remove_hw_watchpoint(
        &mut self,
        addr: u32,
        bytes: u32,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let at = LinearAddr(addr);
        let removed = self.cpu.points.unwatch(&Watchpoint { at, bytes, kind });
        self.watch_pages();
        Ok(removed)
    }
}

impl MonitorCmd for Vm {
    fn handle_monitor_cmd(
        &mut self,
        command: &[u8],
        mut out: ConsoleOutput<'_>,
    ) -> Result<(), Infallible> {
        let sys = &self.cpu.sys;
        match command.trim_ascii() {
            b"registers" => {
                let text = crate::summary::registers(&self.cpu);
                outputln!(out, "{}", text.trim_end());
                outputln!(out, "gdtr {:08x}+{:04x}", sys.gdtr.base, sys.gdtr.limit);
                outputln!(out, "idtr {:08x}+{:04x}", sys.idtr.base, sys.idtr.limit);
                outputln!(out, "dr6 {:08x}  dr7 {:08x}", sys.dr[6], sys.dr[7]);
                outputln!(out, "halted: {}", self.cpu.halted);
            }
            _ => outputln!(out, "monitor registers: all that `info registers` lacks"),
        }
        Ok(())
    }
}
