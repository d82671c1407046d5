//! Guest memory as the CPU reaches it: segment checks, the inline shadow-table
//! access, and the careful path behind it.
//!
//! Every access tries the shadow table first; what the table does not permit is
//! translated page by page by the shadow MMU. Writes that the MMU traces are
//! reported to it, and those that hit translated code are queued for the run
//! loop. Nothing is written if any byte of an access faults.

use super::Cpu;
use crate::ledger::Account;
use crate::system::port;
use shadow_mmu::{Access, LinearAddr, PageFault, PhysAddr, Translation};
use translator::exception::Exception;
use translator::insn::{SegReg, Width};
use translator::state::Segment;

impl Cpu {
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
        self.examine(addr, w.bytes(), Access::Read, user)?;
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
        self.examine(addr, w.bytes(), Access::Write, user)?;
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
        self.examine(addr, into.len() as u32, Access::Read, user)?;
        let mut done = 0;
        while done < into.len() {
            let at = LinearAddr(addr.0.wrapping_add(done as u32));
            let n = (0x1000 - (at.0 & 0xfff) as usize).min(into.len() - done);
            let t = self.translate(at, Access::Read, user)?;
            let part = &mut into[done..done + n];
            if self.mmu.ram().read_slice(t.phys, part).is_none() {
                for (k, byte) in part.iter_mut().enumerate() {
                    *byte = self.mmio_read(t.phys.0 + k as u64, 1) as u8;
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
        self.examine(addr, bytes.len() as u32, Access::Write, user)?;
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

    /// Reads what the processor reads by itself, whatever CPL is: a descriptor, a
    /// TSS. EFLAGS.AC does not lift SMAP for it.
    ///
    /// # Errors
    /// #PF.
    #[inline]
    pub fn read_system(&mut self, addr: LinearAddr, w: Width) -> Result<u32, Exception> {
        self.require_implicit(addr, w.bytes(), Access::Read)?;
        self.read_linear(addr, w, false)
    }

    /// Writes what the processor writes by itself.
    ///
    /// # Errors
    /// #PF.
    #[inline]
    pub fn write_system(&mut self, addr: LinearAddr, w: Width, v: u32) -> Result<(), Exception> {
        self.require_implicit(addr, w.bytes(), Access::Write)?;
        self.write_linear(addr, w, v, false)
    }

    /// Checks that the processor could write `bytes` bytes by itself.
    ///
    /// # Errors
    /// #PF.
    pub fn probe_system_write(&mut self, addr: LinearAddr, bytes: u32) -> Result<(), Exception> {
        self.require_implicit(addr, bytes, Access::Write)?;
        self.probe_write(addr, bytes, false)
    }

    /// While AC lifts SMAP for other accesses: an implicit one must do without.
    #[inline]
    fn require_implicit(
        &mut self,
        addr: LinearAddr,
        bytes: u32,
        access: Access,
    ) -> Result<(), Exception> {
        if !self.smap_lifted {
            return Ok(());
        }
        let last = LinearAddr(addr.0.wrapping_add(bytes - 1));
        for at in [addr, last] {
            let allowed = self.mmu.permits_implicit(at, access);
            allowed.map_err(|f| Exception::PageFault {
                addr: f.addr.0,
                error: f.error,
            })?;
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
        self.require_alignment(addr, bytes, user)?;
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
                self.mmio_write(phys.0 + k as u64, 1, u32::from(byte));
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
        let observed = self.log.is_some() || self.ledger.is_open();
        let translated = match observed {
            false => self.mmu.translate(addr, access, user),
            true => self.translate_observed(addr, access, user),
        };
        translated.map_err(|f| Exception::PageFault {
            addr: f.addr.0,
            error: f.error,
        })
    }

    /// The same, for log and ledger.
    #[cold]
    #[inline(never)]
    fn translate_observed(
        &mut self,
        addr: LinearAddr,
        access: Access,
        user: bool,
    ) -> Result<Translation, PageFault> {
        let hidden = self.mmu.counters().hidden_faults;
        let before = self.ledger.enter(Account::WALK);
        let translated = self.mmu.translate(addr, access, user);
        let hid = self.mmu.counters().hidden_faults > hidden;
        let account = match translated {
            Err(_) => Account::TRUE_FAULT,
            Ok(_) if hid => Account::HIDDEN_FAULT,
            Ok(_) => Account::WALK,
        };
        self.ledger.leave_as(account, before);
        if self.log.is_some() {
            let outcome = translated.map(|t| hid.then_some(t.phys.0));
            self.log_translation(addr, access, user, outcome.map_err(|f| f.error));
        }
        translated
    }

    /// What the shadow tables know of a page: its physical address in those that permit
    /// reads and writes of the supervisor, and reads and writes of the user.
    pub fn shadow_entries(&self, at: LinearAddr) -> [Option<u64>; 4] {
        let [supervisor, user] = self.views;
        let base = self.mmu.ram().host_base() as u64;
        [supervisor.read, supervisor.write, user.read, user.write].map(|table| {
            let entry = shadow_entry(table, at.0);
            let page = entry.wrapping_add(u64::from(at.0 & !0xfff));
            (entry != 0).then(|| page.wrapping_sub(base))
        })
    }

    /// Reads what the processor reads by itself, if it lies in one page that its shadow
    /// table has.
    #[inline(always)]
    #[allow(unsafe_code)] // The inline shadow-table access.
    pub(crate) fn read_known<const N: usize>(&self, addr: u32) -> Option<[u32; N]> {
        let entry = shadow_entry(self.views[0].read, addr);
        if entry == 0 || addr & 0xfff > 0x1000 - 4 * N as u32 || self.smap_lifted {
            return None;
        }
        let host = entry.wrapping_add(u64::from(addr)) as *const [u32; N];
        // SAFETY: as in `shadow_read`.
        Some(unsafe { host.read_unaligned() })
    }

    /// Writes what the processor writes by itself, under the same condition.
    #[inline(always)]
    #[allow(unsafe_code)] // The inline shadow-table access.
    pub(crate) fn write_known(&mut self, addr: u32, values: &[u32]) -> bool {
        let entry = shadow_entry(self.views[0].write, addr);
        let bytes = size_of_val(values) as u32;
        if entry == 0 || (addr & 0xfff) + bytes > 0x1000 || self.smap_lifted {
            return false;
        }
        let host = entry.wrapping_add(u64::from(addr)) as *mut u32;
        for (n, &value) in values.iter().enumerate() {
            // SAFETY: as in `shadow_read`; a write entry permits writing.
            unsafe { host.add(n).write_unaligned(value) };
        }
        true
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
            None => self.mmio_read(t.phys.0, w.bytes() as u8) & w.mask(),
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
            self.mmio_write(t.phys.0, w.bytes() as u8, v & w.mask());
            // The local APIC may have been told to send one.
            self.nmi_pending |= self.pc.take_nmi();
            port::accessed(self);
        }
    }

    /// Where a store goes that is known to be permitted, to a frame of which no more is
    /// known than that it has translated code; its linear address, too.
    #[inline]
    pub(crate) fn beside_code(
        &self,
        seg: SegReg,
        offset: u32,
        w: Width,
    ) -> Option<(LinearAddr, PhysAddr)> {
        if !self.mode().unlimited(seg) || seg == SegReg::Cs || self.examines() {
            return None;
        }
        let base = self.state.seg[seg as usize].base;
        let addr = LinearAddr(base.wrapping_add(offset));
        let in_page = addr.0 & 0xfff <= 0x1000 - w.bytes();
        let phys = self.mmu.beside_code(addr, self.sys.cpl == 3)?;
        in_page.then_some((addr, phys))
    }

    /// Stores there if that hits no code.
    #[inline]
    pub(crate) fn store_beside_code(&mut self, phys: PhysAddr, w: Width, v: u32) -> bool {
        let hits = self.code.stored(phys, w.bytes()) || self.is_running(phys, w.bytes());
        let ram = self.mmu.ram();
        let store = || match w {
            Width::B => ram.write_u8(phys, v as u8),
            Width::W => ram.write_u16(phys, v as u16),
            Width::D => ram.write_u32(phys, v),
        };
        !hits && store().is_some()
    }

    /// Whether a store hits the volatile instruction that runs, which must notice.
    #[inline]
    fn is_running(&self, phys: PhysAddr, len: u32) -> bool {
        phys.0 < self.running.end && self.running.start < phys.0 + u64::from(len)
    }

    /// Tells the MMU, and the run loop if code was hit, that memory changed.
    fn after_write(&mut self, phys: PhysAddr, len: u32) {
        let user = self.sys.cpl == 3;
        let fetches = self.mmu.fetch_number(user);
        let before = self.ledger.enter(Account::TRACE);
        let effect = self.mmu.note_write(phys, len);
        self.ledger.leave(before);
        let concerns = effect.code && (self.code.stored(phys, len) || self.is_running(phys, len));
        if concerns {
            self.code_writes.push((phys, len));
        }
        if concerns || fetches != self.mmu.fetch_number(user) {
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
