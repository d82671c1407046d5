//! The form of a file of kept code.
//!
//! ```text
//! header   magic, version, counts, generation, where the tables are, identity, MAC
//! chunks   records of blocks one behind the other, some tens of KiB each
//! tables   of each chunk: where, how long, when last used, hash
//!          of all blocks: a hash table of chunk, flavour and offset
//! ```
//!
//! The MAC is of header and tables, under the user's secret; the tables hold the
//! chunks' hashes. So all of the file is authenticated, but a chunk only has to be
//! read, and looked at, when a block of it is wanted. Chunks come before the tables, as
//! they are written while the guest runs.

use super::blocks::Blocks;
use super::record::Flavour;

/// First bytes of a file.
const MAGIC: &[u8; 8] = b"ring1cod";
/// Changed with every change of this form, or of what a record means.
pub const VERSION: u32 = 3;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 104;
/// Of these under the MAC.
const AUTHENTICATED_BYTES: usize = 72;
const CHUNK_ENTRY_BYTES: usize = 48;
/// Most bytes of a chunk.
pub const MAX_CHUNK_BYTES: usize = 256 << 10;
/// Most bytes of all chunks: some nine kernels' boots. A kernel that loads itself to a
/// random address is another one at each.
pub const MAX_BYTES: u64 = 128 << 20;
/// Most bytes of the tables.
const MAX_TABLE_BYTES: u64 = 32 << 20;

/// Why a file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damage(pub &'static str);

/// A chunk of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where in the file.
    pub offset: u64,
    /// How long.
    pub bytes: u32,
    /// The generation that used it last.
    pub used: u32,
    /// BLAKE3.
    pub hash: [u8; 32],
}

/// Where a block's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the chunk.
    pub chunk: u32,
    /// Offset in the chunk.
    pub offset: u32,
    /// How the code was made.
    pub flavour: Flavour,
}

/// All but the chunks.
#[derive(Debug, Default)]
pub struct Tables {
    /// Counts the writings of the file.
    pub generation: u32,
    /// The chunks.
    pub chunks: Vec<Chunk>,
    /// The blocks by the hash of their content.
    pub blocks: Blocks,
}

/// What a header says.
pub struct Header {
    generation: u32,
    chunks: u32,
    block_bytes: u32,
    /// Where the tables begin.
    pub tables_at: u64,
    authenticated: [u8; AUTHENTICATED_BYTES],
    mac: [u8; 32],
}

impl Header {
    /// Reads the header of a file that is `file_bytes` long and must be of `identity`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(
        bytes: &[u8; HEADER_BYTES],
        file_bytes: u64,
        identity: &[u8; 32],
    ) -> Result<Self, Damage> {
        let mut rest = &bytes[..];
        let (magic, version): ([u8; 8], _) = (array(&mut rest)?, u32(&mut rest)?);
        let (chunks, block_bytes, generation) = (u32(&mut rest)?, u32(&mut rest)?, u32(&mut rest)?);
        let _padding: [u8; 8] = array(&mut rest)?;
        let tables_at = u64::from_le_bytes(array(&mut rest)?);
        let theirs: [u8; 32] = array(&mut rest)?;
        let mac = array(&mut rest)?;
        if &magic != MAGIC {
            return Err(Damage("it is no file of kept code"));
        }
        if version != VERSION || &theirs != identity {
            return Err(Damage("it is of another build or host"));
        }
        let header = Self {
            generation,
            chunks,
            block_bytes,
            tables_at,
            authenticated: array(&mut &bytes[..])?,
            mac,
        };
        let table_bytes: u64 = header.table_bytes().iter().sum();
        let fits = table_bytes <= MAX_TABLE_BYTES && tables_at <= 4 * MAX_BYTES;
        if !fits || tables_at + table_bytes != file_bytes {
            return Err(Damage("it has been cut off"));
        }
        Ok(header)
    }

    /// Lengths of the tables: of chunks, and of blocks.
    pub fn table_bytes(&self) -> [u64; 2] {
        let chunks = u64::from(self.chunks) * CHUNK_ENTRY_BYTES as u64;
        [chunks, self.block_bytes.into()]
    }

    /// Reads the tables.
    ///
    /// # Errors
    /// They are not what was written.
    pub fn tables(
        &self,
        chunks: &[u8],
        blocks: Vec<u8>,
        secret: &[u8; 32],
    ) -> Result<Tables, Damage> {
        if mac(secret, [&self.authenticated, chunks, &blocks]) != blake3::Hash::from(self.mac) {
            return Err(Damage("its checksum is wrong"));
        }
        let mut rest = chunks;
        let mut tables = Tables {
            generation: self.generation,
            ..Tables::default()
        };
        for _ in 0..self.chunks {
            let chunk = Chunk {
                offset: u64::from_le_bytes(array(&mut rest)?),
                bytes: u32(&mut rest)?,
                used: u32(&mut rest)?,
                hash: array(&mut rest)?,
            };
            let end = chunk.offset.checked_add(chunk.bytes.into());
            if chunk.bytes as usize > MAX_CHUNK_BYTES || end.is_none_or(|end| end > self.tables_at)
            {
                return Err(Damage("a chunk is out of place"));
            }
            tables.chunks.push(chunk);
        }
        tables.blocks = Blocks::from_bytes(blocks)?;
        Ok(tables)
    }
}

impl Tables {
    /// Header and tables, as bytes.
    pub fn write(
        &self,
        tables_at: u64,
        identity: &[u8; 32],
        secret: &[u8; 32],
    ) -> ([u8; HEADER_BYTES], Vec<u8>) {
        let mut tables = Vec::new();
        for chunk in &self.chunks {
            tables.extend_from_slice(&chunk.offset.to_le_bytes());
            tables.extend_from_slice(&chunk.bytes.to_le_bytes());
            tables.extend_from_slice(&chunk.used.to_le_bytes());
            tables.extend_from_slice(&chunk.hash);
        }
        tables.extend_from_slice(self.blocks.bytes());
        let words = [
            VERSION,
            self.chunks.len() as u32,
            self.blocks.bytes().len() as u32,
            self.generation,
            0,
            0,
        ];
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        for word in words {
            header.extend_from_slice(&word.to_le_bytes());
        }
        header.extend_from_slice(&tables_at.to_le_bytes());
        header.extend_from_slice(identity);
        let mac = mac(secret, [&header, &tables, &[]]);
        let mut bytes = [0; HEADER_BYTES];
        let (authenticated, rest) = bytes.split_at_mut(AUTHENTICATED_BYTES);
        authenticated.copy_from_slice(&header);
        rest.copy_from_slice(mac.as_bytes());
        (bytes, tables)
    }
}

fn mac(secret: &[u8; 32], parts: [&[u8]; 3]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    hasher.finalize()
}

fn u32(from: &mut &[u8]) -> Result<u32, Damage> {
    Ok(u32::from_le_bytes(array(from)?))
}

fn array<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], Damage> {
    let (array, rest) = from.split_first_chunk().ok_or(Damage("it is too short"))?;
    *from = rest;
    Ok(*array)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];
    const IDENTITY: [u8; 32] = [8; 32];

    fn tables() -> Tables {
        let chunk = |offset| Chunk {
            offset,
            bytes: 50,
            used: 3,
            hash: [5; 32],
        };
        let place = |chunk, bits| Place {
            chunk,
            offset: 9,
            flavour: Flavour::from_bits(bits),
        };
        Tables {
            generation: 4,
            chunks: vec![chunk(104), chunk(154)],
            blocks: Blocks::new(&[(1, place(0, 1)), (2, place(1, 6))].into_iter().collect()),
        }
    }

    fn read(header: &[u8; HEADER_BYTES], bytes: &[u8], file: u64) -> Result<Tables, Damage> {
        let (chunks, blocks) = bytes.split_at(96);
        Header::read(header, file, &IDENTITY)?.tables(chunks, blocks.to_vec(), &SECRET)
    }

    #[test]
    fn what_is_written_is_read() {
        let written = tables();
        let (header, bytes) = written.write(204, &IDENTITY, &SECRET);
        let back = read(&header, &bytes, 204 + bytes.len() as u64).unwrap();
        assert_eq!(back.generation, 4);
        assert_eq!(back.chunks, written.chunks);
        assert_eq!(back.blocks.bytes(), written.blocks.bytes());
    }

    #[test]
    fn every_bit_counts_and_so_do_length_identity_and_secret() {
        let (header, bytes) = tables().write(204, &IDENTITY, &SECRET);
        let file = 204 + bytes.len() as u64;
        for bit in 0..8 * HEADER_BYTES {
            let mut damaged = header;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                read(&damaged, &bytes, file).is_err(),
                "bit {bit} of the header"
            );
        }
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                read(&header, &damaged, file).is_err(),
                "bit {bit} of the tables"
            );
        }
        assert!(read(&header, &bytes, file - 1).is_err());
        assert!(Header::read(&header, file, &[9; 32]).is_err());
        let header = Header::read(&header, file, &IDENTITY).unwrap();
        let (chunks, blocks) = bytes.split_at(96);
        assert!(header.tables(chunks, blocks.to_vec(), &[6; 32]).is_err());
    }
}
