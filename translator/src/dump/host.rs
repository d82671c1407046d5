//! The host's column: disassembly, with names for what the state holds and for the
//! blocks that links lead to.

use super::HostLine;
use crate::compile::HostCode;
use crate::emit::loc;
use crate::state::CpuState;
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, OpKind, Register};
use std::mem::offset_of;

/// What direct code reaches by R15, by offset. Registers and masks go without.
const FIELDS: [(usize, &str); 17] = [
    (offset_of!(CpuState, eip), "EIP"),
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
];

/// Host instructions with the parts that their locations name.
pub(super) fn lines(code: &HostCode, part: impl Fn(u32) -> Option<usize>) -> Vec<HostLine> {
    let mut lines = Vec::new();
    let mut pieces = code.parts.iter().peekable();
    // Code before the first location, the prologue, goes with the first instruction.
    let mut bits = loc::insn(0).bits();
    let mut decoder = Decoder::with_ip(64, &code.bytes, 0, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_branch_leading_zeros(false);
    while decoder.can_decode() {
        let insn = decoder.decode();
        let here = |piece: &&&(u32, u32)| u64::from(piece.0) <= insn.ip();
        while let Some(&&(_, next)) = pieces.peek().filter(here) {
            bits = next;
            pieces.next();
        }
        let mut text = String::new();
        formatter.format(&insn, &mut text);
        if let Some(comment) = comment(code, &insn) {
            text += "  ; ";
            text += &comment;
        }
        lines.push(HostLine {
            part: part(bits).unwrap_or(0),
            at: insn.ip32(),
            len: insn.len() as u32,
            text,
        });
    }
    lines
}

/// What an instruction reaches.
fn comment(code: &HostCode, insn: &Instruction) -> Option<String> {
    let end = insn.next_ip();
    let link = code.links.iter().find(|link| {
        let at = link.jump.map(|jump| u64::from(jump.at));
        at.is_some_and(|at| insn.ip() < at && at < end)
    });
    if let Some(link) = link {
        return Some(format!("link to {:08x}", link.eip));
    }
    let memory = insn.op_kinds().any(|kind| kind == OpKind::Memory);
    if !memory || insn.memory_base() != Register::R15 || insn.memory_index() != Register::None {
        return None;
    }
    let offset = insn.memory_displacement64() as usize;
    let field = FIELDS.iter().find(|(field, _)| *field == offset);
    field.map(|(_, name)| (*name).to_owned())
}
