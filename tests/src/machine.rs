//! Whole machines, as an embedder makes them: an image, a tier, a console that a
//! script types at.
//!
//! [`Setup`] says what to run, [`Setup::run`] runs it and returns everything a
//! test asks about afterwards. The clock is the host's unless the test brings one.
//!
//! `RING1_CODE_CACHE` names a folder in which all these machines keep their code, but
//! those that a test gives one of its own. The first run of a test fills it, the second
//! finds it warm; each says how much it has found. `RING1_CODE_MEMORY` gives them so many
//! MiB for code: with few of them, it comes and goes.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use runtime::clock::{Clock, HostClock, Waker};
use runtime::config::{CodeCache, DEFAULT_CODE_MEMORY_MIB, Tier, VmConfig};
use runtime::console::stdio::QuitFlag;
use runtime::console::{BufferConsole, Captured};
use runtime::cpu_model::Processor;
use runtime::devices::acpi;
use runtime::devices::pc::{Pc, PcConfig};
use runtime::exit::Exit;
use runtime::loader::{File, FlatMode, FlatOptions, Image, LoadError};
use runtime::stats::RunCounters;
use runtime::vm::{Host, Vm};
use shadow_mmu::PhysAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// All tiers, with the names that failures give them.
pub const TIERS: [(&str, Tier); 5] = [
    ("interp", Tier::Interp),
    ("cranelift", Tier::Cranelift),
    ("direct", Tier::Direct),
    ("mirror", Tier::Mirror),
    ("auto", Tier::Auto),
];

/// A step of a console script: once the text has appeared, the bytes are typed.
pub type Step<'a> = (&'a str, &'a [u8]);

/// What to run.
#[derive(Clone)]
pub struct Setup<'a> {
    /// The kernel's bytes.
    pub kernel: &'a [u8],
    /// The initial RAM disk's bytes.
    pub initrd: Option<&'a [u8]>,
    /// The kernel command line.
    pub append: &'a str,
    /// Set for a flat image.
    pub flat: Option<FlatOptions>,
    /// The kernel's bytes are a firmware ROM.
    pub rom: bool,
    /// The processor has its local APIC.
    pub local_apic: bool,
    /// The board has the test device.
    pub test_device: bool,
    /// The processor.
    pub cpu: Processor,
    /// How guest code is run.
    pub tier: Tier,
    /// Guest memory.
    pub memory_mib: u32,
    /// Host time after which the machine is stopped.
    pub timeout: Duration,
    /// Guest instructions after which the machine is stopped.
    pub limit: Option<u64>,
    /// What the console types.
    pub script: &'a [Step<'a>],
    /// Another clock than the host's.
    pub clock: Option<Arc<dyn Clock>>,
    /// Where translated code is kept.
    pub code_cache: CodeCache,
    /// Memory for translated code.
    pub code_memory_mib: u32,
}

/// What a machine left behind.
pub struct Ended {
    /// Why it stopped.
    pub exit: Exit,
    /// All that it wrote to its serial port.
    pub serial: String,
    /// What the run loop counted.
    pub counters: RunCounters,
    /// The machine itself.
    pub vm: Vm,
}

impl<'a> Setup<'a> {
    /// `kernel` in a machine of 64 MiB, for at most 30 seconds.
    pub fn new(kernel: &'a [u8], tier: Tier) -> Setup<'a> {
        Setup {
            kernel,
            initrd: None,
            append: "",
            flat: None,
            rom: false,
            local_apic: false,
            test_device: false,
            cpu: Processor::Max,
            tier,
            memory_mib: 64,
            timeout: Duration::from_secs(30),
            limit: None,
            script: &[],
            clock: None,
            code_cache: CodeCache::Off,
            code_memory_mib: code_memory(),
        }
    }

    /// A flat image entered at `address` in `mode`.
    pub fn flat(kernel: &'a [u8], address: u32, mode: FlatMode, tier: Tier) -> Setup<'a> {
        Setup {
            flat: Some(FlatOptions { address, mode }),
            ..Setup::new(kernel, tier)
        }
    }

    /// A firmware ROM, started from reset.
    pub fn rom(bytes: &'a [u8], tier: Tier) -> Setup<'a> {
        Setup {
            rom: true,
            ..Setup::new(bytes, tier)
        }
    }

    /// Builds the machine, loads the image, and runs it to its end.
    ///
    /// # Panics
    /// When the host refuses the machine or the loader the image.
    pub fn run(&self) -> Ended {
        self.try_run().expect("the image loads")
    }

    /// The same for a machine that `prepare` changes between loading and running.
    ///
    /// # Panics
    /// When the host refuses the machine or the loader the image.
    pub fn run_after(&self, prepare: impl FnOnce(&mut Vm)) -> Ended {
        self.load_and_run(prepare).expect("the image loads")
    }

    /// The same for an image that may be no guest at all.
    ///
    /// # Errors
    /// What the loader has against the image.
    ///
    /// # Panics
    /// When the host refuses the machine.
    pub fn try_run(&self) -> Result<Ended, LoadError> {
        self.load_and_run(|_| {})
    }

    fn load_and_run(&self, prepare: impl FnOnce(&mut Vm)) -> Result<Ended, LoadError> {
        let (mut vm, captured) = self.machine();
        let image = self.image();
        match self.rom {
            true => vm.load_rom(&image.kernel)?,
            false => vm.load(&image)?,
        }
        prepare(&mut vm);
        let exit = vm.run();
        if self.code_cache == CodeCache::Off && self.code_cache() != CodeCache::Off {
            vm.tiers.save().expect("the folder takes the code");
            let counters = &vm.cache.counters;
            eprintln!(
                "code: {} found, {} made",
                counters.loaded, counters.compiled
            );
        }
        Ok(Ended {
            exit,
            serial: captured.text(),
            counters: vm.counters.clone(),
            vm,
        })
    }

    /// Where code is kept: each processor and tier has a folder, as one holds few files.
    fn code_cache(&self) -> CodeCache {
        match std::env::var_os("RING1_CODE_CACHE") {
            Some(folder) if self.code_cache == CodeCache::Off => {
                let name = format!("{:?}-{:?}", self.cpu, self.tier);
                let folder = PathBuf::from(folder).join(name);
                std::fs::create_dir_all(&folder).expect("a folder for code");
                CodeCache::Folder(folder)
            }
            _ => self.code_cache.clone(),
        }
    }

    /// The machine without the image, and what it will have written.
    ///
    /// # Panics
    /// When the host refuses the machine.
    pub fn machine(&self) -> (Vm, Captured) {
        let config = VmConfig {
            memory_mib: self.memory_mib,
            cpu: self.cpu,
            tier: self.tier,
            timeout: Some(self.timeout),
            limit: self.limit,
            rom: self.rom.then(|| "rom".into()),
            local_apic: self.local_apic,
            test_device: self.test_device,
            code_cache: self.code_cache(),
            code_memory_mib: self.code_memory_mib,
            ..VmConfig::default()
        };
        let clock = match &self.clock {
            Some(clock) => Arc::clone(clock),
            None => Arc::new(HostClock::new()),
        };
        let (console, captured) = BufferConsole::scripted(self.script);
        let pc = Pc::new(PcConfig {
            ram_bytes: config.memory_bytes(),
            console: Box::new(console),
            debug_output: Box::new(std::io::sink()),
            clock: Arc::clone(&clock),
        });
        let host = Host {
            pc,
            waker: Arc::new(Waker::new(Arc::clone(&clock))),
            clock,
            quit: QuitFlag::default(),
        };
        let vm = Vm::new(&config, host).expect("the host gives a machine");
        (vm, captured)
    }

    /// What is loaded into it.
    pub fn image(&self) -> Image<'a> {
        let file = |path: &'static str, bytes| File {
            path: Path::new(path),
            bytes,
        };
        Image {
            kernel: file("kernel", self.kernel),
            initrd: self.initrd.map(|bytes| file("initrd", bytes)),
            cmdline: self.append,
            flat: self.flat,
            acpi_rsdp: acpi::RSDP_ADDRESS,
        }
    }
}

/// Memory for code where a test does not say, in MiB.
fn code_memory() -> u32 {
    let given = std::env::var("RING1_CODE_MEMORY").ok();
    let given = given.and_then(|text| text.parse().ok());
    given.unwrap_or(DEFAULT_CODE_MEMORY_MIB)
}

/// A flat guest at `start` that runs `body` so many rounds, which ECX counts, leaves EBX at
/// `result` and ends by debug exit 10h.
///
/// # Panics
/// When it cannot be assembled.
pub fn in_rounds(
    [start, rounds, result]: [u32; 3],
    body: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Vec<u8> {
    let assemble = || {
        let mut a = CodeAssembler::new(32)?;
        a.mov(esp, 0x30_0000)?;
        a.xor(ebx, ebx)?;
        a.mov(ecx, rounds)?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        body(&mut a)?;
        a.dec(ecx)?;
        a.jne(again)?;
        a.mov(dword_ptr(result), ebx)?;
        a.mov(al, i32::from(samples::PASSED))?;
        a.out(0xf4, al)?;
        a.assemble(start.into())
    };
    assemble().expect("the guest can be assembled")
}

/// Runs a flat guest in protected mode in every tier: each must end by debug exit
/// 10h and leave the same word at `result`. `what` tells guests apart in a failure.
///
/// # Panics
/// When a tier differs from the first.
pub fn agree(image: &[u8], start: u32, result: u32, what: &str) {
    let results = TIERS.map(|(name, tier)| {
        let ended = Setup::flat(image, start, FlatMode::Protected32, tier).run();
        assert_eq!(ended.exit, Exit::DebugExit(0x10), "{what}, {name}");
        let word = ended.vm.cpu.mmu.ram().read_u32(PhysAddr(result.into()));
        (word.expect("the result is in RAM"), name)
    });
    let (expected, _) = results[0];
    for (result, name) in results {
        assert_eq!(result, expected, "{what}, {name}");
    }
}
