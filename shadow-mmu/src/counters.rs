//! What the MMU did, for statistics and tests.

/// Counts since the MMU was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MmuCounters {
    /// Hidden faults: reads and writes that the shadow lacked an entry for and the
    /// guest's tables allow.
    pub hidden_faults: u64,
    /// Translations for instruction fetch, which have no shadow entries.
    pub fetches: u64,
    /// Shadow entries set, batched neighbours included.
    pub entries_set: u64,
    /// Shadow entries removed, for whatever reason.
    pub entries_dropped: u64,
    /// True faults: accesses that the guest's tables deny.
    pub true_faults: u64,
    /// Translations answered from the shadow tables.
    pub shadow_hits: u64,
    /// Traced stores that hit a page table, once per use of the frame.
    pub page_table_stores: u64,
    /// Traced stores that hit a page directory, once per use of the frame.
    pub directory_stores: u64,
    /// Traced stores that hit a frame with translated code.
    pub code_stores: u64,
    /// Frames that became traced as paging structures.
    pub traces_begun: u64,
    /// Page tables let go because nothing depended on them or they looked like data.
    pub traces_let_go: u64,
    /// Write entries taken back because their frame became traced.
    pub revoked: u64,
    /// Runs of pages mapped in mirrors.
    pub mirrored: u64,
    /// Slices of time in spaces that were settled.
    pub settled_slices: u64,
    /// Calls of `set_paging` that changed the space.
    pub switches: u64,
    /// Spaces created, first uses and reuses of a table.
    pub spaces_created: u64,
    /// Spaces evicted: least recently used, or directories reused as data.
    pub spaces_evicted: u64,
    /// INVLPGs.
    pub invlpgs: u64,
    /// Flushes asked for.
    pub flushes: u64,
    /// Frames that were given to `protect_code`.
    pub code_protected: u64,
    /// Times that fetch translations of a space or a group of spaces were forgotten.
    pub epochs: u64,
}
