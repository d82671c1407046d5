//! Blocks of a machine that has run, laid open: what the guest's code is, what became of
//! it, how often it ran and where it leads.
//!
//! A machine keeps of a block what it needs to run it, which is not what people want to
//! see. So a block that is asked for is compiled again in the way it was ([`collect`]),
//! this time with notes of what code is for, and the result is held to the code that has
//! run: they must be the same, but for links made since. What never was compiled is
//! compiled for the listing alone, and says so.
//!
//! Blocks go one by one to a [`Sink`] for the format that was asked for, as those of a
//! whole boot do not fit into memory at once.

mod clif;
mod collect;
pub mod command;
mod dot;
mod edges;
mod html;
mod json;
pub mod options;
mod select;
mod text;

use std::io;
use translator::block::Terminal;
use translator::dump::{Listing, PartKind};
use translator::insn::SegReg;
use translator::mode::Mode;

/// What is true of the whole dump.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The guest, in a few words.
    pub guest: String,
    /// How it was run.
    pub tier: String,
    /// Guest instructions that have retired.
    pub retired: u64,
    /// Slices of the budget, whose ends are the samples.
    pub slices: u64,
}

/// A block laid open.
#[derive(Clone, Debug)]
pub struct DumpedBlock {
    /// EIP of its first instruction.
    pub eip: u32,
    /// Guest-physical address of that.
    pub physical: u64,
    /// Mode it was decoded in.
    pub mode: Mode,
    /// Symbol that it belongs to, and how far behind that it begins.
    pub symbol: Option<String>,
    /// Length in guest bytes.
    pub guest_bytes: u32,
    /// How it ends.
    pub terminal: Terminal,
    /// Its code.
    pub code: Code,
    /// How often it ran.
    pub runs: Runs,
    /// Where it goes by fixed jumps.
    pub out: Vec<Edge>,
    /// Which blocks come here by fixed jumps.
    pub into: Vec<Edge>,
    /// Its parts and their code.
    pub listing: Listing,
    /// CLIF as emitted and as compiled, as functions; empty for direct code.
    pub clif: [String; 2],
}

/// The host code of a block.
#[derive(Clone, Debug)]
pub struct Code {
    /// The form, if there is code.
    pub form: Option<Form>,
    /// Where it is from.
    pub origin: Origin,
    /// Length in bytes.
    pub bytes: usize,
    /// Nanoseconds that it took to make it again.
    pub translation_ns: u64,
}

/// Forms of host code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Compiled by Cranelift.
    Cranelift,
    /// Re-encoded, with lookups.
    Direct,
    /// Re-encoded, for the mirror.
    Mirrored,
}

impl Form {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Form::Cranelift => "cranelift",
            Form::Direct => "direct",
            Form::Mirrored => "mirrored",
        }
    }
}

/// Where the code shown is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This is what has run, or would at the next entry.
    Ran,
    /// The block was interpreted when the guest stopped; compiled for the listing alone.
    Listing,
    /// There is other code in the machine than this, which was compiled for the listing.
    Another,
    /// There is none, and this is why.
    None(String),
}

impl Origin {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Origin::Ran => "ran",
            Origin::Listing => "listing",
            Origin::Another => "another",
            Origin::None(_) => "none",
        }
    }
}

/// How often a block ran, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Times it was entered by the interpreter.
    pub entered: u32,
    /// These are all: it never had code to run instead.
    pub exact: bool,
    /// It was known from an earlier run or at another address, so nothing was counted.
    pub kept: bool,
    /// Slices of the budget that ended before it.
    pub samples: u32,
    /// Times its code left in the middle.
    pub side_exits: u32,
}

/// A way from block to block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The other block's EIP.
    pub eip: u32,
    /// Its symbol.
    pub symbol: Option<String>,
    /// Whether there is such a block.
    pub known: bool,
    /// Whether the one's code leads straight to the other's.
    pub linked: bool,
}

impl DumpedBlock {
    /// Guest instructions in it.
    pub fn instructions(&self) -> usize {
        let insns = self.listing.parts.iter();
        insns.filter(|part| part.kind == PartKind::Insn).count()
    }

    /// Host bytes for one of the guest's.
    pub fn expansion(&self) -> f64 {
        self.code.bytes as f64 / f64::from(self.guest_bytes.max(1))
    }

    /// EIP and symbol.
    pub fn title(&self) -> String {
        titled(self.eip, self.symbol.as_deref())
    }

    /// The mode in words.
    pub fn mode_words(&self) -> Vec<&'static str> {
        let mode = self.mode;
        let ring = match (mode.user(), mode.supervisor()) {
            (true, _) => "ring 3",
            (_, true) => "ring 0",
            _ => "ring 1 or 2",
        };
        let protected = mode.0 & Mode::PROTECTED != 0;
        let mut words = vec![if mode.code32() { "32-bit" } else { "16-bit" }];
        words.push(if protected { ring } else { "real mode" });
        let flat = |seg| mode.zero_base(seg) && mode.unlimited(seg);
        // FS and GS lead to data of a thread or processor, flat in hardly any system.
        let main = [SegReg::Es, SegReg::Cs, SegReg::Ss, SegReg::Ds];
        if protected && !main.into_iter().all(flat) {
            words.push("segments not flat");
        }
        if mode.settled() {
            words.push("settled");
        }
        if mode.single() {
            words.push("single step");
        }
        words
    }

    /// How it ends, in a word.
    pub fn end(&self) -> &'static str {
        match self.terminal {
            Terminal::Next(_) => "falls through",
            Terminal::Jump(_) => "jump",
            Terminal::Branch { .. } => "branch",
            Terminal::Call { .. } => "call",
            Terminal::Indirect => "computed jump",
            Terminal::Return => "return",
            Terminal::System => "system instruction",
        }
    }
}

/// An address and what it is called.
fn titled(eip: u32, symbol: Option<&str>) -> String {
    match symbol {
        Some(symbol) => format!("{eip:08x} <{symbol}>"),
        None => format!("{eip:08x}"),
    }
}

/// Where dumped blocks go, in one format.
trait Sink {
    /// Takes a block.
    fn block(&mut self, block: &DumpedBlock) -> io::Result<()>;
    /// There are no more.
    fn end(&mut self) -> io::Result<()>;
}
