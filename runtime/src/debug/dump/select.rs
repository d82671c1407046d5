//! Which blocks to show.

use super::options::ShowArgs;
use super::titled;
use crate::again;
use crate::cache::{BlockId, CachedBlock};
use crate::debug::symbols::Symbols;
use crate::vm::Vm;
use anyhow::{Context, ensure};

/// The blocks that the arguments name: those at addresses, then the hottest, or all in
/// the order of their addresses.
///
/// # Errors
/// There is no such symbol, or no code at an address.
pub fn select(vm: &mut Vm, args: &ShowArgs, symbols: &Symbols) -> anyhow::Result<Vec<BlockId>> {
    let mut chosen = Vec::new();
    for place in &args.at {
        let eip = address(place, symbols)?;
        chosen.extend(at(vm, eip, symbols)?);
    }
    if args.wants_all() {
        let mut all: Vec<_> = vm.cache.iter().map(|(id, b)| (b.key.eip, id)).collect();
        all.sort_unstable_by_key(|&(eip, id)| (eip, id.0));
        chosen.extend(all.into_iter().map(|(_, id)| id));
    } else {
        chosen.extend(by_heat(vm).into_iter().take(args.hottest_count()));
    }
    let mut seen = std::collections::HashSet::new();
    chosen.retain(|id| seen.insert(id.0));
    Ok(chosen)
}

/// The address that a word names: a symbol, or hexadecimal or decimal digits.
fn address(word: &str, symbols: &Symbols) -> anyhow::Result<u32> {
    let bare = || u32::from_str_radix(word, 16).ok();
    let number = crate::cli::number(word).ok();
    symbols
        .address(word)
        .or(number)
        .or_else(bare)
        .with_context(|| {
            let known = match symbols.is_empty() {
                true => "; --symbols can name a file with symbols",
                false => "",
            };
            format!("{word} is neither an address nor the symbol of a function{known}")
        })
}

/// The blocks that begin at an address; else those that hold an instruction there; else
/// the one that the guest would run if it went there now.
fn at(vm: &mut Vm, eip: u32, symbols: &Symbols) -> anyhow::Result<Vec<BlockId>> {
    let holding = |holds: &dyn Fn(&CachedBlock) -> bool| -> Vec<BlockId> {
        let found = vm.cache.iter().filter(|(_, block)| holds(block));
        found.map(|(id, _)| id).collect()
    };
    let mut found = holding(&|block| block.key.eip == eip);
    if found.is_empty() {
        let instruction_at = |block: &CachedBlock| {
            let block = again::block(&vm.cpu, block);
            block.is_some_and(|block| block.insns.iter().any(|insn| insn.eip == eip))
        };
        found = holding(&|block| block.reaches(eip) && instruction_at(block));
    }
    if found.is_empty() {
        found.extend(vm.decoded_at(eip));
    }
    let place = titled(eip, symbols.name(eip).as_deref());
    ensure!(
        !found.is_empty(),
        "no block at {place} has run, and the guest cannot run there as it is now"
    );
    Ok(found)
}

/// Blocks by the guest instructions that they have probably run: first by samples, which
/// are of compiled code, then by what the interpreter has counted.
fn by_heat(vm: &Vm) -> Vec<BlockId> {
    let weight = |b: &CachedBlock| (b.samples, u64::from(b.heat) * u64::from(b.insns));
    let mut all: Vec<_> = vm.cache.iter().map(|(id, b)| (weight(b), id)).collect();
    all.sort_unstable_by_key(|&(weight, id)| (std::cmp::Reverse(weight), id.0));
    all.into_iter().map(|(_, id)| id).collect()
}
