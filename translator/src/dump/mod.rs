//! A compiled block, laid open: its guest instructions, CLIF and host code, each line
//! with the *part* of the block that it belongs to.
//!
//! Parts are the guest instructions, in order, then the exits, which have code of their
//! own out of line. Lines find their part through the source locations that emitter and
//! direct tier give to code and Cranelift carries through. A column keeps the order that
//! its code has, so host code of one instruction may stand in several places; [`text`]
//! collects it in one, other readers may show either.

mod host;
pub mod text;

use crate::block::Block;
use crate::compile::{ExitKind, HostCode};
use crate::emit::loc::{self, Part};
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use std::fmt::Write;

/// A block laid open.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// What its code is for: instructions, then exits.
    pub parts: Vec<PartLine>,
    /// The CLIF as it was emitted; empty for direct code.
    pub clif: Vec<Line>,
    /// The CLIF that host code was made of; empty for direct code.
    pub optimised: Vec<Line>,
    /// The host's instructions, by address.
    pub host: Vec<HostLine>,
}

/// A part of a block.
#[derive(Clone, Debug)]
pub struct PartLine {
    /// What it is.
    pub kind: PartKind,
    /// EIP of the instruction, or of the one that an exit resumes at.
    pub eip: u32,
    /// The instruction as assembly, or what the exit is for.
    pub text: String,
    /// The instruction's bytes.
    pub bytes: Vec<u8>,
    /// The runtime carries the instruction out.
    pub callout: bool,
}

/// Kinds of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// A guest instruction.
    Insn,
    /// A way out of the block, of this kind.
    Exit(ExitKind),
    /// Jumps that only help others to get farther.
    Stones,
}

/// A line of CLIF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Index of its part.
    pub part: usize,
    /// The line; what stands in a block is indented.
    pub text: String,
}

/// An instruction of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLine {
    /// Index of its part.
    pub part: usize,
    /// Offset from the block's entry.
    pub at: u32,
    /// Length in bytes.
    pub len: u32,
    /// As assembly, with a comment where there is something to say.
    pub text: String,
}

impl Listing {
    /// Lays `block` open, whose guest bytes are `guest`. CLIF is there if the code was
    /// compiled with `listing`.
    pub fn new(block: &Block, guest: &[u8], code: &HostCode) -> Self {
        let locations = locations(block, code);
        let part = |bits: u32| locations.iter().position(|known| *known == bits);
        let column = |clif: &Option<String>| clif_lines(clif.as_deref().unwrap_or(""), part);
        Self {
            clif: column(&code.clif),
            optimised: column(&code.optimised),
            host: host::lines(code, part),
            parts: locations
                .iter()
                .filter_map(|&bits| part_line(block, guest, code, bits))
                .collect(),
        }
    }

    /// Of a block that has no code: the guest's instructions alone.
    pub fn guest_only(block: &Block, guest: &[u8]) -> Self {
        Self::new(block, guest, &HostCode::default())
    }
}

/// The locations to show: every instruction, then every exit, then stepping stones.
fn locations(block: &Block, code: &HostCode) -> Vec<u32> {
    let insns = (0..block.insns.len()).map(|n| loc::insn(n).bits());
    let mut others: Vec<u32> = code.parts.iter().map(|&(_, bits)| bits).collect();
    // Cranelift's own additions have no location; in direct code that is a part.
    let cranelift = code.clif.is_some();
    others.retain(|&bits| match loc::part(bits) {
        Some(Part::Insn(_)) => false,
        Some(Part::Exit(..)) => true,
        None => !cranelift,
    });
    others.sort_unstable();
    others.dedup();
    insns.chain(others).collect()
}

/// What a location is.
fn part_line(block: &Block, guest: &[u8], code: &HostCode, bits: u32) -> Option<PartLine> {
    let line = |kind, eip, text: &str| PartLine {
        kind,
        eip,
        text: text.to_owned(),
        bytes: Vec::new(),
        callout: false,
    };
    Some(match loc::part(bits) {
        Some(Part::Insn(n)) => {
            let insn = block.insns.get(n)?;
            let start = insn.eip.wrapping_sub(block.eip) as usize;
            let len = insn.next_eip.wrapping_sub(insn.eip) as usize;
            let rest = guest.get(start..).unwrap_or_default();
            let bytes = rest.get(..len).unwrap_or(rest);
            let bitness = if block.mode.code32() { 32 } else { 16 };
            PartLine {
                bytes: bytes.to_owned(),
                callout: code.callouts.iter().any(|c| c.position as usize == n),
                ..line(
                    PartKind::Insn,
                    insn.eip,
                    &assembly(bytes, bitness, insn.eip),
                )
            }
        }
        Some(Part::Exit(kind, n)) => {
            let eip = block.insns.get(n).map_or(block.eip, |insn| insn.eip);
            line(PartKind::Exit(kind), eip, exit_name(kind))
        }
        None => line(PartKind::Stones, block.eip, "stepping stones"),
    })
}

/// What an exit is for.
fn exit_name(kind: ExitKind) -> &'static str {
    match kind {
        ExitKind::Next => "exit: no code known for the target",
        ExitKind::Interpret => "side exit: interpret",
        ExitKind::Unlinked => "exit: link not made",
        ExitKind::Budget => "exit: budget exhausted",
        ExitKind::Leave => "exit: after a callout",
        ExitKind::Gate => "exit: gate closed",
    }
}

/// The first instruction of `bytes`.
fn assembly(bytes: &[u8], bitness: u32, eip: u32) -> String {
    let mut decoder = Decoder::with_ip(bitness, bytes, eip.into(), DecoderOptions::NONE);
    let mut text = String::new();
    match decoder.can_decode() {
        true => IntelFormatter::new().format(&decoder.decode(), &mut text),
        false => text.push_str("(changes while it runs)"),
    }
    text
}

/// The lines of blocks of CLIF. Instructions without a location belong to what precedes
/// them in their block, its heading and those right behind it to the first that has one.
fn clif_lines(clif: &str, part: impl Fn(u32) -> Option<usize>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut pending: Vec<String> = Vec::new();
    let blocks = clif.lines().map(str::trim);
    let blocks = blocks.skip_while(|line| !line.starts_with("block"));
    for line in blocks.filter(|line| !line.is_empty() && *line != "}") {
        let (bits, text) = located(line);
        let heads = bits.is_none() && text.starts_with("block");
        let indent = if heads { "" } else { "  " };
        let text = format!("{indent}{text}");
        if heads || bits.is_none() && !pending.is_empty() {
            pending.push(text);
            continue;
        }
        let last = lines.last().map_or(0, |line| line.part);
        let part = bits.and_then(&part).unwrap_or(last);
        let before = pending.drain(..);
        lines.extend(before.map(|text| Line { part, text }));
        lines.push(Line { part, text });
    }
    let part = lines.last().map_or(0, |line| line.part);
    lines.extend(pending.drain(..).map(|text| Line { part, text }));
    lines
}

/// A line of CLIF and the location before it.
fn located(line: &str) -> (Option<u32>, &str) {
    let split = || {
        let (bits, text) = line.strip_prefix('@')?.split_once(char::is_whitespace)?;
        Some((u32::from_str_radix(bits, 16).ok(), text.trim()))
    };
    split().unwrap_or((None, line))
}

/// CLIF under a name, as a function of a file that clif-util takes.
pub fn named_clif(clif: &str, name: &str) -> String {
    let mut out = String::new();
    for (n, line) in clif.lines().enumerate() {
        let line = line.trim_end();
        let rest = line.split_once('(').map_or("", |(_, rest)| rest);
        // Writing to a `String` cannot fail.
        let _ = match n {
            0 => writeln!(out, "function %{name}({rest}"),
            _ => writeln!(out, "{line}"),
        };
    }
    out
}
