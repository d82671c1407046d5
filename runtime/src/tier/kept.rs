//! Direct code that is used again: what goes to the cache on disk, what is kept for
//! other addresses, and how both come back.
//!
//! A block is looked up when it is decoded, and its code is kept when it is made. Code
//! comes back in the form in which it was last made: hot blocks go to the mirror at
//! once, and what had to be compiled again for its side exits need not leave so often
//! first. Blocks that cross into another page are not kept, nor such as have been
//! overwritten often.

use super::{LUKEWARM, MANY_SIDE_EXITS, MANY_VECTOR_EXITS, Request, Tiers};
use super::{numbers, with_callouts};
use crate::again;
use crate::cache::disk::DiskCache;
use crate::cache::disk::folder::FolderError;
use crate::cache::disk::record::{Content, Flavour};
use crate::cache::{BlockId, Cache, CachedBlock, Compiled, Key};
use crate::mirrored::MirrorPolicy;
use crate::vcpu::Cpu;
use shadow_mmu::PhysAddr;
use translator::compile::{CompileRequest, HostCode, Numbered, Relocation};
use translator::direct::DirectCompiler;
use translator::direct::verify::verify;

/// Longest block that is kept, in bytes.
const MAX_BYTES: usize = 320;

/// How a block's code is to be made.
pub fn flavour(block: &CachedBlock) -> Flavour {
    Flavour {
        grouped: block.side_exits < MANY_SIDE_EXITS,
        native_vectors: block.vector_exits < MANY_VECTOR_EXITS,
        mirrored: block.mirror.on,
    }
}

/// Gives a block the history that leads to code made in this way.
fn adopt(block: &mut CachedBlock, flavour: Flavour, policy: MirrorPolicy) {
    block.heat = LUKEWARM;
    block.kept = true;
    if !flavour.grouped {
        block.side_exits = MANY_SIDE_EXITS;
    }
    if !flavour.native_vectors {
        block.vector_exits = MANY_VECTOR_EXITS;
    }
    block.mirror.on = flavour.mirrored && policy == MirrorPolicy::Settled;
}

/// What a block is, if it may be kept; `buffer` gets its bytes.
fn content<'a>(block: &CachedBlock, cpu: &Cpu, buffer: &'a mut [u8]) -> Option<Content<'a>> {
    // A stand-in is no byte of its block, so the bytes do not tell that it is there.
    if block.is_peculiar() {
        return None;
    }
    let bytes = buffer.get_mut(..block.len_bytes as usize)?;
    cpu.mmu.ram().read_slice(PhysAddr(block.key.phys), bytes)?;
    let Key { eip, mode, .. } = block.key;
    let target = block.terminal.target();
    Some(Content {
        eip,
        mode,
        bytes,
        moves: block.moves(),
        reach: target.map_or(0, |target| target.wrapping_sub(eip)),
    })
}

impl Tiers {
    /// Gives a block just decoded the code that was made of the same elsewhere, or that
    /// an earlier run has left for it, if any.
    pub fn load(&mut self, cache: &mut Cache, cpu: &mut Cpu, id: BlockId) {
        if !self.direct_code {
            return;
        }
        let mut buffer = [0; MAX_BYTES];
        let Some(block) = cache.get(id).filter(|b| b.compiled == Compiled::No) else {
            return;
        };
        if self.disk.is_none() && !block.moves() {
            return;
        }
        let Some(content) = content(block, cpu, &mut buffer) else {
            return;
        };
        let copy = content.moves.then(|| self.copies.find(&content)).flatten();
        let mut kept = copy;
        let found = match (copy, &mut self.disk) {
            (Some(copy), _) => self.copies.read(copy, &content),
            (None, Some(disk)) => disk.find(&content).inspect(|(flavour, code)| {
                if content.moves {
                    kept = self.copies.add(&content, *flavour, code);
                }
            }),
            (None, None) => None,
        };
        let Some((flavour, code)) = found else {
            return;
        };
        if cfg!(debug_assertions) {
            check(&mut self.direct, cpu, block, flavour, code);
        }
        if place(cache, cpu, id, code) {
            cache.counters.loaded += u64::from(copy.is_none());
            if let Some(block) = cache.get_mut(id) {
                adopt(block, flavour, self.mirror);
                block.copy = kept;
            }
        }
    }

    /// Gives a twin just made the code of its origin, if that has any.
    pub fn load_twin(&mut self, cache: &mut Cache, cpu: &mut Cpu, id: BlockId) {
        let copy = cache.origin(id).and_then(|origin| origin.copy);
        let block = cache.get(id).filter(|b| b.compiled == Compiled::No);
        let (Some(copy), Some(block)) = (copy, block) else {
            return;
        };
        let Some((flavour, code)) = self.copies.read_at(copy, block.key.eip) else {
            return;
        };
        if cfg!(debug_assertions) {
            check(&mut self.direct, cpu, block, flavour, code);
        }
        if place(cache, cpu, id, code)
            && let Some(block) = cache.get_mut(id)
        {
            adopt(block, flavour, self.mirror);
        }
    }

    /// Keeps code just made and installed.
    pub(super) fn keep(
        &mut self,
        cache: &mut Cache,
        cpu: &Cpu,
        made: &Request,
        mut code: HostCode,
    ) {
        if !self.direct_code {
            return;
        }
        let mut buffer = [0; MAX_BYTES];
        let block = cache.get(made.id);
        let Some(content) = block.and_then(|block| content(block, cpu, &mut buffer)) else {
            return;
        };
        let (links, callouts) = (made.link_base, made.callout_base);
        let wanted = content.moves || self.disk.is_some();
        if !wanted || !code.renumber(links.wrapping_neg(), callouts.wrapping_neg()) {
            return;
        }
        if content.moves {
            let copy = self.copies.add(&content, made.flavour, &code);
            if let Some(origin) = cache.origin(made.id) {
                origin.copy = copy;
            }
        }
        if let Some(disk) = &mut self.disk {
            disk.add(&content, made.flavour, &code);
        }
    }

    /// Writes what is to be kept, once the machine has stopped.
    ///
    /// # Errors
    /// What the host refuses.
    pub fn save(&mut self) -> Result<(), FolderError> {
        self.disk.as_mut().map_or(Ok(()), DiskCache::save)
    }
}

/// Makes code that of a block, whose numbers it gets.
fn place(cache: &mut Cache, cpu: &mut Cpu, id: BlockId, code: &mut HostCode) -> bool {
    let Some((link_base, callout_base)) = numbers(cache, cpu, id) else {
        return false;
    };
    if calls_out(code) && !with_callouts(cache, cpu, id) {
        return false;
    }
    let placed = code.renumber(link_base, callout_base) && cache.place(id, code);
    if placed && let Some(block) = cache.get_mut(id) {
        block.forget_ops();
    }
    placed
}

/// Whether direct code names any instruction of its block. Most names none, and the
/// list of callouts is long.
pub(super) fn calls_out(code: &HostCode) -> bool {
    let callout = |relocation: &Relocation| relocation.counts == Numbered::Callout;
    code.relocations.iter().any(callout)
}

/// Holds code from disk to what would be made now, and to the verifier.
///
/// # Panics
/// If they differ: then something that code depends on is not part of its key.
fn check(
    direct: &mut DirectCompiler,
    cpu: &Cpu,
    block: &CachedBlock,
    flavour: Flavour,
    code: &HostCode,
) {
    let decoded = again::block(cpu, block).expect("its bytes are those it was decoded from");
    let request = CompileRequest {
        block: &decoded,
        link_base: 0,
        grouped: flavour.grouped,
        native_vectors: flavour.native_vectors,
        mirrored: flavour.mirrored,
        gs: cpu.gs.is_some(),
        callout_base: 0,
        listing: false,
    };
    let fresh = direct
        .compile(&request)
        .expect("a block compiled once compiles");
    assert_eq!(fresh.bytes, code.bytes, "{:x?}", block.key);
    assert_eq!(fresh.links, code.links, "{:x?}", block.key);
    assert_eq!(fresh.landings, code.landings, "{:x?}", block.key);
    assert_eq!(fresh.turn, code.turn, "{:x?}", block.key);
    if let Err(violation) = verify(&code.bytes, request.relies_on_gs()) {
        panic!("{violation}");
    }
}
