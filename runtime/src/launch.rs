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
use std::io::Seek;
use std::path::Path;
use std::sync::Arc;

/// A console and the flag by which its user quits.
pub type ConsoleAndQuit = (Box<dyn Console>, QuitFlag);

/// The files of a configuration, read.
#[derive(Default)]
pub struct Files {
    rom: Content,
    pub(crate) kernel: Content,
    pub(crate) initrd: Content,
}

/// The bytes of one of them. A machine's memory has them, too; only a reset needs them
/// once more, so what can be read again is not kept.
#[derive(Default)]
pub(crate) struct Content {
    bytes: Option<Vec<u8>>,
    /// Where they were read, if they can be again.
    file: Option<std::fs::File>,
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        let bytes = Some(bytes);
        Self { bytes, file: None }
    }
}

impl Content {
    fn get(&self) -> Option<&[u8]> {
        self.bytes.as_deref()
    }

    fn read_if_missing(&mut self, path: &Path) -> Result<(), LoadError> {
        if self.bytes.is_some() {
            return Ok(());
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => loader::open(path)?,
        };
        // What cannot be rewound, a pipe, is at its start.
        let again = file.rewind().is_ok();
        self.bytes = Some(loader::read_open(&file, path)?);
        self.file = again.then_some(file);
        Ok(())
    }

    fn forget(&mut self) {
        if self.file.is_some() {
            self.bytes = None;
        }
    }
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
        for (path, content) in [
            (&config.rom, &mut self.rom),
            (&config.kernel, &mut self.kernel),
            (&config.initrd, &mut self.initrd),
        ] {
            if let Some(path) = path {
                content.read_if_missing(path)?;
            }
        }
        Ok(())
    }

    /// Forgets the bytes that [`Files::read_missing`] can read again.
    pub(crate) fn forget(&mut self) {
        let all = [&mut self.rom, &mut self.kernel, &mut self.initrd];
        all.into_iter().for_each(Content::forget);
    }

    /// The kernel's file, or the embedded guest's.
    pub fn kernel(&self) -> &[u8] {
        self.kernel.get().unwrap_or(embedded::IMAGE)
    }

    /// The machine and its files, in a few words.
    pub fn describe(&self, config: &VmConfig) -> String {
        let files = [
            ("kernel", &self.kernel),
            ("initrd", &self.initrd),
            ("ROM", &self.rom),
        ];
        let there = files.iter().filter_map(|(name, file)| {
            let bytes = file.get()?.len() as u64;
            Some(format!(", {name} {}", progress::size(bytes)))
        });
        progress::size(config.memory_bytes()) + &there.collect::<String>()
    }

    /// Loads them into a machine.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(&self, config: &VmConfig, vm: &mut Vm) -> Result<(), LoadError> {
        match (&config.rom, self.rom.get()) {
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
            initrd: self.initrd.get().map(|bytes| File {
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
