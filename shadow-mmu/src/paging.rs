//! The paging mode: which registers matter, and what they select.
//!
//! A [`Context`] is the digest of the registers that decides every translation.
//! Two moments with equal contexts share one shadow address space; any
//! difference (WP, PSE, NXE, SMEP, ...) selects another. So a change of mode
//! needs no flush: it selects tables that were built under that mode.

use crate::addr::{LinearAddr, PhysAddr};
use crate::entry;
use crate::fault::Access;
use crate::memory::GuestRam;
use crate::table::Side;

/// CR0.WP: supervisor writes obey R/W too.
pub const CR0_WP: u32 = 1 << 16;
/// CR0.PG: paging is on.
pub const CR0_PG: u32 = 1 << 31;
/// CR4.PSE: PDEs may map 4 MiB pages.
pub const CR4_PSE: u32 = 1 << 4;
/// CR4.PAE: three-level tables of 64-bit entries.
pub const CR4_PAE: u32 = 1 << 5;
/// CR4.SMEP: no supervisor fetch from user pages.
pub const CR4_SMEP: u32 = 1 << 20;
/// CR4.SMAP: no supervisor data access to user pages, unless EFLAGS.AC overrides.
pub const CR4_SMAP: u32 = 1 << 21;

/// The registers that control paging, as the guest has them now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PagingRegs {
    /// CR0; PG and WP matter.
    pub cr0: u32,
    /// CR3.
    pub cr3: u32,
    /// CR4; PSE, PAE, SMEP and SMAP matter. PGE does not: see [`ShadowMmu::flush`](crate::ShadowMmu::flush).
    pub cr4: u32,
    /// EFER.NXE.
    pub nx: bool,
    /// PDEs that map 4 MiB have address bits 35:32 and PAT: not on every processor.
    pub pse36: bool,
    /// The PDPTE registers, as [`load_pdptes`] read them at the last MOV CR3
    /// (or change of CR0/CR4 that reloads them). Ignored unless PAE paging is on.
    pub pae_pdptes: [u64; 4],
}

/// A present PDPTE has a reserved bit set: the instruction that loads it takes #GP(0).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReservedPdpte;

/// Reads the four PDPTEs that CR3 points to (SDM volume 3, "PDPTE Registers").
///
/// Where there is no RAM they are not present.
///
/// # Errors
/// If a present one has a reserved bit set.
pub fn load_pdptes(ram: &GuestRam, cr3: u32) -> Result<[u64; 4], ReservedPdpte> {
    let base = u64::from(cr3 & !0x1F);
    let mut pdptes = [0; 4];
    for (index, pdpte) in pdptes.iter_mut().enumerate() {
        *pdpte = ram.read_u64(PhysAddr(base + 8 * index as u64)).unwrap_or(0);
        if !entry::pdpte_is_valid(*pdpte) {
            return Err(ReservedPdpte);
        }
    }
    Ok(pdptes)
}

/// What the entries of a walk grant together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rights {
    pub(crate) write: bool,
    pub(crate) user: bool,
    pub(crate) no_fetch: bool,
}

/// Everything that decides how a linear address of some space is translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Context {
    pub(crate) paging: bool,
    pub(crate) pae: bool,
    pub(crate) pse: bool,
    pub(crate) pse36: bool,
    pub(crate) nx: bool,
    pub(crate) wp: bool,
    pub(crate) smep: bool,
    pub(crate) smap: bool,
    /// The page directory, or with PAE the PDPT.
    pub(crate) root: u32,
    /// With PAE, the PDPTE registers; otherwise zero.
    pub(crate) pdptes: [u64; 4],
}

impl Context {
    /// Digests the registers.
    pub(crate) fn new(regs: &PagingRegs) -> Context {
        let paging = regs.cr0 & CR0_PG != 0;
        let pae = paging && regs.cr4 & CR4_PAE != 0;
        Context {
            paging,
            pae,
            pse: paging && !pae && regs.cr4 & CR4_PSE != 0,
            pse36: regs.pse36,
            nx: pae && regs.nx,
            wp: paging && regs.cr0 & CR0_WP != 0,
            smep: paging && regs.cr4 & CR4_SMEP != 0,
            smap: paging && regs.cr4 & CR4_SMAP != 0,
            root: match (paging, pae) {
                (false, _) => 0,
                (true, false) => regs.cr3 & !0xFFF,
                (true, true) => regs.cr3 & !0x1F,
            },
            pdptes: if pae { regs.pae_pdptes } else { [0; 4] },
        }
    }

    /// The same in one word, less the PDPTEs; never zero.
    pub(crate) fn key(&self) -> u64 {
        let bits = [
            true,
            self.paging,
            self.pae,
            self.pse,
            self.pse36,
            self.nx,
            self.wp,
            self.smep,
            self.smap,
        ];
        let mode = bits.iter().fold(0, |mode, &bit| mode << 1 | u64::from(bit));
        mode << 32 | u64::from(self.root)
    }

    /// Bytes of a paging-structure entry.
    pub(crate) fn entry_bytes(&self) -> u64 {
        if self.pae { 8 } else { 4 }
    }

    /// Whether #PF error codes have the I/D bit.
    pub(crate) fn reports_fetch(&self) -> bool {
        self.nx || self.smep
    }

    /// Whether a present PDE maps a large page.
    pub(crate) fn is_large(&self, pde: u64) -> bool {
        (self.pae || self.pse) && pde & entry::PS != 0
    }

    /// Bits that must be zero in a present entry that is, or is not, a large PDE.
    pub(crate) fn reserved(&self, large: bool) -> u64 {
        if self.pae {
            entry::pae_reserved(large, self.nx)
        } else {
            entry::legacy_reserved(large, self.pse36)
        }
    }

    /// The page directory for the GiB with this number (32-bit paging has only one, number 0).
    pub(crate) fn directory(&self, index: usize) -> Option<PhysAddr> {
        match (self.paging, self.pae) {
            (false, _) => None,
            (true, false) => (index == 0).then_some(PhysAddr(u64::from(self.root))),
            (true, true) => {
                let pdpte = self.pdptes.get(index).copied().unwrap_or(0);
                (pdpte & entry::P != 0).then_some(PhysAddr(entry::address(pdpte)))
            }
        }
    }

    /// Where the PDE for `linear` lies, unless its PDPTE is not present.
    pub(crate) fn pde_at(&self, linear: LinearAddr) -> Option<PhysAddr> {
        let linear = u64::from(linear.0);
        if self.pae {
            let directory = self.directory((linear >> 30) as usize)?;
            Some(PhysAddr(directory.0 + (linear >> 21 & 0x1FF) * 8))
        } else {
            Some(PhysAddr(u64::from(self.root) + (linear >> 22) * 4))
        }
    }

    /// Where the PTE for `linear` lies in the table that `pde` names.
    pub(crate) fn pte_at(&self, pde: u64, linear: LinearAddr) -> PhysAddr {
        let page = u64::from(linear.page());
        let index = if self.pae {
            (page & 0x1FF) * 8
        } else {
            (page & 0x3FF) * 4
        };
        PhysAddr(entry::address(pde) + index)
    }

    /// Whether a side's access is allowed.
    pub(crate) fn permits_side(&self, rights: Rights, access: Access, side: Side) -> bool {
        let smap = self.smap && side != Side::Lifted;
        Context { smap, ..*self }.permits(rights, access, side.is_user())
    }

    /// Whether an access at that privilege is allowed (SDM volume 3, "Determination of Access Rights").
    pub(crate) fn permits(&self, rights: Rights, access: Access, user: bool) -> bool {
        let data = if user {
            rights.user
        } else {
            !(self.smap && rights.user)
        };
        match access {
            Access::Read => data,
            Access::Write => data && (rights.write || !user && !self.wp),
            Access::Fetch if user => rights.user && !rights.no_fetch,
            Access::Fetch => !(rights.no_fetch || self.smep && rights.user),
        }
    }
}
