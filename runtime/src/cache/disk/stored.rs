//! A file of kept code, open for reading.
//!
//! Header and tables are read and authenticated at once. A chunk is read when a block
//! of it is first wanted, into memory of the process's own, and only used if its hash
//! is right: what happens to the file afterwards, even that it gets shorter, concerns
//! nobody. Few chunks are kept, as blocks lie in the order in which they were made,
//! and that is about the order in which they are wanted again. The host has the file in
//! memory once for all machines that read it.

use super::folder::{Folder, FolderError};
use super::format::{Chunk, Damage, HEADER_BYTES, Header, Place, Tables};
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Chunks kept in memory.
const CHUNKS: usize = 48;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// The folder, or the right to the file.
    #[error("{0}")]
    Folder(#[from] FolderError),
    /// The file's content.
    #[error("{0}")]
    Damage(#[from] Damage),
    /// The host cannot read it.
    #[error("{0}")]
    Host(#[from] std::io::Error),
}

/// An open file.
pub struct Stored {
    file: File,
    /// What is in it.
    pub tables: Tables,
    /// Chunks in memory, the last read first.
    recent: VecDeque<(u32, Vec<u8>)>,
    /// Which chunks have been used.
    pub used: Vec<bool>,
    /// Chunks that are not what was written.
    bad: Vec<bool>,
}

impl Stored {
    /// Opens a file, if there is one.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn open(
        folder: &Folder,
        name: &str,
        identity: &[u8; 32],
    ) -> Result<Option<Self>, StoredError> {
        let Some(file) = folder.read(name)? else {
            return Ok(None);
        };
        let length = file.metadata()?.len();
        let mut header = [0; HEADER_BYTES];
        if length < HEADER_BYTES as u64 {
            return Err(Damage("it is too short").into());
        }
        file.read_exact_at(&mut header, 0)?;
        let header = Header::read(&header, length, identity)?;
        let [chunks, blocks] = header.table_bytes();
        let (mut chunk_table, mut block_table) =
            (vec![0; chunks as usize], vec![0; blocks as usize]);
        file.read_exact_at(&mut chunk_table, header.tables_at)?;
        file.read_exact_at(&mut block_table, header.tables_at + chunks)?;
        let tables = header.tables(&chunk_table, block_table, folder.secret())?;
        let chunks = tables.chunks.len();
        Ok(Some(Self {
            file,
            tables,
            recent: VecDeque::new(),
            used: vec![false; chunks],
            bad: vec![false; chunks],
        }))
    }

    /// Bytes of all chunks.
    pub fn bytes(&self) -> u64 {
        self.tables.chunks.iter().map(|c| u64::from(c.bytes)).sum()
    }

    /// What is from `place` on in its chunk. `None` if the chunk is bad.
    ///
    /// # Errors
    /// The chunk turns out to be bad now.
    pub fn record(&mut self, place: Place) -> Result<Option<&[u8]>, StoredError> {
        let number = place.chunk as usize;
        if self.bad.get(number).is_none_or(|&bad| bad) {
            return Ok(None);
        }
        let at = match self.recent.iter().position(|(n, _)| *n == place.chunk) {
            Some(at) => at,
            None => {
                self.fetch(place.chunk)?;
                0
            }
        };
        let chunk = self.recent.get(at).map(|(_, bytes)| &bytes[..]);
        Ok(chunk.and_then(|bytes| bytes.get(place.offset as usize..)))
    }

    /// Forgets the chunks in memory, which can be read again.
    pub fn rest(&mut self) {
        self.recent = VecDeque::new();
    }

    /// Reads a chunk into memory, as the first of those there.
    #[cold]
    fn fetch(&mut self, number: u32) -> Result<(), StoredError> {
        let mut buffer = match self.recent.len() >= CHUNKS {
            true => self.recent.pop_back().map(|(_, buffer)| buffer),
            false => None,
        }
        .unwrap_or_default();
        if let Err(error) = self.read(number, &mut buffer) {
            self.bad[number as usize] = true;
            return Err(error);
        }
        self.used[number as usize] = true;
        self.recent.push_front((number, buffer));
        Ok(())
    }

    /// Reads a chunk.
    ///
    /// # Errors
    /// It is not what was written.
    pub fn read(&self, number: u32, buffer: &mut Vec<u8>) -> Result<(), StoredError> {
        let chunk = self.tables.chunks.get(number as usize);
        let &Chunk {
            offset,
            bytes,
            hash,
            ..
        } = chunk.ok_or(Damage("a chunk is out of place"))?;
        buffer.resize(bytes as usize, 0);
        self.file.read_exact_at(buffer, offset)?;
        if blake3::hash(buffer) != blake3::Hash::from(hash) {
            return Err(Damage("the checksum of a part is wrong").into());
        }
        Ok(())
    }
}
