//! A stopped machine's registers and memory, for embedders, debugger and monitor.
//!
//! Memory is named by linear address and reached through the guest's current page
//! tables with a supervisor's eyes: rights do not matter, no accessed or dirty flag
//! is set, nothing is filled into shadow tables, and a page that is not there is an
//! error here, never a fault for the guest. Only RAM can be written, and only RAM
//! and ROM be read: what a device makes of a read is not for an onlooker to find out,
//! so a page of its registers reads as all ones.
//! A store goes the way of a device's, so page tables and translated code follow.

use crate::exit::Exit;
use crate::vm::Vm;
use shadow_mmu::{LinearAddr, PhysAddr};
use translator::insn::Gpr;

/// An address at which there is no memory to read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMemory {
    /// No page is mapped there.
    #[error("no memory is mapped at {:#010x}", .0.0)]
    Linear(LinearAddr),
    /// Neither RAM nor ROM.
    #[error("there is no memory at the physical address {:#010x}", .0.0)]
    Physical(PhysAddr),
}

/// How many of `bytes` bytes from `at` on are in its page.
pub(crate) fn in_page(at: u64, bytes: usize) -> usize {
    bytes.min(0x1000 - (at & 0xfff) as usize)
}

impl Vm {
    /// A general register.
    pub fn register(&self, register: Gpr) -> u32 {
        let all = &self.cpu.state.gpr[..8];
        all.get(usize::from(register.0)).copied().unwrap_or(0)
    }

    /// Sets a general register.
    pub fn set_register(&mut self, register: Gpr, value: u32) {
        let all = &mut self.cpu.state.gpr[..8];
        if let Some(slot) = all.get_mut(usize::from(register.0)) {
            *slot = value;
        }
    }

    /// The offset of the next instruction in CS.
    pub fn eip(&self) -> u32 {
        self.cpu.state.eip
    }

    /// Has the processor go on elsewhere. If it was halted, it is no longer.
    pub fn set_eip(&mut self, eip: u32) {
        self.cpu.state.eip = eip;
        self.cpu.halted = false;
        self.cpu.shadow = Default::default();
        self.cpu.request_attention();
    }

    /// EFLAGS.
    pub fn eflags(&self) -> u32 {
        self.cpu.state.eflags_image()
    }

    /// Reads memory at a linear address.
    ///
    /// # Errors
    /// The first address where there is none.
    pub fn read_memory(&self, at: LinearAddr, into: &mut [u8]) -> Result<(), NoMemory> {
        let done = self.read_some(at, into);
        match done == into.len() {
            true => Ok(()),
            false => Err(NoMemory::Linear(LinearAddr(at.0.wrapping_add(done as u32)))),
        }
    }

    /// Reads memory from a linear address on, up to where there is none; returns how
    /// many bytes.
    pub(crate) fn read_some(&self, start: LinearAddr, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len() {
            let at = LinearAddr(start.0.wrapping_add(done as u32));
            let piece = in_page(at.0.into(), into.len() - done);
            let Some(phys) = self.cpu.mmu.peek(at) else {
                break;
            };
            if self
                .read_physical(phys, &mut into[done..done + piece])
                .is_err()
            {
                into[done..done + piece].fill(0xff);
            }
            done += piece;
        }
        done
    }

    /// Writes memory at a linear address, all or nothing.
    ///
    /// # Errors
    /// The first address where there is no RAM.
    pub fn write_memory(&mut self, start: LinearAddr, bytes: &[u8]) -> Result<(), NoMemory> {
        let mut pieces = Vec::new();
        let mut done = 0;
        while done < bytes.len() {
            let at = LinearAddr(start.0.wrapping_add(done as u32));
            let piece = in_page(at.0.into(), bytes.len() - done);
            let phys = self.in_ram(at).ok_or(NoMemory::Linear(at))?;
            pieces.push((phys, done..done + piece));
            done += piece;
        }
        for (phys, range) in pieces {
            self.cpu.write_phys(phys, &bytes[range]);
        }
        // What EIP means may be something else now.
        self.cpu.request_attention();
        Ok(())
    }

    /// Reads memory at a physical address.
    ///
    /// # Errors
    /// The first page where there is neither RAM nor ROM.
    pub fn read_physical(&self, start: PhysAddr, into: &mut [u8]) -> Result<(), NoMemory> {
        let mut done = 0;
        while done < into.len() {
            let at = PhysAddr(start.0.wrapping_add(done as u64));
            let piece = in_page(at.0, into.len() - done);
            let part = &mut into[done..done + piece];
            if self.cpu.mmu.ram().read_slice(at, part).is_none()
                && !self.cpu.pc.rom_fetch(at.0, part)
            {
                return Err(NoMemory::Physical(at));
            }
            done += piece;
        }
        Ok(())
    }

    /// Writes RAM at a physical address, all or nothing.
    ///
    /// # Errors
    /// The first address where there is no RAM.
    pub fn write_physical(&mut self, at: PhysAddr, bytes: &[u8]) -> Result<(), NoMemory> {
        let mut pieces = Vec::new();
        let mut done = 0;
        while done < bytes.len() {
            let there = PhysAddr(at.0.wrapping_add(done as u64));
            let piece = in_page(there.0, bytes.len() - done);
            let ram = self.cpu.mmu.ram();
            ram.read_u8(there).ok_or(NoMemory::Physical(there))?;
            pieces.push((there, done..done + piece));
            done += piece;
        }
        for (there, range) in pieces {
            self.cpu.write_phys(there, &bytes[range]);
        }
        self.cpu.request_attention();
        Ok(())
    }

    /// Where a linear address is, if in RAM.
    fn in_ram(&self, at: LinearAddr) -> Option<PhysAddr> {
        let phys = self.cpu.mmu.peek(at)?;
        self.cpu.mmu.ram().read_u8(phys)?;
        Some(phys)
    }

    /// Runs until the machine stops, and for that many more guest instructions at most,
    /// to within 20,000: then it returns [`Exit::Limit`], and can run on.
    pub fn run_for(&mut self, insns: u64) -> Exit {
        let whole = self.limit;
        let end = self.counters.retired().saturating_add(insns);
        self.limit = Some(whole.map_or(end, |limit| limit.min(end)));
        let exit = self.run();
        self.limit = whole;
        exit
    }
}
