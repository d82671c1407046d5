//! Where each block of a file is: a hash table that is used as it lies in the file.
//!
//! A boot asks for tens of thousands of blocks, and a file may have hundreds of
//! thousands. So nothing is built when a file is opened, and a look-up is most often one
//! look at memory: buckets of 16 bytes, found by the upper bits of the hash, the next
//! one if that is taken, at least a third of them empty. Blocks that are near to each
//! other are so here, too: then the look is at memory that the host's caches have.

use super::format::{Damage, Place};
use super::record::Flavour;
use crate::cache::Map;

/// Bytes of a bucket: hash, chunk and flavour, offset.
const BUCKET_BYTES: usize = 16;
/// Buckets looked at: a guest may have any number of blocks at one place.
const MOST_PROBES: usize = 1024;
/// The chunk of an empty bucket.
const EMPTY: u32 = u32::MAX;
/// Bits of a chunk's number.
const CHUNK_BITS: u32 = 24;

/// The table.
#[derive(Debug, Default)]
pub struct Blocks {
    bytes: Vec<u8>,
}

impl Blocks {
    /// A table of these blocks.
    pub fn new(blocks: &Map<u64, Place>) -> Self {
        let buckets = (blocks.len() + blocks.len() / 2 + 1).next_power_of_two();
        let mut table = Self {
            bytes: vec![0xff; buckets * BUCKET_BYTES],
        };
        for (&hash, place) in blocks {
            let empty = |n: &usize| table.bucket(*n).is_some_and(|(_, word, _)| word == EMPTY);
            // One that finds no room near its place is not kept.
            let Some(n) = table.probes(hash).find(empty) else {
                continue;
            };
            let word = u32::from(place.flavour.bits()) << CHUNK_BITS | place.chunk;
            let bucket = &mut table.bytes[n * BUCKET_BYTES..][..BUCKET_BYTES];
            bucket[..8].copy_from_slice(&hash.to_le_bytes());
            bucket[8..12].copy_from_slice(&word.to_le_bytes());
            bucket[12..].copy_from_slice(&place.offset.to_le_bytes());
        }
        table
    }

    /// The table that these bytes are.
    ///
    /// # Errors
    /// They are none.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Damage> {
        let whole = bytes.len().is_multiple_of(BUCKET_BYTES);
        if !whole || !(bytes.len() / BUCKET_BYTES).is_power_of_two() {
            return Err(Damage("its table of blocks is none"));
        }
        Ok(Self { bytes })
    }

    /// The table's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where a block is.
    pub fn find(&self, hash: u64) -> Option<Place> {
        for n in self.probes(hash) {
            let (known, word, offset) = self.bucket(n)?;
            if word == EMPTY {
                return None;
            }
            if known == hash {
                return Some(place(word, offset));
            }
        }
        None
    }

    /// All blocks.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Place)> {
        let buckets = (0..self.buckets()).filter_map(|n| self.bucket(n));
        let taken = buckets.filter(|&(_, word, _)| word != EMPTY);
        taken.map(|(hash, word, offset)| (hash, place(word, offset)))
    }

    fn buckets(&self) -> usize {
        self.bytes.len() / BUCKET_BYTES
    }

    /// The buckets that a hash leads to, in order.
    fn probes(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let buckets = self.buckets();
        // A number of buckets, a power of two, takes as many upper bits.
        let first = ((u128::from(hash) * buckets as u128) >> 64) as usize;
        let most = buckets.min(MOST_PROBES);
        (first..first + most).map(move |n| n & (buckets - 1))
    }

    fn bucket(&self, n: usize) -> Option<(u64, u32, u32)> {
        let bytes = self.bytes.get(n * BUCKET_BYTES..)?;
        let (hash, rest) = bytes.split_first_chunk()?;
        let (word, rest) = rest.split_first_chunk()?;
        let offset = rest.first_chunk()?;
        let (word, offset) = (u32::from_le_bytes(*word), u32::from_le_bytes(*offset));
        Some((u64::from_le_bytes(*hash), word, offset))
    }
}

fn place(word: u32, offset: u32) -> Place {
    Place {
        chunk: word & ((1 << CHUNK_BITS) - 1),
        offset,
        flavour: Flavour::from_bits((word >> CHUNK_BITS) as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(count: u64) -> Map<u64, Place> {
        let numbered = (0..count).map(|n| {
            let flavour = Flavour::from_bits(n as u8 & 7);
            let (chunk, offset) = (n as u32 / 5, n as u32);
            // Most begin with the same bits.
            let hash = n << 3 | (n % 3) << 62;
            let place = Place {
                chunk,
                offset,
                flavour,
            };
            (hash, place)
        });
        numbered.collect()
    }

    #[test]
    fn what_is_entered_is_found_and_nothing_else() {
        for count in [0, 1, 2, 3, 100, 1000] {
            let places = places(count);
            let table = Blocks::new(&places);
            let again = Blocks::from_bytes(table.bytes().to_vec()).unwrap();
            for (&hash, place) in &places {
                assert_eq!(again.find(hash), Some(*place));
                assert_eq!(again.find(hash | 1), None);
            }
            assert_eq!(again.iter().collect::<Map<u64, Place>>(), places);
        }
    }

    #[test]
    fn bytes_that_are_no_table_are_refused_or_end() {
        for length in [0, 15, 17, 48] {
            assert!(Blocks::from_bytes(vec![0; length]).is_err(), "{length}");
        }
        // All buckets are taken.
        let full = Blocks::from_bytes(vec![0; 64]).unwrap();
        assert_eq!(full.find(1), None);
        assert_eq!(Blocks::default().find(1), None);
    }
}
