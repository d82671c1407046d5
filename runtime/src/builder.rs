//! Building a machine: what it is made of, piece by piece, and the image in it.
//!
//! A [`Builder`] starts as the machine that `ring1` alone runs: the embedded guest in
//! 128 MiB, a console without input whose output goes nowhere, no code kept from run to
//! run. Every method replaces one of these. The `ring1` program builds its machines here,
//! too, from the [`VmConfig`] that its command line describes.
//!
//! Clock and [`Waker`] exist before the machine, so that a console with a thread of its
//! own can be given them. Files that a configuration names are read when the machine is
//! built, unless their bytes were given.

use crate::clock::{Clock, HostClock, Waker};
use crate::config::{Tier, VmConfig};
use crate::console::stdio::QuitFlag;
use crate::console::{BufferConsole, Console, progress};
use crate::cpu_model::Processor;
use crate::devices::card::Slot;
use crate::devices::pc::{Pc, PcConfig};
use crate::launch::Files;
use crate::loader::{FlatMode, FlatOptions};
use crate::monitor::Monitor;
use crate::monitor::inbox::{Caller, Inbox, inbox};
use crate::vm::{Host, Vm};
use anyhow::Context as _;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// A machine in the making.
#[must_use]
pub struct Builder {
    config: VmConfig,
    files: Files,
    clock: Arc<dyn Clock>,
    waker: Arc<Waker>,
    quit: QuitFlag,
    console: Box<dyn Console>,
    debug_output: Box<dyn Write + Send>,
    cards: Vec<Slot>,
    monitor: Option<(Caller, Inbox)>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new(VmConfig::default())
    }
}

impl Builder {
    /// The machine of a configuration. Its file names count; what to do when it ends,
    /// and who may look into it, is for whoever runs it to see to.
    pub fn new(config: VmConfig) -> Self {
        Self::with_clock(config, Arc::new(HostClock::new()))
    }

    /// The same with another clock than the host's.
    pub fn with_clock(config: VmConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            config,
            files: Files::default(),
            waker: Arc::new(Waker::new(Arc::clone(&clock))),
            clock,
            quit: QuitFlag::default(),
            console: Box::new(BufferConsole::new(&[]).0),
            debug_output: Box::new(progress::GuestStderr),
            cards: Vec::new(),
            monitor: None,
        }
    }

    /// Guest memory in MiB, 1 to 3072.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.config.memory_mib = mib;
        self
    }

    /// Most memory for compiled code in MiB, 4 to 1024.
    pub fn code_memory_mib(mut self, mib: u32) -> Self {
        self.config.code_memory_mib = mib;
        self
    }

    /// The processor.
    pub fn cpu(mut self, cpu: Processor) -> Self {
        self.config.cpu = cpu;
        self
    }

    /// How guest code is run.
    pub fn tier(mut self, tier: Tier) -> Self {
        self.config.tier = tier;
        self
    }

    /// Host time after which [`Vm::run`] returns.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = Some(timeout);
        self
    }

    /// Guest instructions after which [`Vm::run`] returns, to within 20,000.
    pub fn limit(mut self, insns: u64) -> Self {
        self.config.limit = Some(insns);
        self
    }

    /// Keeps account of where the time goes: [`crate::ledger`].
    pub fn ledger(mut self) -> Self {
        self.config.stats = true;
        self
    }

    /// A kernel: a bzImage, an ELF32 or Multiboot 1 file.
    pub fn kernel(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.config.kernel = Some("the kernel".into());
        self.files.kernel = bytes.into().into();
        self
    }

    /// Any bytes, put to a physical address and entered at their first.
    pub fn flat(self, bytes: impl Into<Vec<u8>>, address: u32, mode: FlatMode) -> Self {
        let mut builder = self.kernel(bytes);
        builder.config.flat = Some(FlatOptions { address, mode });
        builder
    }

    /// The kernel's initial RAM disk, or first Multiboot module.
    pub fn initrd(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.config.initrd = Some("the initrd".into());
        self.files.initrd = bytes.into().into();
        self
    }

    /// The kernel's command line.
    pub fn append(mut self, text: &str) -> Self {
        self.config.append = text.into();
        self
    }

    /// The files of the configuration, read already.
    pub fn files(mut self, files: Files) -> Self {
        self.files = files;
        self
    }

    /// The other end of the serial port COM1.
    pub fn console(mut self, console: impl Console + 'static) -> Self {
        self.console = Box::new(console);
        self
    }

    /// Where the debug console, port E9h, writes; standard error unless given.
    pub fn debug_output(mut self, output: impl Write + Send + 'static) -> Self {
        self.debug_output = Box::new(output);
        self
    }

    /// A device of one's own.
    pub fn card(mut self, slot: Slot) -> Self {
        self.cards.push(slot);
        self
    }

    /// A flag by which other threads end the machine; they wake it, too.
    pub fn quit_flag(mut self, quit: QuitFlag) -> Self {
        self.quit = quit;
        self
    }

    /// Somebody who gives the machine's [monitor](crate::monitor) commands from another
    /// thread, while it runs.
    pub fn monitor(&mut self) -> Caller {
        let waker = Arc::clone(&self.waker);
        let (caller, _) = self.monitor.get_or_insert_with(|| inbox(waker));
        caller.clone()
    }

    /// What ends the sleep of a halted machine, for threads that have something for it.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Builds the machine and puts its image into memory: ready to run.
    ///
    /// # Errors
    /// What is wrong with a setting, a file or a card, or what the host refuses.
    pub fn build(mut self) -> anyhow::Result<Vm> {
        self.config.validate()?;
        let mut files = std::mem::take(&mut self.files);
        files.read_missing(&self.config)?;
        let config = self.config.clone();
        let mut vm = self.build_empty()?;
        files.load(&config, &mut vm)?;
        files.forget();
        vm.origin = Some(Box::new((config, files)));
        Ok(vm)
    }

    /// Builds the machine without an image, its memory empty.
    ///
    /// # Errors
    /// What is wrong with a card, or what the host refuses.
    pub fn build_empty(self) -> anyhow::Result<Vm> {
        let mut pc = Pc::new(PcConfig {
            ram_bytes: self.config.memory_bytes(),
            console: self.console,
            debug_output: self.debug_output,
            clock: Arc::clone(&self.clock),
        });
        for slot in self.cards {
            pc.insert_card(slot)?;
        }
        let host = Host {
            pc,
            clock: self.clock,
            waker: self.waker,
            quit: self.quit,
        };
        let mut vm = Vm::new(&self.config, host)?;
        vm.monitor = self
            .monitor
            .map(|(caller, inbox)| Box::new(Monitor::new(caller, inbox)));
        Ok(vm)
    }
}

impl Vm {
    /// Begins to build a machine.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Resets the machine, as its reset line does: processor, devices and memory are as
    /// when it was built, and the image is there again. Console, cards and whoever looks
    /// into the machine stay, and so do its counts and limits.
    ///
    /// # Errors
    /// The machine was not built by a [`Builder`], or the host cannot give a second one
    /// while the first is there. It cannot run on in the latter case.
    pub fn reset(&mut self) -> anyhow::Result<()> {
        let origin = self.origin.take();
        let (config, files) = *origin.context("only a machine with its image can be reset")?;
        // For the next run, and for this one to find again.
        let _ = self.tiers.save();
        let parts = self.cpu.pc.dismantle();
        let builder = Builder {
            config,
            files,
            clock: Arc::clone(&self.clock),
            waker: Arc::clone(&self.waker),
            quit: self.quit.clone(),
            console: parts.console,
            debug_output: parts.debug_output,
            cards: parts.cards,
            monitor: None,
        };
        let mut fresh = builder.build()?;
        std::mem::swap(&mut fresh.counters, &mut self.counters);
        std::mem::swap(&mut fresh.decoding, &mut self.decoding);
        std::mem::swap(&mut fresh.debugger, &mut self.debugger);
        std::mem::swap(&mut fresh.monitor, &mut self.monitor);
        std::mem::swap(&mut fresh.cpu.log, &mut self.cpu.log);
        std::mem::swap(&mut fresh.cpu.ledger, &mut self.cpu.ledger);
        (fresh.deadline_ns, fresh.limit) = (self.deadline_ns, self.limit);
        fresh.cpu.points.adopt(&mut self.cpu.points);
        *self = fresh;
        self.watch_pages();
        self.release();
        Ok(())
    }
}
