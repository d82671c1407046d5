//! Linux's bzImage, by the 32-bit boot protocol (kernel documentation, "The Linux/x86 Boot Protocol").
//!
//! The file is a real-mode part, which we never run, with the setup header at 0x1F1, then the 32-bit code,
//! which goes to `code32_start`. The guest enters there in flat protected mode with ESI at the "zero page":
//! the setup header, copied from the file and completed, in the midst of what a BIOS would have been asked
//! (memory map, screen). The screen stays all zero, which Linux takes for "no VGA".
//!
//! `linux-loader` gives the structures. Its reader is not used: it wants a guest memory type of its own,
//! takes missing bytes of the header as zero, and does not ask whether the kernel has room to unpack.

use linux_loader::loader::bootparam::{XLF_KERNEL_64, boot_e820_entry, boot_params, setup_header};
use vm_memory::ByteValued;

use super::bytes::{align_up, at, u16_at};
use super::place::{HIGH_RAM_START, LOW_RAM_END, Placement};
use super::{Entry, File, Image, LoadError, Problem, flat32_entry};

/// Where the zero page goes; the stack that the kernel does not need ends below it.
const ZERO_PAGE: u32 = 0x7000;
/// Where the command line goes.
const CMDLINE: u32 = 0x2_0000;
/// Longest command line before protocol 2.06.
const OLD_CMDLINE_LIMIT: u32 = 255;
/// Highest byte of an initrd before protocol 2.03.
const OLD_INITRD_MAX: u32 = 0x37FF_FFFF;

/// Offset of the setup header in the file and of its mark, "HdrS".
const HEADER: u64 = 0x1F1;
const MARK: u64 = 0x202;
const MARK_BYTES: &[u8] = b"HdrS";
/// The oldest protocol that knows `cmd_line_ptr`.
const OLDEST_PROTOCOL: u16 = 0x202;
/// `loadflags`: the 32-bit code goes to 1 MiB (a bzImage, not a zImage).
const LOADED_HIGH: u8 = 1;
/// `type_of_loader` of a loader without an assigned number.
const UNDEFINED_LOADER: u8 = 0xFF;

/// Types of e820 entries.
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// Whether `bytes` has a setup header.
pub(super) fn is_linux(bytes: &[u8]) -> bool {
    at(bytes, MARK, 4) == Some(MARK_BYTES)
}

/// Loads the kernel of `image`, a bzImage.
pub(super) fn load(image: &Image, placement: &mut Placement) -> Result<Entry, LoadError> {
    let path = image.kernel.path;
    let kernel = Kernel::parse(image.kernel.bytes).map_err(|problem| problem.of(path))?;
    let mut page = boot_params {
        hdr: kernel.header,
        ..Default::default()
    };
    page.hdr.type_of_loader = UNDEFINED_LOADER;
    let unpacked = kernel
        .place(placement)
        .map_err(|problem| problem.of(path))?;
    page.hdr.cmd_line_ptr = CMDLINE;
    kernel
        .place_cmdline(image.cmdline, placement)
        .map_err(|problem| problem.of(path))?;
    if let Some(initrd) = image.initrd {
        let start = kernel.place_initrd(initrd, unpacked, placement)?;
        page.hdr.ramdisk_image = start;
        page.hdr.ramdisk_size = initrd.bytes.len() as u32;
    }
    if kernel.at_least(0x20E) {
        page.acpi_rsdp_addr = u64::from(image.acpi_rsdp);
    }
    fill_e820(&mut page, placement.ram_bytes());
    placement
        .put("zero page", u64::from(ZERO_PAGE), page.as_slice())
        .map_err(|problem| problem.of(path))?;
    let eip = kernel.header.code32_start;
    flat32_entry(
        placement,
        path,
        eip,
        [0, 0, 0, 0, ZERO_PAGE, 0, ZERO_PAGE, 0],
    )
}

/// A bzImage taken apart: its header, zero where its protocol version has no field, and its 32-bit code.
struct Kernel<'a> {
    header: setup_header,
    code: &'a [u8],
}

impl<'a> Kernel<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Problem> {
        let size = bytes.len() as u64;
        let truncated = |part, needed| Problem::Truncated { part, needed, size };
        let version = u16_at(bytes, 0x206).ok_or(truncated("setup header", 0x208))?;
        if version < OLDEST_PROTOCOL {
            return Err(Problem::Unsupported(
                "a Linux kernel with a boot protocol before 2.02, which is too old",
            ));
        }
        let header = read_header(bytes)?;
        if header.loadflags & LOADED_HIGH == 0 {
            return Err(Problem::Unsupported("a Linux zImage; ring1 boots bzImages"));
        }
        if version >= 0x20C && header.xloadflags & XLF_KERNEL_64 != 0 {
            return Err(Problem::Unsupported(
                "a Linux kernel for x86-64, not for the 32-bit x86",
            ));
        }
        let setup_sectors = if header.setup_sects == 0 {
            4
        } else {
            u64::from(header.setup_sects)
        };
        let code_start = (setup_sectors + 1) * 512;
        let code_paragraphs = if version >= 0x204 {
            header.syssize
        } else {
            header.syssize & 0xFFFF
        };
        // The last paragraph need not be whole: memtest86+'s is not.
        let code_end = code_start + (16 * u64::from(code_paragraphs)).saturating_sub(15);
        if code_end > size || code_start >= size {
            return Err(truncated("32-bit code", code_end.max(code_start + 1)));
        }
        let code = at(bytes, code_start, size - code_start).unwrap_or_default();
        Ok(Kernel { header, code })
    }

    fn at_least(&self, version: u16) -> bool {
        self.header.version >= version
    }

    /// Puts the code in place and returns one past the end of what the kernel needs to unpack itself.
    fn place(&self, placement: &mut Placement) -> Result<u64, Problem> {
        let start = u64::from(self.header.code32_start);
        if start < HIGH_RAM_START {
            return Err(Problem::Malformed("its code32_start is below 1 MiB"));
        }
        let end = self.unpacked_end()?.max(start + self.code.len() as u64);
        if end > placement.ram_bytes() {
            let needed_mib = align_up(end, 1 << 20).unwrap_or(u64::MAX) >> 20;
            return Err(Problem::TooLittleMemory {
                needed_mib,
                have_mib: placement.ram_mib(),
            });
        }
        placement.put("32-bit code", start, self.code)?;
        Ok(end)
    }

    /// Where the unpacked kernel ends, by the documentation of `init_size`; 0 before protocol 2.10.
    fn unpacked_end(&self) -> Result<u64, Problem> {
        if !self.at_least(0x20A) {
            return Ok(0);
        }
        let preferred = self.header.pref_address;
        let runtime_start = if self.header.relocatable_kernel != 0 {
            let alignment = u64::from(self.header.kernel_alignment);
            if !alignment.is_power_of_two() {
                return Err(Problem::Malformed(
                    "its kernel_alignment is not a power of two",
                ));
            }
            let loaded = align_up(u64::from(self.header.code32_start), alignment);
            loaded.map_or(u64::MAX, |loaded| loaded.max(preferred))
        } else {
            preferred
        };
        Ok(runtime_start.saturating_add(u64::from(self.header.init_size)))
    }

    fn place_cmdline(&self, text: &str, placement: &mut Placement) -> Result<(), Problem> {
        let own_limit = if self.at_least(0x206) {
            self.header.cmdline_size
        } else {
            OLD_CMDLINE_LIMIT
        };
        let size = text.len() as u64;
        let limit = u64::from(own_limit).min(LOW_RAM_END - u64::from(CMDLINE) - 1);
        if size > limit {
            return Err(Problem::CommandLineTooLong { limit, size });
        }
        placement.put(
            "command line",
            u64::from(CMDLINE),
            &[text.as_bytes(), &[0]].concat(),
        )
    }

    /// Puts the initrd as high as RAM and the kernel's limit allow, clear of what the kernel unpacks.
    fn place_initrd(
        &self,
        initrd: File,
        unpacked: u64,
        placement: &mut Placement,
    ) -> Result<u32, LoadError> {
        let highest = if self.at_least(0x203) {
            self.header.initrd_addr_max
        } else {
            OLD_INITRD_MAX
        };
        let len = initrd.bytes.len() as u64;
        let start = placement
            .highest_start(len, u64::from(highest) + 1)
            .filter(|start| *start >= unpacked);
        let Some(start) = start.and_then(|start| u32::try_from(start).ok()) else {
            let (start, end) = (unpacked, unpacked.saturating_add(len));
            let why = format!(
                "below {:#x} that is too much",
                placement.ram_bytes().min(u64::from(highest) + 1)
            );
            return Err(Problem::OutOfMemory {
                part: "content, placed after the kernel,",
                start,
                end,
                why,
            }
            .of(initrd.path));
        };
        placement
            .put("initrd", u64::from(start), initrd.bytes)
            .map_err(|problem| problem.of(initrd.path))?;
        Ok(start)
    }
}

/// Copies the setup header, which ends where its jump instruction's displacement says, into the full form.
fn read_header(bytes: &[u8]) -> Result<setup_header, Problem> {
    let size = bytes.len() as u64;
    let jump_displacement = at(bytes, MARK - 1, 1).map_or(0, |byte| u64::from(byte[0]));
    let end = (MARK + jump_displacement).min(HEADER + size_of::<setup_header>() as u64);
    let source = at(bytes, HEADER, end - HEADER);
    let source = source.ok_or(Problem::Truncated {
        part: "setup header",
        needed: end,
        size,
    })?;
    let mut header = setup_header::default();
    if let Some(target) = header.as_mut_slice().get_mut(..source.len()) {
        target.copy_from_slice(source);
    }
    Ok(header)
}

/// The memory map: RAM below the hole and above it; the hole and the last KiB before it are reserved.
fn fill_e820(page: &mut boot_params, ram_bytes: u64) {
    let ranges = [
        (0, LOW_RAM_END, E820_RAM),
        (LOW_RAM_END, HIGH_RAM_START, E820_RESERVED),
        (HIGH_RAM_START, ram_bytes, E820_RAM),
    ];
    let mut entries = 0;
    for (start, end, kind) in ranges.into_iter().filter(|(start, end, _)| start < end) {
        page.e820_table[entries] = boot_e820_entry {
            addr: start,
            size: end - start,
            r#type: kind,
        };
        entries += 1;
    }
    page.e820_entries = entries as u8;
}
