//! Memory at fixed low addresses, with an absent page on either side.
//!
//! The neighbours are kept absent by reserving them without access, so that
//! nothing else of this process can be mapped there. A touch of one is reported
//! by the CPU as a page that is not present, as in a guest that never mapped it.
//! Code has two views of one memory file: the fixed one is not writable, so that
//! stores into it fault, the other serves to place sequences.

#![allow(unsafe_code)] // Memory at fixed addresses.

use std::ffi::c_void;
use std::ptr;

const PAGE: usize = 4096;

/// Readable and writable pages at a fixed address.
pub struct Arena {
    base: *mut u8,
    bytes: usize,
    read_only_page: Option<usize>,
}

impl Arena {
    /// Maps `bytes` (whole pages) at `base`.
    pub fn new(base: u32, bytes: usize) -> Option<Arena> {
        reserve(base, bytes)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_POPULATE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let base = map(base as usize, bytes, protection, flags, -1)?;
        Some(Arena {
            base,
            bytes,
            read_only_page: None,
        })
    }

    /// Makes one page, by its number in the arena, read-only, and all others
    /// writable. Nothing may write to it through [`bytes`](Arena::bytes) then.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn protect(&mut self, page: Option<usize>) {
        if page == self.read_only_page {
            return;
        }
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        let changes = [(self.read_only_page, writable), (page, libc::PROT_READ)];
        for (page, protection) in changes {
            let Some(offset) = page.map(|page| page * PAGE) else {
                continue;
            };
            assert!(offset < self.bytes, "a page of the arena");
            // SAFETY: the page lies in the mapping that `new` made.
            let done = unsafe { libc::mprotect(self.base.add(offset).cast(), PAGE, protection) };
            assert_eq!(done, 0, "mprotect of a page of ours");
        }
        self.read_only_page = page;
    }

    /// The pages.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `new` mapped the range, `drop` alone unmaps it, and `&mut self`
        // excludes other views; 32-bit code runs only inside a call that also has
        // the arena exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.bytes) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        release(self.base, self.bytes);
    }
}

/// Executable pages at a fixed address and a writable view of them elsewhere.
pub struct CodeArena {
    base: *mut u8,
    writable: *mut u8,
    bytes: usize,
}

impl CodeArena {
    /// Maps `bytes` (whole pages) at `base`.
    pub fn new(base: u32, bytes: usize) -> Option<CodeArena> {
        reserve(base, bytes)?;
        // SAFETY: the name is a C string; the result is checked below.
        let file = unsafe { libc::memfd_create(c"silicon".as_ptr(), libc::MFD_CLOEXEC) };
        if file < 0 {
            return None;
        }
        // SAFETY: `file` is an open descriptor of ours.
        let sized = unsafe { libc::ftruncate(file, bytes as i64) } == 0;
        let views = sized.then(|| {
            let shared = libc::MAP_SHARED | libc::MAP_POPULATE;
            let fixed = map(
                base as usize,
                bytes,
                libc::PROT_READ | libc::PROT_EXEC,
                shared | libc::MAP_FIXED,
                file,
            );
            let writable = map(0, bytes, libc::PROT_READ | libc::PROT_WRITE, shared, file);
            fixed.zip(writable)
        });
        // SAFETY: mappings outlive the descriptor; nobody else has it.
        unsafe { libc::close(file) };
        let (base, writable) = views.flatten()?;
        Some(CodeArena {
            base,
            writable,
            bytes,
        })
    }

    /// The writable view. Entering 32-bit code serialises the CPU, which makes
    /// what was written here visible to instruction fetch.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: as in `Arena::bytes`; nothing writes through the fixed view.
        unsafe { std::slice::from_raw_parts_mut(self.writable, self.bytes) }
    }
}

impl Drop for CodeArena {
    fn drop(&mut self) {
        release(self.base, self.bytes);
        // SAFETY: `new` made this mapping and nothing refers to it any more.
        unsafe { libc::munmap(self.writable.cast::<c_void>(), self.bytes) };
    }
}

/// Takes the range and its neighbouring pages, without access.
fn reserve(base: u32, bytes: usize) -> Option<()> {
    let flags =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    let start = base as usize - PAGE;
    map(start, bytes + 2 * PAGE, libc::PROT_NONE, flags, -1).map(|_| ())
}

fn release(base: *mut u8, bytes: usize) {
    // SAFETY: the range and its neighbours were reserved by `reserve`.
    unsafe { libc::munmap(base.sub(PAGE).cast::<c_void>(), bytes + 2 * PAGE) };
}

fn map(at: usize, bytes: usize, protection: i32, flags: i32, file: i32) -> Option<*mut u8> {
    let hint = ptr::without_provenance_mut::<c_void>(at);
    // SAFETY: fixed addresses are either new (NOREPLACE) or inside a reservation
    // of ours, so no other mapping is replaced.
    let got = unsafe { libc::mmap(hint, bytes, protection, flags, file, 0) };
    (got != libc::MAP_FAILED && (at == 0 || got == hint)).then_some(got.cast::<u8>())
}
