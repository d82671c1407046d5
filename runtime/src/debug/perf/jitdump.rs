//! The jitdump format, as `jitdump-specification.txt` in Linux's `tools/perf` has it: a
//! header, then a record for each piece of code, with the time from which it is valid.
//!
//! perf learns of the file by seeing it mapped executable, so one page of it is. Times
//! are of CLOCK_MONOTONIC, which recordings must use too.

#![allow(unsafe_code)] // Maps the file.

use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// "JiTD", in the byte order of the host.
const MAGIC: u32 = 0x4a69_5444;
const VERSION: u32 = 1;
const HEADER_BYTES: u32 = 40;
/// `e_machine` of the host's code.
const MACHINE: u32 = if cfg!(target_arch = "aarch64") {
    183
} else {
    62
};

/// Record identifier: code is loaded.
const JIT_CODE_LOAD: u32 = 0;
/// Record identifier: there is no more.
const JIT_CODE_CLOSE: u32 = 3;
const RECORD_HEADER_BYTES: usize = 16;

/// A dump that is being written.
pub struct JitDump {
    out: BufWriter<File>,
    /// What perf sees.
    _marker: Mmap,
    /// Pieces of code so far.
    count: u64,
}

impl JitDump {
    /// Makes the file.
    ///
    /// # Errors
    /// The file cannot be made or mapped.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        let mut out = BufWriter::new(file);
        out.write_all(&header())?;
        out.flush()?;
        // SAFETY: nobody reads or runs the mapping, so it does not matter what others
        // do to the file.
        let marker = unsafe { MmapOptions::new().len(1).map_exec(out.get_ref())? };
        Ok(Self {
            out,
            _marker: marker,
            count: 0,
        })
    }

    /// Code has got to a host address.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn load(&mut self, name: &str, address: u64, code: &[u8]) -> io::Result<()> {
        let (pid, tid) = (std::process::id(), rustix::thread::gettid());
        let mut body = Vec::with_capacity(64 + name.len() + code.len());
        body.extend(pid.to_ne_bytes());
        body.extend(tid.as_raw_nonzero().get().to_ne_bytes());
        for word in [address, address, code.len() as u64, self.count] {
            body.extend(word.to_ne_bytes());
        }
        body.extend(name.bytes().filter(|byte| *byte != 0));
        body.push(0);
        body.extend(code);
        self.count += 1;
        self.record(JIT_CODE_LOAD, &body)
    }

    fn record(&mut self, id: u32, body: &[u8]) -> io::Result<()> {
        let bytes = (RECORD_HEADER_BYTES + body.len()) as u32;
        self.out.write_all(&id.to_ne_bytes())?;
        self.out.write_all(&bytes.to_ne_bytes())?;
        self.out.write_all(&now_ns().to_ne_bytes())?;
        self.out.write_all(body)
    }
}

impl Drop for JitDump {
    fn drop(&mut self) {
        // perf does without.
        let _ = self.record(JIT_CODE_CLOSE, &[]);
    }
}

fn header() -> Vec<u8> {
    let mut header = Vec::new();
    let pid = std::process::id();
    for word in [MAGIC, VERSION, HEADER_BYTES, MACHINE, 0, pid] {
        header.extend(word.to_ne_bytes());
    }
    for word in [now_ns(), 0] {
        header.extend(word.to_ne_bytes());
    }
    header
}

fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
    }

    #[test]
    fn records_follow_the_header_and_say_how_long_they_are() {
        let path = std::env::temp_dir().join(format!("ring1-jit-{}.dump", std::process::id()));
        let mut dump = JitDump::create(&path).expect("a file");
        dump.load("start", 0x7f00_0000, &[0x90; 5])
            .expect("a record");
        drop(dump);
        let bytes = std::fs::read(&path).expect("the dump");
        let _ = std::fs::remove_file(path);
        assert_eq!((word(&bytes, 0), word(&bytes, 8)), (MAGIC, HEADER_BYTES));
        let load = HEADER_BYTES as usize;
        assert_eq!(word(&bytes, load), JIT_CODE_LOAD);
        let len = word(&bytes, load + 4) as usize;
        assert_eq!(len, 16 + 40 + "start\0".len() + 5);
        assert_eq!(
            &bytes[load + 56..load + len],
            b"start\0\x90\x90\x90\x90\x90"
        );
        assert_eq!(word(&bytes, load + len), JIT_CODE_CLOSE);
        assert_eq!(bytes.len(), load + len + 16);
    }
}
