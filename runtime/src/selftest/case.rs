//! A sequence with everything it starts from, and what can be done to it.
//!
//! A case is bytes and values only, so that one found by chance, one written by
//! hand and one taken from another suite are the same thing. Its instructions
//! are found by decoding, and a shorter version of it is laid out again with the
//! branches between the remaining instructions kept.

use crate::selftest::generate::values;
use crate::selftest::state::{DATA_BASE, DATA_BYTES, Run, STACK_BASE, STACK_BYTES, State};
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, OpKind};
use std::fmt;

/// Groups of instructions, as the translator's files divide them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Family {
    Arith,
    Logic,
    Shift,
    Bits,
    Muldiv,
    Decimal,
    Transfer,
    Stack,
    Strings,
    Branch,
    Flagops,
    X87,
    Mmx,
    Sse,
    Sse2,
    Sse3,
    Ssse3,
    Sse41,
    Sse42,
    Crypto,
    /// Loads of segment registers and far transfers in ring 3.
    Segments,
    /// One instruction whose operand meets an edge of memory.
    Faults,
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 22] = [
        Family::Arith,
        Family::Logic,
        Family::Shift,
        Family::Bits,
        Family::Muldiv,
        Family::Decimal,
        Family::Transfer,
        Family::Stack,
        Family::Strings,
        Family::Branch,
        Family::Flagops,
        Family::X87,
        Family::Mmx,
        Family::Sse,
        Family::Sse2,
        Family::Sse3,
        Family::Ssse3,
        Family::Sse41,
        Family::Sse42,
        Family::Crypto,
        Family::Segments,
        Family::Faults,
    ];
    /// The families without x87 and vectors.
    pub const INTEGER: &'static [Family] = Family::ALL.split_at(11).0;
    /// What runs on the host's own units.
    pub const VECTOR: &'static [Family] = Family::ALL.split_at(11).1.split_at(9).0;

    /// The name on the command line and in reports.
    pub fn name(&self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The family called `name`.
    pub fn named(name: &str) -> Option<Family> {
        let same = |f: &&Family| f.name() == name;
        Family::ALL.iter().find(same).copied()
    }
}

/// A sequence and its start.
#[derive(Clone)]
pub struct Case {
    /// The instructions, to be placed at `entry.eip`.
    pub code: Vec<u8>,
    /// The registers at the start.
    pub entry: State,
    /// What the arenas hold at the start.
    pub data_seed: u64,
    /// Bytes at linear addresses in the arenas that differ from `data_seed`'s.
    pub patches: Vec<(u32, Vec<u8>)>,
    /// The page of the data arena that may not be written.
    pub read_only_page: Option<usize>,
    /// The family asked for.
    pub family: Family,
    /// The seed that generated the case, for the report.
    pub seed: u64,
}

/// Anything that can run a case: the host CPU or a tier of ring1.
pub trait Subject {
    /// Runs `case` from its start to its first exception.
    fn run(&mut self, case: &Case) -> Run;
}

/// A subject whose word counts, and which can show its way.
pub trait Oracle: Subject {
    /// Single-steps `case`: the states before each executed instruction (at most
    /// `limit`), then the final one.
    fn trace(&mut self, case: &Case, limit: usize) -> Vec<State>;
}

/// One instruction of a sequence that is yet to be laid out.
#[derive(Clone)]
pub struct Piece {
    /// Its encoding.
    pub bytes: Vec<u8>,
    /// For a near branch to an instruction of the same sequence: its index; the
    /// number of instructions stands for the end.
    pub target: Option<usize>,
}

impl Case {
    /// Fills the two arenas as they are at the start.
    pub fn fill(&self, data: &mut [u8], stack: &mut [u8]) {
        values::fill_memory(self.data_seed, data);
        values::fill_memory(self.data_seed ^ 0x5555, stack);
        for (addr, bytes) in &self.patches {
            let in_data = addr.wrapping_sub(DATA_BASE) as usize;
            let in_stack = addr.wrapping_sub(STACK_BASE) as usize;
            if in_data + bytes.len() <= DATA_BYTES {
                data[in_data..in_data + bytes.len()].copy_from_slice(bytes);
            } else if in_stack + bytes.len() <= STACK_BYTES {
                stack[in_stack..in_stack + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    /// The instruction at a linear address, if it lies in the sequence.
    pub fn instruction_at(&self, eip: u32) -> Option<Instruction> {
        let offset = eip.wrapping_sub(self.entry.eip) as usize;
        let bytes = self.code.get(offset..).filter(|rest| !rest.is_empty())?;
        let mut decoder = Decoder::with_ip(32, bytes, u64::from(eip), DecoderOptions::NONE);
        Some(decoder.decode())
    }

    /// The instructions in their order in memory.
    pub fn instructions(&self) -> Vec<Instruction> {
        let ip = u64::from(self.entry.eip);
        let decoder = Decoder::with_ip(32, &self.code, ip, DecoderOptions::NONE);
        decoder.into_iter().collect()
    }

    /// The case with its instruction number `index` left out.
    pub fn without(&self, index: usize) -> Case {
        let mut pieces = self.pieces();
        pieces.remove(index);
        for target in pieces.iter_mut().filter_map(|p| p.target.as_mut()) {
            *target -= usize::from(*target > index);
        }
        Case {
            code: lay_out(&pieces).0,
            ..self.clone()
        }
    }

    fn pieces(&self) -> Vec<Piece> {
        let instructions = self.instructions();
        let starts: Vec<u64> = instructions.iter().map(Instruction::ip).collect();
        let end = u64::from(self.entry.eip) + self.code.len() as u64;
        let index_of = |ip: u64| match ip == end {
            true => Some(starts.len()),
            false => starts.iter().position(|&start| start == ip),
        };
        let piece = |insn: &Instruction| {
            let start = (insn.ip() - u64::from(self.entry.eip)) as usize;
            Piece {
                bytes: self.code[start..start + insn.len()].to_vec(),
                target: is_near_branch(insn)
                    .then(|| index_of(insn.near_branch_target()))
                    .flatten(),
            }
        };
        instructions.iter().map(piece).collect()
    }
}

/// Whether the instruction's destination is relative to EIP.
pub fn is_near_branch(insn: &Instruction) -> bool {
    matches!(
        insn.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    )
}

/// Joins the pieces, setting the displacements; also returns where each starts,
/// and last the end.
pub fn lay_out(pieces: &[Piece]) -> (Vec<u8>, Vec<usize>) {
    let mut starts = vec![0usize];
    for piece in pieces {
        starts.push(starts[starts.len() - 1] + piece.bytes.len());
    }
    let mut code = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        code.extend_from_slice(&piece.bytes);
        if let Some(target) = piece.target {
            let displacement = starts[target].wrapping_sub(starts[i + 1]) as u32;
            set_displacement(&mut code[starts[i]..], displacement);
        }
    }
    (code, starts)
}

/// Sets the displacement of the near branch that fills `bytes`.
pub fn set_displacement(bytes: &mut [u8], displacement: u32) {
    let mut decoder = Decoder::new(32, bytes, DecoderOptions::NONE);
    let insn = decoder.decode();
    let offsets = decoder.get_constant_offsets(&insn);
    let at = offsets.immediate_offset();
    let size = offsets.immediate_size();
    bytes[at..at + size].copy_from_slice(&displacement.to_le_bytes()[..size]);
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {:#018x}, {:?}", self.seed, self.family)?;
        let mut formatter = IntelFormatter::new();
        for insn in self.instructions() {
            let mut text = String::new();
            formatter.format(&insn, &mut text);
            let start = (insn.ip() as u32).wrapping_sub(self.entry.eip) as usize;
            let bytes: Vec<String> = self.code[start..start + insn.len()]
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            writeln!(f, "  {:08x}  {:<32}{text}", insn.ip(), bytes.join(" "))?;
        }
        Ok(())
    }
}
