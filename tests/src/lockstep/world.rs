//! What a machine looks like before random code runs in it.
//!
//! Everything lies below 1 MiB and linear addresses are physical ones, so that one
//! layout serves real mode, protected mode and paging:
//!
//! ```text
//! 00000  interrupt table of real mode
//! 10000  code, two pages
//! 20000  data, eight pages, each present, read-only, absent or of ring 0
//! 30000  stack, two pages
//! 40000  page directory and page table
//! 50000  GDT, TSS, IDT; 51000 stack of ring 0; 52000 handlers, a HLT for each vector
//! ```

use super::code::CodeMaker;
use crate::machine::Setup;
use runtime::clock::FakeClock;
use runtime::config::{CodeCache, Tier};
use runtime::selftest::guest::interrupt_gate;
use runtime::selftest::rng::Rng;
use runtime::vcpu::{Shadow, TableReg, cr0, cr4};
use runtime::vm::Vm;
use shadow_mmu::PhysAddr;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use translator::insn::SegReg;
use translator::state::Segment;

const CODE: u32 = 0x1_0000;
const CODE_BYTES: usize = 0x2000;
const DATA: u32 = 0x2_0000;
const DATA_PAGES: usize = 8;
const STACK: u32 = 0x3_0000;
const TABLES: u32 = 0x4_0000;
const SYSTEM: u32 = 0x5_0000;
const TSS: u32 = SYSTEM + 0x400;
const IDT: u32 = SYSTEM + 0x800;
const KERNEL_STACK_TOP: u32 = SYSTEM + 0x2000;
const HANDLERS: u32 = SYSTEM + 0x2000;

/// Guest time of a machine: it passes in HLT alone, and at once.
const TIMEOUT: Duration = Duration::from_secs(600);

/// All memory that is compared: address and size.
const REGIONS: [(u32, usize); 6] = [
    (0, 0x1000),
    (CODE, CODE_BYTES),
    (DATA, DATA_PAGES << 12),
    (STACK, 0x2000),
    (TABLES, 0x2000),
    (SYSTEM, 0x3000),
];

/// First selector of the world's own six segments.
const FIRST_SELECTOR: u16 = 0x18;
/// Ring 0 code and data of the handlers.
const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;

/// The six privileges a page may give: PTE bits.
const ABSENT: u32 = 0;
const READ_ONLY: u32 = 5;
const READ_WRITE: u32 = 7;
const RING_0: u32 = 3;

/// A machine's state and memory.
pub struct World {
    real: bool,
    paged: bool,
    write_protect: bool,
    cpl: u8,
    segments: [Segment; 6],
    code_page: u32,
    data_pages: [u32; DATA_PAGES],
    code: Vec<u8>,
    starts: Vec<u32>,
    data_seed: u64,
}

/// Registers to enter a world with.
pub struct Entry {
    gpr: [u32; 8],
    eip: u32,
    eflags: u32,
}

/// A machine for any world, and where it keeps code.
///
/// # Panics
/// When the host refuses it.
pub fn machine(tier: Tier, clock: Arc<FakeClock>, code_cache: CodeCache) -> Vm {
    let setup = Setup {
        memory_mib: 4,
        clock: Some(clock),
        timeout: TIMEOUT,
        code_cache,
        ..Setup::new(&[], tier)
    };
    setup.machine().0
}

/// The address of byte `at` of [`World::memory`].
pub fn address_of(mut at: usize) -> u32 {
    for (start, bytes) in REGIONS {
        if at < bytes {
            return start + at as u32;
        }
        at -= bytes;
    }
    u32::MAX
}

/// The bytes from `linear` to the end of its region, in [`World::memory`]'s form.
pub fn bytes_at(memory: &[u8], linear: u32) -> &[u8] {
    let mut from = 0;
    for (start, bytes) in REGIONS {
        if (start..start + bytes as u32).contains(&linear) {
            return &memory[from + (linear - start) as usize..from + bytes];
        }
        from += bytes;
    }
    &[]
}

impl World {
    /// A random world; its code leaves flags undefined rarely if asked to.
    pub fn new(rng: &mut Rng, avoid_undefined: bool) -> World {
        let real = rng.chance(15);
        let cpl = if real || rng.chance(40) { 0 } else { 3 };
        let segments = match real {
            true => [0x2100, 0x1000, 0x3000, 0x2000, 0x1000, 0x2200].map(Segment::real),
            false => protected_segments(rng, cpl),
        };
        let page = |rng: &mut Rng| {
            let kinds = [
                READ_WRITE, READ_WRITE, READ_WRITE, READ_ONLY, ABSENT, RING_0,
            ];
            rng.pick(&kinds)
        };
        let mut world = World {
            real,
            paged: !real && rng.chance(80),
            write_protect: rng.chance(50),
            cpl,
            segments,
            code_page: rng.pick(&[READ_WRITE, READ_ONLY]),
            data_pages: std::array::from_fn(|_| page(rng)),
            code: Vec::new(),
            starts: Vec::new(),
            data_seed: rng.u64(),
        };
        let mut maker = CodeMaker {
            bits: world.bits(),
            first_eip: CODE.wrapping_sub(world.segments[SegReg::Cs as usize].base),
            bytes: CODE_BYTES,
            avoid_undefined,
            offsets: &[
                DATA,
                DATA + 0x1f00,
                DATA + 0x3f00,
                STACK,
                CODE,
                0,
                0x1f00,
                0x6f00,
            ],
            rng,
        };
        (world.code, world.starts) = maker.make();
        world
    }

    /// Bytes of code.
    pub const CODE_BYTES: usize = CODE_BYTES;

    /// The world with other code, of at most [`World::CODE_BYTES`].
    pub fn with_code(mut self, mut code: Vec<u8>) -> World {
        code.resize(CODE_BYTES, 0x90);
        self.code = code;
        self
    }

    /// The EIP of any byte of the code.
    pub fn any_eip(&self, rng: &mut Rng) -> u32 {
        let base = self.segments[SegReg::Cs as usize].base;
        CODE.wrapping_sub(base)
            .wrapping_add(rng.below(CODE_BYTES) as u32)
    }

    /// 16 or 32: the size of code.
    pub fn bits(&self) -> u32 {
        let cs = &self.segments[SegReg::Cs as usize];
        if cs.attributes & Segment::DEFAULT32 != 0 {
            32
        } else {
            16
        }
    }

    /// EIPs at which instructions begin.
    pub fn starts(&self) -> Vec<u32> {
        self.starts.clone()
    }

    /// Linear address of code.
    pub fn code_linear(&self, eip: u32) -> u32 {
        self.segments[SegReg::Cs as usize].base.wrapping_add(eip)
    }

    /// Random registers with `eip`: pointers, small numbers, noise.
    pub fn entry(&self, eip: u32, rng: &mut Rng) -> Entry {
        let flat = self.segments[SegReg::Ds as usize].base == 0;
        let bases = match flat {
            true => [DATA, DATA + 0x4000, STACK, CODE],
            false => [0, 0x4000, 0x2000, 0x1000],
        };
        let mut gpr = [0; 8].map(|_: u32| match rng.below(10) {
            0..=5 => rng.pick(&bases) + rng.below(0x1000) as u32,
            6 => rng.below(300) as u32,
            7 => rng.pick(&[0, 1, u32::MAX, 0x7fff_ffff, 0x8000_0000, 0xffff]),
            _ => rng.u32(),
        });
        let ss = &self.segments[SegReg::Ss as usize];
        let high = if ss.attributes & Segment::DEFAULT32 == 0 {
            rng.u32() << 16
        } else {
            0
        };
        let top = STACK + 0x800 + rng.below(0x1000) as u32;
        gpr[4] = top.wrapping_sub(ss.base) | high;
        let mut eflags = rng.u32() & 0x8d5 | 2;
        eflags |= if rng.chance(15) { 0x400 } else { 0 };
        eflags |= if rng.chance(3) { 0x100 } else { 0 };
        Entry { gpr, eip, eflags }
    }

    /// Puts memory and system registers in place.
    pub fn load(&self, vm: &mut Vm) {
        let mut rng = Rng::new(self.data_seed);
        for (start, bytes) in REGIONS {
            let content: Vec<u8> = match start {
                CODE => self.code.clone(),
                DATA | STACK => (0..bytes).map(|_| rng.u32() as u8).collect(),
                _ => vec![0; bytes],
            };
            write(vm, start, &content);
        }
        self.write_tables(vm);
        let sys = &mut vm.cpu.sys;
        sys.gdtr = TableReg {
            base: SYSTEM,
            limit: 0x7f,
        };
        sys.idtr = match self.real {
            true => TableReg {
                base: 0,
                limit: 0x3ff,
            },
            false => TableReg {
                base: IDT,
                limit: 0x7ff,
            },
        };
        sys.tr = segment(KERNEL_DATA, TSS, 0x67, 0x8b);
        sys.ldtr = null_segment();
        sys.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT;
        sys.cr3 = TABLES;
        sys.cr0 = cr0::MP | cr0::ET | cr0::NE;
        let switches = [
            (!self.real, cr0::PE),
            (self.paged, cr0::PG),
            (self.write_protect, cr0::WP),
        ];
        sys.cr0 |= switches
            .iter()
            .map(|&(on, bit)| if on { bit } else { 0 })
            .sum::<u32>();
        vm.cpu.paging_changed();
    }

    /// Descriptors, gates, handlers and page tables.
    fn write_tables(&self, vm: &mut Vm) {
        let mut gdt = vec![0; 8];
        gdt.extend(descriptor(&Segment::flat(KERNEL_CODE, true, 0)));
        gdt.extend(descriptor(&Segment::flat(KERNEL_DATA, false, 0)));
        gdt.extend(self.segments.iter().flat_map(descriptor));
        write(vm, SYSTEM, &gdt);
        write(vm, TSS + 4, &KERNEL_STACK_TOP.to_le_bytes());
        write(vm, TSS + 8, &KERNEL_DATA.to_le_bytes());
        write(vm, TSS + 0x66, &0x68u16.to_le_bytes());
        for vector in 0..256 {
            let handler = HANDLERS + vector;
            let gate = interrupt_gate(KERNEL_CODE, handler, matches!(vector, 3 | 4 | 0x80));
            write(vm, IDT + 8 * vector, &gate.to_le_bytes());
            let vector_of_real_mode = (HANDLERS >> 4) << 16 | vector;
            write(vm, 4 * vector, &vector_of_real_mode.to_le_bytes());
        }
        write(vm, HANDLERS, &[0xf4; 256]);
        write(vm, TABLES, &((TABLES + 0x1000) | READ_WRITE).to_le_bytes());
        for (start, bytes) in REGIONS {
            for page in 0..bytes >> 12 {
                let address = start + (page << 12) as u32;
                let rights = match start {
                    CODE => self.code_page,
                    DATA => self.data_pages[page],
                    STACK => READ_WRITE,
                    _ => RING_0,
                };
                let at = TABLES + 0x1000 + (address >> 12) * 4;
                write(vm, at, &(address | rights).to_le_bytes());
            }
        }
    }

    /// Puts registers in place and takes the machine out of any halt.
    pub fn enter(&self, vm: &mut Vm, entry: &Entry) {
        let cpu = &mut vm.cpu;
        cpu.state.gpr[..8].copy_from_slice(&entry.gpr);
        cpu.state.eip = entry.eip;
        cpu.state.set_eflags_image(entry.eflags);
        cpu.state.seg = self.segments;
        cpu.sys.cpl = self.cpl;
        cpu.sys.cr2 = 0;
        let fresh = runtime::selftest::state::State::new();
        cpu.fpu.set_image(&fresh.fxsave);
        cpu.halted = false;
        cpu.shutdown = false;
        cpu.shadow = Shadow::None;
        cpu.mode_changed();
        cpu.request_attention();
    }

    /// A copy of all memory that code could have changed.
    pub fn memory(&self, vm: &Vm) -> Vec<u8> {
        let mut all = Vec::new();
        for (start, bytes) in REGIONS {
            let from = all.len();
            all.resize(from + bytes, 0);
            let part = &mut all[from..];
            let _ = vm.cpu.mmu.ram().read_slice(PhysAddr(start.into()), part);
        }
        all
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.real {
            "real mode"
        } else {
            "protected mode"
        };
        let stack = self.segments[SegReg::Ss as usize].attributes & Segment::DEFAULT32;
        let stack = if stack != 0 { 32 } else { 16 };
        write!(f, "{}-bit code in {mode}, {stack}-bit stack, ", self.bits())?;
        let (cpl, wp) = (self.cpl, self.write_protect);
        match self.paged {
            true => write!(f, "ring {cpl}, WP {wp}, data pages {:?}", self.data_pages),
            false => write!(f, "ring {cpl}, no paging"),
        }
    }
}

fn write(vm: &mut Vm, at: u32, bytes: &[u8]) {
    vm.cpu.write_phys(PhysAddr(at.into()), bytes);
}

/// ES, CS, SS, DS, FS, GS with random bases, limits, sizes and rights.
fn protected_segments(rng: &mut Rng, cpl: u8) -> [Segment; 6] {
    let selector = |n: u16| (FIRST_SELECTOR + 8 * n) | u16::from(cpl);
    let rights = |kind: u16| kind | 0x90 | u16::from(cpl) << 5;
    let (code_kind, big) = (0x0b, Segment::DEFAULT32);
    let code = match rng.below(10) {
        0..=5 => Segment::flat(selector(1), true, cpl),
        6 => segment(selector(1), CODE, 0x1fff, rights(code_kind) | big),
        _ => segment(selector(1), CODE, 0x1fff, rights(code_kind)),
    };
    let stack = match rng.below(10) {
        0..=5 => Segment::flat(selector(2), false, cpl),
        6..=7 => segment(selector(2), STACK, 0x1fff, rights(3) | big),
        _ => segment(selector(2), STACK, 0x1fff, rights(3)),
    };
    let based = rng.chance(40);
    let mut data = |n: u16| match rng.below(10) {
        0..=4 if !based => Segment::flat(selector(n), false, cpl),
        0..=5 => segment(selector(n), DATA, 0x7fff, rights(3) | big),
        6 => segment(selector(n), DATA, 0x3abc, rights(3)),
        7 => segment(selector(n), DATA, 0x7fff, rights(1) | big),
        8 => expand_down(segment(selector(n), DATA, 0x1234, rights(7))),
        _ if n == 3 => Segment::flat(selector(n), false, cpl),
        _ => null_segment(),
    };
    [data(0), code, stack, data(3), data(4), data(5)]
}

fn segment(selector: u16, base: u32, limit: u32, attributes: u16) -> Segment {
    Segment {
        base,
        lo: 0,
        hi: limit,
        limit,
        selector,
        attributes,
    }
}

/// A 16-bit expand-down segment.
fn expand_down(s: Segment) -> Segment {
    Segment {
        lo: s.limit + 1,
        hi: 0xffff,
        ..s
    }
}

/// What a null selector leaves.
fn null_segment() -> Segment {
    Segment {
        lo: 1,
        hi: 0,
        ..Segment::default()
    }
}

/// The descriptor of a segment (SDM vol. 3, "Segment Descriptors").
fn descriptor(s: &Segment) -> [u8; 8] {
    let granular = s.attributes & Segment::GRANULAR != 0;
    let limit = if granular { s.limit >> 12 } else { s.limit };
    let [b0, b1, b2, b3] = s.base.to_le_bytes();
    let [l0, l1, l2, _] = limit.to_le_bytes();
    let [access, flags] = s.attributes.to_le_bytes();
    [l0, l1, b0, b1, b2, access, flags & 0xf0 | l2 & 0xf, b3]
}
