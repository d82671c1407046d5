//! System registers, and the names of their bits (SDM vol. 3A, "System
//! Architecture Overview").

use crate::system::branches::Branches;
use translator::state::Segment;

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
    /// XCR0, of which only the low half has bits.
    pub xcr0: u32,
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
    /// IA32_DEBUGCTL and the records of branches.
    pub branches: Branches,
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
    pub const OSXSAVE: u32 = 1 << 18;
    pub const SMEP: u32 = 1 << 20;
    pub const SMAP: u32 = 1 << 21;
}
