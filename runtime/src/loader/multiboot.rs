//! Multiboot 1 (Multiboot Specification, version 0.6.96).
//!
//! The kernel carries a header, 4-byte aligned, in its first 8 KiB. Flag bit 16 says that the header gives
//! the load addresses; otherwise the file must be ELF. The guest starts in flat protected mode with
//! EAX = 0x2BADB002 and EBX at the information structure, which here lies with all that it points to
//! between 0x1000 and 0x7000. The initrd is module 0 and follows the kernel on the next page.

use super::bytes::{align_up, at, u32_at};
use super::elf32;
use super::place::{HIGH_RAM_START, LOW_RAM_END, PAGE_BYTES, Placement};
use super::{Entry, File, Image, LoadError, Problem, flat32_entry};

const HEADER_MAGIC: u32 = 0x1BAD_B002;
const HEADER_MAGIC_2: u32 = 0xE852_50D6;
const LOADER_MAGIC: u32 = 0x2BAD_B002;
/// The header lies in this many bytes, aligned to 4 (to 8, in 32 KiB, for Multiboot 2).
const SEARCH_BYTES: u64 = 8192;
const SEARCH_BYTES_2: u64 = 32768;

/// Header flags: requirements are bits 0–15. Pages and memory information every guest gets.
const WANTS_VIDEO_MODE: u32 = 1 << 2;
const KNOWN_REQUIREMENTS: u32 = 0b111;
const HAS_ADDRESSES: u32 = 1 << 16;

/// Information flags: which fields hold something.
const INFO_MEMORY: u32 = 1 << 0;
const INFO_CMDLINE: u32 = 1 << 2;
const INFO_MODULES: u32 = 1 << 3;
const INFO_MEMORY_MAP: u32 = 1 << 6;
const INFO_LOADER_NAME: u32 = 1 << 9;

/// The information structure and what it points to.
const INFO: u32 = 0x1000;
const MEMORY_MAP: u32 = 0x1100;
const MODULE_LIST: u32 = 0x1200;
const LOADER_NAME: u32 = 0x1300;
const MODULE_NAME: u32 = 0x1400;
const CMDLINE: u32 = 0x2000;
const CMDLINE_LIMIT: u64 = 0x4FFF;
const MODULE_NAME_LIMIT: usize = 0xBFF;

/// Types of memory map entries.
const MAP_RAM: u32 = 1;
const MAP_RESERVED: u32 = 2;

/// A Multiboot header: where it is, its flags, and its five address fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    offset: u64,
    flags: u32,
    header_addr: u32,
    load_addr: u32,
    load_end_addr: u32,
    bss_end_addr: u32,
    entry_addr: u32,
}

/// The first header with a right checksum.
pub(super) fn find_header(bytes: &[u8]) -> Option<Header> {
    let last = (bytes.len() as u64).min(SEARCH_BYTES).checked_sub(12)?;
    (0..=last).step_by(4).find_map(|offset| {
        let word = |index: u64| u32_at(bytes, offset + 4 * index);
        let (magic, flags, checksum) = (word(0)?, word(1)?, word(2)?);
        if magic != HEADER_MAGIC || magic.wrapping_add(flags).wrapping_add(checksum) != 0 {
            return None;
        }
        let address = |index| word(index).unwrap_or(0);
        Some(Header {
            offset,
            flags,
            header_addr: address(3),
            load_addr: address(4),
            load_end_addr: address(5),
            bss_end_addr: address(6),
            entry_addr: address(7),
        })
    })
}

/// Whether `bytes` has a Multiboot 2 header.
pub(super) fn is_multiboot2(bytes: &[u8]) -> bool {
    (0..SEARCH_BYTES_2).step_by(8).any(|offset| {
        let word = |index: u64| u32_at(bytes, offset + 4 * index);
        let sum = |a: u32, b: u32| a.wrapping_add(b);
        let words = (word(0), word(1), word(2), word(3));
        matches!(words, (Some(HEADER_MAGIC_2), Some(b), Some(c), Some(d))
            if sum(sum(HEADER_MAGIC_2, b), sum(c, d)) == 0)
    })
}

/// Loads the kernel of `image`, whose header is `header`.
pub(super) fn load(
    image: &Image,
    header: Header,
    placement: &mut Placement,
) -> Result<Entry, LoadError> {
    let kernel = image.kernel;
    let eip =
        load_kernel(kernel.bytes, header, placement).map_err(|problem| problem.of(kernel.path))?;
    let mut info = Info::new(placement);
    info.cmdline(image.cmdline, placement)
        .map_err(|problem| problem.of(kernel.path))?;
    if let Some(initrd) = image.initrd {
        info.module(initrd, placement)
            .map_err(|problem| problem.of(initrd.path))?;
    }
    info.finish(placement)
        .map_err(|problem| problem.of(kernel.path))?;
    flat32_entry(
        placement,
        kernel.path,
        eip,
        [LOADER_MAGIC, 0, 0, INFO, 0, 0, 0, 0],
    )
}

fn load_kernel(bytes: &[u8], header: Header, placement: &mut Placement) -> Result<u32, Problem> {
    if header.flags & 0xFFFF & !KNOWN_REQUIREMENTS != 0 {
        return Err(Problem::Unsupported(
            "a Multiboot image that requires features unknown to Multiboot 0.6.96",
        ));
    }
    if header.flags & WANTS_VIDEO_MODE != 0 {
        return Err(Problem::Unsupported(
            "a Multiboot image that requires a video mode, which ring1 does not have",
        ));
    }
    if header.flags & HAS_ADDRESSES != 0 {
        load_by_addresses(bytes, header, placement)
    } else if elf32::is_elf(bytes) {
        elf32::load_segments(bytes, placement)
    } else {
        Err(Problem::Malformed(
            "its Multiboot header gives no load address, and the file is not ELF",
        ))
    }
}

/// Loads as the header's address fields say ("The address fields of Multiboot header").
fn load_by_addresses(
    bytes: &[u8],
    header: Header,
    placement: &mut Placement,
) -> Result<u32, Problem> {
    let size = bytes.len() as u64;
    let fields_end = header.offset + 32;
    if fields_end > size {
        return Err(Problem::Truncated {
            part: "Multiboot header",
            needed: fields_end,
            size,
        });
    }
    let start = u64::from(header.load_addr);
    let file_start = u64::from(header.header_addr)
        .checked_sub(start)
        .and_then(|before_header| header.offset.checked_sub(before_header))
        .ok_or(Problem::Malformed(
            "its Multiboot load address lies outside the file",
        ))?;
    let len = match u64::from(header.load_end_addr) {
        0 => size - file_start,
        end => end.checked_sub(start).ok_or(Problem::Malformed(
            "its Multiboot load_end_addr is below load_addr",
        ))?,
    };
    let needed = file_start + len;
    let content = at(bytes, file_start, len).ok_or(Problem::Truncated {
        part: "Multiboot load area",
        needed,
        size,
    })?;
    let memory_len = match u64::from(header.bss_end_addr) {
        0 => len,
        end => (end
            .checked_sub(start)
            .filter(|memory_len| *memory_len >= len))
        .ok_or(Problem::Malformed(
            "its Multiboot bss_end_addr is below the end of the loaded bytes",
        ))?,
    };
    let entry = u64::from(header.entry_addr);
    if !(start..start + memory_len).contains(&entry) {
        return Err(Problem::Malformed(
            "its Multiboot entry_addr lies outside the loaded area",
        ));
    }
    placement.claim("load area", start, memory_len)?;
    placement.fill("load area", start, content)?;
    Ok(header.entry_addr)
}

/// The information structure in the making: the fields that we fill, at their offsets from `INFO`.
struct Info {
    flags: u32,
    /// (offset, value) of each field.
    fields: Vec<(u32, u32)>,
}

impl Info {
    fn new(placement: &Placement) -> Info {
        let high_bytes = placement.ram_bytes().saturating_sub(HIGH_RAM_START);
        let kib = |bytes: u64| u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        Info {
            flags: INFO_MEMORY,
            fields: vec![(4, kib(LOW_RAM_END)), (8, kib(high_bytes))],
        }
    }

    fn set(&mut self, flag: u32, fields: &[(u32, u32)]) {
        self.flags |= flag;
        self.fields.extend_from_slice(fields);
    }

    fn cmdline(&mut self, text: &str, placement: &mut Placement) -> Result<(), Problem> {
        let size = text.len() as u64;
        if size > CMDLINE_LIMIT {
            return Err(Problem::CommandLineTooLong {
                limit: CMDLINE_LIMIT,
                size,
            });
        }
        placement.put(
            "command line",
            u64::from(CMDLINE),
            &zero_terminated(text.as_bytes()),
        )?;
        self.set(INFO_CMDLINE, &[(16, CMDLINE)]);
        Ok(())
    }

    fn module(&mut self, file: File, placement: &mut Placement) -> Result<(), Problem> {
        let len = file.bytes.len() as u64;
        let start = align_up(placement.high_end(), PAGE_BYTES).unwrap_or(u64::MAX);
        placement.put("module", start, file.bytes)?;
        let name = file
            .path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let name = name
            .as_bytes()
            .get(..MODULE_NAME_LIMIT)
            .unwrap_or(name.as_bytes());
        placement.put(
            "module name",
            u64::from(MODULE_NAME),
            &zero_terminated(name),
        )?;
        // mod_start, mod_end (one past the last byte), string, reserved. The claim bounds both by guest RAM.
        let entry = [start as u32, (start + len) as u32, MODULE_NAME, 0];
        placement.put("module list", u64::from(MODULE_LIST), &words(&entry))?;
        self.set(INFO_MODULES, &[(20, 1), (24, MODULE_LIST)]);
        Ok(())
    }

    fn finish(mut self, placement: &mut Placement) -> Result<(), Problem> {
        let map = memory_map(placement.ram_bytes());
        placement.put("memory map", u64::from(MEMORY_MAP), &map)?;
        self.set(INFO_MEMORY_MAP, &[(44, map.len() as u32), (48, MEMORY_MAP)]);
        placement.put(
            "loader name",
            u64::from(LOADER_NAME),
            &zero_terminated(b"ring1"),
        )?;
        self.set(INFO_LOADER_NAME, &[(64, LOADER_NAME)]);
        let mut structure = [0u32; 29];
        self.fields.push((0, self.flags));
        for (offset, value) in &self.fields {
            structure[(offset / 4) as usize] = *value;
        }
        placement.put("Multiboot information", u64::from(INFO), &words(&structure))
    }
}

/// The memory map: each entry is its size less the size field, base, length, type.
fn memory_map(ram_bytes: u64) -> Vec<u8> {
    let ranges = [
        (0, LOW_RAM_END, MAP_RAM),
        (LOW_RAM_END, HIGH_RAM_START, MAP_RESERVED),
        (HIGH_RAM_START, ram_bytes, MAP_RAM),
    ];
    let mut map = Vec::new();
    for (start, end, kind) in ranges.into_iter().filter(|(start, end, _)| start < end) {
        map.extend_from_slice(&20u32.to_le_bytes());
        map.extend_from_slice(&start.to_le_bytes());
        map.extend_from_slice(&(end - start).to_le_bytes());
        map.extend_from_slice(&kind.to_le_bytes());
    }
    map
}

fn words(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn zero_terminated(text: &[u8]) -> Vec<u8> {
    [text, &[0]].concat()
}
