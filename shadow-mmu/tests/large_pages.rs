//! Large pages of processors without PSE-36: a Pentium's.
//!
//! What later processors take for address bits 35:32 and for PAT is reserved there
//! (SDM volume 3, "32-Bit Paging").

use shadow_mmu::{
    Access, CR0_PG, CR4_PSE, GuestRam, LinearAddr, PF_PRESENT, PF_RESERVED, PF_USER, PagingRegs,
    PhysAddr, ShadowMmu,
};

/// The page directory, and in it present, user, and large page.
const DIRECTORY: u32 = 0x1000;
const LARGE: u32 = 1 << 0 | 1 << 2 | 1 << 7;
/// What a user's read of the second 4 MiB gives, if its PDE has `bits` too.
fn read(bits: u32) -> Result<PhysAddr, u16> {
    let ram = GuestRam::new(8 << 20).unwrap();
    let pde = PhysAddr(u64::from(DIRECTORY) + 4);
    ram.write_u32(pde, LARGE | bits).unwrap();
    let mut mmu = ShadowMmu::new(ram).unwrap();
    mmu.set_paging(&PagingRegs {
        cr0: CR0_PG,
        cr3: DIRECTORY,
        cr4: CR4_PSE,
        ..PagingRegs::default()
    });
    let translated = mmu.translate(LinearAddr(0x40_1234), Access::Read, true);
    translated.map(|t| t.phys).map_err(|fault| fault.error)
}

#[test]
fn without_pse36_bits_21_to_12_are_reserved() {
    for bit in 12..22 {
        assert_eq!(
            read(1 << bit),
            Err(PF_PRESENT | PF_RESERVED | PF_USER),
            "bit {bit}"
        );
    }
    assert_eq!(read(1 << 22), Ok(PhysAddr(0x40_1234)));
}
