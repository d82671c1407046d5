//! An archive that the Linux kernel unpacks beside another initramfs: cpio in its
//! "newc" form (kernel documentation, "initramfs buffer format").

/// Type and rights of a directory, and of a file that may be executed.
const DIRECTORY: u32 = 0o40755;
const FILE: u32 = 0o100_755;

/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive under construction.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// An archive that follows `first`, another one, perhaps compressed.
    pub fn after(first: &[u8]) -> Self {
        let mut archive = Archive {
            bytes: first.to_vec(),
            entries: 0,
        };
        archive.align();
        archive
    }

    /// Adds a directory.
    #[must_use]
    pub fn directory(mut self, name: &str) -> Self {
        self.entry(name, DIRECTORY, &[]);
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, name: &str, content: &[u8]) -> Self {
        self.entry(name, FILE, content);
        self
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let (size, name_size) = (content.len() as u32, name.len() as u32 + 1);
        // Inode, mode, owner, group, links, time, size, two device numbers of
        // two parts each, size of the name, checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        let aligned = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(aligned, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_the_trailer_is_last() {
        let bytes = Archive::after(b"x").file("run", b"hello").finish();
        assert_eq!(&bytes[..10], b"x\0\0\x00070701");
        assert_eq!(&bytes[4 + 110..4 + 120], b"run\0\0\0hell");
        let trailer = bytes.len() - 124;
        assert_eq!(trailer % 4, 0);
        assert_eq!(&bytes[trailer..trailer + 6], b"070701");
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
    }
}
