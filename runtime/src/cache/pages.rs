//! Where code pages are: the frames that fetches were translated to.
//!
//! A block that no direct-mapped cache knows is found by its guest-physical address.
//! After a switch to another process that is every block of the kernel, once, and
//! walking the guest's page tables for each would cost more than all the rest. A tag
//! stands for privilege and fetch number, so what was translated under
//! it holds as long as it is current.

use shadow_mmu::{LinearAddr, PhysAddr};

/// Pages remembered, a power of two.
const ENTRIES: usize = 1 << 13;

/// A direct-mapped cache by tag and page.
pub struct CodePages(Box<[(u64, u64)]>);

impl Default for CodePages {
    fn default() -> Self {
        Self(vec![(u64::MAX, 0); ENTRIES].into_boxed_slice())
    }
}

fn key(page: u32, tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(page)
}

fn index(page: u32, tag: u32) -> usize {
    let mixed = page ^ tag.wrapping_mul(0x9e37_79b9) >> 16;
    mixed as usize & (ENTRIES - 1)
}

impl CodePages {
    /// What `addr` was translated to under `tag`, if it is remembered.
    #[inline]
    pub fn find(&self, addr: LinearAddr, tag: u32) -> Option<PhysAddr> {
        let page = addr.0 >> 12;
        let (known, frame) = self.0[index(page, tag)];
        (known == key(page, tag)).then(|| PhysAddr(frame | u64::from(addr.0 & 0xfff)))
    }

    /// Notes what `addr` is translated to.
    pub fn remember(&mut self, addr: LinearAddr, tag: u32, phys: PhysAddr) {
        let page = addr.0 >> 12;
        self.0[index(page, tag)] = (key(page, tag), phys.0 & !0xfff);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.fill((u64::MAX, 0));
    }
}
