//! Random histories of a guest against a reference walker.
//!
//! The guest has few frames, so its tables overlap with each other, with data
//! and with code in every way. After each step the shadow tables must pass the
//! audit; every translation must agree with a walker written straight from the
//! manual, and so must the accessed and dirty flags it leaves in memory.

use proptest::prelude::*;
use shadow_mmu::{
    Access, CR0_PG, CR0_WP, CR4_PAE, CR4_PSE, CR4_SMAP, CR4_SMEP, GuestRam, LinearAddr,
    MIRROR_DISTANCE, PF_FETCH, PF_PRESENT, PF_RESERVED, PF_USER, PF_WRITE, PagingRegs, PhysAddr,
    ShadowMmu,
};

const FRAMES: u32 = 24;
const MODES: u8 = 32;

#[derive(Clone, Debug)]
enum Step {
    /// A store of an entry by the guest through its own mapping, where it is allowed.
    Store {
        linear: u32,
        user: bool,
        value: u64,
    },
    /// A store of an entry by a device.
    Dma {
        frame: u32,
        index: u32,
        value: u64,
    },
    /// A device fills a run of entries.
    DmaRun {
        frame: u32,
        index: u32,
        count: u32,
        value: u64,
    },
    Touch {
        linear: u32,
        access: Access,
        user: bool,
    },
    Switch {
        root: u32,
        mode: u8,
    },
    Invlpg {
        linear: u32,
    },
    Flush {
        global: bool,
    },
    Protect {
        frame: u32,
    },
    Unprotect {
        frame: u32,
    },
}

/// Addresses that reach few directory entries and few table entries.
fn linear() -> impl Strategy<Value = u32> {
    let gib = prop_oneof![6 => Just(0u32), 1 => 1..4u32];
    let slot = prop_oneof![4 => 0..3u32, 1 => 510..512u32];
    let page = prop_oneof![5 => 0..5u32, 1 => 510..512u32];
    (gib, slot, page, 0..8u32)
        .prop_map(|(gib, slot, page, word)| (gib << 30) | (slot << 21) | (page << 12) | (word * 8))
}

/// Mostly sensible entries with random flags, sometimes anything.
fn entry() -> impl Strategy<Value = u64> {
    let flags = prop_oneof![
        8 => Just(0x67u64),
        3 => Just(0x27),
        3 => Just(0x07),
        2 => Just(0x63),
        1 => Just(0x25),
        1 => Just(0xE7),
        2 => 0u64..0x200,
    ];
    let high = prop_oneof![12 => Just(0u64), 2 => Just(1 << 63), 1 => any::<u32>().prop_map(|high| u64::from(high) << 32)];
    prop_oneof![
        20 => (0..u64::from(FRAMES) + 2, flags, high).prop_map(|(frame, flags, high)| (frame << 12) | flags | high),
        1 => Just(0),
        1 => any::<u64>(),
    ]
}

fn index() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..8u32, 1 => 508..516u32, 1 => 1016..1024u32]
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Fetch)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (linear(), any::<bool>(), entry())
            .prop_map(|(linear, user, value)| Step::Store { linear, user, value }),
        4 => (0..FRAMES, index(), entry()).prop_map(|(frame, index, value)| Step::Dma { frame, index, value }),
        1 => (0..FRAMES, index(), 1..600u32, entry())
            .prop_map(|(frame, index, count, value)| Step::DmaRun { frame, index, count, value }),
        30 => (linear(), access(), any::<bool>())
            .prop_map(|(linear, access, user)| Step::Touch { linear, access, user }),
        4 => (0..6u32, 0..MODES).prop_map(|(root, mode)| Step::Switch { root, mode }),
        1 => linear().prop_map(|linear| Step::Invlpg { linear }),
        1 => any::<bool>().prop_map(|global| Step::Flush { global }),
        1 => (0..FRAMES).prop_map(|frame| Step::Protect { frame }),
        2 => (0..FRAMES).prop_map(|frame| Step::Unprotect { frame }),
    ]
}

/// Registers for a mode number; its top values leave the world's usual entry format or paging.
fn registers(root: u32, mode: u8, pae: bool) -> PagingRegs {
    let on = |bit: u8| mode & (1 << bit) != 0;
    let mut regs = PagingRegs {
        cr0: CR0_PG,
        cr3: root << 12,
        nx: on(2),
        pse36: true,
        ..PagingRegs::default()
    };
    regs.cr0 |= if on(0) { CR0_WP } else { 0 };
    regs.cr4 |= if on(1) || pae { CR4_PSE } else { 0 };
    regs.cr4 |= if pae != (mode == MODES - 1) {
        CR4_PAE
    } else {
        0
    };
    regs.cr4 |= if on(3) && on(4) {
        CR4_SMEP | CR4_SMAP
    } else {
        0
    };
    regs.cr0 &= if mode == MODES - 2 { !CR0_PG } else { !0 };
    for (gib, pdpte) in regs.pae_pdptes.iter_mut().enumerate() {
        // The mode decides as well, so that PDPTEs change under an unchanged CR3.
        let frame = u64::from(root) + gib as u64 * u64::from(mode / 16 + 1);
        *pdpte = if gib == 3 && on(3) {
            0
        } else {
            (frame << 12) | 1
        };
    }
    regs
}

/// The manual's walk: the physical address and the entries it used, or the error code.
fn reference(
    ram: &GuestRam,
    regs: &PagingRegs,
    linear: u32,
    access: Access,
    user: bool,
) -> Result<(u64, Vec<u64>), u16> {
    if regs.cr0 & CR0_PG == 0 {
        return Ok((linear.into(), Vec::new()));
    }
    let pae = regs.cr4 & CR4_PAE != 0;
    let (nx, smep) = (pae && regs.nx, regs.cr4 & CR4_SMEP != 0);
    let mut error = if user { PF_USER } else { 0 };
    error |= if access == Access::Write { PF_WRITE } else { 0 };
    error |= if access == Access::Fetch && (nx || smep) {
        PF_FETCH
    } else {
        0
    };
    let width = if pae { 8 } else { 4 };
    let read = |at: u64| {
        if pae {
            ram.read_u64(PhysAddr(at))
        } else {
            ram.read_u32(PhysAddr(at)).map(u64::from)
        }
    };
    let bits = |low: u32, count: u32| u64::from(linear >> low & ((1 << count) - 1));

    let mut table = u64::from(regs.cr3 & !0xFFF);
    if pae {
        let pdpte = regs.pae_pdptes[bits(30, 2) as usize];
        if pdpte & 1 == 0 {
            return Err(error);
        }
        table = pdpte & 0xF_FFFF_F000;
    }
    let levels = if pae {
        [(21, 9), (12, 9)]
    } else {
        [(22, 10), (12, 10)]
    };
    let (mut used, mut all, mut any) = (Vec::new(), u64::MAX, 0);
    for (level, (low, count)) in levels.into_iter().enumerate() {
        let at = table + bits(low, count) * width;
        let entry = read(at).unwrap_or(0);
        if entry & 1 == 0 {
            return Err(error);
        }
        let large = level == 0 && entry & 0x80 != 0 && (pae || regs.cr4 & CR4_PSE != 0);
        let mut reserved = if pae { 0x7FFF_FFF0_0000_0000 } else { 0 };
        reserved |= if pae && !nx { 1 << 63 } else { 0 };
        reserved |= if large && pae { 0x1F_E000 } else { 0 };
        reserved |= if large && !pae { 0x3E_0000 } else { 0 };
        if entry & reserved != 0 {
            return Err(error | PF_PRESENT | PF_RESERVED);
        }
        used.push(at);
        all &= entry;
        any |= entry;
        table = entry & 0xF_FFFF_F000;
        if large {
            let base = if pae {
                entry & 0xF_FFE0_0000
            } else {
                entry & 0xFFC0_0000 | (entry >> 13 & 0xF) << 32
            };
            table = base | bits(12, low - 12) << 12;
            break;
        }
    }
    let (user_page, writable) = (all & 4 != 0, all & 2 != 0);
    let smap = regs.cr4 & CR4_SMAP != 0;
    let allowed = match access {
        Access::Fetch if nx && any >> 63 != 0 => false,
        Access::Fetch if user => user_page,
        Access::Fetch => !(smep && user_page),
        _ if user && !user_page || !user && smap && user_page => false,
        Access::Write => writable || !user && regs.cr0 & CR0_WP == 0,
        Access::Read => true,
    };
    if allowed {
        Ok((table | bits(0, 12), used))
    } else {
        Err(error | PF_PRESENT)
    }
}

/// What the runtime tags its caches with, and the fetch translation it cached.
struct Fetched {
    number: u64,
    linear: u32,
    user: bool,
    phys: u64,
}

struct World {
    mmu: ShadowMmu,
    regs: PagingRegs,
    pae: bool,
    fetched: Vec<Fetched>,
}

impl World {
    /// Tables of one format almost everywhere, which lead somewhere from the start.
    fn new(pae: bool) -> World {
        let mut ram = GuestRam::new(u64::from(FRAMES) << 12).unwrap();
        ram.add_hole(PhysAddr(20 << 12), PhysAddr(21 << 12));
        let mut mmu = ShadowMmu::new(ram).unwrap();
        let regs = registers(0, 1, pae);
        mmu.set_paging(&regs);
        let mut world = World {
            mmu,
            regs,
            pae,
            fetched: Vec::new(),
        };
        for frame in 0..FRAMES {
            for index in (0..16).chain(500..520).chain(1008..1024) {
                let target = (frame * 7 + index * 5 + 1) % FRAMES;
                let flags = if (frame + index) % 4 == 0 { 0x25 } else { 0x67 };
                world.dma(
                    frame,
                    index,
                    &u64::from((target << 12) | flags).to_le_bytes(),
                );
            }
        }
        world
    }

    fn entry_bytes(&self) -> usize {
        if self.pae { 8 } else { 4 }
    }

    fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Store {
                linear,
                user,
                value,
            } => self.store(linear, user, value)?,
            Step::Dma {
                frame,
                index,
                value,
            } => self.dma(frame, index, &value.to_le_bytes()),
            Step::DmaRun {
                frame,
                index,
                count,
                value,
            } => {
                let entry = &value.to_le_bytes()[..self.entry_bytes()];
                let at =
                    PhysAddr(u64::from(frame << 12) + u64::from(index) * entry.len() as u64 % 4096);
                let bytes = entry.repeat(count as usize);
                if self.mmu.ram().write_slice(at, &bytes).is_some() {
                    let _ = self.mmu.note_write(at, bytes.len() as u32);
                }
            }
            Step::Touch {
                linear,
                access,
                user,
            } => {
                let _ = self.touch(linear, access, user)?;
            }
            Step::Switch { root, mode } => {
                self.regs = registers(root, mode, self.pae);
                self.mmu.set_paging(&self.regs);
            }
            Step::Invlpg { linear } => self.mmu.invlpg(LinearAddr(linear)),
            Step::Flush { global } => self.mmu.flush(global),
            Step::Protect { frame } => self.mmu.protect_code(PhysAddr(u64::from(frame) << 12)),
            Step::Unprotect { frame } => self.mmu.unprotect_code(PhysAddr(u64::from(frame) << 12)),
        }
        self.mmu.audit().map_err(TestCaseError::fail)?;
        self.check_fetched()
    }

    /// Stores an entry as 32-bit guest code does, by doublewords; reports only what is traced.
    fn store(&mut self, linear: u32, user: bool, value: u64) -> Result<(), TestCaseError> {
        for half in 0..self.entry_bytes() as u32 / 4 {
            let Some(translation) = self.touch(linear + half * 4, Access::Write, user)? else {
                break;
            };
            let stored = self
                .mmu
                .ram()
                .write_u32(translation.phys, (value >> (half * 32)) as u32);
            prop_assert_eq!(stored.is_some(), translation.host.is_some());
            if translation.traced {
                let effect = self.mmu.note_write(translation.phys, 4);
                prop_assert_eq!(effect.code, self.mmu.is_code(translation.phys));
            }
            self.mmu.audit().map_err(TestCaseError::fail)?;
        }
        Ok(())
    }

    fn dma(&mut self, frame: u32, index: u32, value: &[u8; 8]) {
        let entry = &value[..self.entry_bytes()];
        let at = PhysAddr(u64::from(frame << 12) + u64::from(index) * entry.len() as u64 % 4096);
        let _ = self.mmu.ram().write_slice(at, entry);
        let _ = self.mmu.note_write(at, entry.len() as u32);
    }

    /// Translates, compares with the reference, and checks the flags left behind.
    fn touch(
        &mut self,
        linear: u32,
        access: Access,
        user: bool,
    ) -> Result<Option<shadow_mmu::Translation>, TestCaseError> {
        let expected = reference(self.mmu.ram(), &self.regs, linear, access, user);
        let got = self.mmu.translate(LinearAddr(linear), access, user);
        match (expected, got) {
            (Err(error), Err(fault)) => {
                prop_assert_eq!((fault.addr, fault.error), (LinearAddr(linear), error));
                Ok(None)
            }
            (Ok((phys, used)), Ok(translation)) => {
                prop_assert_eq!(translation.phys, PhysAddr(phys));
                prop_assert_eq!(translation.host, self.mmu.ram().host(translation.phys, 1));
                for (level, &at) in used.iter().rev().enumerate() {
                    let flags = if level == 0 && access == Access::Write {
                        0x60
                    } else {
                        0x20
                    };
                    let entry = self.mmu.ram().read_u32(PhysAddr(at)).unwrap();
                    prop_assert_eq!(entry & flags, flags);
                }
                if access == Access::Fetch {
                    let number = self.mmu.fetch_number(user);
                    self.fetched.push(Fetched {
                        number,
                        linear,
                        user,
                        phys,
                    });
                } else {
                    self.look_in_mirror(linear, access, user, &translation)?;
                }
                Ok(Some(translation))
            }
            (expected, got) => Err(TestCaseError::fail(format!(
                "expected {expected:?}, got {got:?}"
            ))),
        }
    }

    /// What may be accessed can be mirrored, and shows the same memory there, unless
    /// the access must be reported. (A frame's write entries are few, so one may have
    /// been taken back for another by now.)
    fn look_in_mirror(
        &mut self,
        linear: u32,
        access: Access,
        user: bool,
        translation: &shadow_mmu::Translation,
    ) -> Result<(), TestCaseError> {
        let mirrored = self.mmu.mirror(LinearAddr(linear), access, user);
        let reported = access == Access::Write && translation.traced;
        match access {
            Access::Write => prop_assert!(!mirrored || translation.host.is_some() && !reported),
            _ => prop_assert_eq!(mirrored, translation.host.is_some()),
        }
        if let Some(host) = translation.host.filter(|_| mirrored) {
            let mirror = self.mmu.view(user).read + MIRROR_DISTANCE + u64::from(linear);
            // SAFETY: both are mapped now: the byte in guest memory and in its mirror.
            let bytes = unsafe { [host.cast_const().read(), (mirror as *const u8).read()] };
            prop_assert_eq!(bytes[0], bytes[1]);
        }
        Ok(())
    }

    /// A fetch translation under the number that is current again must still hold, and
    /// making it must change no accessed flag.
    fn check_fetched(&mut self) -> Result<(), TestCaseError> {
        for fetched in &self.fetched {
            if fetched.number != self.mmu.fetch_number(fetched.user) {
                continue;
            }
            let now = reference(
                self.mmu.ram(),
                &self.regs,
                fetched.linear,
                Access::Fetch,
                fetched.user,
            );
            prop_assert_eq!(now.as_ref().map(|(phys, _)| *phys), Ok(fetched.phys));
            for at in now.into_iter().flat_map(|(_, used)| used) {
                let entry = self.mmu.ram().read_u32(PhysAddr(at)).unwrap();
                prop_assert_eq!(entry & 0x20, 0x20);
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shadow_tables_follow_every_history(pae: bool, steps in proptest::collection::vec(step(), 1..200)) {
        let mut world = World::new(pae);
        for step in &steps {
            world.run(step)?;
        }
    }
}
