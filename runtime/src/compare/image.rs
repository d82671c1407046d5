//! Files without a place: the guest and the program that ring1 carries, for other
//! processes to run, without a trace on any disk.
//!
//! The descriptor is inherited by every process that ring1 starts, which therefore
//! can open, or execute, what `/proc/self/fd` has by its number.

use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// A file in memory that children can open.
pub struct Image(File);

impl Image {
    /// A file with these bytes; `name` is for those who list open files.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(name: &str, bytes: &[u8]) -> io::Result<Self> {
        let mut file = File::from(memfd_create(name, MemfdFlags::empty())?);
        file.write_all(bytes)?;
        Ok(Self(file))
    }

    /// Where children find it, while this exists.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_child_can_read_it() {
        let image = Image::new("words", b"some words").unwrap();
        let output = Command::new("cat").arg(image.path()).output().unwrap();
        assert_eq!(output.stdout, b"some words");
    }
}
