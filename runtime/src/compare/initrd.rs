//! An initial RAM disk with our program in it.
//!
//! Linux unpacks what the loader hands it as one archive after another, each
//! compressed or not, with zeros between them (`Documentation/driver-api/early-userspace/buffer-format.rst`
//! of its source). So a program is added to any initramfs by appending a second
//! archive, in cpio's "newc" form, and the kernel starts it if `rdinit=` names it.

/// Where the guest finds the program.
pub const PROGRAM: &str = "ring1-compare";

/// Archives begin, and their parts are padded, at multiples of this.
const ALIGNMENT: usize = 4;
/// A regular file that everyone may run.
const EXECUTABLE: u32 = 0o100_755;
const TRAILER: &str = "TRAILER!!!";

/// `initrd`, which may be empty, and behind it an archive with `program`.
pub fn with_program(mut initrd: Vec<u8>, program: &[u8]) -> Vec<u8> {
    pad(&mut initrd);
    // Headers, names and padding come to less than this.
    initrd.reserve(program.len() + 512);
    entry(&mut initrd, PROGRAM, EXECUTABLE, program);
    entry(&mut initrd, TRAILER, 0, &[]);
    initrd
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(ALIGNMENT), 0);
}

/// A file of the archive: a header of hexadecimal numbers, the name, the bytes.
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, bytes: &[u8]) {
    let (size, name_size) = (bytes.len() as u32, name.len() as u32 + 1);
    // Inode, mode, owner, group, links, time, size, device ×2, its own ×2, name, check.
    let fields = [1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    archive.extend(b"070701");
    for field in fields {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(name.bytes());
    archive.push(0);
    pad(archive);
    archive.extend(bytes);
    pad(archive);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn parts_begin_at_multiples_of_four() {
        let archive = with_program(b"12345".to_vec(), b"program");
        assert_eq!(&archive[..14], b"12345\0\0\x00070701");
        assert_eq!(archive.len() % 4, 0);
        let at = |what: &[u8]| archive.windows(what.len()).position(|w| w == what);
        assert_eq!(at(b"program\0").map(|place| place % 4), Some(0));
    }

    #[test]
    fn cpio_lists_what_is_inside() {
        let cpio = Command::new("cpio")
            .args(["-t", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut cpio) = cpio else {
            eprintln!("skipped: cpio is not installed");
            return;
        };
        let archive = with_program(Vec::new(), b"program");
        cpio.stdin.take().unwrap().write_all(&archive).unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"ring1-compare\n");
    }
}
