//! Where compiled code lives: one memory file mapped twice, once writable and
//! once executable, so that no page is ever both.
//!
//! Allocation only bumps a pointer, in one of the equal *spans* that the arena is divided
//! into. Code of dropped blocks stays until its span is begun anew.

#![allow(unsafe_code)] // Maps executable memory.

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};
use rustix::mm::{madvise, mmap, mmap_anonymous, mprotect, mremap_fixed, munmap};
use std::ffi::c_void;
use std::ops::Range;
use std::ptr::null_mut;

/// Alignment of code that is no loop and follows nothing.
const ALIGN: usize = 16;
/// Bytes of a line of the host's caches.
const LINE: usize = 64;
/// Bytes of a page.
const PAGE: usize = 4096;
/// Bytes that are backed together.
const BACKED_TOGETHER: usize = 256 << 10;

/// An executable arena; freed when dropped.
pub struct Arena {
    writable: *mut u8,
    executable: *mut u8,
    bytes: usize,
    used: usize,
    /// Where the span ends that `used` is in.
    limit: usize,
    /// Most bytes that were ever in use.
    high: usize,
    /// Bytes that have memory behind them.
    backed: usize,
    spans: Spans,
}

/// Where spans are.
#[derive(Clone, Copy, Debug)]
pub struct Spans {
    /// Host address of the first, executable.
    pub first: u64,
    /// Bytes of each.
    pub bytes: u64,
}

impl Spans {
    /// The number of the span that an address is in, if it is behind the first's begin.
    pub fn of(&self, address: u64) -> Option<usize> {
        let number = address.checked_sub(self.first)?.checked_div(self.bytes)?;
        usize::try_from(number).ok()
    }
}

// SAFETY: the mappings are owned by this value alone.
unsafe impl Send for Arena {}

impl Arena {
    /// Maps an arena of `bytes` bytes, one span; pages are backed when first written.
    ///
    /// # Errors
    /// What the host says about creating or mapping the memory file.
    pub fn new(bytes: usize) -> std::io::Result<Self> {
        let file = memfd_create("ring1-code", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, bytes as u64)?;
        let map = |prot| {
            // SAFETY: a fresh mapping at an address the kernel chooses.
            unsafe { mmap(null_mut(), bytes, prot, MapFlags::SHARED, &file, 0) }
        };
        let writable = map(ProtFlags::READ | ProtFlags::WRITE)?.cast();
        let executable: *mut u8 = map(ProtFlags::READ | ProtFlags::EXEC)?.cast();
        let spans = Spans {
            first: executable as u64,
            bytes: bytes as u64,
        };
        Ok(Self {
            writable,
            executable,
            bytes,
            used: 0,
            limit: bytes,
            high: 0,
            backed: 0,
            spans,
        })
    }

    /// Divides what is not in use into `count` spans and begins the first.
    pub fn divide(&mut self, count: usize) -> Spans {
        let first = self.used.next_multiple_of(PAGE);
        let bytes = (self.bytes.saturating_sub(first) / count.max(1)) & !(PAGE - 1);
        self.spans = Spans {
            first: self.executable as u64 + first as u64,
            bytes: bytes as u64,
        };
        self.begin_span(0);
        self.spans
    }

    /// Goes on at the begin of a span. The caller must hold no address of code there.
    pub fn begin_span(&mut self, number: usize) {
        let first = (self.spans.first - self.executable as u64) as usize;
        self.used = first + number * self.spans.bytes as usize;
        self.limit = (self.used + self.spans.bytes as usize).min(self.bytes);
        self.backed = self.backed.max(self.used);
    }

    /// Puts memory without a file in the place of the file, at the same addresses.
    /// perf takes names from a map for such memory only.
    ///
    /// # Errors
    /// What the host says about mapping it. The arena cannot be used any more.
    pub fn without_file(&mut self) -> std::io::Result<()> {
        let (size, prot) = (self.bytes, ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: a fresh mapping at an address the kernel chooses.
        let fresh = unsafe { mmap_anonymous(null_mut(), size, prot, MapFlags::SHARED)? };
        // SAFETY: both are mapped for at least that long, and apart.
        unsafe {
            fresh
                .cast::<u8>()
                .copy_from_nonoverlapping(self.writable, self.high);
        }
        let (moves, execute) = (MremapFlags::MAYMOVE, MprotectFlags::EXEC);
        // SAFETY: both views are replaced by mappings of the same length with the same
        // bytes in use; nothing runs in them now. (A length of 0 asks for a second view
        // of shared memory.)
        unsafe {
            mremap_fixed(fresh, 0, size, moves, self.executable.cast())?;
            let code = self.executable.cast();
            mprotect(code, size, MprotectFlags::READ | execute)?;
            mremap_fixed(fresh, size, size, moves, self.writable.cast())?;
        }
        self.backed = 0;
        Ok(())
    }

    /// Copies `code` in and returns its executable address, or `None` if full.
    pub fn add(&mut self, code: &[u8]) -> Option<u64> {
        self.add_at(self.used.next_multiple_of(ALIGN), code)
    }

    /// The same, so that `turn` of it, a loop, lies in as few lines as it can.
    pub fn add_loop(&mut self, turn: &Range<u32>, code: &[u8]) -> Option<u64> {
        let first = self.used.next_multiple_of(ALIGN);
        let start = (first..first + LINE).find(|&start| is_good(start, turn))?;
        self.add_at(start, code)
    }

    /// Whether it lies like that, too, in the place of the last `bytes` bytes.
    pub fn is_good_over(&self, bytes: usize, turn: &Range<u32>) -> bool {
        is_good(self.used.saturating_sub(bytes), turn)
    }

    /// The same in the place of the last `bytes` bytes of what was added last.
    pub fn add_over(&mut self, bytes: usize, code: &[u8]) -> Option<u64> {
        self.add_at(self.used.checked_sub(bytes)?, code)
    }

    fn add_at(&mut self, start: usize, code: &[u8]) -> Option<u64> {
        let end = start
            .checked_add(code.len())
            .filter(|&end| end <= self.limit)?;
        if end > self.backed {
            self.back(end);
        }
        // SAFETY: `start..end` lies in the mapping and nothing else refers to
        // the writable view.
        unsafe {
            self.writable
                .add(start)
                .copy_from_nonoverlapping(code.as_ptr(), code.len())
        };
        (self.used, self.high) = (end, self.high.max(end));
        Some(self.executable as u64 + start as u64)
    }

    /// Asks the host for memory up to `end` and beyond: one request costs less than a
    /// fault for each page. If it refuses, faults will do.
    #[cold]
    fn back(&mut self, end: usize) {
        let end = end.next_multiple_of(BACKED_TOGETHER).min(self.bytes);
        for (view, advice) in [
            (self.writable, Advice::LinuxPopulateWrite),
            (self.executable, Advice::LinuxPopulateRead),
        ] {
            // SAFETY: the range lies in the mapping.
            let _ = unsafe { madvise(view.add(self.backed).cast(), end - self.backed, advice) };
        }
        self.backed = end;
    }

    /// Sets `bytes` bytes aside, of which nothing is backed before it is written, and
    /// returns their executable address, a whole page's; or `None` if full.
    pub fn set_aside(&mut self, bytes: usize) -> Option<u64> {
        let start = self.used.next_multiple_of(PAGE);
        let end = start.checked_add(bytes)?.next_multiple_of(PAGE);
        if end > self.bytes {
            return None;
        }
        (self.used, self.high, self.backed) = (end, end, end);
        Some(self.executable as u64 + start as u64)
    }

    /// Writes `bytes` at the executable address `at`. Outside of what was ever in use
    /// nothing is changed.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let start = at.wrapping_sub(self.executable as u64) as usize;
        let end = start.checked_add(bytes.len());
        if end.is_some_and(|end| end <= self.high) {
            // SAFETY: the range lies in the mapping. It is being executed by no other
            // thread: code runs on the thread that owns the arena.
            unsafe {
                let place = self.writable.add(start);
                place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
        }
    }

    /// Puts a JMP to `target` whose displacement is at the executable address `at`.
    pub fn jump(&mut self, at: u64, target: u64) {
        self.write(at.wrapping_sub(1), &[0xe9]);
        self.redirect(at, target);
    }

    /// Makes the jump whose 32-bit displacement is at the executable address `at`
    /// lead to `target`. Addresses outside the arena change nothing.
    pub fn redirect(&mut self, at: u64, target: u64) {
        let distance = target.wrapping_sub(at.wrapping_add(4)) as i32;
        self.write(at, &distance.to_le_bytes());
    }

    /// The `len` bytes at an executable address, if they were ever in use.
    pub fn get(&self, at: u64, len: usize) -> Option<&[u8]> {
        let start = at.checked_sub(self.executable as u64)? as usize;
        let end = start.checked_add(len)?;
        if end > self.high {
            return None;
        }
        // SAFETY: the bytes lie in the mapping, and whoever changes them borrows the
        // arena exclusively.
        Some(unsafe { std::slice::from_raw_parts(self.executable.add(start), len) })
    }

    /// Gives back the host's entries for the view that is only written. The memory stays
    /// behind the other; a write finds it again.
    pub fn rest(&mut self) {
        // SAFETY: the mapping is shared: what it held is in the file.
        let _ = unsafe { madvise(self.writable.cast(), self.bytes, Advice::LinuxDontNeed) };
    }

    /// Executable address of the first byte.
    pub fn start(&self) -> u64 {
        self.executable as u64
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used
    }
}

/// Whether `turn` of code placed at `start` lies in as few lines as it can.
fn is_good(start: usize, turn: &Range<u32>) -> bool {
    let in_line = (start + turn.start as usize) % LINE;
    (in_line + turn.len()).div_ceil(LINE) <= turn.len().div_ceil(LINE) || turn.is_empty()
}

impl Drop for Arena {
    fn drop(&mut self) {
        for map in [self.writable, self.executable] {
            // SAFETY: mapped by `new` with this length, unmapped once. A failure
            // would leak address space, nothing more.
            let _ = unsafe { munmap(map.cast::<c_void>(), self.bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_lie_in_as_few_lines_as_they_can() {
        let mut arena = Arena::new(1 << 20).unwrap();
        let taken = |at: u64, turn: &Range<u32>| {
            let line = |offset: u32| (at + u64::from(offset)) / LINE as u64;
            (line(turn.end - 1) - line(turn.start) + 1) as usize
        };
        for n in 0..100 {
            let turn = n..n + 10 + 7 * (n % 30);
            let least = turn.len().div_ceil(LINE);
            arena.add(&vec![0x90; 1 + n as usize]).unwrap();
            let at = arena.add_loop(&turn, &[0x90; 400]).unwrap();
            assert_eq!(taken(at, &turn), least, "{turn:?} at {at:x}");
            let good = arena.is_good_over(5, &turn);
            let fallen = arena.add_over(5, &[0x90; 400]).unwrap();
            assert_eq!(
                good,
                taken(fallen, &turn) == least,
                "{turn:?} at {fallen:x}"
            );
        }
    }

    #[test]
    fn code_without_a_loop_goes_next() {
        let mut arena = Arena::new(1 << 20).unwrap();
        let first = arena.add(&[0x90; 20]).unwrap();
        let next = arena.add_loop(&(0..0), &[0x90; 20]).unwrap();
        assert_eq!(next, first + 32);
        assert!(arena.is_good_over(5, &(0..0)));
    }
}
