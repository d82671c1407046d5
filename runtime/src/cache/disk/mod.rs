//! Translated code kept from run to run.
//!
//! Most of what a guest runs, it has run before: the same kernel boots again, the same
//! programs start. Direct code depends on little more than the guest's bytes, so it can
//! be looked up by them instead of being made anew. A [`DiskCache`] has one file for
//! each combination of translator, processor and host ([`identity`]), reads code from it
//! when a block is decoded, collects what is new, and writes both together when the
//! machine has stopped.
//!
//! Nothing in a file is believed before it is authenticated ([`format`]), nobody else
//! can write there ([`folder`]), and code is only taken for exactly the bytes, EIP and
//! mode that it was made of ([`record`]). Whatever is wrong, the machine does without,
//! and says so once.
//!
//! Files are replaced as a whole and never changed, so any number of machines may read
//! and write at the same time. Who writes later takes what the other has written along;
//! if both do so at once, one's is lost.

mod blocks;
pub mod folder;
pub mod format;
pub mod identity;
pub mod record;
mod spool;
mod stored;

use crate::config::CodeCache;
use blocks::Blocks;
use folder::{Folder, FolderError};
use format::{MAX_BYTES, Place, Tables};
use record::{Content, Flavour};
use spool::Spool;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stored::Stored;
use translator::compile::HostCode;

/// A file is written again if this part of it is new.
const WORTH_WRITING: u64 = 64;
/// Files of other builds and settings that stay.
const FILES: usize = 6;

/// Code kept from run to run.
pub struct DiskCache {
    folder: Arc<Folder>,
    identity: [u8; 32],
    name: String,
    stored: Option<Stored>,
    /// What is new. `None` after the host has refused to take more.
    spool: Option<Spool>,
    /// The code last found.
    found: HostCode,
    /// Most bytes of a file's chunks.
    limit: u64,
}

/// Where the user's programs keep what they can do without (XDG Base Directory
/// Specification), if the environment says so.
pub fn users_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let absolute = |path: &PathBuf| path.is_absolute();
    let caches = variable("XDG_CACHE_HOME").filter(absolute);
    let caches = caches.or_else(|| Some(variable("HOME").filter(absolute)?.join(".cache")));
    Some(caches?.join("ring1"))
}

impl DiskCache {
    /// Opens the cache that a configuration asks for. Without a place of its own it
    /// does without in silence; of a place that was given it says what is wrong.
    pub fn for_config(config: &CodeCache, identity: [u8; 32]) -> Option<Self> {
        let (path, given) = match config {
            CodeCache::Off => return None,
            CodeCache::User => (users_folder()?, false),
            CodeCache::Folder(path) => (path.clone(), true),
        };
        match Self::open(&path, identity) {
            Ok(cache) => return Some(cache),
            Err(FolderError::Host(error)) if !given => {
                tracing::debug!(%error, "no code is kept");
            }
            Err(error) => tracing::warn!("no code is kept in {}: {error}", path.display()),
        }
        None
    }

    /// Opens the cache in a folder for code of `identity`. A file that is no good is
    /// as one that is not there, but for a warning.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(path: &Path, identity: [u8; 32]) -> Result<Self, FolderError> {
        let folder = Folder::open(path)?;
        folder.tidy(identity::PREFIX, FILES);
        let name = identity::file_name(&identity);
        let stored = Stored::open(&folder, &name, &identity).unwrap_or_else(|error| {
            tracing::warn!("the code cache's file {name} is ignored: {error}");
            None
        });
        Ok(Self {
            spool: Some(Spool::new(Arc::clone(&folder))),
            folder,
            identity,
            name,
            stored,
            found: HostCode::default(),
            limit: MAX_BYTES,
        })
    }

    /// The code of a block, its numbers counted from 0, and how it was made.
    pub fn find(&mut self, content: &Content) -> Option<(Flavour, &mut HostCode)> {
        let stored = self.stored.as_mut()?;
        let place = stored.tables.blocks.find(content.hash())?;
        let record = stored.record(place).unwrap_or_else(|error| {
            tracing::warn!(
                "part of the code cache's file {} is ignored: {error}",
                self.name
            );
            None
        })?;
        record::read(record, content, &mut self.found)?;
        Some((place.flavour, &mut self.found))
    }

    /// Gives back memory whose content can be read again.
    pub fn rest(&mut self) {
        if let Some(stored) = &mut self.stored {
            stored.rest();
        }
    }

    /// Keeps the code of a block, its numbers counted from 0.
    pub fn add(&mut self, content: &Content, flavour: Flavour, code: &HostCode) {
        let Some(spool) = &mut self.spool else {
            return;
        };
        if let Err(error) = spool.add(content, flavour, code) {
            tracing::debug!(%error, "no more code is kept");
            self.spool = None;
        }
    }

    /// Writes what is new, and what was there, if that is worth it. To be called once
    /// the machine has stopped; the cache is of no use afterwards.
    ///
    /// # Errors
    /// What the host refuses.
    pub fn save(&mut self) -> Result<(), FolderError> {
        let Some(mut spool) = self.spool.take() else {
            return Ok(());
        };
        // Another machine may have written since. What cannot be read is replaced.
        let current = Stored::open(&self.folder, &self.name, &self.identity);
        let mut current = current.ok().flatten();
        if let Some(current) = &mut current {
            spool.blocks.retain(|hash, place| {
                let theirs = current.tables.blocks.find(*hash);
                theirs.is_none_or(|theirs| theirs.flavour != place.flavour)
            });
            let same = |old: &&Stored| old.tables.chunks == current.tables.chunks;
            if let Some(old) = self.stored.as_ref().filter(same) {
                current.used.clone_from(&old.used);
            }
        }
        let before = current.as_ref().map_or(0, Stored::bytes);
        if spool.blocks.is_empty() || spool.bytes() * WORTH_WRITING < before {
            return Ok(());
        }
        spool.flush()?;
        let tables = merge(&mut spool, current, self.limit)?;
        let (identity, secret) = (self.identity, *self.folder.secret());
        spool.finish(&self.name, |at| tables.write(at, &identity, &secret))
    }
}

/// Takes the chunks of the current file over, those used last first, as long as there
/// is room. The tables of all that is in the spool then.
fn merge(spool: &mut Spool, current: Option<Stored>, limit: u64) -> Result<Tables, FolderError> {
    let generation = current.as_ref().map_or(0, |old| old.tables.generation) + 1;
    let mut blocks = std::mem::take(&mut spool.blocks);
    spool
        .chunks
        .iter_mut()
        .for_each(|chunk| chunk.used = generation);
    if let Some(current) = current {
        let used = |n: usize| match current.used.get(n) {
            Some(true) => generation,
            _ => current.tables.chunks.get(n).map_or(0, |chunk| chunk.used),
        };
        let mut live = vec![false; current.tables.chunks.len()];
        for (hash, place) in current.tables.blocks.iter() {
            if let Some(live) = live.get_mut(place.chunk as usize) {
                *live |= !blocks.contains_key(&hash);
            }
        }
        let mut order: Vec<usize> = (0..live.len()).filter(|&n| live[n]).collect();
        order.sort_by_key(|&n| std::cmp::Reverse(used(n)));
        let mut moved = vec![None; live.len()];
        let mut buffer = Vec::new();
        for n in order {
            let room = spool.bytes() + u64::from(current.tables.chunks[n].bytes) <= limit;
            if room && current.read(n as u32, &mut buffer).is_ok() {
                moved[n] = Some(spool.chunks.len() as u32);
                spool.append(&buffer, used(n))?;
            }
        }
        for (hash, place) in current.tables.blocks.iter() {
            if let Some(&Some(chunk)) = moved.get(place.chunk as usize) {
                blocks.entry(hash).or_insert(Place { chunk, ..place });
            }
        }
    }
    Ok(Tables {
        generation,
        chunks: std::mem::take(&mut spool.chunks),
        blocks: Blocks::new(&blocks),
    })
}

#[cfg(test)]
mod tests;
