//! The firmware ROM: what a PC runs when it has nothing else to start.
//!
//! An image of 64 KiB to 16 MiB ends at the end of the 32-bit address space,
//! where the processor fetches its first instruction after reset; what fits of
//! its end also shows in the last 128 KiB below 1 MiB, where real mode reaches
//! it. Writes are ignored.
//!
//! The ROM is not guest RAM, so no shadow entry ever maps it: reads take the
//! slow path to [`Rom::read`], and blocks are decoded from [`Rom::fetch`].

/// One past the last 32-bit physical address.
const TOP: u64 = 1 << 32;

/// The low window: where real mode sees the end of the image.
pub const LOW_WINDOW: std::ops::Range<u64> = 0xE_0000..0x10_0000;

/// Flash chips come in multiples of this.
const UNIT_BYTES: usize = 0x1_0000;
const MAX_BYTES: usize = 16 << 20;

/// A ROM image, mapped.
pub struct Rom {
    bytes: Vec<u8>,
}

impl Rom {
    /// A ROM that holds `bytes`; `None` unless their number is a multiple of
    /// 64 KiB, from one to 256 of them.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        let sound =
            !bytes.is_empty() && bytes.len() <= MAX_BYTES && bytes.len().is_multiple_of(UNIT_BYTES);
        sound.then_some(Self { bytes })
    }

    /// The byte at a physical address, if the ROM answers there.
    pub fn read(&self, phys: u64) -> Option<u8> {
        let end = if LOW_WINDOW.contains(&phys) {
            LOW_WINDOW.end
        } else {
            TOP
        };
        let from_end = usize::try_from(end.checked_sub(phys)?).ok()?;
        let at = self.bytes.len().checked_sub(from_end)?;
        self.bytes.get(at).copied()
    }

    /// Copies what the ROM has from `phys` on, and leaves the rest of `into`.
    pub fn fetch(&self, phys: u64, into: &mut [u8]) {
        for (at, slot) in (phys..).zip(into) {
            if let Some(byte) = self.read(at) {
                *slot = byte;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(units: usize) -> Rom {
        let bytes = (0..units * UNIT_BYTES).map(|n| (n >> 16) as u8).collect();
        Rom::new(bytes).expect("a good size")
    }

    #[test]
    fn odd_sizes_are_refused() {
        for len in [0, 1, UNIT_BYTES - 1, UNIT_BYTES + 1, MAX_BYTES + UNIT_BYTES] {
            assert!(Rom::new(vec![0; len]).is_none(), "{len}");
        }
    }

    #[test]
    fn a_short_image_is_seen_at_both_ends() {
        let rom = numbered(1);
        for (phys, byte) in [
            (0xE_FFFF, None),
            (0xF_0000, Some(0)),
            (0xF_FFFF, Some(0)),
            (0x10_0000, None),
            (0xFFFE_FFFF, None),
            (0xFFFF_0000, Some(0)),
            (0xFFFF_FFFF, Some(0)),
            (TOP, None),
            (u64::MAX, None),
        ] {
            assert_eq!(rom.read(phys), byte, "{phys:#x}");
        }
    }

    #[test]
    fn the_low_window_shows_the_end_of_a_long_image() {
        let rom = numbered(4);
        let seen = [0xE_0000, 0xF_0000, 0xFFFC_0000, 0xFFFF_FFF0].map(|at| rom.read(at));
        assert_eq!(seen, [Some(2), Some(3), Some(0), Some(3)]);
    }

    #[test]
    fn fetching_past_the_image_leaves_the_bus_undriven() {
        let mut bytes = [0xFF; 4];
        numbered(1).fetch(0xF_FFFE, &mut bytes);
        assert_eq!(bytes, [0, 0, 0xFF, 0xFF]);
    }
}
