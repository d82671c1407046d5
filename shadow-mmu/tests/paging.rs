//! Scenarios on small guest page tables: rights, faults, traces, coherency.

use shadow_mmu::{
    Access, CR0_PG, CR0_WP, CR4_PAE, CR4_PSE, CR4_SMAP, CR4_SMEP, GuestRam, LinearAddr, PF_FETCH,
    PF_PRESENT, PF_RESERVED, PF_USER, PF_WRITE, PagingRegs, PhysAddr, ShadowMmu, load_pdptes,
};

const P: u32 = 1;
const RW: u32 = 2;
const US: u32 = 4;
const A: u32 = 0x20;
const D: u32 = 0x40;
const PS: u32 = 0x80;

const PD: u32 = 0x1000;
const PT: u32 = 0x2000;
const SUPERVISOR: bool = false;
const USER: bool = true;

/// A machine with 8 MiB, a hole, and one page table for linear 0..4 MiB.
struct Guest {
    mmu: ShadowMmu,
    regs: PagingRegs,
}

impl Guest {
    fn new() -> Guest {
        let mut ram = GuestRam::new(8 << 20).unwrap();
        ram.add_hole(PhysAddr(0xA_0000), PhysAddr(0xC_0000));
        let mut guest = Guest {
            mmu: ShadowMmu::new(ram).unwrap(),
            regs: PagingRegs::default(),
        };
        guest.poke(PD, PT | P | RW | US);
        guest.regs = PagingRegs {
            cr0: CR0_PG | CR0_WP,
            cr3: PD,
            cr4: CR4_PSE,
            pse36: true,
            ..PagingRegs::default()
        };
        guest.mmu.set_paging(&guest.regs);
        guest
    }

    /// Stores a doubleword as a device would, and reports it.
    fn poke(&mut self, at: u32, value: u32) {
        self.mmu
            .ram()
            .write_u32(PhysAddr(at.into()), value)
            .unwrap();
        let _ = self.mmu.note_write(PhysAddr(at.into()), 4);
        self.mmu.audit().unwrap();
    }

    fn peek(&self, at: u32) -> u32 {
        self.mmu.ram().read_u32(PhysAddr(at.into())).unwrap()
    }

    fn map(&mut self, linear: u32, pte: u32) {
        self.poke(PT + (linear >> 12) * 4, pte);
    }

    fn pte(&self, linear: u32) -> u32 {
        self.peek(PT + (linear >> 12) * 4)
    }

    /// The physical address, or the error code.
    fn access(&mut self, linear: u32, access: Access, user: bool) -> Result<u64, u16> {
        let result = self.mmu.translate(LinearAddr(linear), access, user);
        self.mmu.audit().unwrap();
        result
            .map(|translation| translation.phys.0)
            .map_err(|fault| fault.error)
    }

    /// The shadow entry that generated code would find.
    fn entry(&self, linear: u32, write: bool, user: bool) -> u64 {
        let view = self.mmu.view(user);
        let table = if write { view.write } else { view.read } as *const u64;
        // SAFETY: a view has 2^20 entries.
        unsafe { *table.add((linear >> 12) as usize) }
    }

    fn traced(&mut self, linear: u32) -> bool {
        self.mmu
            .translate(LinearAddr(linear), Access::Write, SUPERVISOR)
            .unwrap()
            .traced
    }
}

#[test]
fn an_entry_leads_to_the_host_byte() {
    let mut guest = Guest::new();
    guest.map(0x5000, 0x9000 | P | RW | US);
    assert_eq!(guest.access(0x5123, Access::Write, USER), Ok(0x9123));
    guest.mmu.ram().write_u8(PhysAddr(0x9123), 0x5A).unwrap();
    let host = guest.entry(0x5000, true, USER).wrapping_add(0x5123) as *const u8;
    // SAFETY: the entry permits the page.
    assert_eq!(unsafe { *host }, 0x5A);
    assert_eq!(
        guest.entry(0x5000, false, USER),
        guest.entry(0x5000, true, USER)
    );
    assert_eq!(guest.entry(0x5000, false, SUPERVISOR), 0);
}

#[test]
fn accessed_and_dirty_come_with_the_access() {
    let mut guest = Guest::new();
    guest.map(0x5000, 0x9000 | P | RW);
    guest.access(0x5000, Access::Read, SUPERVISOR).unwrap();
    assert_eq!((guest.pte(0x5000) & (A | D), guest.peek(PD) & A), (A, A));
    assert_eq!(
        guest.entry(0x5000, true, SUPERVISOR),
        0,
        "a store must come and set dirty"
    );
    guest.access(0x5000, Access::Write, SUPERVISOR).unwrap();
    assert_eq!(guest.pte(0x5000) & (A | D), A | D);
    assert_ne!(guest.entry(0x5000, true, SUPERVISOR), 0);
    guest.map(0x5000, 0x9000 | P | RW | A);
    assert_eq!(
        guest.entry(0x5000, true, SUPERVISOR),
        0,
        "the guest cleared dirty"
    );
}

#[test]
fn true_faults_have_the_error_codes_of_the_manual() {
    let mut guest = Guest::new();
    guest.map(0x5000, 0x9000 | P | RW);
    guest.map(0x6000, 0xA000 | P | US);
    assert_eq!(
        guest.access(0x5000, Access::Read, USER),
        Err(PF_PRESENT | PF_USER)
    );
    assert_eq!(
        guest.access(0x6000, Access::Write, USER),
        Err(PF_PRESENT | PF_USER | PF_WRITE)
    );
    assert_eq!(
        guest.access(0x6000, Access::Write, SUPERVISOR),
        Err(PF_PRESENT | PF_WRITE)
    );
    assert_eq!(
        guest.access(0x7000, Access::Write, USER),
        Err(PF_USER | PF_WRITE)
    );
    assert_eq!(guest.access(0x40_0000, Access::Fetch, SUPERVISOR), Err(0));
    assert_eq!(guest.pte(0x5000) & A, 0, "a denied access sets nothing");
    assert_eq!(guest.mmu.counters().true_faults, 5);
}

#[test]
fn without_wp_the_supervisor_writes_read_only_pages() {
    let mut guest = Guest::new();
    guest.map(0x6000, 0xA000 | P | US);
    let with_wp = guest.mmu.space_id();
    guest.regs.cr0 = CR0_PG;
    guest.mmu.set_paging(&guest.regs);
    assert_ne!(guest.mmu.space_id(), with_wp);
    assert_eq!(guest.access(0x6000, Access::Write, SUPERVISOR), Ok(0xA000));
    assert_eq!(
        guest.access(0x6000, Access::Write, USER),
        Err(PF_PRESENT | PF_USER | PF_WRITE)
    );
    guest.regs.cr0 = CR0_PG | CR0_WP;
    guest.mmu.set_paging(&guest.regs);
    assert_eq!(guest.mmu.space_id(), with_wp);
    assert_eq!(guest.entry(0x6000, true, SUPERVISOR), 0);
}

#[test]
fn large_pages_fill_in_groups_and_skip_what_is_traced() {
    let mut guest = Guest::new();
    guest.poke(PD + 0x300 * 4, PS | P | RW | A | D);
    guest.mmu.protect_code(PhysAddr(0x3000));
    assert_eq!(
        guest.access(0xC000_5010, Access::Read, SUPERVISOR),
        Ok(0x5010)
    );
    assert_ne!(guest.entry(0xC000_0000, true, SUPERVISOR), 0);
    assert_eq!(
        guest.entry(0xC000_1000, true, SUPERVISOR),
        0,
        "the page directory"
    );
    assert_ne!(guest.entry(0xC000_1000, false, SUPERVISOR), 0);
    assert_eq!(guest.entry(0xC000_3000, true, SUPERVISOR), 0, "code");
    assert_eq!(
        guest.access(0xC00A_0000, Access::Read, SUPERVISOR),
        Ok(0xA_0000)
    );
    assert_eq!(guest.entry(0xC00A_0000, false, SUPERVISOR), 0, "a hole");
}

#[test]
fn a_page_table_loses_its_write_entries_when_it_becomes_one() {
    let mut guest = Guest::new();
    guest.poke(PD + 4, 0x3000 | P | RW | US);
    guest.map(0x5000, 0x3000 | P | RW);
    guest.access(0x5000, Access::Write, SUPERVISOR).unwrap();
    assert_ne!(guest.entry(0x5000, true, SUPERVISOR), 0);
    guest.poke(0x3000, 0x9000 | P | RW);
    guest.access(0x40_0000, Access::Read, SUPERVISOR).unwrap();
    assert_eq!(guest.entry(0x5000, true, SUPERVISOR), 0);
    assert!(guest.traced(0x5000));
    guest.poke(PD + 4, 0);
    assert!(!guest.traced(0x5000), "no PDE names it any more");
    assert_ne!(guest.entry(0x5000, true, SUPERVISOR), 0);
}

#[test]
fn a_table_reused_as_data_becomes_fast_again() {
    let mut guest = Guest::new();
    guest.poke(PD + 4, 0x3000 | P | RW | US);
    guest.poke(0x3000, 0x9000 | P | RW);
    guest.map(0x5000, 0x3000 | P | RW | A | D);
    guest.access(0x40_0000, Access::Read, SUPERVISOR).unwrap();
    assert!(guest.traced(0x5000));
    for _ in 0..70 {
        guest.poke(0x3800, 0x1234_5678);
    }
    assert!(guest.traced(0x5000), "the upper half serves another slot");
    for _ in 0..70 {
        guest.poke(0x3100, 0x1234_5678);
    }
    assert!(!guest.traced(0x5000));
}

#[test]
fn spaces_survive_cr3_loads_and_directories_reused_as_data_do_not() {
    let mut guest = Guest::new();
    guest.map(0x5000, 0x9000 | P | RW | US);
    guest.access(0x5000, Access::Read, USER).unwrap();
    let first = guest.mmu.space_id();
    guest.poke(0x4000, 0);
    guest.regs.cr3 = 0x4000;
    guest.mmu.set_paging(&guest.regs);
    assert_eq!(guest.access(0x5000, Access::Read, USER), Err(PF_USER));
    guest.regs.cr3 = PD;
    guest.mmu.set_paging(&guest.regs);
    assert_eq!(guest.mmu.space_id(), first);
    assert_ne!(guest.entry(0x5000, false, USER), 0);
    for word in 0..32 {
        guest.poke(0x4000 + word * 4, 0xFFFF_FFFF);
    }
    assert_eq!(guest.mmu.counters().spaces_evicted, 1);
}

#[test]
fn more_spaces_than_can_be_kept_recycle_the_oldest() {
    let mut guest = Guest::new();
    for space in 0..200 {
        let root = 0x10_0000 + space * 0x1000;
        guest.poke(root, PT | P | RW | US);
        guest.map(0x5000, (0x9000 + space * 0x1000) | P | RW | US);
        guest.regs.cr3 = root;
        guest.mmu.set_paging(&guest.regs);
        assert_eq!(
            guest.access(0x5000, Access::Write, USER),
            Ok(u64::from(0x9000 + space * 0x1000))
        );
    }
    assert!(guest.mmu.counters().spaces_evicted > 100);
    assert!(guest.mmu.space_id() < 64);
}

#[test]
fn recursive_tables_are_traced_through_themselves() {
    let mut guest = Guest::new();
    guest.poke(PD + 0x3FF * 4, PD | P | RW);
    guest.map(0x5000, 0x9000 | P | RW | US);
    guest.access(0x5000, Access::Read, USER).unwrap();
    // The directory as a page, and the page table as a page, through the recursive map.
    assert_eq!(
        guest.access(0xFFFF_F000, Access::Write, SUPERVISOR),
        Ok(u64::from(PD))
    );
    assert!(guest.traced(0xFFFF_F000));
    assert_eq!(guest.peek(PD + 0x3FF * 4) & (A | D), A | D);
    assert_eq!(
        guest.access(0xFFC0_0014, Access::Write, SUPERVISOR),
        Ok(u64::from(PT) + 0x14)
    );
    assert_eq!(guest.entry(0xFFC0_0000, true, SUPERVISOR), 0);
    guest.map(0x5000, 0);
    assert_eq!(guest.entry(0x5000, false, USER), 0);
    guest.poke(PD + 0x3FF * 4, 0);
    assert_eq!(guest.access(0xFFFF_F000, Access::Read, SUPERVISOR), Err(0));
}

#[test]
fn protecting_code_takes_write_entries_from_all_spaces() {
    let mut guest = Guest::new();
    guest.map(0x5000, 0x9000 | P | RW | US);
    guest.map(0x6000, 0x9000 | P | RW | US);
    guest.access(0x5000, Access::Write, USER).unwrap();
    guest.access(0x6000, Access::Write, SUPERVISOR).unwrap();
    guest.poke(0x4000, PT | P | RW | US);
    guest.regs.cr3 = 0x4000;
    guest.mmu.set_paging(&guest.regs);
    guest.access(0x5000, Access::Write, USER).unwrap();
    guest.mmu.protect_code(PhysAddr(0x9ABC));
    guest.mmu.audit().unwrap();
    assert_eq!(guest.entry(0x5000, true, USER), 0);
    assert!(guest.mmu.is_code(PhysAddr(0x9000)));
    assert!(guest.traced(0x5000));
    assert!(guest.mmu.note_write(PhysAddr(0x8FFF), 2).code);
    assert!(!guest.mmu.note_write(PhysAddr(0x8FFF), 1).code);
    guest.mmu.unprotect_code(PhysAddr(0x9000));
    assert!(!guest.traced(0x5000));
}

#[test]
fn the_number_of_fetches_follows_fetched_pages_only() {
    let mut guest = Guest::new();
    guest.map(0x5000, 0x9000 | P | RW | US | A | D);
    guest.map(0x6000, 0xA000 | P | RW | US | A | D);
    guest.access(0x5000, Access::Fetch, USER).unwrap();
    guest.access(0x6000, Access::Read, USER).unwrap();
    let number = guest.mmu.fetch_number(true);
    guest.map(0x6000, 0);
    guest.mmu.invlpg(LinearAddr(0x6000));
    guest.mmu.set_paging(&PagingRegs::default());
    assert_ne!(guest.mmu.fetch_number(true), number);
    guest.mmu.set_paging(&guest.regs.clone());
    assert_eq!(guest.mmu.fetch_number(true), number);
    guest.mmu.set_paging(&PagingRegs::default());
    guest.map(0x5000, 0xB000 | P | US);
    guest.mmu.set_paging(&guest.regs.clone());
    let second = guest.mmu.fetch_number(true);
    assert_ne!(second, number);
    guest.map(0x5000, 0xC000 | P | US);
    assert_eq!(
        guest.mmu.fetch_number(true),
        second,
        "nothing was fetched since"
    );
    guest.access(0x5000, Access::Fetch, USER).unwrap();
    guest.poke(PD, 0);
    assert_ne!(
        guest.mmu.fetch_number(true),
        second,
        "the directory entry matters as well"
    );
}

#[test]
fn with_paging_off_linear_is_physical() {
    let mut guest = Guest::new();
    guest.mmu.set_paging(&PagingRegs::default());
    assert_eq!(guest.access(0x12345, Access::Write, USER), Ok(0x12345));
    assert_ne!(guest.entry(0x12345, true, USER), 0);
    let video = guest
        .mmu
        .translate(LinearAddr(0xB_8000), Access::Write, SUPERVISOR)
        .unwrap();
    assert_eq!(
        (video.phys, video.host, video.traced),
        (PhysAddr(0xB_8000), None, false)
    );
    let beyond = guest
        .mmu
        .translate(LinearAddr(0xFFFF_FFF0), Access::Fetch, SUPERVISOR)
        .unwrap();
    assert_eq!((beyond.phys, beyond.host), (PhysAddr(0xFFFF_FFF0), None));
}

#[test]
fn pse36_reaches_above_4_gib_and_checks_reserved_bits() {
    let mut guest = Guest::new();
    guest.poke(PD + 4, PS | P | 0xF << 13);
    assert_eq!(
        guest.access(0x40_1234, Access::Read, SUPERVISOR),
        Ok(0xF_0000_1234)
    );
    guest.poke(PD + 4, PS | P | 1 << 17);
    assert_eq!(
        guest.access(0x40_1234, Access::Read, USER),
        Err(PF_PRESENT | PF_RESERVED | PF_USER)
    );
    guest.regs.cr4 = 0;
    guest.mmu.set_paging(&guest.regs);
    assert_eq!(
        guest.access(0x40_1234, Access::Read, USER),
        Err(PF_USER),
        "PS is ignored without PSE"
    );
}

/// PDPT at 0x4000, one directory at 0x5000, one table at 0x6000 for linear 0..2 MiB.
fn pae_guest(nx: bool) -> Guest {
    let mut guest = Guest::new();
    guest.poke(0x4000, 0x5000 | P);
    guest.poke(0x5000, 0x6000 | P | RW | US);
    guest.regs = PagingRegs {
        cr3: 0x4000,
        cr4: CR4_PAE,
        nx,
        ..guest.regs
    };
    guest.regs.pae_pdptes = load_pdptes(guest.mmu.ram(), 0x4000).unwrap();
    guest.mmu.set_paging(&guest.regs);
    guest
}

#[test]
fn pae_honours_nx_and_reserved_bits() {
    let mut guest = pae_guest(true);
    guest.poke(0x6008, 0x9000 | P | RW | US);
    guest.poke(0x600C, 1 << 31);
    assert_eq!(guest.access(0x1000, Access::Read, USER), Ok(0x9000));
    assert_eq!(
        guest.access(0x1000, Access::Fetch, USER),
        Err(PF_PRESENT | PF_USER | PF_FETCH)
    );
    guest.regs.nx = false;
    guest.mmu.set_paging(&guest.regs);
    assert_eq!(
        guest.access(0x1000, Access::Fetch, USER),
        Err(PF_PRESENT | PF_RESERVED | PF_USER)
    );
    guest.poke(0x600C, 1 << 4);
    assert_eq!(
        guest.access(0x1000, Access::Write, SUPERVISOR),
        Err(PF_PRESENT | PF_RESERVED | PF_WRITE)
    );
    guest.poke(0x600C, 0xF);
    assert_eq!(
        guest.access(0x1000, Access::Write, SUPERVISOR),
        Ok(0xF_0000_9000)
    );
}

#[test]
fn pae_large_pages_and_changed_pdptes() {
    let mut guest = pae_guest(true);
    guest.poke(0x5008, 0x20_0000 | PS | P | RW | US);
    assert_eq!(guest.access(0x3F_F123, Access::Write, USER), Ok(0x3F_F123));
    assert_eq!(guest.peek(0x5008) & (A | D), A | D);
    guest.poke(0x5008, 0x20_2000 | PS | P);
    assert_eq!(
        guest.access(0x3F_F123, Access::Read, SUPERVISOR),
        Err(PF_PRESENT | PF_RESERVED)
    );
    guest.poke(0x5008, 0x20_0000 | PS | P | RW | US);
    guest.access(0x3F_F123, Access::Fetch, USER).unwrap();
    let (space, number) = (guest.mmu.space_id(), guest.mmu.fetch_number(true));
    guest.regs.pae_pdptes = [0, 0x5000 | 1, 0, 0];
    guest.mmu.set_paging(&guest.regs);
    assert_eq!(guest.mmu.space_id(), space);
    assert_ne!(guest.mmu.fetch_number(true), number);
    assert_eq!(guest.access(0x3F_F123, Access::Read, USER), Err(PF_USER));
    assert_eq!(guest.access(0x403F_F123, Access::Read, USER), Ok(0x3F_F123));
}

#[test]
fn pdptes_with_reserved_bits_cannot_be_loaded() {
    let guest = Guest::new();
    guest
        .mmu
        .ram()
        .write_u64(PhysAddr(0x7018), 0x9000 | 1 | 2)
        .unwrap();
    assert!(load_pdptes(guest.mmu.ram(), 0x7000).is_err());
    guest
        .mmu
        .ram()
        .write_u64(PhysAddr(0x7018), u64::MAX << 1)
        .unwrap();
    assert!(load_pdptes(guest.mmu.ram(), 0x7000).is_ok());
    assert_eq!(load_pdptes(guest.mmu.ram(), 0xFFFF_FFE0), Ok([0; 4]));
}

#[test]
fn smep_and_smap_keep_the_supervisor_off_user_pages() {
    let mut guest = Guest::new();
    guest.map(0x5000, 0x9000 | P | RW | US);
    guest.regs.cr4 = CR4_SMEP | CR4_SMAP;
    guest.mmu.set_paging(&guest.regs);
    assert_eq!(
        guest.access(0x5000, Access::Fetch, SUPERVISOR),
        Err(PF_PRESENT | PF_FETCH)
    );
    assert_eq!(
        guest.access(0x5000, Access::Read, SUPERVISOR),
        Err(PF_PRESENT)
    );
    assert_eq!(guest.access(0x5000, Access::Fetch, USER), Ok(0x9000));
    guest.mmu.set_smap_override(true);
    assert_eq!(guest.access(0x5000, Access::Write, SUPERVISOR), Ok(0x9000));
    assert_ne!(guest.entry(0x5000, true, SUPERVISOR), 0);
    guest.mmu.protect_code(PhysAddr(0x9000));
    guest.mmu.audit().unwrap();
    assert_eq!(guest.entry(0x5000, true, SUPERVISOR), 0);
    assert_ne!(guest.entry(0x5000, false, SUPERVISOR), 0);
    guest.mmu.set_smap_override(false);
    assert_eq!(guest.entry(0x5000, false, SUPERVISOR), 0);
    assert_eq!(
        guest.access(0x5000, Access::Write, SUPERVISOR),
        Err(PF_PRESENT | PF_WRITE)
    );
}

#[test]
fn tables_outside_ram_are_not_present() {
    let mut guest = Guest::new();
    guest.poke(PD + 4, 0xFFFF_F000 | P | RW | US);
    guest.poke(PD + 8, 0xA_0000 | P | RW | US);
    assert_eq!(guest.access(0x40_0000, Access::Read, USER), Err(PF_USER));
    assert_eq!(guest.access(0x80_0000, Access::Read, USER), Err(PF_USER));
    guest.regs.cr3 = 0xFFFF_F000;
    guest.mmu.set_paging(&guest.regs);
    assert_eq!(guest.access(0, Access::Read, USER), Err(PF_USER));
    guest.regs.cr4 = CR4_PAE;
    guest.regs.pae_pdptes = [0xF_FFFF_F001, 0, 0, 0xA_0001];
    guest.mmu.set_paging(&guest.regs);
    assert_eq!(guest.access(0, Access::Write, SUPERVISOR), Err(PF_WRITE));
    assert_eq!(
        guest.access(0xFFFF_FFFF, Access::Write, SUPERVISOR),
        Err(PF_WRITE)
    );
}

#[test]
fn peek_has_no_side_effects() {
    let mut guest = Guest::new();
    guest.map(0x5000, 0x9000 | P);
    assert_eq!(guest.mmu.peek(LinearAddr(0x5678)), Some(PhysAddr(0x9678)));
    assert_eq!(guest.mmu.peek(LinearAddr(0x7678)), None);
    assert_eq!(guest.pte(0x5000) & A, 0);
    let counters = guest.mmu.counters();
    assert_eq!(counters.hidden_faults + counters.fetches, 0);
}

#[test]
fn what_may_be_stored_to_a_traced_page_follows_the_guests_tables() {
    let mut guest = Guest::new();
    guest.map(0x5000, 0x9000 | P | RW | US);
    guest.mmu.protect_code(PhysAddr(0x9000));
    let store = |guest: &mut Guest| guest.access(0x5000, Access::Write, USER);
    let walks = |guest: &Guest| guest.mmu.counters().hidden_faults;
    assert!(store(&mut guest).is_ok());
    let before = walks(&guest);
    assert!(store(&mut guest).is_ok());
    assert_eq!(walks(&guest), before, "the second store walks no tables");
    guest.map(0x5000, 0x9000 | P | US);
    assert!(store(&mut guest).is_err(), "read-only");
    guest.map(0x5000, 0xb000 | P | RW | US);
    assert!(store(&mut guest).is_ok());
    assert_eq!(
        guest.peek(PT + 5 * 4) & D,
        D,
        "the new frame is marked dirty"
    );
    guest.poke(PD, 0);
    assert!(store(&mut guest).is_err(), "not present");
}

#[test]
fn spaces_that_map_supervisor_code_alike_have_one_number() {
    let mut guest = Guest::new();
    guest.map(0x5000, 0x9000 | P | RW);
    guest.access(0x5000, Access::Fetch, SUPERVISOR).unwrap();
    let (kernel, user) = (guest.mmu.fetch_number(false), guest.mmu.fetch_number(true));
    let pde = guest.peek(PD);
    guest.poke(0x4000, pde & !A);
    guest.regs.cr3 = 0x4000;
    guest.mmu.set_paging(&guest.regs);
    assert_ne!(
        guest.mmu.fetch_number(false),
        kernel,
        "a walk would set accessed in this directory"
    );
    guest.poke(0x4000, pde | D);
    guest.regs.cr3 = PD;
    guest.mmu.set_paging(&guest.regs);
    guest.regs.cr3 = 0x4000;
    // A group of its own, until it comes to differ from it.
    guest.mmu.set_paging(&guest.regs);
    guest.access(0x5000, Access::Fetch, SUPERVISOR).unwrap();
    guest.poke(0x4000, 0);
    guest.poke(0x4000, pde | D);
    guest.mmu.set_paging(&guest.regs);
    assert_eq!(guest.mmu.fetch_number(false), kernel);
    assert_ne!(guest.mmu.fetch_number(true), user);
    guest.map(0x5000, 0xA000 | P | RW);
    let other = guest.mmu.fetch_number(false);
    assert_ne!(other, kernel, "the page table is one for both");
    guest.regs.cr3 = PD;
    guest.mmu.set_paging(&guest.regs);
    assert_eq!(guest.mmu.fetch_number(false), other);
}
