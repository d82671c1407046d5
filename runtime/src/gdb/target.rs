//! What GDB can do with a stopped machine: the packets as `gdbstub` has sorted
//! them, carried out on a [`Vm`].
//!
//! Memory is named by linear address and reached through the guest's current page
//! tables with a supervisor's eyes: rights do not matter, no accessed or dirty flag
//! is set, nothing is filled into shadow tables, and a page that is not there is an
//! error for GDB, never a fault for the guest. Only RAM can be written, and only RAM
//! and ROM be read: what a device makes of a read is not for a debugger to find out.
//! A store goes the way of a device's, so page tables and translated code follow.

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
use shadow_mmu::{LinearAddr, PhysAddr};
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
        let mut done = 0;
        while done < data.len() {
            let at = LinearAddr(start.wrapping_add(done as u32));
            let piece = piece(at, data.len() - done);
            let into = &mut data[done..done + piece];
            if !self.read_piece(at, into) {
                break;
            }
            done += piece;
        }
        match done {
            0 if !data.is_empty() => Err(TargetError::Errno(errno::EFAULT)),
            done => Ok(done),
        }
    }

    fn write_addrs(&mut self, start: u32, data: &[u8]) -> TargetResult<(), Self> {
        let mut pieces = Vec::new();
        let mut done = 0;
        while done < data.len() {
            let at = LinearAddr(start.wrapping_add(done as u32));
            let bytes = piece(at, data.len() - done);
            let phys = self.in_ram(at).ok_or(TargetError::Errno(errno::EFAULT))?;
            pieces.push((phys, done..done + bytes));
            done += bytes;
        }
        for (phys, range) in pieces {
            self.cpu.write_phys(phys, &data[range]);
        }
        // What EIP means may be something else now.
        self.cpu.request_attention();
        Ok(())
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

/// How many of `bytes` bytes from `at` on are in its page.
fn piece(at: LinearAddr, bytes: usize) -> usize {
    bytes.min(0x1000 - (at.0 & 0xfff) as usize)
}

impl Vm {
    /// Reads RAM or ROM within one page; false if there is neither.
    fn read_piece(&mut self, at: LinearAddr, into: &mut [u8]) -> bool {
        let Some(phys) = self.cpu.mmu.peek(at) else {
            return false;
        };
        if self.cpu.mmu.ram().read_slice(phys, into).is_none() {
            into.fill(0xff);
            self.cpu.pc.mmio_fetch(phys.0, into);
        }
        true
    }

    /// Where a linear address is, if in RAM.
    fn in_ram(&mut self, at: LinearAddr) -> Option<PhysAddr> {
        let phys = self.cpu.mmu.peek(at)?;
        self.cpu.mmu.ram().read_slice(phys, &mut [0])?;
        Some(phys)
    }

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
