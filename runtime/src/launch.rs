//! The files of a configuration, and machines that are built without an image.

use crate::builder::Builder;
use crate::clock::Waker;
use crate::config::VmConfig;
use crate::console::stdio::QuitFlag;
use crate::console::{BufferConsole, Console, progress};
use crate::devices::acpi;
use crate::embedded;
use crate::loader::{self, File, Image, LoadError};
use crate::vm::Vm;
use std::path::Path;
use std::sync::Arc;

/// A console and the flag by which its user quits.
pub type ConsoleAndQuit = (Box<dyn Console>, QuitFlag);

/// The files of a configuration, read.
#[derive(Default)]
pub struct Files {
    rom: Option<Vec<u8>>,
    pub(crate) kernel: Option<Vec<u8>>,
    pub(crate) initrd: Option<Vec<u8>>,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn read(config: &VmConfig) -> Result<Self, LoadError> {
        let mut files = Self::default();
        files.read_missing(config)?;
        Ok(files)
    }

    /// Reads those whose bytes are not there already.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn read_missing(&mut self, config: &VmConfig) -> Result<(), LoadError> {
        for (path, bytes) in [
            (&config.rom, &mut self.rom),
            (&config.kernel, &mut self.kernel),
            (&config.initrd, &mut self.initrd),
        ] {
            if let (Some(path), None) = (path, &bytes) {
                *bytes = Some(loader::read_file(path)?);
            }
        }
        Ok(())
    }

    /// The kernel's file, or the embedded guest's.
    pub fn kernel(&self) -> &[u8] {
        self.kernel.as_deref().unwrap_or(embedded::IMAGE)
    }

    /// The machine and its files, in a few words.
    pub fn describe(&self, config: &VmConfig) -> String {
        let files = [
            ("kernel", &self.kernel),
            ("initrd", &self.initrd),
            ("ROM", &self.rom),
        ];
        let there = files.iter().filter_map(|(name, file)| {
            let bytes = file.as_ref()?.len() as u64;
            Some(format!(", {name} {}", progress::size(bytes)))
        });
        progress::size(config.memory_bytes()) + &there.collect::<String>()
    }

    /// Loads them into a machine.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(&self, config: &VmConfig, vm: &mut Vm) -> Result<(), LoadError> {
        match (&config.rom, &self.rom) {
            (Some(path), Some(bytes)) => vm.load_rom(&File { path, bytes }),
            _ => vm.load(&self.image(config)),
        }
    }

    /// The image they make up; the embedded guest if there is no kernel.
    fn image<'a>(&'a self, config: &'a VmConfig) -> Image<'a> {
        let path = |p: &'a Option<std::path::PathBuf>| {
            p.as_deref().unwrap_or(Path::new("the embedded guest"))
        };
        Image {
            kernel: File {
                path: path(&config.kernel),
                bytes: self.kernel(),
            },
            initrd: self.initrd.as_deref().map(|bytes| File {
                path: path(&config.initrd),
                bytes,
            }),
            cmdline: &config.append,
            flat: config.flat,
            acpi_rsdp: acpi::RSDP_ADDRESS,
        }
    }
}

/// Builds a machine without an image; `console` makes its console.
///
/// # Errors
/// What the host refuses.
pub fn machine(
    config: &VmConfig,
    console: impl FnOnce(Arc<Waker>) -> anyhow::Result<ConsoleAndQuit>,
) -> anyhow::Result<Vm> {
    let builder = Builder::new(config.clone());
    let (console, quit) = console(builder.waker())?;
    builder.console(console).quit_flag(quit).build_empty()
}

/// A console without input whose output goes nowhere.
pub fn silent_console() -> ConsoleAndQuit {
    (Box::new(BufferConsole::new(&[]).0), QuitFlag::default())
}
