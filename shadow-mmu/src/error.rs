//! What the host can refuse us.

/// A host-side failure of the shadow MMU; guest faults are values, not errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The size asked for guest memory is zero, not whole pages, or too large.
    #[error(
        "guest memory of {bytes} bytes is not a whole number of pages between 4 KiB and 64 GiB"
    )]
    RamSize {
        /// The size asked for.
        bytes: u64,
    },
    /// The host did not give us address space.
    #[error("cannot map {bytes} bytes of host address space for {what}")]
    Map {
        /// What the mapping was for.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The host's reason.
        source: std::io::Error,
    },
    /// The host placed guest memory below 4 GiB, where a shadow entry could be zero.
    #[error("the host mapped guest memory below 4 GiB, which shadow entries cannot express")]
    LowMapping,
}
