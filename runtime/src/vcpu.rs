//! The virtual CPU: architectural state, guest memory access, and what the run
//! loop must look at between instructions.
//!
//! [`Cpu`] is what concrete (system) definitions work on and what the
//! interpreter implements `Machine` for. It owns the shadow MMU and the devices,
//! so an instruction can do all it needs through `&mut Cpu`; it does not own
//! the translation cache: stores into translated code are queued in
//! [`Cpu::code_writes`] and the run loop drops the blocks before anything else
//! runs.

use crate::devices::pc::Pc;
use crate::interp::Op;
use shadow_mmu::{Access, LinearAddr, PagingRegs, PhysAddr, ShadowMmu, Translation, View};
use translator::exception::Exception;
use translator::flags;
use translator::insn::{SegReg, Width};
use translator::mode::Mode;
use translator::state::{CpuState, Segment};

/// Marks that an exception was raised and stored in [`Cpu::raised`].
///
/// A separate unit type keeps the interpreter's results in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised;

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableReg {
    /// Linear base address.
    pub base: u32,
    /// Limit: offset of the last byte.
    pub limit: u16,
}

/// System registers that generated code never touches.
#[derive(Clone, Debug)]
pub struct SystemRegs {
    /// CR0.
    pub cr0: u32,
    /// CR2: linear address of the last page fault.
    pub cr2: u32,
    /// CR3.
    pub cr3: u32,
    /// CR4.
    pub cr4: u32,
    /// DR0–DR7.
    pub dr: [u32; 8],
    /// IA32_EFER.
    pub efer: u64,
    /// Global descriptor table register.
    pub gdtr: TableReg,
    /// Interrupt descriptor table register.
    pub idtr: TableReg,
    /// Local descriptor table register.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,
    /// Current privilege level, 0–3.
    pub cpl: u8,
    /// IA32_SYSENTER_CS, _ESP and _EIP.
    pub sysenter: [u32; 3],
    /// PDPTE registers, loaded by MOV CR3 under PAE.
    pub pdptes: [u64; 4],
    /// Added to the host's TSC.
    pub tsc_offset: u64,
    /// Other model-specific registers by number, as the guest wrote them.
    pub msrs: std::collections::BTreeMap<u32, u64>,
}

/// CR0 bits.
pub mod cr0 {
    #![allow(missing_docs)] // The SDM's names.
    pub const PE: u32 = 1 << 0;
    pub const MP: u32 = 1 << 1;
    pub const EM: u32 = 1 << 2;
    pub const TS: u32 = 1 << 3;
    pub const ET: u32 = 1 << 4;
    pub const NE: u32 = 1 << 5;
    pub const WP: u32 = 1 << 16;
    pub const AM: u32 = 1 << 18;
    pub const NW: u32 = 1 << 29;
    pub const CD: u32 = 1 << 30;
    pub const PG: u32 = 1 << 31;
}

/// CR4 bits.
pub mod cr4 {
    #![allow(missing_docs)] // The SDM's names.
    pub const VME: u32 = 1 << 0;
    pub const PVI: u32 = 1 << 1;
    pub const TSD: u32 = 1 << 2;
    pub const DE: u32 = 1 << 3;
    pub const PSE: u32 = 1 << 4;
    pub const PAE: u32 = 1 << 5;
    pub const MCE: u32 = 1 << 6;
    pub const PGE: u32 = 1 << 7;
    pub const PCE: u32 = 1 << 8;
    pub const OSFXSR: u32 = 1 << 9;
    pub const OSXMMEXCPT: u32 = 1 << 10;
    pub const UMIP: u32 = 1 << 11;
    pub const SMEP: u32 = 1 << 20;
    pub const SMAP: u32 = 1 << 21;
}

/// One virtual CPU with the machine it drives.
#[repr(C)]
pub struct Cpu {
    /// State that generated code sees. First, so that both share one address.
    pub state: CpuState,
    /// The other registers.
    pub sys: SystemRegs,
    /// The exception behind a [`Raised`].
    pub raised: Option<Exception>,
    /// The run loop must look around before the next instruction: mode changed,
    /// code was overwritten, an interrupt or a device event may be pending.
    pub attention: bool,
    /// A callout stored EIP before it asked for attention.
    pub eip_stored: bool,
    /// Interrupts are inhibited for one instruction: after STI, MOV SS, POP SS.
    pub interrupt_shadow: bool,
    /// HLT: nothing runs until an interrupt.
    pub halted: bool,
    /// Shutdown after a triple fault.
    pub shutdown: bool,
    /// Guest-physical ranges `(address, length)` of translated code that was written.
    pub code_writes: Vec<(PhysAddr, u32)>,
    /// Base and highest offset of CS when the mode was last recomputed: an EIP
    /// names another block under others.
    code: (u32, u32),
    /// Shadow tables of the current address space: supervisor's, user's.
    views: [View; 2],
    /// Instructions that compiled code calls out for, by callout index.
    pub callouts: Vec<Op>,
    /// Guest memory and its mappings.
    pub mmu: ShadowMmu,
    /// The devices.
    pub pc: Pc,
    /// x87, MMX and SSE state.
    pub fpu: Box<crate::fpu::Fpu>,
}

impl Cpu {
    /// A CPU in its reset state (SDM vol. 3A, "Processor State After Reset").
    pub fn new(mmu: ShadowMmu, pc: Pc) -> Self {
        let mut cpu = Self {
            state: CpuState::default(),
            sys: SystemRegs {
                cr0: cr0::ET | cr0::CD | cr0::NW,
                cr2: 0,
                cr3: 0,
                cr4: 0,
                dr: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
                efer: 0,
                gdtr: TableReg {
                    base: 0,
                    limit: 0xffff,
                },
                idtr: TableReg {
                    base: 0,
                    limit: 0xffff,
                },
                ldtr: Segment {
                    hi: 0xffff,
                    limit: 0xffff,
                    attributes: 0x82,
                    ..Segment::default()
                },
                tr: Segment {
                    hi: 0xffff,
                    limit: 0xffff,
                    attributes: 0x8b,
                    ..Segment::default()
                },
                cpl: 0,
                sysenter: [0; 3],
                pdptes: [0; 4],
                tsc_offset: 0,
                msrs: std::collections::BTreeMap::new(),
            },
            raised: None,
            attention: false,
            eip_stored: false,
            code: (0, 0),
            views: [View { read: 0, write: 0 }; 2],
            callouts: Vec::new(),
            interrupt_shadow: false,
            halted: false,
            shutdown: false,
            code_writes: Vec::new(),
            mmu,
            pc,
            fpu: Box::default(),
        };
        cpu.state.seg = [Segment::real(0); 6];
        cpu.state.seg[SegReg::Cs as usize] = Segment {
            base: 0xffff_0000,
            ..Segment::real(0xf000)
        };
        cpu.state.eip = 0xfff0;
        cpu.paging_changed();
        cpu.mode_changed();
        cpu
    }

    /// Stores the exception and returns the marker of it.
    #[cold]
    pub fn raise(&mut self, e: Exception) -> Raised {
        self.raised = Some(e);
        Raised
    }

    /// Asks the run loop to look around before the next instruction, also when
    /// compiled code is running.
    pub fn request_attention(&mut self) {
        self.attention = true;
    }

    /// EFLAGS.VM with protection on.
    pub fn v86(&self) -> bool {
        self.state.eflags & flags::VM != 0
    }

    /// Protected mode, not virtual-8086: selectors name descriptors.
    pub fn protected(&self) -> bool {
        self.sys.cr0 & cr0::PE != 0 && !self.v86()
    }

    /// EFLAGS.IOPL.
    pub fn iopl(&self) -> u8 {
        (self.state.eflags >> 12 & 3) as u8
    }

    /// Must be called after any change of a segment register, CPL, CR0.PE,
    /// EFLAGS.VM or EFLAGS.TF: recomputes the mode bits and picks the view.
    pub fn mode_changed(&mut self) {
        let protected = self.protected();
        let v86 = self.v86();
        let mut mode = Mode(0);
        for seg in SegReg::ALL {
            let s = &self.state.seg[seg as usize];
            // Writable data, or for CS whatever is readable.
            let rights = match seg {
                SegReg::Cs => s.readable(),
                _ => s.writable(),
            };
            let unlimited = (s.lo == 0) & (s.hi == u32::MAX) & rights;
            mode = mode.with_segment(seg, unlimited, s.base == 0);
        }
        let default32 =
            |seg: SegReg| self.state.seg[seg as usize].attributes & Segment::DEFAULT32 != 0;
        let mut bits = mode.0;
        if default32(SegReg::Cs) && !v86 {
            bits |= Mode::CODE32;
        }
        if default32(SegReg::Ss) && !v86 {
            bits |= Mode::STACK32;
        }
        if self.sys.cpl == 3 {
            bits |= Mode::USER;
        }
        if protected {
            bits |= Mode::PROTECTED;
        }
        if self.state.eflags & flags::TF != 0 {
            bits |= Mode::SINGLE;
        }
        let cs = self.state.segment(SegReg::Cs);
        let code = (cs.base, cs.hi);
        if bits != self.state.mode || code != self.code {
            self.state.mode = bits;
            self.code = code;
            self.request_attention();
        }
        self.update_view();
    }

    /// Must be called after any change of CR0.PG/WP, CR3, CR4, EFER.NXE or the
    /// PDPTE registers.
    pub fn paging_changed(&mut self) {
        self.mmu.set_paging(&PagingRegs {
            cr0: self.sys.cr0,
            cr3: self.sys.cr3,
            cr4: self.sys.cr4,
            nx: self.sys.efer >> 11 & 1 != 0,
            pae_pdptes: self.sys.pdptes,
        });
        self.views = [self.mmu.view(false), self.mmu.view(true)];
        self.update_view();
        self.request_attention();
    }

    fn update_view(&mut self) {
        let view = self.views[usize::from(self.sys.cpl == 3)];
        self.state.read_table = view.read;
        self.state.write_table = view.write;
    }

    /// The current mode bits.
    #[inline(always)]
    pub fn mode(&self) -> Mode {
        Mode(self.state.mode)
    }

    /// Reads through a segment, with all checks.
    ///
    /// # Errors
    /// #GP/#SS for limit and rights, #PF.
    pub fn read_mem(&mut self, seg: SegReg, offset: u32, w: Width) -> Result<u32, Exception> {
        let addr = self.linear(seg, offset, w.bytes(), Access::Read)?;
        self.read_linear(addr, w, self.sys.cpl == 3)
    }

    /// Writes through a segment, with all checks.
    ///
    /// # Errors
    /// #GP/#SS for limit and rights, #PF.
    pub fn write_mem(
        &mut self,
        seg: SegReg,
        offset: u32,
        w: Width,
        v: u32,
    ) -> Result<(), Exception> {
        let addr = self.linear(seg, offset, w.bytes(), Access::Write)?;
        self.write_linear(addr, w, v, self.sys.cpl == 3)
    }

    /// The linear address of `seg:offset` for an access of `bytes` bytes.
    ///
    /// # Errors
    /// #SS(0) for SS, else #GP(0), if limit or rights forbid the access.
    #[inline]
    pub fn linear(
        &self,
        seg: SegReg,
        offset: u32,
        bytes: u32,
        access: Access,
    ) -> Result<LinearAddr, Exception> {
        let s = &self.state.seg[seg as usize];
        // An operand that wraps around the end of even the largest segment is outside it.
        let unlimited = self.mode().unlimited(seg)
            && (access != Access::Write || seg != SegReg::Cs)
            && offset.checked_add(bytes - 1).is_some();
        if !unlimited && !self.segment_allows(s, offset, bytes, access) {
            return Err(match seg {
                SegReg::Ss => Exception::StackFault(0),
                _ => Exception::GeneralProtection(0),
            });
        }
        Ok(LinearAddr(s.base.wrapping_add(offset)))
    }

    fn segment_allows(&self, s: &Segment, offset: u32, bytes: u32, access: Access) -> bool {
        let in_limits = offset >= s.lo && offset <= s.hi && s.hi - offset >= bytes - 1;
        let rights = !self.protected()
            || match access {
                Access::Read => s.readable(),
                Access::Write => s.writable(),
                Access::Fetch => true,
            };
        in_limits && rights
    }

    /// Reads `w` at a linear address; `user` says with which privilege.
    ///
    /// # Errors
    /// #PF.
    #[inline]
    pub fn read_linear(
        &mut self,
        addr: LinearAddr,
        w: Width,
        user: bool,
    ) -> Result<u32, Exception> {
        if let Some(v) = self.shadow_read(self.views[usize::from(user)].read, addr.0, w) {
            return Ok(v);
        }
        self.read_linear_slow(addr, w, user)
    }

    #[cold]
    #[inline(never)]
    fn read_linear_slow(
        &mut self,
        addr: LinearAddr,
        w: Width,
        user: bool,
    ) -> Result<u32, Exception> {
        let in_page = 0x1000 - (addr.0 & 0xfff);
        if in_page < w.bytes() {
            let mut bytes = [0; 4];
            self.read_bytes(addr, &mut bytes[..w.bytes() as usize], user)?;
            return Ok(u32::from_le_bytes(bytes));
        }
        let t = self.translate(addr, Access::Read, user)?;
        Ok(self.read_at(&t, w))
    }

    /// Writes `w` at a linear address; nothing is written if any byte faults.
    ///
    /// # Errors
    /// #PF.
    #[inline]
    pub fn write_linear(
        &mut self,
        addr: LinearAddr,
        w: Width,
        v: u32,
        user: bool,
    ) -> Result<(), Exception> {
        if self.shadow_write_in(self.views[usize::from(user)].write, addr.0, w, v) {
            return Ok(());
        }
        self.write_linear_slow(addr, w, v, user)
    }

    #[cold]
    #[inline(never)]
    fn write_linear_slow(
        &mut self,
        addr: LinearAddr,
        w: Width,
        v: u32,
        user: bool,
    ) -> Result<(), Exception> {
        let in_page = 0x1000 - (addr.0 & 0xfff);
        if in_page < w.bytes() {
            return self.write_bytes(addr, &v.to_le_bytes()[..w.bytes() as usize], user);
        }
        let t = self.translate(addr, Access::Write, user)?;
        self.write_at(&t, w, v);
        Ok(())
    }

    /// Reads bytes at a linear address, across pages.
    ///
    /// # Errors
    /// #PF for the first byte that faults.
    pub fn read_bytes(
        &mut self,
        addr: LinearAddr,
        into: &mut [u8],
        user: bool,
    ) -> Result<(), Exception> {
        let mut done = 0;
        while done < into.len() {
            let at = LinearAddr(addr.0.wrapping_add(done as u32));
            let n = (0x1000 - (at.0 & 0xfff) as usize).min(into.len() - done);
            let t = self.translate(at, Access::Read, user)?;
            let part = &mut into[done..done + n];
            if self.mmu.ram().read_slice(t.phys, part).is_none() {
                for (k, byte) in part.iter_mut().enumerate() {
                    *byte = self.pc.mmio_read(t.phys.0 + k as u64, 1) as u8;
                }
            }
            done += n;
        }
        Ok(())
    }

    /// Writes up to a page of bytes at a linear address, all or nothing.
    ///
    /// # Errors
    /// #PF for the first byte that faults.
    pub fn write_bytes(
        &mut self,
        addr: LinearAddr,
        bytes: &[u8],
        user: bool,
    ) -> Result<(), Exception> {
        let first = (0x1000 - (addr.0 & 0xfff) as usize).min(bytes.len());
        let (low, high) = bytes.split_at(first);
        let t = self.translate(addr, Access::Write, user)?;
        let next = if high.is_empty() {
            None
        } else {
            let at = LinearAddr(addr.0.wrapping_add(first as u32));
            Some(self.translate(at, Access::Write, user)?)
        };
        self.write_phys(t.phys, low);
        if let Some(next) = next {
            self.write_phys(next.phys, high);
        }
        Ok(())
    }

    /// Checks that `bytes` bytes could be written, without writing.
    ///
    /// # Errors
    /// #PF.
    pub fn probe_write(
        &mut self,
        addr: LinearAddr,
        bytes: u32,
        user: bool,
    ) -> Result<(), Exception> {
        self.translate(addr, Access::Write, user)?;
        let last = addr.0.wrapping_add(bytes - 1);
        if last >> 12 != addr.0 >> 12 {
            self.translate(LinearAddr(last & !0xfff), Access::Write, user)?;
        }
        Ok(())
    }

    /// Writes guest-physical memory as a device or the CPU would: traces fire.
    pub fn write_phys(&mut self, phys: PhysAddr, bytes: &[u8]) {
        if self.mmu.ram().write_slice(phys, bytes).is_some() {
            self.after_write(phys, bytes.len() as u32);
        } else {
            for (k, &byte) in bytes.iter().enumerate() {
                self.pc.mmio_write(phys.0 + k as u64, 1, u32::from(byte));
            }
        }
    }

    /// Translates one linear address: walks, sets accessed and dirty bits, fills
    /// the shadow entry.
    ///
    /// # Errors
    /// #PF, with CR2 not yet set (delivery does that).
    pub fn translate(
        &mut self,
        addr: LinearAddr,
        access: Access,
        user: bool,
    ) -> Result<Translation, Exception> {
        self.mmu
            .translate(addr, access, user)
            .map_err(|f| Exception::PageFault {
                addr: f.addr.0,
                error: f.error,
            })
    }

    /// Reads through a shadow table of this CPU, if it permits the whole access.
    #[inline(always)]
    #[allow(unsafe_code)] // The inline shadow-table access.
    pub(crate) fn shadow_read(&self, table: u64, addr: u32, w: Width) -> Option<u32> {
        let entry = shadow_entry(table, addr);
        if entry == 0 || addr & 0xfff > 0x1000 - w.bytes() {
            return None;
        }
        let host = entry.wrapping_add(u64::from(addr)) as *const u8;
        // SAFETY: a nonzero entry maps the whole page to guest RAM (invariant 5),
        // and the access stays in the page.
        Some(unsafe {
            match w {
                Width::B => u32::from(host.read()),
                Width::W => u32::from(host.cast::<u16>().read_unaligned()),
                Width::D => host.cast::<u32>().read_unaligned(),
            }
        })
    }

    /// Writes through the current view, if it permits the whole access.
    #[inline(always)]
    pub(crate) fn shadow_write(&mut self, addr: u32, w: Width, v: u32) -> bool {
        self.shadow_write_in(self.state.write_table, addr, w, v)
    }

    #[inline(always)]
    #[allow(unsafe_code)] // The inline shadow-table access.
    fn shadow_write_in(&mut self, table: u64, addr: u32, w: Width, v: u32) -> bool {
        let entry = shadow_entry(table, addr);
        if entry == 0 || addr & 0xfff > 0x1000 - w.bytes() {
            return false;
        }
        let host = entry.wrapping_add(u64::from(addr)) as *mut u8;
        // SAFETY: as in `shadow_read`; a write entry permits writing.
        unsafe {
            match w {
                Width::B => host.write(v as u8),
                Width::W => host.cast::<u16>().write_unaligned(v as u16),
                Width::D => host.cast::<u32>().write_unaligned(v),
            }
        }
        true
    }

    /// Reads within one page from where `t` says.
    fn read_at(&mut self, t: &Translation, w: Width) -> u32 {
        let mut bytes = [0; 4];
        match self
            .mmu
            .ram()
            .read_slice(t.phys, &mut bytes[..w.bytes() as usize])
        {
            Some(()) => u32::from_le_bytes(bytes),
            None => self.pc.mmio_read(t.phys.0, w.bytes() as u8) & w.mask(),
        }
    }

    /// Writes within one page to where `t` says.
    fn write_at(&mut self, t: &Translation, w: Width, v: u32) {
        let bytes = v.to_le_bytes();
        if self
            .mmu
            .ram()
            .write_slice(t.phys, &bytes[..w.bytes() as usize])
            .is_some()
        {
            if t.traced {
                self.after_write(t.phys, w.bytes());
            }
        } else {
            self.pc.mmio_write(t.phys.0, w.bytes() as u8, v & w.mask());
            self.request_attention();
        }
    }

    /// Tells the MMU, and the run loop if code was hit, that memory changed.
    fn after_write(&mut self, phys: PhysAddr, len: u32) {
        let epoch = self.mmu.fetch_epoch();
        let effect = self.mmu.note_write(phys, len);
        if effect.code {
            self.code_writes.push((phys, len));
        }
        if effect.code || epoch != self.mmu.fetch_epoch() {
            self.request_attention();
        }
    }
}

/// Entry of the page of `addr` in a shadow table.
#[inline(always)]
#[allow(unsafe_code)] // The inline shadow-table access.
fn shadow_entry(table: u64, addr: u32) -> u64 {
    // SAFETY: `table` is a table of the current address space, which has 2^20
    // entries and lives until the next `set_paging`; `addr >> 12` is below that.
    unsafe { (table as *const u64).add((addr >> 12) as usize).read() }
}
