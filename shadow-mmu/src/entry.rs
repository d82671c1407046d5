//! The bits of PDPTEs, PDEs and PTEs (SDM volume 3, "32-Bit Paging" and "PAE Paging").
//!
//! Entries of both formats are held as `u64`; the low twelve bits agree.

/// Physical address bits the guest has; CPUID leaf 80000008H must report the same.
pub const MAXPHYADDR: u32 = 36;

/// P: the entry is present.
pub(crate) const P: u64 = 1 << 0;
/// R/W: writes are allowed.
pub(crate) const RW: u64 = 1 << 1;
/// U/S: user accesses are allowed.
pub(crate) const US: u64 = 1 << 2;
/// A: the entry was used.
pub(crate) const A: u64 = 1 << 5;
/// D: the page was written (entries that map a page only).
pub(crate) const D: u64 = 1 << 6;
/// PS: a PDE maps a large page.
pub(crate) const PS: u64 = 1 << 7;
/// XD: fetches are denied (PAE with EFER.NXE).
pub(crate) const XD: u64 = 1 << 63;

/// Bits 62:MAXPHYADDR of a PAE entry, which must be zero.
const HIGH_RESERVED: u64 = !(XD | PHYS_MASK);
/// The bits a physical address can have.
const PHYS_MASK: u64 = (1 << MAXPHYADDR) - 1;
/// Bits 20:13 of a PDE that maps 2 MiB; bit 12 is PAT.
const PAE_LARGE_RESERVED: u64 = 0x001F_E000;
/// Bits 21:17 of a PDE that maps 4 MiB; bits 16:13 are address bits 35:32, bit 12 is PAT.
const PSE36_LARGE_RESERVED: u64 = 0x003E_0000;
/// The same where there is neither PSE-36 nor PAT.
const PSE_LARGE_RESERVED: u64 = 0x003F_F000;
/// Bits 2:1 and 8:5 of a PDPTE, and all above MAXPHYADDR.
const PDPTE_RESERVED: u64 = 0x1E6 | XD | HIGH_RESERVED;

/// The physical address of the table or 4 KiB page that an entry names.
pub(crate) const fn address(entry: u64) -> u64 {
    entry & PHYS_MASK & !0xFFF
}

/// The base of the large page that a PDE maps.
pub(crate) const fn large_address(pde: u64, pae: bool) -> u64 {
    if pae {
        pde & PHYS_MASK & !0x1F_FFFF
    } else {
        (pde & 0xFFC0_0000) | ((pde >> 13) & 0xF) << 32
    }
}

/// Bits that must be zero in a present PDE or PTE of PAE paging.
pub(crate) const fn pae_reserved(large: bool, nx: bool) -> u64 {
    HIGH_RESERVED | if nx { 0 } else { XD } | if large { PAE_LARGE_RESERVED } else { 0 }
}

/// Bits that must be zero in a present PDE or PTE of 32-bit paging.
pub(crate) const fn legacy_reserved(large: bool, pse36: bool) -> u64 {
    match (large, pse36) {
        (false, _) => 0,
        (true, false) => PSE_LARGE_RESERVED,
        (true, true) => PSE36_LARGE_RESERVED,
    }
}

/// Whether a PDPTE may be loaded; a present one with reserved bits set gives #GP.
pub(crate) const fn pdpte_is_valid(pdpte: u64) -> bool {
    pdpte & P == 0 || pdpte & PDPTE_RESERVED == 0
}
