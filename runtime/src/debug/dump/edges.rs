//! The graph of blocks: where each goes by fixed jumps, and which of these ways are links.
//!
//! Where a block goes is in its terminal. That is an EIP; of several blocks there the one
//! that a link leads to is meant, else one of the same mode.

use super::Edge;
use crate::cache::{BlockId, Cache, CachedBlock, Compiled};
use crate::debug::symbols::Symbols;
use std::collections::HashMap;
use translator::block::Terminal;

/// The ways between all blocks of a cache.
pub struct Edges {
    out: HashMap<u32, Vec<Way>>,
    into: HashMap<u32, Vec<(BlockId, bool)>>,
}

/// A way out of a block.
struct Way {
    eip: u32,
    to: Option<BlockId>,
    linked: bool,
}

impl Edges {
    /// Looks at all blocks.
    pub fn of(cache: &Cache) -> Self {
        let links = links(cache);
        let mut at: HashMap<u32, Vec<BlockId>> = HashMap::new();
        for (id, block) in cache.iter() {
            at.entry(block.key.eip).or_default().push(id);
        }
        let mut edges = Self {
            out: HashMap::new(),
            into: HashMap::new(),
        };
        for (id, block) in cache.iter() {
            for eip in targets(block.terminal).into_iter().flatten() {
                // The code of a loop jumps to its own start without a link.
                let coded = matches!(block.compiled, Compiled::At(_));
                let loops = (coded && eip == block.key.eip).then_some(id);
                let linked = links.get(&(id.0, eip)).copied().or(loops);
                let linked = linked.or_else(|| {
                    let through = |other: &&BlockId| is_gated(cache, block, eip, **other);
                    at.get(&eip)?.iter().find(through).copied()
                });
                let alike = |other: &&BlockId| {
                    cache
                        .get(**other)
                        .is_some_and(|b| b.key.mode == block.key.mode)
                };
                let same_mode = || at.get(&eip)?.iter().find(alike).copied();
                let to = linked.or_else(same_mode);
                let linked = linked.is_some();
                edges
                    .out
                    .entry(id.0)
                    .or_default()
                    .push(Way { eip, to, linked });
                if let Some(to) = to {
                    edges.into.entry(to.0).or_default().push((id, linked));
                }
            }
        }
        edges
    }

    /// Where block `id` goes.
    pub fn outgoing(&self, id: BlockId, symbols: &Symbols) -> Vec<Edge> {
        let ways = self.out.get(&id.0).into_iter().flatten();
        ways.map(|way| Edge {
            eip: way.eip,
            symbol: symbols.name(way.eip),
            known: way.to.is_some(),
            linked: way.linked,
        })
        .collect()
    }

    /// Which blocks go to block `id`.
    pub fn incoming(&self, id: BlockId, cache: &Cache, symbols: &Symbols) -> Vec<Edge> {
        let ways = self.into.get(&id.0).into_iter().flatten();
        let edge = |&(from, linked): &(BlockId, bool)| {
            let eip = cache.get(from)?.key.eip;
            Some(Edge {
                eip,
                symbol: symbols.name(eip),
                known: true,
                linked,
            })
        };
        ways.filter_map(edge).collect()
    }
}

/// The links that are made: from block and EIP to block.
fn links(cache: &Cache) -> HashMap<(u32, u32), BlockId> {
    let mut links = HashMap::new();
    for (id, block) in cache.iter() {
        for slot in cache.slots_to(block) {
            let Some(info) = cache.links.info(slot) else {
                continue;
            };
            // A slot whose block is gone may still be on the list.
            let owns = |owner: &CachedBlock| owner.slots().is_some_and(|s| s.contains(&slot));
            if cache.get(info.owner).is_some_and(owns) {
                links.insert((info.owner.0, info.eip), id);
            }
        }
    }
    links
}

/// Whether a block goes to the one at `eip` through a gate.
fn is_gated(cache: &Cache, block: &CachedBlock, eip: u32, target: BlockId) -> bool {
    let leads = |slot: u32| {
        let info = cache.links.info(slot);
        info.is_some_and(|info| info.eip == eip) && cache.links.is_made(slot)
    };
    let code = cache.get(target).map(|target| target.compiled);
    let gate = cache.gates.code_at(eip).map(Compiled::At);
    gate.is_some() && gate == code && block.slots().into_iter().flatten().any(leads)
}

/// Where a block goes by fixed jumps.
pub fn targets(terminal: Terminal) -> [Option<u32>; 2] {
    match terminal {
        Terminal::Next(eip) | Terminal::Jump(eip) => [Some(eip), None],
        Terminal::Branch { taken, fallthrough } => [Some(taken), Some(fallthrough)],
        Terminal::Call { target, .. } => [Some(target), None],
        Terminal::Indirect | Terminal::Return | Terminal::System => [None; 2],
    }
}
