//! The host's column: disassembly, with names for what the state holds and for the
//! blocks that links lead to.

use super::HostLine;
use crate::compile::{HostCode, Link};
use crate::direct::way::Way;
use crate::state::CpuState;
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, OpKind, Register};
use std::mem::offset_of;

/// What direct code reaches by R15, by offset. Registers and masks go without.
const FIELDS: [(usize, &str); 27] = [
    (offset_of!(CpuState, eip), "EIP"),
    (offset_of!(CpuState, eflags), "EFLAGS"),
    (offset_of!(CpuState, sti_eip), "end of STI's shadow"),
    (offset_of!(CpuState, direct_leave), "leave the block"),
    (offset_of!(CpuState, budget), "budget"),
    (offset_of!(CpuState, write_table), "write table"),
    (offset_of!(CpuState, read_table), "read table"),
    (offset_of!(CpuState, jump_cache), "jump cache"),
    (offset_of!(CpuState, jump_tag), "tag"),
    (offset_of!(CpuState, callout), "callout"),
    (offset_of!(CpuState, direct_callout), "callout"),
    (offset_of!(CpuState, direct_return), "unpaired return"),
    (offset_of!(CpuState, host_stack), "host stack"),
    (offset_of!(CpuState, spill), "spilled"),
    (offset_of!(CpuState, kept_pointer), "pointer kept"),
    (offset_of!(CpuState, vector_away), "vector state loaded?"),
    (offset_of!(CpuState, vector_enter), "load vector state"),
    (offset_of!(CpuState, tsc_offset), "TSC offset"),
    (offset_of!(CpuState, interrupt_waiting), "interrupt?"),
    (Way::LoadFs.offset(), "load FS"),
    (Way::LoadGs.offset(), "load GS"),
    (Way::Sysenter.offset(), "SYSENTER"),
    (Way::Sysexit.offset(), "SYSEXIT"),
    (Way::Stac.offset(), "STAC"),
    (Way::Clac.offset(), "CLAC"),
    (Way::Interrupt.offset(), "INT n"),
    (Way::Iret.offset(), "IRETD"),
];

/// Host instructions with the parts that their locations name.
pub(super) fn lines(code: &HostCode, part: impl Fn(u32) -> Option<usize>) -> Vec<HostLine> {
    let mut lines = Vec::new();
    let mut pieces = code.parts.iter().peekable();
    // Code before the first location, the prologue, goes with the first instruction, and
    // what has none with what precedes it.
    let mut now = 0;
    let mut decoder = Decoder::with_ip(64, &code.bytes, 0, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_branch_leading_zeros(false);
    while decoder.can_decode() {
        let insn = decoder.decode();
        let here = |piece: &&&(u32, u32)| u64::from(piece.0) <= insn.ip();
        while let Some(&&(_, next)) = pieces.peek().filter(here) {
            now = part(next).unwrap_or(now);
            pieces.next();
        }
        let mut text = String::new();
        formatter.format(&insn, &mut text);
        if let Some(link) = link_of(code, &insn) {
            text = linked(
                &text,
                link,
                insn.near_branch_target() < code.bytes.len() as u64,
            );
        } else if leaves_when_spent(code, &insn) {
            text = "jmp run loop  ; budget spent".to_owned();
        } else if let (None, Some(name)) = (&code.clif, field(&insn)) {
            text = format!("{text}  ; {name}");
        }
        lines.push(HostLine {
            part: now,
            at: insn.ip32(),
            len: insn.len() as u32,
            text,
        });
    }
    lines.extend(follower(code).map(|text| HostLine {
        part: now,
        at: code.bytes.len() as u32,
        len: 0,
        text,
    }));
    lines
}

/// What follows code whose last jump has given its place to the target.
fn follower(code: &HostCode) -> Option<String> {
    let gone = |link: &&Link| {
        link.jump
            .is_some_and(|jump| jump.at as usize > code.bytes.len())
    };
    let link = code.links.iter().find(gone)?;
    Some(format!("; block {:08x} follows", link.eip))
}

/// The link that an instruction is, if it is one that is written into.
fn link_of<'a>(code: &'a HostCode, insn: &Instruction) -> Option<&'a Link> {
    let mut links = code.links.iter();
    links.find(|link| link.jump.is_some_and(|jump| holds(insn, jump.at)))
}

/// Whether an instruction is the jump in front of a link where the budget is spent.
fn leaves_when_spent(code: &HostCode, insn: &Instruction) -> bool {
    let spent = |link: &Link| link.jump?.spent;
    let mut spent = code.links.iter().filter_map(spent);
    spent.any(|at| holds(insn, at))
}

/// Whether the byte at an offset is one of an instruction's, but not its first.
fn holds(insn: &Instruction, at: u32) -> bool {
    insn.ip() < u64::from(at) && u64::from(at) < insn.next_ip()
}

/// A jump that is a link. While that is not made, it leads to somewhere in the block.
fn linked(text: &str, link: &Link, stays: bool) -> String {
    let (mnemonic, _) = text.split_once(' ').unwrap_or((text, ""));
    match stays {
        true => format!("{text}  ; would link to {:08x}", link.eip),
        false => format!("{mnemonic} block {:08x}", link.eip),
    }
}

/// What of the state an instruction of direct code reaches.
fn field(insn: &Instruction) -> Option<&'static str> {
    let memory = insn.op_kinds().any(|kind| kind == OpKind::Memory);
    let offset = insn.memory_displacement64() as usize;
    if memory && insn.memory_segment() == Register::GS {
        return Some("mirror");
    }
    match (memory, insn.memory_base()) {
        (true, Register::R14) => return Some(table(insn, offset)),
        (true, Register::R15) if insn.memory_index() == Register::None => {}
        _ => return None,
    }
    let field = FIELDS.iter().find(|(field, _)| *field == offset);
    field.map(|(_, name)| *name)
}

/// What direct code reaches by R14.
fn table(insn: &Instruction, offset: usize) -> &'static str {
    match (insn.memory_index_scale(), offset) {
        (8, 0) => "read table",
        (8, _) => "write table",
        _ => "mirror",
    }
}
