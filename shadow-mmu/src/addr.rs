//! The two kinds of guest address, kept apart by type.

/// A guest linear address: what segmentation yields and paging consumes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LinearAddr(pub u32);

/// A guest physical address. With PAE or PSE-36 it has up to
/// [`MAXPHYADDR`](crate::MAXPHYADDR) bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PhysAddr(pub u64);

/// Bytes in a small page, in a frame and in a page-table page.
pub const PAGE_BYTES: u64 = 4096;

impl LinearAddr {
    /// The number of the 4 KiB page that holds this address.
    #[must_use]
    pub const fn page(self) -> u32 {
        self.0 >> 12
    }

    /// The offset in its 4 KiB page.
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.0 & 0xFFF
    }
}

impl PhysAddr {
    /// The number of the 4 KiB frame that holds this address.
    #[must_use]
    pub const fn frame(self) -> u64 {
        self.0 >> 12
    }
}
