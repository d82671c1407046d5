//! Checked reads from an image: an offset out of the file is `None`, whatever arithmetic led to it.

/// `len` bytes at `offset`.
pub(super) fn at(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(len)?).ok()?;
    bytes.get(start..end)
}

/// The little-endian 32-bit word at `offset`.
pub(super) fn u32_at(bytes: &[u8], offset: u64) -> Option<u32> {
    at(bytes, offset, 4)?
        .try_into()
        .ok()
        .map(u32::from_le_bytes)
}

/// The little-endian 16-bit word at `offset`.
pub(super) fn u16_at(bytes: &[u8], offset: u64) -> Option<u16> {
    at(bytes, offset, 2)?
        .try_into()
        .ok()
        .map(u16::from_le_bytes)
}

/// `value` rounded up to a multiple of `alignment`, a power of two; `None` past the end of the range.
pub(super) fn align_up(value: u64, alignment: u64) -> Option<u64> {
    Some(value.checked_add(alignment - 1)? & !(alignment - 1))
}

/// `value` rounded down to a multiple of `alignment`, a power of two.
pub(super) fn align_down(value: u64, alignment: u64) -> u64 {
    value & !(alignment - 1)
}
