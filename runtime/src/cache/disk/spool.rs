//! Code that is new in this run, on its way to a file.
//!
//! It is written to an unfinished file a chunk at a time while the guest runs, so that
//! what is dropped from memory later is kept all the same, and the machine needs no
//! second copy of its code. The file goes with the spool unless it is finished.

use super::folder::{Folder, FolderError};
use super::format::{Chunk, HEADER_BYTES, MAX_BYTES, MAX_CHUNK_BYTES, Place};
use super::record::{self, Content, Flavour};
use crate::cache::Map;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use translator::compile::HostCode;

/// Bytes from which on a chunk is written.
const FULL_BYTES: usize = 32 << 10;

/// New code.
pub struct Spool {
    folder: Arc<Folder>,
    file: Option<Unfinished>,
    /// The chunk that is being filled.
    filling: Vec<u8>,
    /// Those that have been written.
    pub chunks: Vec<Chunk>,
    /// Where each block is.
    pub blocks: Map<u64, Place>,
    /// Where the next chunk goes.
    end: u64,
}

/// A file that is removed if nothing becomes of it.
struct Unfinished {
    folder: Arc<Folder>,
    name: String,
    file: File,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.folder.remove(&self.name);
    }
}

impl Spool {
    /// An empty one; there is no file yet.
    pub fn new(folder: Arc<Folder>) -> Self {
        Self {
            folder,
            file: None,
            filling: Vec::new(),
            chunks: Vec::new(),
            blocks: Map::default(),
            end: HEADER_BYTES as u64,
        }
    }

    /// Bytes written and to be written.
    pub fn bytes(&self) -> u64 {
        self.end - HEADER_BYTES as u64 + self.filling.len() as u64
    }

    /// Adds a block, whose numbers count from 0, in place of what is known of it.
    ///
    /// # Errors
    /// The host does not take any more.
    pub fn add(
        &mut self,
        content: &Content,
        flavour: Flavour,
        code: &HostCode,
    ) -> Result<(), FolderError> {
        let offset = self.filling.len();
        let written = record::write(&mut self.filling, content, code);
        if written.is_none() || self.filling.len() > MAX_CHUNK_BYTES || self.bytes() > MAX_BYTES {
            self.filling.truncate(offset);
            return Ok(());
        }
        let place = Place {
            chunk: self.chunks.len() as u32,
            offset: offset as u32,
            flavour,
        };
        self.blocks.insert(content.hash(), place);
        if self.filling.len() >= FULL_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what has not been written.
    ///
    /// # Errors
    /// The host does not take any more.
    pub fn flush(&mut self) -> Result<(), FolderError> {
        if self.filling.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.filling);
        self.append(&bytes, 0)?;
        self.filling = bytes;
        self.filling.clear();
        Ok(())
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// The host does not take any more.
    pub fn append(&mut self, bytes: &[u8], used: u32) -> Result<(), FolderError> {
        let end = self.end;
        self.file()?.write_all_at(bytes, end)?;
        self.chunks.push(Chunk {
            offset: self.end,
            bytes: bytes.len() as u32,
            used,
            hash: blake3::hash(bytes).into(),
        });
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Finishes the file with what [`super::format::Tables::write`] makes, where the
    /// tables are to be, and gives it its name.
    ///
    /// # Errors
    /// The host does not take any more.
    pub fn finish(
        mut self,
        name: &str,
        tables: impl FnOnce(u64) -> ([u8; HEADER_BYTES], Vec<u8>),
    ) -> Result<(), FolderError> {
        let end = self.end;
        let (header, tables) = tables(end);
        let file = self.file()?;
        file.write_all_at(&tables, end)?;
        file.write_all_at(&header, 0)?;
        file.sync_all()?;
        if let Some(unfinished) = &self.file {
            self.folder.finish(&unfinished.name, name)?;
        }
        Ok(())
    }

    fn file(&mut self) -> Result<&File, FolderError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let (name, file) = self.folder.create()?;
                let folder = Arc::clone(&self.folder);
                Unfinished { folder, name, file }
            }
        };
        Ok(&self.file.insert(file).file)
    }
}
