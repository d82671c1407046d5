//! Loaders: from the bytes of a kernel file to guest memory and the registers of the first instruction.
//!
//! Four formats, tried in this order: Multiboot 1 (a header in the first 8 KiB, of an ELF file or of
//! anything else), ELF32, Linux's bzImage, and the flat binary, which has no mark of its own and is taken
//! only when it is asked for or when the file is one sector with the boot signature. An explicit request
//! for flat wins over every mark.
//!
//! Every format ends in an [`Entry`]: registers, and either real mode or the flat 32-bit protected mode
//! that both Linux's and Multiboot's protocols ask for (paging and interrupts off, 4 GiB segments).
//!
//! Two rules keep hostile images harmless. Bytes of the file are reached through checked readers only
//! ([`bytes`]), and guest addresses through [`Placement`], which knows RAM, the hole below 1 MiB, and what
//! has been put where. Guest RAM is taken to be zero before the first write, so a `.bss` is only claimed.

mod bytes;
mod elf32;
mod error;
mod flat;
mod linux;
mod multiboot;
mod place;

use std::io::Read;
use std::path::Path;

pub use error::{LoadError, Problem};
pub use flat::{FlatMode, FlatOptions};
use place::Placement;

/// `__BOOT_CS` of the Linux boot protocol: flat 32-bit code, readable.
pub const BOOT_CS: u16 = 0x10;
/// `__BOOT_DS` of the Linux boot protocol: flat 32-bit data, writable.
pub const BOOT_DS: u16 = 0x18;

/// Where the boot GDT lies.
const GDT_BASE: u32 = 0x800;
/// The boot GDT (SDM volume 3, "Segment Descriptors"): null, unused, flat code, flat data.
const GDT: [u64; 4] = [0, 0, 0x00CF_9A00_0000_FFFF, 0x00CF_9200_0000_FFFF];
/// Size of the boot GDT.
const GDT_BYTES: u16 = 32;

/// Longest file that is read at all: no guest has more memory.
const FILE_LIMIT: u64 = 3 << 30;

/// Guest physical memory, as far as loading goes.
pub trait Memory {
    /// Size of RAM in bytes. RAM starts at 0 and is contiguous but for the hole at 0xA0000–0xFFFFF.
    fn ram_bytes(&self) -> u64;

    /// Copies `bytes` to physical address `phys`; `None` if any of it is not RAM.
    fn write(&mut self, phys: u64, bytes: &[u8]) -> Option<()>;
}

/// A file's content with the name that errors give it.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// The path as the user wrote it.
    pub path: &'a Path,
    /// The content.
    pub bytes: &'a [u8],
}

/// Everything that makes up a bootable guest.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The kernel, of any format.
    pub kernel: File<'a>,
    /// The initial RAM disk; for Multiboot the first module.
    pub initrd: Option<File<'a>>,
    /// The kernel command line; empty if there is none.
    pub cmdline: &'a str,
    /// Set to have the kernel taken as a flat binary whatever it looks like.
    pub flat: Option<FlatOptions>,
    /// Physical address of the ACPI RSDP; 0 if there is none.
    pub acpi_rsdp: u32,
}

/// The state in which the guest's first instruction finds the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first instruction: a linear address in flat mode, an offset from CS in real mode.
    pub eip: u32,
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub gpr: [u32; 8],
    /// The processor's mode and what goes with it.
    pub mode: EntryMode,
}

/// The processor's mode at the first instruction; interrupts are off in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryMode {
    /// Real mode; DS, ES and SS are 0.
    Real {
        /// The code segment's selector, a sixteenth of its base.
        cs: u16,
    },
    /// Protected mode, paging off, every segment flat: base 0, limit 4 GiB, 32-bit, ring 0.
    Flat32 {
        /// The selector in CS.
        code_selector: u16,
        /// The selector in DS, ES, FS, GS and SS.
        data_selector: u16,
        /// Where the GDT lies that holds both.
        gdt_base: u32,
        /// The GDT's limit: its size less one.
        gdt_limit: u16,
    },
}

/// Puts `image` into guest memory.
///
/// # Errors
/// A [`LoadError`] if a file is not what it should be or does not fit; guest memory is then part-written.
pub fn load(image: &Image, memory: &mut dyn Memory) -> Result<Entry, LoadError> {
    let kernel = image.kernel;
    if let Some(empty) = [Some(kernel), image.initrd]
        .into_iter()
        .flatten()
        .find(|file| file.bytes.is_empty())
    {
        return Err(Problem::Empty.of(empty.path));
    }
    let mut placement = Placement::new(memory);
    if let Some(options) = image.flat {
        return flat::load(image, options, &mut placement);
    }
    if let Some(header) = multiboot::find_header(kernel.bytes) {
        return multiboot::load(image, header, &mut placement);
    }
    if elf32::is_elf(kernel.bytes) {
        return elf32::load(image, &mut placement);
    }
    if linux::is_linux(kernel.bytes) {
        return linux::load(image, &mut placement);
    }
    if flat::is_boot_sector(kernel.bytes) {
        return flat::load(image, FlatOptions::default(), &mut placement);
    }
    Err(known_but_unsupported(kernel.bytes).of(kernel.path))
}

/// Reads a whole file.
///
/// # Errors
/// [`Problem::Unreadable`] with the host's reason, or [`Problem::Huge`].
pub fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    read_open(&open(path)?, path)
}

/// Opens a file to read it.
///
/// # Errors
/// [`Problem::Unreadable`] with the host's reason.
pub(crate) fn open(path: &Path) -> Result<std::fs::File, LoadError> {
    let unreadable = |error: std::io::Error| Problem::Unreadable(error.to_string()).of(path);
    std::fs::File::open(path).map_err(unreadable)
}

/// Reads a file that is open, from where it is read next.
///
/// # Errors
/// It cannot be read, or is larger than any image.
pub(crate) fn read_open(file: &std::fs::File, path: &Path) -> Result<Vec<u8>, LoadError> {
    let unreadable = |error: std::io::Error| Problem::Unreadable(error.to_string()).of(path);
    let expected = file.metadata().map_or(0, |m| m.len()).min(FILE_LIMIT);
    let mut bytes = Vec::with_capacity(expected as usize);
    file.take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let size = bytes.len() as u64;
    if size > FILE_LIMIT {
        return Err(Problem::Huge {
            size: std::fs::metadata(path).map_or(size, |m| m.len()),
        }
        .of(path));
    }
    Ok(bytes)
}

/// Marks of files that people hand to boot loaders by mistake: offset, mark, what it is.
const KNOWN_MARKS: [(usize, &[u8], &str); 9] = [
    (0, b"\x1f\x8b", "gzip-compressed; unpack it first"),
    (0, b"\xfd7zXZ\0", "xz-compressed; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it first"),
    (
        0,
        b"!<arch>\n",
        "a Debian package or an archive, not a kernel; unpack it first",
    ),
    (
        0,
        b"070701",
        "a cpio archive, which is an initrd rather than a kernel",
    ),
    (
        0x38,
        b"ARM\x64",
        "a Linux kernel for 64-bit Arm, not for the 32-bit x86",
    ),
    (0x8001, b"CD001", "a CD-ROM image, not a kernel"),
    (0, b"MZ", "a DOS, Windows or EFI program, not a kernel"),
    (0, b"#!", "a script, not a kernel"),
];

/// The most helpful thing to say about a file that no loader wants.
fn known_but_unsupported(bytes: &[u8]) -> Problem {
    if multiboot::is_multiboot2(bytes) {
        return Problem::Unsupported("a Multiboot 2 image; ring1 boots Multiboot 1");
    }
    KNOWN_MARKS
        .iter()
        .find(|(offset, mark, _)| bytes::at(bytes, *offset as u64, mark.len() as u64) == Some(mark))
        .map_or(Problem::Unrecognised, |(_, _, what)| {
            Problem::Unsupported(what)
        })
}

/// Writes the boot GDT and returns the flat 32-bit entry at `eip` with `gpr`.
fn flat32_entry(
    placement: &mut Placement,
    path: &Path,
    eip: u32,
    gpr: [u32; 8],
) -> Result<Entry, LoadError> {
    let table: Vec<u8> = GDT
        .iter()
        .flat_map(|descriptor| descriptor.to_le_bytes())
        .collect();
    placement
        .put("boot GDT", u64::from(GDT_BASE), &table)
        .map_err(|problem| problem.of(path))?;
    let mode = EntryMode::Flat32 {
        code_selector: BOOT_CS,
        data_selector: BOOT_DS,
        gdt_base: GDT_BASE,
        gdt_limit: GDT_BYTES - 1,
    };
    Ok(Entry { eip, gpr, mode })
}

/// Refuses what a format without a boot protocol would silently lose.
fn refuse_extras(image: &Image, format: &'static str) -> Result<(), LoadError> {
    let what = if image.initrd.is_some() {
        "an initrd"
    } else if !image.cmdline.is_empty() {
        "a command line"
    } else {
        return Ok(());
    };
    Err(Problem::NoProtocolFor { format, what }.of(image.kernel.path))
}

#[cfg(test)]
mod tests;
