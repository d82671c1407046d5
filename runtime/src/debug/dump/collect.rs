//! Laying one block open: compiling it again as it was, and holding that to what ran.

use super::edges::Edges;
use super::options::{CodeChoice, OptChoice};
use super::{Code, DumpedBlock, Form, Origin, Runs};
use crate::again;
use crate::cache::{BlockId, CachedBlock, Compiled};
use crate::config::Tier;
use crate::debug::symbols::Symbols;
use crate::mirrored::MirrorPolicy;
use crate::native;
use crate::tier::flavour;
use crate::vm::Vm;
use shadow_mmu::PhysAddr;
use std::ops::Range;
use std::time::Instant;
use translator::block::Block;
use translator::compile::{CompileRequest, Compiler, HostCode, Opt};
use translator::direct::DirectCompiler;
use translator::dump::{Listing, named_clif};
use translator::error::CompileError;

/// Lays blocks of a machine open.
pub struct Collector<'a> {
    vm: &'a Vm,
    symbols: &'a Symbols,
    edges: Edges,
    choice: CodeChoice,
    /// What the guest ran with.
    tier: Tier,
    direct: DirectCompiler,
    cranelift: Compiler,
    /// Cranelift compiles as it does for guests.
    usual: bool,
}

impl<'a> Collector<'a> {
    /// For blocks of `vm`, which was made for `tier`.
    ///
    /// # Errors
    /// Cranelift does not know the host, or the host cannot have the code asked for.
    pub fn new(
        vm: &'a Vm,
        tier: Tier,
        symbols: &'a Symbols,
        choice: CodeChoice,
        opt: OptChoice,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !matches!(choice, CodeChoice::Direct | CodeChoice::Mirror)
                || native::direct_supported(),
            "direct code needs an x86-64 host with BMI2"
        );
        let level = match opt {
            OptChoice::None => Opt::None,
            OptChoice::Speed => Opt::Speed,
        };
        Ok(Self {
            vm,
            symbols,
            edges: Edges::of(&vm.cache),
            choice,
            tier,
            direct: DirectCompiler::new(),
            cranelift: Compiler::with_opt(level)?,
            usual: opt == OptChoice::None,
        })
    }

    /// A block of the machine, laid open.
    pub fn block(&mut self, id: BlockId) -> Option<DumpedBlock> {
        let cached = self.vm.cache.get(id)?;
        let block = again::block(&self.vm.cpu, cached)?;
        let guest = guest_bytes(self.vm, cached);
        let (code, host) = self.code(cached, &block);
        Some(DumpedBlock {
            eip: block.eip,
            physical: cached.key.phys,
            mode: block.mode,
            symbol: self.symbols.name(block.eip),
            guest_bytes: block.len_bytes,
            terminal: block.terminal,
            code,
            runs: runs(cached),
            out: self.edges.outgoing(id, self.symbols),
            into: self.edges.incoming(id, &self.vm.cache, self.symbols),
            listing: match &host {
                Some(host) => Listing::new(&block, &guest, host),
                None => Listing::guest_only(&block, &guest),
            },
            clif: host.map_or_else(Default::default, |host| functions(&block, &host)),
        })
    }

    /// The code of a block, and what there is to say of it.
    fn code(&mut self, cached: &CachedBlock, block: &Block) -> (Code, Option<HostCode>) {
        let (form, made) = self.compile(cached, block);
        match made {
            Ok((mut host, translation_ns)) => {
                let code = Code {
                    form: Some(form),
                    origin: self.origin(cached, form, &mut host),
                    bytes: host.bytes.len(),
                    translation_ns,
                };
                (code, Some(host))
            }
            Err(error) => {
                let code = Code {
                    form: None,
                    origin: Origin::None(error.to_string()),
                    bytes: 0,
                    translation_ns: 0,
                };
                (code, None)
            }
        }
    }

    /// The form in which to show a block.
    fn form(&self, cached: &CachedBlock) -> Form {
        let policy = self.vm.tiers.mirror;
        let mirrored = flavour(cached).mirrored || policy == MirrorPolicy::Always;
        match self.choice {
            CodeChoice::Cranelift => Form::Cranelift,
            CodeChoice::Direct => Form::Direct,
            CodeChoice::Mirror => Form::Mirrored,
            CodeChoice::Run if self.tier == Tier::Cranelift => Form::Cranelift,
            // What is interpreted is shown as the default tier would have it.
            CodeChoice::Run if !native::direct_supported() => Form::Cranelift,
            CodeChoice::Run if mirrored => Form::Mirrored,
            CodeChoice::Run => Form::Direct,
        }
    }

    /// Compiles a block, twice: against the clock, and with notes.
    fn compile(
        &mut self,
        cached: &CachedBlock,
        block: &Block,
    ) -> (Form, Result<(HostCode, u64), CompileError>) {
        let form = self.form(cached);
        let flavour = flavour(cached);
        let mut request = CompileRequest {
            block,
            link_base: cached.slots().map_or(0, |slots| slots.start),
            callout_base: cached.first_callout,
            grouped: flavour.grouped,
            native_vectors: flavour.native_vectors,
            mirrored: form == Form::Mirrored,
            gs: self.vm.cpu.gs.is_some(),
            listing: false,
        };
        let mut make = |request: &CompileRequest| match form {
            Form::Cranelift => self.cranelift.compile(request),
            Form::Direct | Form::Mirrored => self.direct.compile(request),
        };
        let mut timed = |request: &CompileRequest| {
            let start = Instant::now();
            make(request).map(|code| (code, start.elapsed().as_nanos() as u64))
        };
        let first = timed(&request);
        request.listing = true;
        let second = timed(&request);
        // The first one may have found nothing in the host's caches.
        let both = first.and_then(|(_, a)| second.map(|(code, b)| (code, a.min(b))));
        (form, both)
    }

    /// Compares code with what the machine has, which takes its place if it is the same.
    fn origin(&self, cached: &CachedBlock, form: Form, code: &mut HostCode) -> Origin {
        let Compiled::At(address) = cached.compiled else {
            return Origin::Listing;
        };
        let direct = form != Form::Cranelift;
        let same_kind = direct == self.vm.tiers.uses_direct_code() && (direct || self.usual);
        let ran = self.vm.cache.code_at(address, code.bytes.len());
        match ran.filter(|ran| same_kind && is_same(ran, code)) {
            Some(ran) => {
                let ran = ran.to_vec();
                self.adopt_links(&ran, code);
                Origin::Ran
            }
            None => Origin::Another,
        }
    }

    /// Writes the links of code that has run: one that is made leads out of the block,
    /// or is not there because its target follows at once.
    fn adopt_links(&self, ran: &[u8], code: &mut HostCode) {
        let links = &self.vm.cache.links;
        for link in &code.links {
            let Some(jump) = link.jump.filter(|_| links.is_made(link.slot)) else {
                continue;
            };
            if links.info(link.slot).is_some_and(|info| info.is_fallen()) {
                code.bytes.truncate(jump.at as usize - 1);
                continue;
            }
            let at = displacement(jump.at);
            if let (Some(to), Some(from)) = (code.bytes.get_mut(at.clone()), ran.get(at)) {
                to.copy_from_slice(from);
            }
        }
    }
}

/// Whether `ran` is `code`, apart from jumps that links are written into.
fn is_same(ran: &[u8], code: &HostCode) -> bool {
    let jumps = code.links.iter().filter_map(|link| link.jump);
    let written = jumps.flat_map(|jump| {
        // With its opcode, where another block may stand.
        let whole = usize::from(jump.is_last(&code.bytes));
        let at = displacement(jump.at);
        let first = at.start.saturating_sub(whole)..at.end;
        [Some(first), jump.spent.map(displacement)]
    });
    let written: Vec<_> = written.flatten().collect();
    let linked = |n: usize| written.iter().any(|bytes| bytes.contains(&n));
    let mut pairs = ran.iter().zip(&code.bytes).enumerate();
    pairs.all(|(n, (a, b))| a == b || linked(n))
}

/// The bytes of the displacement at an offset.
fn displacement(at: u32) -> Range<usize> {
    let at = at as usize;
    at..at + 4
}

fn runs(cached: &CachedBlock) -> Runs {
    Runs {
        // What is kept has a heat to begin with.
        entered: if cached.kept { 0 } else { cached.heat },
        exact: cached.slots().is_none(),
        kept: cached.kept,
        samples: cached.samples,
        side_exits: cached.side_exits,
    }
}

/// The CLIF of a block as functions, before and after.
fn functions(block: &Block, code: &HostCode) -> [String; 2] {
    let name = |suffix| format!("block_{:08x}{suffix}", block.eip);
    let function = |clif: &Option<String>, suffix| {
        let text = clif.as_deref().unwrap_or_default();
        named_clif(text, &name(suffix))
    };
    [
        function(&code.clif, ""),
        function(&code.optimised, "_optimised"),
    ]
}

/// The block's bytes as they are in memory now.
fn guest_bytes(vm: &Vm, block: &CachedBlock) -> Vec<u8> {
    let mut bytes = vec![0; block.len_bytes as usize];
    let in_first = bytes.len().min(0x1000 - (block.key.phys & 0xfff) as usize);
    let (first, second) = bytes.split_at_mut(in_first);
    let ram = vm.cpu.mmu.ram();
    // The block was decoded from RAM, or from a ROM or all ones outside it.
    if ram.read_slice(PhysAddr(block.key.phys), first).is_none() {
        first.fill(0xff);
        vm.cpu.pc.mmio_fetch(block.key.phys, first);
    }
    if let Some(next) = block.crosses_to() {
        let _ = ram.read_slice(next, second);
    }
    bytes
}
