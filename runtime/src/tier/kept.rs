//! Direct code that outlives the machine: what goes to the cache on disk, and how it
//! comes back.
//!
//! A block is looked up when it is decoded, and its code is kept when it is made. Code
//! comes back in the form in which it was last made: hot blocks go to the mirror at
//! once, and what had to be compiled again for its side exits need not leave so often
//! first. Blocks that cross into another page are not kept, nor such as have been
//! overwritten often.

use super::{LUKEWARM, MANY_SIDE_EXITS, MANY_VECTOR_EXITS, Request, Tiers, numbers};
use crate::cache::disk::DiskCache;
use crate::cache::disk::folder::FolderError;
use crate::cache::disk::record::{Content, Flavour};
use crate::cache::{BlockId, Cache, CachedBlock, Compiled};
use crate::interp::Op;
use crate::mirrored::MirrorPolicy;
use crate::vcpu::Cpu;
use crate::volatile;
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
    block.mirror.on = flavour.mirrored && policy == MirrorPolicy::Hot;
}

/// What a block is, if it may be kept; `buffer` gets its bytes.
fn content<'a>(block: &CachedBlock, cpu: &Cpu, buffer: &'a mut [u8]) -> Option<Content<'a>> {
    // A stand-in is no byte of its block, so the bytes do not tell that it is there.
    let last = block.ops.last().map(Op::insn);
    let volatile = last.is_none_or(|insn| volatile::address(insn).is_some());
    if block.crosses_to.is_some() || block.price != 0 || block.special || volatile {
        return None;
    }
    let bytes = buffer.get_mut(..block.len_bytes as usize)?;
    cpu.mmu.ram().read_slice(PhysAddr(block.key.phys), bytes)?;
    Some(Content {
        eip: block.key.eip,
        mode: block.key.mode,
        bytes,
    })
}

impl Tiers {
    /// Gives a block just decoded the code that an earlier run has left for it, if any.
    pub fn load(&mut self, cache: &mut Cache, cpu: &mut Cpu, id: BlockId) {
        let Some(disk) = &mut self.disk else {
            return;
        };
        let mut buffer = [0; MAX_BYTES];
        let Some(block) = cache.get(id).filter(|b| b.compiled == Compiled::No) else {
            return;
        };
        let content = content(block, cpu, &mut buffer);
        let Some((flavour, code)) = content.and_then(|content| disk.find(&content)) else {
            return;
        };
        if cfg!(debug_assertions) {
            check(&mut self.direct, block, flavour, code);
        }
        let Some((link_base, callout_base)) = numbers(cache, cpu, id) else {
            return;
        };
        without_callouts(code, cpu, callout_base);
        if code.renumber(link_base, callout_base) && cache.place(id, code) {
            cache.counters.loaded += 1;
            if let Some(block) = cache.get_mut(id) {
                adopt(block, flavour, self.mirror);
            }
        }
    }

    /// Keeps code just made and installed.
    pub(super) fn keep(&mut self, cache: &Cache, cpu: &Cpu, request: &Request, mut code: HostCode) {
        let Some(disk) = &mut self.disk else {
            return;
        };
        let mut buffer = [0; MAX_BYTES];
        let block = cache.get(request.id);
        let content = block.and_then(|block| content(block, cpu, &mut buffer));
        let (links, callouts) = (request.link_base, request.callout_base);
        if let Some(content) = content
            && code.renumber(links.wrapping_neg(), callouts.wrapping_neg())
        {
            disk.add(&content, request.flavour, &code);
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

/// Takes the numbers of a block's instructions back, the last that were given, if its
/// code names none of them. Most name none, and the list is long.
pub(super) fn without_callouts(code: &HostCode, cpu: &mut Cpu, callout_base: u32) {
    let callout = |relocation: &Relocation| relocation.counts == Numbered::Callout;
    if !code.relocations.iter().any(callout) {
        cpu.callouts.truncate(callout_base as usize);
    }
}

/// Holds code from disk to what would be made now, and to the verifier.
///
/// # Panics
/// If they differ: then something that code depends on is not part of its key.
fn check(direct: &mut DirectCompiler, block: &CachedBlock, flavour: Flavour, code: &HostCode) {
    let request = CompileRequest {
        block: &block.block(),
        link_base: 0,
        grouped: flavour.grouped,
        native_vectors: flavour.native_vectors,
        mirrored: flavour.mirrored,
        callout_base: 0,
        listing: false,
    };
    let fresh = direct
        .compile(&request)
        .expect("a block compiled once compiles");
    assert_eq!(fresh.bytes, code.bytes, "{:x?}", block.key);
    assert_eq!(fresh.links, code.links, "{:x?}", block.key);
    assert_eq!(fresh.landings, code.landings, "{:x?}", block.key);
    if let Err(violation) = verify(&code.bytes) {
        panic!("{violation}");
    }
}
