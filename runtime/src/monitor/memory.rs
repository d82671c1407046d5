//! `x` and `xp`: memory as numbers, characters or instructions, in GDB's and QEMU's format
//! letters.

use super::answer::{Answer, Outcome};
use super::commands::{address, split};
use crate::vm::Vm;
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use serde_json::json;
use shadow_mmu::PhysAddr;
use std::fmt::Write;
use translator::insn::SegReg;
use translator::state::Segment;

/// The help for formats.
pub const FORMATS: &str = "\
FMT is a count, a format and a size: x/8xw 0x1000, x/4i $eip.
Formats: x hexadecimal, d signed, u unsigned, o octal, c characters, i instructions.
Sizes: b 1 byte, h 2, w 4. Without FMT: one word, hexadecimal.
ADDRESS: a number, or a register as in $esp+8. Rights do not matter, and nothing changes.";

/// What an address is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Translated by the guest's page tables.
    Linear,
    /// As it is.
    Physical,
}

/// Most bytes shown at once.
const MOST_BYTES: usize = 1 << 14;
/// Longest instruction.
const INSN_BYTES: usize = 15;
/// Bytes in a line of numbers.
const LINE_BYTES: usize = 16;

#[derive(Debug, PartialEq, Eq)]
struct Format {
    count: usize,
    letter: char,
    size: usize,
}

/// A format without its slash.
fn format(text: &str) -> Result<Format, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let count = match &text[..digits] {
        "" => 1,
        digits => digits
            .parse()
            .map_err(|_| format!("a count of {digits} is too much"))?,
    };
    let mut format = Format {
        count,
        letter: 'x',
        size: 4,
    };
    let mut sized = false;
    for c in text[digits..].chars() {
        match c {
            'x' | 'd' | 'u' | 'o' | 'c' | 'i' => format.letter = c,
            'b' => (format.size, sized) = (1, true),
            'h' => (format.size, sized) = (2, true),
            'w' => (format.size, sized) = (4, true),
            _ => return Err(format!("`{c}` is neither a format nor a size; try help x")),
        }
    }
    if format.letter == 'c' && !sized {
        format.size = 1;
    }
    let unit = if format.letter == 'i' {
        INSN_BYTES
    } else {
        format.size
    };
    match format.count.checked_mul(unit) {
        Some(bytes) if (1..=MOST_BYTES).contains(&bytes) => Ok(format),
        _ => Err(format!("from 1 to {MOST_BYTES} bytes can be shown at once")),
    }
}

/// Carries out `x` or `xp` with what follows.
pub fn examine(vm: &Vm, text: &str, kind: Kind) -> Outcome {
    let (shape, at) = match text.strip_prefix('/') {
        Some(rest) => split(rest),
        None => ("", text.trim()),
    };
    let format = format(shape)?;
    if at.is_empty() {
        return Err("an address is missing".into());
    }
    let start = address(vm, at)?.0;
    match format.letter {
        'i' => instructions(vm, start, format.count, kind),
        _ => {
            let bytes = read(vm, start, format.count * format.size, kind)?;
            Ok(numbers(start, &bytes, &format))
        }
    }
}

/// Reads memory; an address where there is none is an error.
pub fn read(vm: &Vm, start: u32, bytes: usize, kind: Kind) -> Result<Vec<u8>, String> {
    let mut memory = vec![0; bytes];
    match kind {
        Kind::Linear => vm.read_memory(shadow_mmu::LinearAddr(start), &mut memory),
        Kind::Physical => vm.read_physical(PhysAddr(start.into()), &mut memory),
    }
    .map_err(|error| error.to_string())?;
    Ok(memory)
}

fn numbers(start: u32, bytes: &[u8], format: &Format) -> Answer {
    let mut text = String::new();
    let mut values = Vec::new();
    for (n, line) in bytes.chunks(LINE_BYTES).enumerate() {
        let _ = write!(text, "{:08x}:", start.wrapping_add((n * LINE_BYTES) as u32));
        for unit in line.chunks(format.size) {
            let mut word = [0; 4];
            word[..unit.len()].copy_from_slice(unit);
            let value = u32::from_le_bytes(word);
            let _ = write!(text, " {}", number(value, format));
            values.push(value);
        }
        text.push('\n');
    }
    Answer::new(
        text,
        json!({"address": start, "size": format.size, "values": values}),
    )
}

fn number(value: u32, format: &Format) -> String {
    let unused = 32 - 8 * format.size as u32;
    match format.letter {
        'd' => format!("{:>11}", (value << unused) as i32 >> unused),
        'u' => format!("{value:>10}"),
        'o' => format!("{value:011o}"),
        'c' => format!("'{}'", (value as u8 as char).escape_default()),
        _ => format!("{value:0width$x}", width = 2 * format.size),
    }
}

fn instructions(vm: &Vm, start: u32, count: usize, kind: Kind) -> Outcome {
    let mut memory = vec![0; count * INSN_BYTES];
    let there = match kind {
        Kind::Linear => vm.read_some(shadow_mmu::LinearAddr(start), &mut memory),
        Kind::Physical => {
            read(vm, start, 1, kind)?;
            let whole = vm.read_physical(PhysAddr(start.into()), &mut memory);
            if whole.is_ok() { memory.len() } else { 1 }
        }
    };
    if there == 0 {
        // For its words.
        read(vm, start, 1, kind)?;
    }
    let wide = vm.cpu.state.segment(SegReg::Cs).attributes & Segment::DEFAULT32 != 0;
    let bits = if wide { 32 } else { 16 };
    let mut decoder = Decoder::with_ip(bits, &memory[..there], start.into(), DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    let (mut text, mut data) = (String::new(), Vec::new());
    for insn in decoder.iter().take(count) {
        let mut assembly = String::new();
        formatter.format(&insn, &mut assembly);
        let at = insn.ip() as u32;
        let _ = writeln!(text, "{at:08x}: {assembly}");
        data.push(json!({"address": at, "bytes": insn.len(), "assembly": assembly}));
    }
    Ok(Answer::new(text, json!({"instructions": data})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_counts_letters_and_sizes() {
        let of = |count, letter, size| {
            Ok(Format {
                count,
                letter,
                size,
            })
        };
        assert_eq!(format(""), of(1, 'x', 4));
        assert_eq!(format("8xb"), of(8, 'x', 1));
        assert_eq!(format("c"), of(1, 'c', 1));
        assert_eq!(format("2dh"), of(2, 'd', 2));
        for wrong in ["0", "9z", "99999999999999999999", "16385b", "2000i"] {
            assert!(format(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_as_wide_as_their_size() {
        let shown = |text: &str, value| number(value, &format(text).unwrap()).trim().to_owned();
        assert_eq!(shown("xb", 7), "07");
        assert_eq!(shown("db", 0xff), "-1");
        assert_eq!(shown("dw", 0x8000_0000), "-2147483648");
        assert_eq!(shown("c", 10), "'\\n'");
    }
}
