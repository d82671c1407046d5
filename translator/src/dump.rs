//! A compiled block as text: guest assembly, CLIF and host assembly side by side.
//!
//! The three are aligned by guest instruction, through the source locations that
//! the emitter gives to CLIF and Cranelift carries to host code. Cold code comes
//! after the instructions, under the name of the exit it belongs to. Host code
//! for an instruction may stand in several places; it is shown in one, in order.

use crate::block::Block;
use crate::compile::{ExitKind, HostCode};
use crate::emit::loc::{self, Part};
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use std::fmt::Write;

/// Width of the guest column.
const GUEST_COLUMN: usize = 34;
/// Width of the CLIF column.
const CLIF_COLUMN: usize = 62;

/// A dump of `block`, whose guest bytes are `guest`.
///
/// The CLIF column is empty unless the block was compiled with `listing`.
pub fn dump(block: &Block, guest: &[u8], code: &HostCode) -> String {
    let mut out = String::new();
    let (guest_bytes, host_bytes) = (block.len_bytes as usize, code.bytes.len());
    let ratio = host_bytes as f64 / guest_bytes.max(1) as f64;
    let _ = writeln!(
        out,
        "block {:08x}: {} instructions, {guest_bytes} guest bytes, {host_bytes} host bytes ({ratio:.1} to 1), {:?}",
        block.eip,
        block.insns.len(),
        block.terminal,
    );
    for link in &code.links {
        let _ = writeln!(out, "link {}: to {:08x}", link.slot, link.eip);
    }
    let clif = clif_by_location(code.clif.as_deref().unwrap_or_default());
    let host = host_by_location(code);
    for bits in locations(block, code) {
        let lines = |of: &[(u32, String)]| -> Vec<String> {
            let here = of.iter().filter(|(location, _)| *location == bits);
            here.map(|(_, line)| line.clone()).collect()
        };
        let (clif, host) = (lines(&clif), lines(&host));
        rows(&mut out, &heading(block, guest, code, bits), &clif, &host);
    }
    out
}

/// The locations to show: every instruction, then every exit.
fn locations(block: &Block, code: &HostCode) -> Vec<u32> {
    let insns = (0..block.insns.len()).map(|n| loc::insn(n).bits());
    let mut exits: Vec<u32> = code.parts.iter().map(|&(_, bits)| bits).collect();
    exits.retain(|&bits| matches!(loc::part(bits), Some(Part::Exit(..))));
    exits.sort_unstable();
    exits.dedup();
    insns.chain(exits).collect()
}

/// The guest column: what a location is.
fn heading(block: &Block, guest: &[u8], code: &HostCode, bits: u32) -> Vec<String> {
    match loc::part(bits) {
        Some(Part::Insn(n)) => {
            let Some(insn) = block.insns.get(n) else {
                return Vec::new();
            };
            let start = insn.eip.wrapping_sub(block.eip) as usize;
            let bytes = guest.get(start..).unwrap_or_default();
            let bitness = if block.mode.code32() { 32 } else { 16 };
            let mut lines = disassemble(bytes, bitness, u64::from(insn.eip), 1);
            if code.callouts.iter().any(|c| c.position as usize == n) {
                lines.push(format!("  callout: {:?}", insn.mnemonic));
            }
            lines
        }
        Some(Part::Exit(kind, n)) => {
            let what = match kind {
                ExitKind::Budget => "exit: budget exhausted",
                ExitKind::Leave => "exit: after a callout",
                _ => "side exit: interpret",
            };
            let eip = block.insns.get(n).map(|insn| insn.eip);
            match eip {
                Some(eip) => vec![what.to_owned(), format!("  from {eip:08x}")],
                None => vec![what.to_owned()],
            }
        }
        None => Vec::new(),
    }
}

/// CLIF lines with their locations; lines without one belong to what precedes.
fn clif_by_location(clif: &str) -> Vec<(u32, String)> {
    let mut lines: Vec<(u32, String)> = Vec::new();
    let mut pending: Vec<String> = Vec::new();
    for line in clif.lines() {
        let text = line.trim();
        let location = text
            .strip_prefix('@')
            .and_then(|rest| rest.split_once(char::is_whitespace))
            .and_then(|(bits, rest)| Some((u32::from_str_radix(bits, 16).ok()?, rest.trim())));
        match location {
            Some((bits, text)) => {
                let headings = pending.drain(..).map(|heading| (bits, heading));
                lines.extend(headings);
                lines.push((bits, format!("  {text}")));
            }
            None if text.starts_with("block") => pending.push(text.to_owned()),
            None => {}
        }
    }
    lines
}

/// Host instructions with their locations.
fn host_by_location(code: &HostCode) -> Vec<(u32, String)> {
    let mut lines = Vec::new();
    let mut pieces = code.parts.iter().peekable();
    // Code before the first location, the prologue, goes with the first instruction.
    let mut bits = loc::insn(0).bits();
    let mut decoder = Decoder::with_ip(64, &code.bytes, 0, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    while decoder.can_decode() {
        let insn = decoder.decode();
        while let Some(&&(_, next)) = pieces
            .peek()
            .filter(|piece| u64::from(piece.0) <= insn.ip())
        {
            bits = next;
            pieces.next();
        }
        let mut text = String::new();
        formatter.format(&insn, &mut text);
        lines.push((bits, format!("{:4x}  {text}", insn.ip())));
    }
    lines
}

/// The first `count` instructions of `bytes`.
fn disassemble(bytes: &[u8], bitness: u32, ip: u64, count: usize) -> Vec<String> {
    let decoder = Decoder::with_ip(bitness, bytes, ip, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    let line = |insn: iced_x86::Instruction| {
        let mut text = String::new();
        formatter.format(&insn, &mut text);
        format!("{:08x}  {text}", insn.ip32())
    };
    decoder.into_iter().take(count).map(line).collect()
}

/// Three columns, each as long as it is.
fn rows(out: &mut String, guest: &[String], clif: &[String], host: &[String]) {
    let cell = |column: &[String], row: usize| column.get(row).cloned().unwrap_or_default();
    for row in 0..guest.len().max(clif.len()).max(host.len()) {
        let (guest, clif, host) = (cell(guest, row), cell(clif, row), cell(host, row));
        let line = format!("{guest:GUEST_COLUMN$} | {clif:CLIF_COLUMN$} | {host}");
        let _ = writeln!(out, "{}", line.trim_end());
    }
}
