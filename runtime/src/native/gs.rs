//! The base of GS, by which code of ring 3 finds the user view's mirror.
//!
//! Each thread has one, nobody else uses it (the C library has FS), and neither the
//! kernel nor signal handlers change it. So it is compared where code is about to run,
//! and written if it is another's: of another machine that ran on this thread, or of the
//! address space before. It is that of the *user* view whatever the guest's ring, so
//! transitions between rings need not touch it.

#![allow(unsafe_code)] // Instructions that have no intrinsic.

/// The host lets programs read and write the base of GS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gs(());

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
impl Gs {
    /// `None` if the host does not.
    #[must_use]
    pub fn new() -> Option<Self> {
        /// FSGSBASE instructions are enabled (Linux, `asm/hwcap2.h`).
        const FSGSBASE: u64 = 1 << 1;
        // SAFETY: reads a word of the process's auxiliary vector.
        let features = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        (features & FSGSBASE != 0).then_some(Self(()))
    }

    /// Has GS begin at `base` on this thread.
    #[inline(always)]
    pub fn point_at(self, base: u64) {
        let now: u64;
        // SAFETY: the host permits it, as the value's existence shows, and it changes
        // nothing.
        unsafe {
            std::arch::asm!("rdgsbase {}", out(reg) now, options(nomem, nostack, preserves_flags));
        }
        if now != base {
            // SAFETY: as above, and nothing in this process relies on GS but the code
            // that is about to run.
            unsafe {
                std::arch::asm!("wrgsbase {}", in(reg) base, options(nostack, preserves_flags));
            }
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
impl Gs {
    /// No other host does.
    #[must_use]
    pub fn new() -> Option<Self> {
        None
    }

    /// Never called, as there is no value.
    pub fn point_at(self, _: u64) {}
}
