//! Who lies where in guest memory while an image is loaded.
//!
//! Headers of images are free to name any address. [`Placement`] accepts a range only if all of it is RAM,
//! none of it is in the PC's hole below 1 MiB (video memory, ROMs, our ACPI tables), and nothing claimed
//! earlier lies there. Loaders claim everything they hand to the guest, their own tables included, so an
//! image that would overwrite its boot parameters is told so.

use super::bytes::align_down;
use super::{Memory, Problem};

/// End of conventional memory. The last KiB below the hole is left out, as where a BIOS keeps its EBDA.
pub(super) const LOW_RAM_END: u64 = 0x9_FC00;
/// First address above the hole.
pub(super) const HIGH_RAM_START: u64 = 0x10_0000;
/// The granule of initrds and modules.
pub(super) const PAGE_BYTES: u64 = 0x1000;

struct Claim {
    part: &'static str,
    start: u64,
    end: u64,
}

/// Guest memory with the list of what has been put there.
pub(super) struct Placement<'m> {
    memory: &'m mut dyn Memory,
    claims: Vec<Claim>,
}

impl<'m> Placement<'m> {
    pub(super) fn new(memory: &'m mut dyn Memory) -> Self {
        Placement {
            memory,
            claims: Vec::new(),
        }
    }

    /// Size of guest RAM, counted from address 0.
    pub(super) fn ram_bytes(&self) -> u64 {
        self.memory.ram_bytes()
    }

    /// Size of guest RAM in whole MiB.
    pub(super) fn ram_mib(&self) -> u64 {
        self.ram_bytes() >> 20
    }

    /// Reserves `len` bytes at `start` for `part`.
    pub(super) fn claim(
        &mut self,
        part: &'static str,
        start: u64,
        len: u64,
    ) -> Result<(), Problem> {
        let end = start.saturating_add(len);
        if let Some(why) = self.not_ram(start, end) {
            return Err(Problem::OutOfMemory {
                part,
                start,
                end,
                why,
            });
        }
        if len == 0 {
            return Ok(());
        }
        if let Some(there) = self
            .claims
            .iter()
            .find(|there| start < there.end && there.start < end)
        {
            return Err(Problem::Overlap {
                part,
                start,
                other: there.part,
            });
        }
        self.claims.push(Claim { part, start, end });
        Ok(())
    }

    /// Claims the place of `bytes` at `start` and writes them there.
    pub(super) fn put(
        &mut self,
        part: &'static str,
        start: u64,
        bytes: &[u8],
    ) -> Result<(), Problem> {
        self.claim(part, start, bytes.len() as u64)?;
        self.fill(part, start, bytes)
    }

    /// Writes `bytes` into a range claimed before.
    pub(super) fn fill(
        &mut self,
        part: &'static str,
        start: u64,
        bytes: &[u8],
    ) -> Result<(), Problem> {
        let end = start.saturating_add(bytes.len() as u64);
        let why = || String::from("guest memory refuses it");
        self.memory
            .write(start, bytes)
            .ok_or_else(|| Problem::OutOfMemory {
                part,
                start,
                end,
                why: why(),
            })
    }

    /// One past the highest address claimed above 1 MiB, or 1 MiB.
    pub(super) fn high_end(&self) -> u64 {
        self.claims
            .iter()
            .map(|there| there.end)
            .fold(HIGH_RAM_START, u64::max)
    }

    /// The highest page-aligned start for `len` bytes that end at or below `limit` and below the end of RAM.
    pub(super) fn highest_start(&self, len: u64, limit: u64) -> Option<u64> {
        Some(align_down(
            self.ram_bytes().min(limit).checked_sub(len)?,
            PAGE_BYTES,
        ))
    }

    fn not_ram(&self, start: u64, end: u64) -> Option<String> {
        if end > self.ram_bytes() {
            return Some(format!("the guest has {} MiB of memory", self.ram_mib()));
        }
        if start < HIGH_RAM_START && end > LOW_RAM_END {
            return Some(format!(
                "{LOW_RAM_END:#x} to {HIGH_RAM_START:#x} is no RAM on a PC"
            ));
        }
        None
    }
}
