//! CLIF to host code: the compiler of the translated tier.
//!
//! A [`Compiler`] keeps Cranelift's allocations between blocks and may live on a
//! worker thread. What it returns is position-independent bytes: everything a
//! block refers to is reached through [`CpuState`](crate::state::CpuState), so
//! code can be moved, kept and shared; a relocation is an error.
//!
//! Some legal CLIF makes Cranelift panic in instruction selection. A panic costs
//! the block, which stays interpreted, and the contexts, which are made anew.

use crate::block::Block;
use crate::emit::{self, Job, Scratch, loc};
use crate::error::CompileError;
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, Signature, types};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use crate::emit::{Callout, Jump, Link};

/// Why compiled code has returned to the run loop: the low byte of what the
/// trampoline returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitKind {
    /// Go on at the state's EIP, whose code was not in the jump cache.
    Next = 0,
    /// A side exit: the interpreter must run at least the instruction at EIP.
    /// The payload is the block's first link slot.
    Interpret = 1,
    /// A link slot without code: its index is the payload, EIP is stale.
    Unlinked = 2,
    /// The budget does not cover the block at EIP.
    Budget = 3,
    /// A callout asked to leave; it has set EIP.
    Leave = 4,
    /// A gate does not lead on under the current tag: its number is the payload. Go on
    /// at EIP.
    Gate = 5,
}

impl ExitKind {
    /// The kind in a return value; `None` if it is not one of ours.
    pub fn of(value: u64) -> Option<Self> {
        Some(match value as u8 {
            0 => Self::Next,
            1 => Self::Interpret,
            2 => Self::Unlinked,
            3 => Self::Budget,
            4 => Self::Leave,
            5 => Self::Gate,
            _ => return None,
        })
    }

    /// The payload in a return value: a link slot for [`ExitKind::Unlinked`] and
    /// [`ExitKind::Interpret`], a gate for [`ExitKind::Gate`], else 0.
    pub fn payload(value: u64) -> u32 {
        (value >> 32) as u32
    }
}

/// A block to be compiled, and the numbers the runtime has set aside for it.
#[derive(Clone, Copy)]
pub struct CompileRequest<'a> {
    /// The block.
    pub block: &'a Block,
    /// First of two free link slots.
    pub link_base: u32,
    /// Number of the block's first instruction among the callouts.
    pub callout_base: u32,
    /// One check may cover neighbouring accesses. Costs a side exit whenever
    /// the range crosses to a page that is no neighbour on the host, so blocks
    /// that suffer are compiled without.
    pub grouped: bool,
    /// Direct code only: x87 and vector instructions run as they are. Without, the
    /// runtime is called for them, which blocks need that may seldom use the unit.
    pub native_vectors: bool,
    /// Direct code only: access guest memory through the mirror instead of looking
    /// it up. A fault of the host must continue at a [`Landing`].
    pub mirrored: bool,
    /// Direct code only: the base of GS is the user view's mirror whenever code runs,
    /// and code of ring 3 relies on that.
    pub gs: bool,
    /// Keep the CLIF as text and note what code is for, for a dump.
    pub listing: bool,
}

impl CompileRequest<'_> {
    /// Whether direct code is to access memory by GS.
    #[must_use]
    pub fn relies_on_gs(&self) -> bool {
        self.mirrored && self.gs && self.block.mode.user()
    }
}

/// A compiled block.
#[derive(Clone, Debug, Default)]
pub struct HostCode {
    /// Position-independent host code, to be placed at a multiple of 16 or, if it is
    /// direct code, anywhere; its entry is the first byte.
    pub bytes: Vec<u8>,
    /// The link slots the block uses, at most two.
    pub links: Vec<Link>,
    /// `(host offset, guest EIP)` where the code of an instruction begins, by
    /// host offset; side exits are listed under the instruction they resume at.
    pub insn_map: Vec<(u32, u32)>,
    /// Pieces of the host code by what they are for, by host offset: see [`loc`].
    pub parts: Vec<(u32, u32)>,
    /// The CLIF as it was emitted, if it was asked for.
    pub clif: Option<String>,
    /// The CLIF that host code was selected from, likewise.
    pub optimised: Option<String>,
    /// The instructions the block leaves to the runtime.
    pub callouts: Vec<Callout>,
    /// Where the host may fault, and what then, by host offset.
    pub landings: Vec<Landing>,
    /// Where numbers of the request are in the code. Direct code only.
    pub relocations: Vec<Relocation>,
    /// The offsets of what runs again and again in a block that jumps to its own start.
    /// It is fastest in as few lines of the host's cache as it can be.
    pub turn: Option<Range<u32>>,
}

/// Four bytes of host code that hold a number counted from one of the request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Offset of the first.
    pub at: u32,
    /// What they number.
    pub counts: Numbered,
}

/// What has numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbered {
    /// Link slots, from [`CompileRequest::link_base`] on.
    Link,
    /// Instructions, from [`CompileRequest::callout_base`] on.
    Callout,
    /// EIPs. Only of blocks that move: see [`Block::moves`].
    Eip,
}

/// A piece of host code that may fault, by offsets into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landing {
    /// Its first byte.
    pub start: u32,
    /// The byte behind its last.
    pub end: u32,
    /// How the block is left, as if the instruction had not begun.
    pub way_out: WayOut,
}

/// How a block is left where the host has faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayOut {
    /// At once: the guest's state is in its registers.
    Here {
        /// EIP of the instruction, counted from the block's.
        eip: u32,
        /// Instructions of the block that are not done.
        rest: u32,
    },
    /// By the code at this offset, which has something to undo.
    Code(u32),
}

/// How much Cranelift should think.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opt {
    /// Quick to compile, and as good for single blocks.
    #[default]
    None,
    /// For hot regions.
    Speed,
}

/// Compiles blocks one after the other.
pub struct Compiler {
    isa: OwnedTargetIsa,
    ctx: Context,
    control: ControlPlane,
    scratch: Scratch,
    block_signature: Signature,
    callout_signature: Signature,
}

impl Compiler {
    /// A compiler for this host without optimisation, which suits single blocks.
    ///
    /// # Errors
    /// [`CompileError::Host`] if Cranelift does not know the host.
    pub fn new() -> Result<Self, CompileError> {
        Self::with_opt(Opt::None)
    }

    /// A compiler for this host.
    ///
    /// # Errors
    /// [`CompileError::Host`] if Cranelift does not know the host.
    pub fn with_opt(opt: Opt) -> Result<Self, CompileError> {
        let isa = host_isa(opt)?;
        let system = CallConv::triple_default(isa.triple());
        Ok(Self {
            block_signature: signature(CallConv::Tail),
            callout_signature: signature(system),
            isa,
            ctx: Context::new(),
            control: ControlPlane::default(),
            scratch: Scratch::default(),
        })
    }

    /// Compiles a block: `fn(state: *mut CpuState, from: u64) -> u64` in
    /// Cranelift's tail convention, to be entered by the trampoline or by another
    /// block. The result's low byte is an [`ExitKind`].
    ///
    /// # Errors
    /// See [`CompileError`]. The block can be interpreted all the same.
    pub fn compile(&mut self, request: &CompileRequest) -> Result<HostCode, CompileError> {
        let count = request.block.insns.len();
        if count == 0 || count > emit::MAX_INSNS {
            return Err(CompileError::Length(count));
        }
        self.guarded(|compiler| compiler.compile_block(request))
    }

    /// `extern "C" fn(state: *mut CpuState, code: *const u8) -> u64`, which runs
    /// a compiled block until it returns.
    ///
    /// # Errors
    /// See [`CompileError`].
    pub fn trampoline(&mut self) -> Result<Vec<u8>, CompileError> {
        self.guarded(|compiler| {
            let block_signature = compiler.block_signature.clone();
            let own = compiler.callout_signature.clone();
            compiler.stub(own, |cur, state, code| {
                let signature = cur.func.import_signature(block_signature);
                let from = cur.ins().iconst(types::I64, 0);
                let call = cur.ins().call_indirect(signature, code, &[state, from]);
                let outcome = cur.func.dfg.first_result(call);
                cur.ins().return_(&[outcome]);
            })
        })
    }

    /// What an unlinked slot holds the address of: a block-like function that
    /// returns [`ExitKind::Unlinked`] and the slot.
    ///
    /// # Errors
    /// See [`CompileError`].
    pub fn unlinked_stub(&mut self) -> Result<Vec<u8>, CompileError> {
        self.guarded(|compiler| {
            let own = compiler.block_signature.clone();
            compiler.stub(own, |cur, _, from| {
                let payload = cur.ins().ishl_imm_u(from, 32);
                let outcome = cur.ins().bor_imm_u(payload, ExitKind::Unlinked as i64);
                cur.ins().return_(&[outcome]);
            })
        })
    }

    /// Runs `work`, turning a panic into an error.
    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, CompileError>,
    ) -> Result<T, CompileError> {
        catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|panic| {
            self.ctx = Context::new();
            self.scratch = Scratch::default();
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Err(CompileError::Panic(text.unwrap_or("no message").to_owned()))
        })
    }

    fn compile_block(&mut self, request: &CompileRequest) -> Result<HostCode, CompileError> {
        let job = Job {
            block: request.block,
            link_base: request.link_base,
            grouped: request.grouped,
            callout_base: request.callout_base,
            block_signature: &self.block_signature,
            callout_signature: &self.callout_signature,
        };
        let emitted = emit::emit(&mut self.ctx, &mut self.scratch, &job);
        let clif = request.listing.then(|| self.ctx.func.display().to_string());
        let bytes = self.generate()?;
        let optimised = request.listing.then(|| self.ctx.func.display().to_string());
        let parts = self.parts();
        let insns = &request.block.insns;
        let insn_map = parts
            .iter()
            .filter_map(|&(offset, bits)| {
                let (loc::Part::Insn(n) | loc::Part::Exit(_, n)) = loc::part(bits)?;
                Some((offset, insns.get(n)?.eip))
            })
            .collect();
        Ok(HostCode {
            bytes,
            links: emitted.links,
            insn_map,
            parts,
            clif,
            optimised,
            callouts: emitted.callouts,
            landings: Vec::new(),
            relocations: Vec::new(),
            turn: None,
        })
    }

    /// Compiles a small function of two arguments.
    fn stub(
        &mut self,
        signature: Signature,
        body: impl FnOnce(&mut FuncCursor, cranelift_codegen::ir::Value, cranelift_codegen::ir::Value),
    ) -> Result<Vec<u8>, CompileError> {
        self.ctx.clear();
        let func: &mut Function = &mut self.ctx.func;
        func.signature = signature;
        let entry = func.dfg.make_block();
        let first = func.dfg.append_block_param(entry, types::I64);
        let second = func.dfg.append_block_param(entry, types::I64);
        let mut cur = FuncCursor::new(func);
        cur.insert_block(entry);
        body(&mut cur, first, second);
        self.generate()
    }

    /// Turns the context's function into bytes.
    fn generate(&mut self) -> Result<Vec<u8>, CompileError> {
        let compiled = self
            .ctx
            .compile(&*self.isa, &mut self.control)
            .map_err(|error| CompileError::Codegen(format!("{:?}", error.inner)))?;
        match compiled.buffer.relocs().len() {
            0 => Ok(compiled.code_buffer().to_vec()),
            count => Err(CompileError::Relocations(count)),
        }
    }

    /// The source locations of the code just generated.
    fn parts(&self) -> Vec<(u32, u32)> {
        let Some(compiled) = self.ctx.compiled_code() else {
            return Vec::new();
        };
        let mut parts: Vec<(u32, u32)> = Vec::new();
        for piece in compiled.buffer.get_srclocs_sorted() {
            if parts
                .last()
                .is_none_or(|&(_, bits)| bits != piece.loc.bits())
            {
                parts.push((piece.start, piece.loc.bits()));
            }
        }
        parts
    }
}

/// `fn(i64, i64) -> i64`.
fn signature(convention: CallConv) -> Signature {
    let mut signature = Signature::new(convention);
    signature.params = vec![AbiParam::new(types::I64); 2];
    signature.returns = vec![AbiParam::new(types::I64)];
    signature
}

/// Cranelift's back end for this host, with the settings measured for short code.
fn host_isa(opt: Opt) -> Result<OwnedTargetIsa, CompileError> {
    let host = |error: &dyn std::fmt::Display| CompileError::Host(error.to_string());
    let mut flags = settings::builder();
    let level = match opt {
        Opt::None => "none",
        Opt::Speed => "speed",
    };
    let verifier = if cfg!(debug_assertions) {
        "true"
    } else {
        "false"
    };
    for (name, value) in [
        ("opt_level", level),
        ("enable_verifier", verifier),
        ("is_pic", "true"),
        ("unwind_info", "false"),
        ("preserve_frame_pointers", "true"),
        ("enable_probestack", "false"),
        ("enable_heap_access_spectre_mitigation", "false"),
        ("enable_table_access_spectre_mitigation", "false"),
    ] {
        flags.set(name, value).map_err(|error| host(&error))?;
    }
    cranelift_native::builder()
        .map_err(|error| host(&error))?
        .finish(settings::Flags::new(flags))
        .map_err(|error| host(&error))
}
