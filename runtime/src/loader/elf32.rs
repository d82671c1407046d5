//! ELF32 static executables for the 32-bit x86.
//!
//! `PT_LOAD` segments go to their *physical* addresses, since paging is off at entry; a kernel linked high
//! and loaded low says so by `p_paddr`. The entry point is usually a linked (virtual) address: it is
//! translated through the segment that holds it, and taken as physical if none does, as Linux's own
//! `vmlinux` wants. There is no boot protocol: every general register is 0, and ESP is for the guest to set.
//!
//! The headers are parsed by the `object` crate; what it cannot know, guest RAM, is checked here.

use object::LittleEndian;
use object::elf::{self, FileHeader32, ProgramHeader32};
use object::read::elf::FileHeader as _;

use super::bytes::{at, u16_at};
use super::place::Placement;
use super::{Entry, Image, LoadError, Problem, flat32_entry, refuse_extras};

const E: LittleEndian = LittleEndian;

/// `e_machine` of the usual suspects.
const MACHINES: [(u16, &str); 7] = [
    (8, "MIPS"),
    (20, "the 32-bit PowerPC"),
    (21, "the 64-bit PowerPC"),
    (40, "32-bit Arm"),
    (62, "x86-64"),
    (183, "64-bit Arm"),
    (243, "RISC-V"),
];

/// Whether `bytes` bears ELF's mark.
pub(super) fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(&elf::ELFMAG)
}

/// Loads the kernel of `image`, an ELF file without a boot protocol.
pub(super) fn load(image: &Image, placement: &mut Placement) -> Result<Entry, LoadError> {
    refuse_extras(image, "a plain ELF executable")?;
    let kernel = image.kernel;
    let eip = load_segments(kernel.bytes, placement).map_err(|problem| problem.of(kernel.path))?;
    flat32_entry(placement, kernel.path, eip, [0; 8])
}

/// Loads every segment and returns the physical entry point.
pub(super) fn load_segments(bytes: &[u8], placement: &mut Placement) -> Result<u32, Problem> {
    check_identity(bytes)?;
    let header = FileHeader32::<LittleEndian>::parse(bytes).map_err(|_| {
        truncated(
            "ELF header",
            size_of::<FileHeader32<LittleEndian>>() as u64,
            bytes,
        )
    })?;
    check_type(header.e_type(E))?;
    let table_end = u64::from(header.e_phoff(E)) + 32 * u64::from(header.e_phnum(E));
    let segments =
        header
            .program_headers(E, bytes)
            .map_err(|_| match table_end > bytes.len() as u64 {
                true => truncated("program header table", table_end, bytes),
                false => Problem::Malformed("its program header table cannot be read"),
            })?;
    if segments
        .iter()
        .any(|segment| segment.p_type.get(E) == elf::PT_INTERP)
    {
        return Err(Problem::Unsupported(
            "dynamically linked, not a static executable",
        ));
    }
    let mut loaded = false;
    for segment in segments
        .iter()
        .filter(|segment| segment.p_type.get(E) == elf::PT_LOAD)
    {
        load_segment(bytes, segment, placement)?;
        loaded = true;
    }
    if !loaded {
        return Err(Problem::Malformed("it has no segment to load"));
    }
    physical_entry(header.e_entry(E), segments)
}

/// Class, byte order and machine, in the order in which a wrong file is best named.
fn check_identity(bytes: &[u8]) -> Result<(), Problem> {
    let ident = at(bytes, 0, 20).ok_or_else(|| truncated("ELF header", 52, bytes))?;
    let (class, data) = (ident[4], ident[5]);
    if data != elf::ELFDATA2LSB.0 {
        return Err(Problem::Unsupported(
            "a big-endian ELF file, not for the 32-bit x86",
        ));
    }
    let machine = u16_at(bytes, 18).unwrap_or(0);
    if machine != elf::EM_386.0 {
        let name = MACHINES
            .iter()
            .find(|(number, _)| *number == machine)
            .map(|(_, name)| name.to_string());
        return Err(Problem::WrongMachine {
            machine: name.unwrap_or_else(|| format!("machine {machine}")),
        });
    }
    if class != elf::ELFCLASS32.0 {
        return Err(Problem::Unsupported(
            "a 64-bit ELF file, not for the 32-bit x86",
        ));
    }
    Ok(())
}

fn check_type(kind: elf::FileType) -> Result<(), Problem> {
    match kind {
        elf::ET_EXEC => Ok(()),
        elf::ET_DYN => Err(Problem::Unsupported(
            "a shared object or position-independent, not a static executable",
        )),
        elf::ET_REL => Err(Problem::Unsupported(
            "an object file that has not been linked",
        )),
        elf::ET_CORE => Err(Problem::Unsupported("a core dump, not a kernel")),
        _ => Err(Problem::Unsupported("not an executable ELF file")),
    }
}

fn load_segment(
    bytes: &[u8],
    segment: &ProgramHeader32<LittleEndian>,
    placement: &mut Placement,
) -> Result<(), Problem> {
    let (offset, file_size) = (
        u64::from(segment.p_offset.get(E)),
        u64::from(segment.p_filesz.get(E)),
    );
    let (start, memory_size) = (
        u64::from(segment.p_paddr.get(E)),
        u64::from(segment.p_memsz.get(E)),
    );
    if file_size > memory_size {
        return Err(Problem::Malformed(
            "a segment has more bytes in the file than in memory",
        ));
    }
    let content = at(bytes, offset, file_size)
        .ok_or_else(|| truncated("segment", offset + file_size, bytes))?;
    placement.claim("segment", start, memory_size)?;
    placement.fill("segment", start, content)
}

/// The entry point as a physical address.
fn physical_entry(entry: u32, segments: &[ProgramHeader32<LittleEndian>]) -> Result<u32, Problem> {
    let loaded = || {
        segments
            .iter()
            .filter(|segment| segment.p_type.get(E) == elf::PT_LOAD)
    };
    let offset_in = |start: u32, segment: &ProgramHeader32<LittleEndian>| {
        entry
            .checked_sub(start)
            .filter(|offset| *offset < segment.p_memsz.get(E))
    };
    let linked = loaded().find_map(|segment| {
        let offset = offset_in(segment.p_vaddr.get(E), segment)?;
        segment.p_paddr.get(E).checked_add(offset)
    });
    let physical = || {
        loaded()
            .any(|segment| offset_in(segment.p_paddr.get(E), segment).is_some())
            .then_some(entry)
    };
    linked.or_else(physical).ok_or(Problem::Malformed(
        "its entry point is in none of its segments",
    ))
}

fn truncated(part: &'static str, needed: u64, bytes: &[u8]) -> Problem {
    Problem::Truncated {
        part,
        needed,
        size: bytes.len() as u64,
    }
}
