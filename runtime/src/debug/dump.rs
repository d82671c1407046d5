//! Blocks of a machine as text: guest assembly, CLIF, host assembly; or guest
//! assembly and direct code.
//!
//! The machine has run in the interpreter, whose entry counts say which blocks
//! are hot; the blocks asked for are compiled now, for the listing alone.

use crate::cache::{BlockId, CachedBlock};
use crate::config::Tier;
use crate::vm::Vm;
use shadow_mmu::PhysAddr;
use std::fmt::Write;
use translator::dump::dump;

/// The block at EIP `at`, if given, and the `hottest` ones most often entered, as
/// `tier` compiles them: `direct` and `mirror` by their own, others by Cranelift.
///
/// # Errors
/// No block starts at `at`, or a block cannot be compiled.
pub fn blocks(vm: &mut Vm, at: Option<u32>, hottest: usize, tier: Tier) -> anyhow::Result<String> {
    let mut chosen = Vec::new();
    if let Some(eip) = at {
        let found = vm.cache.iter().filter(|(_, b)| b.key.eip == eip);
        chosen.extend(found.map(|(id, _)| id));
        anyhow::ensure!(
            !chosen.is_empty(),
            "no block that starts at {eip:#010x} has run"
        );
    }
    chosen.extend(by_heat(vm).into_iter().take(hottest));
    let mut text = String::new();
    for id in chosen {
        text.push_str(&block(vm, id, tier)?);
        text.push('\n');
    }
    Ok(text)
}

fn by_heat(vm: &Vm) -> Vec<BlockId> {
    let weight = |b: &CachedBlock| u64::from(b.heat) * b.ops.len() as u64;
    let mut all: Vec<(u64, BlockId)> = vm.cache.iter().map(|(id, b)| (weight(b), id)).collect();
    all.sort_unstable_by_key(|&(weight, id)| (std::cmp::Reverse(weight), id.0));
    all.into_iter().map(|(_, id)| id).collect()
}

fn block(vm: &mut Vm, id: BlockId, tier: Tier) -> anyhow::Result<String> {
    let Some(cached) = vm.cache.get(id) else {
        return Ok(String::new());
    };
    let (block, heat) = (cached.block(), cached.heat);
    let guest = guest_bytes(vm, cached);
    let code = vm.tiers.listing(&block, tier)?;
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "entered {heat} times");
    text.push_str(&dump(&block, &guest, &code));
    Ok(text)
}

/// The block's bytes as they are in memory now.
fn guest_bytes(vm: &Vm, block: &CachedBlock) -> Vec<u8> {
    let mut bytes = vec![0; block.len_bytes as usize];
    let in_first = bytes.len().min(0x1000 - (block.key.phys & 0xfff) as usize);
    let (first, second) = bytes.split_at_mut(in_first);
    let ram = vm.cpu.mmu.ram();
    // The block was decoded from RAM, or from all ones outside it.
    let _ = ram.read_slice(PhysAddr(block.key.phys), first);
    if let Some(next) = block.crosses_to {
        let _ = ram.read_slice(next, second);
    }
    bytes
}
