//! A whole machine: CPU, memory, devices, translation cache, built from a
//! configuration and an image.

#![allow(unsafe_code)] // Names the trampoline's address.

use crate::cache::Cache;
use crate::cache::disk::DiskCache;
use crate::cache::disk::identity::identity;
use crate::cache::generations::Sizes;
use crate::clock::{Clock, Waker};
use crate::config::VmConfig;
use crate::console::stdio::QuitFlag;
use crate::cpu_model::CpuModel;
use crate::cpu_model::feature::Feature;
use crate::devices::acpi;
use crate::devices::pc::Pc;
use crate::devices::rom::{self, Rom};
use crate::gdb::Debugger;
use crate::idle::Idle;
use crate::launch::Files;
use crate::loader::{self, Entry, EntryMode, File, Image, LoadError, Problem};
use crate::mirrored::{MirrorDebt, MirrorPolicy};
use crate::monitor::Monitor;
use crate::native::gs::Gs;
use crate::native::{self, Trampoline};
use crate::stats::RunCounters;
use crate::stopwatch::Stopwatch;
use crate::system::mtrr;
use crate::tier::Tiers;
use crate::vcpu::{Cpu, TableReg, cr0};
use anyhow::Context as _;
use shadow_mmu::{GuestRam, PhysAddr, ShadowMmu};
use std::sync::Arc;
use translator::insn::SegReg;
use translator::state::Segment;

/// The legacy video hole: no RAM there (IBM PC memory map).
const VIDEO_HOLE: (PhysAddr, PhysAddr) = (PhysAddr(0xa_0000), PhysAddr(0xc_0000));

/// The parts of a machine that the world outside gives it.
pub struct Host {
    /// The devices, already joined to a console.
    pub pc: Pc,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What a halted CPU sleeps on.
    pub waker: Arc<Waker>,
    /// Set from outside to stop the machine.
    pub quit: QuitFlag,
}

/// A virtual machine, owned by the thread that runs it.
pub struct Vm {
    /// The CPU with memory and devices.
    pub cpu: Cpu,
    /// The translation cache.
    pub cache: Cache,
    /// The compiler's side.
    pub tiers: Tiers,
    /// Time spent decoding.
    pub decoding: Stopwatch,
    /// What the run loop counted.
    pub counters: RunCounters,
    pub(crate) mirror_debt: MirrorDebt,
    pub(crate) idle: Idle,
    pub(crate) debugger: Option<Box<Debugger>>,
    pub(crate) monitor: Option<Box<Monitor>>,
    /// What a reset needs.
    pub(crate) origin: Option<Box<(VmConfig, Files)>>,
    pub(crate) trampoline: Trampoline,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) quit: QuitFlag,
    pub(crate) deadline_ns: Option<u64>,
    pub(crate) limit: Option<u64>,
}

impl Vm {
    /// Builds a machine with empty memory, its CPU in the reset state.
    ///
    /// # Errors
    /// The host cannot give the memory, or Cranelift does not know the host.
    pub fn new(config: &VmConfig, host: Host) -> anyhow::Result<Self> {
        let mut ram = GuestRam::new(config.memory_bytes()).context("cannot map guest memory")?;
        ram.add_hole(VIDEO_HOLE.0, VIDEO_HOLE.1);
        if config.rom.is_some() {
            let window = rom::LOW_WINDOW;
            ram.add_hole(PhysAddr(window.start), PhysAddr(window.end));
        }
        let mmu = ShadowMmu::new(ram).context("cannot map shadow tables")?;
        let model = match CpuModel::new(config.cpu) {
            model if config.local_apic => model,
            model => model.without_apic(),
        };
        let mut cpu = Cpu::new(model, mmu, host.pc);
        if !cpu.model.has(Feature::Apic) {
            cpu.pc.set_apic_base(0);
        }
        if config.stats {
            cpu.ledger.open();
        }
        if config.test_device {
            cpu.pc.insert_test_device();
        }
        let routines = native::routines(config.tier)?;
        let all: [&[u8]; 6] = [
            &routines.unlinked,
            &routines.closed,
            &routines.trampoline,
            &routines.callout,
            &routines.vector,
            &routines.unpaired,
        ];
        let ways = routines.ways.iter().map(Vec::as_slice);
        let all: Vec<&[u8]> = all.into_iter().chain(ways).collect();
        let sizes = Sizes::new(config.code_bytes());
        let (cache, fixed) = Cache::new(sizes, &all).context("cannot map executable memory")?;
        let [
            _,
            _,
            entry,
            direct_callout,
            vector_enter,
            direct_return,
            ref ways @ ..,
        ] = fixed[..]
        else {
            anyhow::bail!("the code arena is too small");
        };
        cpu.state.links = cache.links.address();
        cpu.state.stubs = cache.links.stub(0);
        cpu.state.gates = cache.gates.address();
        cpu.state.records.jump_caches = cache.jump_cache_address();
        cpu.set_tag(0);
        cpu.state.callout = native::callout_address();
        cpu.state.resuming_callout = native::resuming_callout_address();
        cpu.state.direct_callout = direct_callout;
        cpu.state.direct_leave = entry + routines.leave;
        cpu.state.direct_return = direct_return;
        for (to, &way) in cpu.state.ways.iter_mut().zip(ways) {
            *to = way;
        }
        cpu.state.vector_enter = vector_enter;
        cpu.state.vector_prepare = native::vector_prepare_address();
        cpu.state.vector_state = cpu.fpu.vector_address();
        let deadline_ns = config
            .timeout
            .map(|t| host.clock.now_ns() + t.as_nanos() as u64);
        let mut tiers = Tiers::new(config.tier, cpu.mmu.has_mirrors())?;
        if tiers.mirror != MirrorPolicy::Never {
            cpu.gs = Gs::new();
        }
        if native::uses_direct_code(config.tier) {
            let gs = cpu.gs.is_some();
            let identity = identity(&cpu.model, config.tier, tiers.mirror, gs);
            tiers.disk = DiskCache::for_config(&config.code_cache, identity);
        }
        Ok(Self {
            cpu,
            cache,
            tiers,
            decoding: Stopwatch::default(),
            counters: RunCounters::default(),
            mirror_debt: MirrorDebt::default(),
            idle: Idle::default(),
            debugger: None,
            monitor: None,
            origin: None,
            // SAFETY: `entry` is the tier's trampoline; the arena lives
            // as long as the cache, in the same `Vm`, and keeps it.
            trampoline: unsafe { Trampoline::new(entry) },
            clock: host.clock,
            waker: host.waker,
            quit: host.quit,
            deadline_ns,
            limit: config.limit,
        })
    }

    /// Ends a machine in a process that is about to end. Whatever is open is closed as when
    /// a machine is dropped, but a hundred thousand blocks are not freed one by one.
    pub fn end_with_process(mut self) {
        self.cache.abandon_blocks();
    }

    /// Loads an image and puts the CPU at its entry.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(&mut self, image: &Image) -> Result<(), LoadError> {
        for (address, table) in acpi::acpi_tables(acpi::RSDP_ADDRESS) {
            // Memory too small for the tables just goes without.
            let _ = self
                .cpu
                .mmu
                .ram()
                .write_slice(PhysAddr(u64::from(address)), &table);
        }
        mtrr::set_as_firmware(&mut self.cpu);
        let entry = loader::load(image, &mut LoaderMemory(self.cpu.mmu.ram()))?;
        self.enter_at(&entry);
        Ok(())
    }

    /// Signals a non-maskable interrupt, as a board does for a parity error or a
    /// button. It is delivered once the guest runs, unless it has masked NMIs at
    /// port 70h or is still handling one.
    pub fn signal_nmi(&mut self) {
        self.cpu.raise_nmi_line();
    }

    /// Inserts a firmware ROM, which the CPU starts in after reset. The machine
    /// must have been built for one.
    ///
    /// # Errors
    /// The image has no size that a ROM has.
    pub fn load_rom(&mut self, file: &File) -> Result<(), LoadError> {
        let size = "a ROM image is 64 KiB to 16 MiB long, in steps of 64 KiB";
        let rom =
            Rom::new(file.bytes.to_vec()).ok_or_else(|| Problem::Malformed(size).of(file.path))?;
        self.cpu.pc.insert_rom(rom);
        Ok(())
    }

    /// Whether somebody asked the machine to stop.
    pub fn quit_requested(&self) -> bool {
        self.quit.quit_requested()
    }

    /// Puts the CPU into the state an image wants to be entered in.
    fn enter_at(&mut self, entry: &Entry) {
        let state = &mut self.cpu.state;
        state.gpr[..8].copy_from_slice(&entry.gpr);
        state.eip = entry.eip;
        match entry.mode {
            EntryMode::Real { cs } => {
                state.seg = [Segment::real(0); 6];
                state.seg[SegReg::Cs as usize] = Segment::real(cs);
                self.cpu.sys.idtr = TableReg {
                    base: 0,
                    limit: 0x3ff,
                };
            }
            EntryMode::Flat32 {
                code_selector,
                data_selector,
                gdt_base,
                gdt_limit,
            } => {
                state.seg = [Segment::flat(data_selector, false, 0); 6];
                state.seg[SegReg::Cs as usize] = Segment::flat(code_selector, true, 0);
                self.cpu.sys.gdtr = TableReg {
                    base: gdt_base,
                    limit: gdt_limit,
                };
                self.cpu.sys.idtr = TableReg { base: 0, limit: 0 };
                self.cpu.sys.cr0 |= cr0::PE;
            }
        }
        self.cpu.paging_changed();
        self.cpu.mode_changed();
    }
}

/// Guest memory as the loaders see it.
struct LoaderMemory<'a>(&'a GuestRam);

impl loader::Memory for LoaderMemory<'_> {
    fn ram_bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn write(&mut self, phys: u64, bytes: &[u8]) -> Option<()> {
        self.0.write_slice(PhysAddr(phys), bytes)
    }
}
