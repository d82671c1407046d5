//! Volatile instructions at the end of a page.
//!
//! Fifteen bytes from there on are not all in one frame, and the next page may not even
//! be present. So the bytes of this page are looked at first. Most often they are an
//! instruction, and nothing else matters. Where they are the beginning of one, the next
//! page is translated as a fetch would, each time, and its bytes are read, too.
//!
//! Invariants: what is decoded from the bytes of the first page alone is never a
//! beginning, and what crosses has been seen not to be whole without the next page; so
//! which of the two some bytes are follows from those of the first page.

use super::{Meaning, Slot};
use crate::vcpu::Cpu;
use shadow_mmu::{Access, LinearAddr, PhysAddr};
use translator::decode::MAX_INSN_BYTES;
use translator::exception::Exception;
use translator::insn::SegReg;

/// Highest offset in a page from which 16 bytes are in it.
const LAST_FREE: u64 = 0x1000 - 16;

/// The bytes from `phys` to the end of its page, if they are fewer than 16.
#[inline(always)]
pub(super) fn room(phys: u64) -> Option<usize> {
    let offset = phys & 0xfff;
    (offset > LAST_FREE).then_some(0x1000 - offset as usize)
}

/// The frame of the page behind the `room` bytes at EIP.
///
/// # Errors
/// #GP(0) if CS ends before it, else #PF.
fn next_page(cpu: &mut Cpu, eip: u32, room: usize) -> Result<PhysAddr, Exception> {
    let cs = *cpu.state.segment(SegReg::Cs);
    if cs.hi.saturating_sub(eip) < room as u32 {
        return Err(Exception::GeneralProtection(0));
    }
    let next = LinearAddr(cs.base.wrapping_add(eip).wrapping_add(room as u32));
    let user = cpu.sys.cpl == 3;
    Ok(cpu.translate(next, Access::Fetch, user)?.phys)
}

impl Slot {
    /// Number of what the bytes there mean, of which `room` are in this page.
    ///
    /// # Errors
    /// What fetching the others raises.
    #[cold]
    #[inline(never)]
    pub(super) fn find_at_edge(&mut self, cpu: &mut Cpu, room: usize) -> Result<usize, Exception> {
        let mut bytes = [0xff; 16];
        cpu.fetch(PhysAddr(self.phys), &mut bytes[..room]);
        let beginning = u128::from_le_bytes(bytes);
        if !self.crosses(beginning, room) {
            if let Some(n) = self.find(beginning) {
                return Ok(n);
            }
            if let Ok(n) = self.decode(cpu, &bytes[..room.min(MAX_INSN_BYTES)]) {
                return Ok(n);
            }
        }
        let second = next_page(cpu, self.eip, room)?;
        cpu.fetch(second, &mut bytes[room..]);
        let n = match self.find(u128::from_le_bytes(bytes)) {
            Some(n) => n,
            None => self
                .decode(cpu, &bytes[..MAX_INSN_BYTES])
                .map_err(|_| Exception::GeneralProtection(0))?,
        };
        self.meanings[n].second = Some(second.0);
        Ok(n)
    }

    /// Whether these bytes are known to go on in the next page.
    fn crosses(&self, beginning: u128, room: usize) -> bool {
        let there = super::ones(&(0..room));
        let begins = |m: &Meaning| (beginning ^ m.bytes) & m.fixed & there == 0;
        self.meanings.iter().any(|m| m.len > room && begins(m))
    }
}
