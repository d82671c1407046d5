//! Tests of the loaders, with images made here byte by byte.

mod elf32;
mod flat;
mod hostile;
mod linux;
mod multiboot;

use std::path::Path;

use super::*;

const MIB: usize = 1 << 20;

/// Guest RAM that is a vector.
struct FakeRam(Vec<u8>);

impl FakeRam {
    fn new(mib: usize) -> Self {
        FakeRam(vec![0; mib * MIB])
    }

    fn bytes(&self, start: u32, len: usize) -> &[u8] {
        &self.0[start as usize..start as usize + len]
    }

    fn u32(&self, address: u32) -> u32 {
        u32::from_le_bytes(self.bytes(address, 4).try_into().unwrap())
    }

    fn u64(&self, address: u32) -> u64 {
        u64::from(self.u32(address)) | u64::from(self.u32(address + 4)) << 32
    }

    /// The zero-terminated text at `address`.
    fn text(&self, address: u32) -> &str {
        let rest = &self.0[address as usize..];
        let len = rest.iter().position(|byte| *byte == 0).unwrap();
        std::str::from_utf8(&rest[..len]).unwrap()
    }
}

impl Memory for FakeRam {
    fn ram_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn write(&mut self, phys: u64, bytes: &[u8]) -> Option<()> {
        let start = usize::try_from(phys).ok()?;
        self.0
            .get_mut(start..start.checked_add(bytes.len())?)?
            .copy_from_slice(bytes);
        Some(())
    }
}

fn image(kernel: &[u8]) -> Image<'_> {
    Image {
        kernel: file("kernel", kernel),
        initrd: None,
        cmdline: "",
        flat: None,
        acpi_rsdp: 0,
    }
}

fn file<'a>(name: &'a str, bytes: &'a [u8]) -> File<'a> {
    File {
        path: Path::new(name),
        bytes,
    }
}

/// Overwrites the little-endian words of `bytes` at the given offsets.
fn patch(bytes: &mut [u8], words: &[(usize, u32)]) {
    for (offset, value) in words {
        bytes[*offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The whole message of the error that loading `image` into `mib` MiB gives.
fn error(image: &Image, mib: usize) -> String {
    load(image, &mut FakeRam::new(mib)).unwrap_err().to_string()
}

/// The flat mode that every 32-bit protocol starts in.
const FLAT32: EntryMode = EntryMode::Flat32 {
    code_selector: 0x10,
    data_selector: 0x18,
    gdt_base: 0x800,
    gdt_limit: 31,
};

#[test]
fn the_gdt_in_memory_has_the_flat_segments() {
    let mut ram = FakeRam::new(2);
    load(&image(&elf32::sound()), &mut ram).unwrap();
    assert_eq!(ram.u64(0x810), 0x00CF_9A00_0000_FFFF);
    assert_eq!(ram.u64(0x818), 0x00CF_9200_0000_FFFF);
}

#[test]
fn files_that_are_no_kernel_are_named() {
    let message = |bytes: &[u8]| error(&image(bytes), 2);
    assert_eq!(message(b""), "kernel is empty");
    assert_eq!(
        message(b"\x1f\x8b\x08\0"),
        "kernel is gzip-compressed; unpack it first"
    );
    assert_eq!(
        message(b"070701000"),
        "kernel is a cpio archive, which is an initrd rather than a kernel"
    );
    assert_eq!(
        message(b"MZ\x90\0"),
        "kernel is a DOS, Windows or EFI program, not a kernel"
    );
    assert_eq!(
        message(b"hello"),
        "kernel is no bzImage, ELF, Multiboot or boot sector image (a flat binary needs --flat ADDRESS)"
    );
}

#[test]
fn an_empty_initrd_is_named_and_not_the_kernel() {
    let kernel = linux::sound();
    let image = Image {
        initrd: Some(file("initrd.gz", b"")),
        ..image(&kernel)
    };
    assert_eq!(error(&image, 64), "initrd.gz is empty");
}

#[test]
fn a_missing_file_is_named_with_the_reason() {
    let error = read_file(Path::new("no/such/kernel"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("no/such/kernel cannot be read: "),
        "{error}"
    );
    let error = read_file(Path::new("/")).unwrap_err().to_string();
    assert!(error.starts_with("/ cannot be read: "), "{error}");
}
