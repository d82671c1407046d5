//! Which tier runs a block, and the thread that compiles.
//!
//! Cold blocks are interpreted. On hosts that have direct code, a block entered
//! [`LUKEWARM`] times is re-encoded at once, which costs microseconds. On others,
//! one entered [`WARM`] times is queued for the worker, which compiles it while
//! the interpreter goes on. Finished code comes back over a channel and is
//! installed by the run loop between blocks. That costs 60 to 400 µs a block, the
//! interpreter some 10 ns an instruction, so a block must promise thousands of
//! executions; the threshold assumes that what ran so often will run on.
//! What an earlier run has re-encoded is there at once ([`kept`]).

mod kept;

pub use kept::flavour;

use crate::again;
use crate::cache::copies::Copies;
use crate::cache::disk::DiskCache;
use crate::cache::disk::record::Flavour;
use crate::cache::generations::Exhausted;
use crate::cache::{BlockId, Cache, CachedBlock, Compiled, Warmth};
use crate::config::Tier;
use crate::interp::Op;
use crate::ledger::Account;
use crate::mirrored::MirrorPolicy;
use crate::native;
use crate::stopwatch::Stopwatch;
use crate::vcpu::Cpu;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use translator::block::Block;
use translator::compile::{CompileRequest, Compiler, HostCode};
use translator::direct::{DirectCompiler, hint};
use translator::error::CompileError;
use translator::mode::Mode;

/// Entries after which a block is worth compiling.
pub const WARM: u32 = 60;

/// The same, for being re-encoded, which costs as much as interpreting some tens
/// of times.
pub const LUKEWARM: u32 = 8;

/// Instructions that a compilation on the vCPU's thread takes from the budget.
const COMPILE_CHARGE: i64 = 1_000;

/// The same, for re-encoding.
const DIRECT_CHARGE: i64 = 20;

/// Side exits, weighted, after which a block is compiled again, each access
/// checked alone.
pub const MANY_SIDE_EXITS: u32 = 256;

/// Side exits for want of the vector state after which a block is compiled again,
/// with callouts for vector instructions.
pub const MANY_VECTOR_EXITS: u32 = 32;

/// Weight of a side exit that checking alone will probably spare.
const PROBABLE: u32 = 8;

/// What a side exit of direct code counts, of [`MANY_SIDE_EXITS`]. Most often it is
/// just the first access to a page.
fn weight(exit: u64) -> u32 {
    u32::from(exit & hint::SHARED != 0)
}

/// Most blocks waiting for the worker; beyond, they stay interpreted for now.
const MAX_QUEUED: u64 = 4096;

/// What the worker gets.
struct Request {
    flavour: Flavour,
    gs: bool,
    id: BlockId,
    serial: u64,
    generation: u32,
    block: Block,
    link_base: u32,
    callout_base: u32,
}

impl Request {
    fn to_compile(&self) -> CompileRequest<'_> {
        CompileRequest {
            block: &self.block,
            link_base: self.link_base,
            grouped: self.flavour.grouped,
            native_vectors: self.flavour.native_vectors,
            mirrored: self.flavour.mirrored,
            gs: self.gs,
            callout_base: self.callout_base,
            listing: false,
        }
    }
}

/// What the worker gives back.
struct Reply {
    id: BlockId,
    serial: u64,
    /// Whose numbers the code has.
    generation: u32,
    code: Result<HostCode, CompileError>,
}

/// Counts of the compiler.
#[derive(Default)]
pub struct CompileCounters {
    /// Host nanoseconds spent compiling with Cranelift.
    pub compile_ns: AtomicU64,
    /// Blocks that could not be compiled.
    pub failed: AtomicU64,
    queued: AtomicU64,
}

/// The compiler's side of the tiers.
pub struct Tiers {
    policy: Tier,
    /// When code accesses guest memory through mirrors.
    pub mirror: MirrorPolicy,
    /// Compiling is re-encoding.
    direct_code: bool,
    /// Time spent re-encoding.
    pub re_encoding: Stopwatch,
    compiler: Compiler,
    direct: DirectCompiler,
    requests: Option<Sender<Request>>,
    replies: Receiver<Reply>,
    worker: Option<JoinHandle<()>>,
    /// Counts.
    pub counters: Arc<CompileCounters>,
    /// Code kept from run to run, if the machine keeps any.
    pub disk: Option<DiskCache>,
    /// Code of programs for other addresses.
    copies: Copies,
}

impl Tiers {
    /// Starts the worker if the policy wants one. `room` says that there are mirrors.
    ///
    /// # Errors
    /// Cranelift does not support the host, or no thread can be started.
    pub fn new(policy: Tier, room: bool) -> anyhow::Result<Self> {
        let counters = Arc::new(CompileCounters::default());
        let (requests, inbox) = channel::<Request>();
        let (outbox, replies) = channel();
        let direct_code = native::uses_direct_code(policy);
        let worker = match policy {
            Tier::Auto if !direct_code => {
                let compiler = Compiler::new()?;
                let counters = Arc::clone(&counters);
                let run = move || work(compiler, &inbox, &outbox, &counters);
                Some(
                    std::thread::Builder::new()
                        .name("compile".into())
                        .spawn(run)?,
                )
            }
            _ => None,
        };
        Ok(Self {
            policy,
            mirror: MirrorPolicy::of(policy, room)?,
            direct_code,
            re_encoding: Stopwatch::default(),
            compiler: Compiler::new()?,
            direct: DirectCompiler::new(),
            requests: Some(requests),
            replies,
            worker,
            counters,
            disk: None,
            copies: Copies::default(),
        })
    }

    /// What the machine was made for.
    pub fn policy(&self) -> Tier {
        self.policy
    }

    /// Called when a block is about to be interpreted: queues or compiles it as the
    /// policy says. True if it has compiled code now.
    #[inline(always)]
    pub fn on_interpret(
        &mut self,
        cache: &mut Cache,
        cpu: &mut Cpu,
        id: BlockId,
        Warmth { heat, price }: Warmth,
    ) -> bool {
        if price != 0 {
            if heat >= price {
                cache.forgive(&mut cpu.code, id);
            }
            return false;
        }
        match self.policy {
            Tier::Interp => false,
            Tier::Auto if self.direct_code => heat >= LUKEWARM && self.compile_now(cache, cpu, id),
            Tier::Auto => {
                if heat >= WARM && cache.get(id).is_some_and(|b| b.compiled == Compiled::No) {
                    self.queue(cache, cpu, id);
                }
                false
            }
            Tier::Cranelift | Tier::Direct | Tier::Mirror => self.compile_now(cache, cpu, id),
        }
    }

    /// Called when a block's compiled code left in the middle: code that keeps
    /// doing so is dropped once, to be compiled with narrower checks or without
    /// vector instructions of its own.
    #[cold]
    pub fn on_side_exit(&mut self, cache: &mut Cache, id: BlockId, exit: u64) {
        let Some(block) = cache.get_mut(id) else {
            return;
        };
        let (count, many, weight) = match (self.direct_code, exit & hint::VECTOR) {
            (false, _) => (&mut block.side_exits, MANY_SIDE_EXITS, PROBABLE),
            (true, 0) => (&mut block.side_exits, MANY_SIDE_EXITS, weight(exit)),
            (true, _) => (&mut block.vector_exits, MANY_VECTOR_EXITS, 1),
        };
        let few = *count < many;
        *count = count.saturating_add(weight);
        if few && *count >= many {
            cache.drop_code(id);
        }
    }

    /// Whether code is direct code.
    pub fn uses_direct_code(&self) -> bool {
        self.direct_code
    }

    /// Installs what the worker has finished.
    pub fn collect(&mut self, cache: &mut Cache) {
        loop {
            match self.replies.try_recv() {
                Ok(reply) => {
                    self.counters.queued.fetch_sub(1, Ordering::Relaxed);
                    install(cache, &reply);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    #[cold]
    fn queue(&mut self, cache: &mut Cache, cpu: &mut Cpu, id: BlockId) {
        if self.counters.queued.load(Ordering::Relaxed) >= MAX_QUEUED {
            return;
        }
        let Some(request) = prepare(cache, cpu, id) else {
            return;
        };
        extend_callouts(cpu, cache.get(id), &request.block);
        if let Some(block) = cache.get_mut(id) {
            block.compiled = Compiled::Queued;
        }
        self.counters.queued.fetch_add(1, Ordering::Relaxed);
        if let Some(requests) = &self.requests {
            // A worker that is gone leaves the block interpreted.
            let _ = requests.send(request);
        }
    }

    fn compile_now(&mut self, cache: &mut Cache, cpu: &mut Cpu, id: BlockId) -> bool {
        if cache.get(id).is_none_or(|b| b.compiled != Compiled::No) {
            return false;
        }
        let before = cpu.ledger.enter(Account::COMPILE);
        let installed = self.compile_uncompiled(cache, cpu, id);
        cpu.ledger.leave(before);
        installed
    }

    fn compile_uncompiled(&mut self, cache: &mut Cache, cpu: &mut Cpu, id: BlockId) -> bool {
        if let Some(block) = cache.get_mut(id) {
            let settled = Mode(block.key.mode).settled();
            block.mirror.begin(self.mirror, settled);
        }
        let Some(request) = prepare(cache, cpu, id) else {
            return false;
        };
        // The slice pays, so that time limits hold while much is compiled.
        let code = if self.direct_code {
            cpu.state.budget -= DIRECT_CHARGE;
            let piece = self.re_encoding.start();
            let code = self.direct.compile(&request.to_compile());
            self.re_encoding.stop(piece);
            let failed = u64::from(code.is_err());
            self.counters.failed.fetch_add(failed, Ordering::Relaxed);
            if code.as_ref().is_ok_and(kept::calls_out) {
                extend_callouts(cpu, cache.get(id), &request.block);
            }
            code
        } else {
            extend_callouts(cpu, cache.get(id), &request.block);
            cpu.state.budget -= COMPILE_CHARGE;
            let compiler = &mut self.compiler;
            measured(&self.counters, || compiler.compile(&request.to_compile()))
        };
        if let (true, Ok(code)) = (cpu.log.is_some(), &code) {
            cpu.log_code(request.block.eip, code.bytes.len());
        }
        let reply = Reply {
            id,
            serial: request.serial,
            generation: request.generation,
            code,
        };
        let installed = install(cache, &reply);
        if let (true, Ok(code)) = (installed, reply.code) {
            cache.counters.mirrored += u64::from(request.flavour.mirrored);
            self.keep(cache, cpu, &request, code);
            if let Some(block) = cache.get_mut(id) {
                block.forget_ops();
            }
        }
        installed
    }
}

impl Drop for Tiers {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(worker) = self.worker.take() {
            // A panic of the worker has been reported by its thread already.
            let _ = worker.join();
        }
    }
}

/// Reserves the slots and callout numbers that a block's code will name.
fn numbers(cache: &mut Cache, cpu: &mut Cpu, id: BlockId) -> Option<(u32, u32)> {
    if cpu.callouts.len() >= cache.sizes.callouts() {
        cache.exhaust(Exhausted::Share);
        return None;
    }
    let link_base = cache.reserve_links(id, 2)?;
    let callout_base = cpu.callouts.next();
    cache.get_mut(id)?.first_callout = callout_base;
    Some((link_base, callout_base))
}

/// Numbers a block's instructions as callouts, from where [`numbers`] has said.
fn extend_callouts(cpu: &mut Cpu, cached: Option<&CachedBlock>, block: &Block) {
    match cached.map_or(&[][..], |cached| &cached.ops) {
        [] => cpu
            .callouts
            .extend(block.insns.iter().copied().map(Op::new)),
        ops => cpu.callouts.extend(ops.iter().copied()),
    }
}

/// The same for a block whose instructions may be forgotten. False if it is overwritten.
fn with_callouts(cache: &Cache, cpu: &mut Cpu, id: BlockId) -> bool {
    let Some(cached) = cache.get(id) else {
        return false;
    };
    if !cached.ops.is_empty() {
        cpu.callouts.extend(cached.ops.iter().copied());
        return true;
    }
    let block = again::block(cpu, cached);
    block
        .inspect(|block| extend_callouts(cpu, None, block))
        .is_some()
}

fn prepare(cache: &mut Cache, cpu: &mut Cpu, id: BlockId) -> Option<Request> {
    let (link_base, callout_base) = numbers(cache, cpu, id)?;
    let cached = cache.get(id)?;
    let block = again::block(cpu, cached)?;
    Some(Request {
        flavour: kept::flavour(cached),
        gs: cpu.gs.is_some(),
        id,
        serial: cached.serial,
        generation: cache.generation().0,
        block,
        link_base,
        callout_base,
    })
}

fn install(cache: &mut Cache, reply: &Reply) -> bool {
    let (now, _) = cache.generation();
    let Some(block) = cache.get_mut(reply.id) else {
        return false;
    };
    if block.serial != reply.serial {
        return false;
    }
    match &reply.code {
        // It took too long: its numbers are of shares that end before the code would.
        Ok(_) if reply.generation != now => {
            block.compiled = Compiled::No;
            false
        }
        Ok(code) => cache.install(reply.id, code),
        Err(error) => {
            tracing::debug!(%error, "a block stays interpreted");
            block.compiled = Compiled::Never;
            false
        }
    }
}

/// Processor time of this thread, in nanoseconds, which a busy host does not stretch.
fn thread_cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Runs a compilation and counts what it cost.
fn measured(
    counters: &CompileCounters,
    compile: impl FnOnce() -> Result<HostCode, CompileError>,
) -> Result<HostCode, CompileError> {
    let start = thread_cpu_ns();
    let code = compile();
    counters
        .compile_ns
        .fetch_add(thread_cpu_ns() - start, Ordering::Relaxed);
    if code.is_err() {
        counters.failed.fetch_add(1, Ordering::Relaxed);
    }
    code
}

fn work(
    mut compiler: Compiler,
    inbox: &Receiver<Request>,
    outbox: &Sender<Reply>,
    counters: &CompileCounters,
) {
    while let Ok(request) = inbox.recv() {
        let code = measured(counters, || compiler.compile(&request.to_compile()));
        let reply = Reply {
            id: request.id,
            serial: request.serial,
            generation: request.generation,
            code,
        };
        if outbox.send(reply).is_err() {
            return;
        }
    }
}
