//! Random sequences of one to eight instructions.
//!
//! Every instruction of the chosen families is drawn with the same chance, then
//! one of its encodings, with the bytes after the opcode at random. [`operands`]
//! makes the operands land in memory, and a sequence that would read a flag the
//! manual leaves undefined is steered around. Branches lead forward, so that
//! every sequence ends. A case follows from its seed alone.
//!
//! Sequences never set TF, AC or segment registers, and never enter the kernel;
//! see [`templates`] for what is left out.

pub mod faults;
pub mod operands;
pub mod segments;
pub mod templates;
pub mod values;

use crate::selftest::case::{Case, Family, Piece, is_near_branch, lay_out};
use crate::selftest::rng::Rng;
use crate::selftest::state::{CODE_BASE, State};
use crate::selftest::undefined::Undefined;
use faults::Faults;
use iced_x86::{Code, ConstantOffsets, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use operands::Registers;
use templates::{Entry, Template};

/// Most instructions of a sequence; a few need a helper before them.
const MAX_INSTRUCTIONS: usize = 8;
/// Forms of an instruction tried before another one is drawn.
const TRIES: usize = 12;
/// Arithmetic flags, DF and ID: what a POPF may load.
const POPF_FLAGS: u32 = 0x0020_0cd5;

/// Makes cases of some families.
pub struct Generator {
    entries: Vec<Entry>,
    families: Vec<Family>,
    /// For each family, the numbers of its entries.
    own: Vec<Vec<usize>>,
    faults: Faults,
}

/// A sequence in the making.
struct Draft {
    rng: Rng,
    registers: Registers,
    undefined: Undefined,
    pieces: Vec<Piece>,
    /// Pieces that must run after the one before them.
    joined: Vec<usize>,
    /// Pieces that branch forward.
    branches: Vec<usize>,
    /// A register and the piece that jumps through it.
    indirect: Vec<(usize, usize)>,
    /// A stack address and the piece that returns through it.
    returns: Vec<(u32, usize)>,
    patches: Vec<(u32, Vec<u8>)>,
}

impl Generator {
    /// A generator for `families`.
    pub fn new(families: &[Family]) -> Generator {
        let entries = templates::all();
        let wanted = |entry: &Entry| families.contains(&entry.family);
        let entries: Vec<Entry> = entries.into_iter().filter(wanted).collect();
        let mut own = vec![Vec::new(); Family::ALL.len()];
        for (number, entry) in entries.iter().enumerate() {
            own[entry.family as usize].push(number);
        }
        Generator {
            entries,
            families: families.to_vec(),
            own,
            faults: Faults::new(),
        }
    }

    /// The instructions drawn from.
    pub fn codes(&self) -> impl Iterator<Item = Code> + '_ {
        self.entries.iter().map(|entry| entry.code)
    }

    /// The case of `seed`, from all instructions alike.
    pub fn case(&self, seed: u64) -> Case {
        let mut rng = Rng::new(seed);
        let any = |rng: &mut Rng| &self.entries[rng.below(self.entries.len())];
        self.make(seed, &mut rng, None, &any)
    }

    /// The case of `seed` around one of the generator's families: its instructions
    /// alone, or others between them.
    pub fn case_of(&self, family: Family, seed: u64) -> Case {
        if family == Family::Faults {
            return self.faults.case_of(seed);
        }
        if family == Family::Segments {
            return segments::case(seed);
        }
        let mut rng = Rng::new(seed ^ (family as u64) << 56);
        let own = &self.own[family as usize];
        let others = rng.pick(&[0, 0, 30, 60]);
        let any = |rng: &mut Rng| match own.is_empty() || rng.chance(others) {
            true => &self.entries[rng.below(self.entries.len())],
            false => &self.entries[own[rng.below(own.len())]],
        };
        self.make(seed, &mut rng, Some(family), &any)
    }

    fn make<'a>(
        &'a self,
        seed: u64,
        rng: &mut Rng,
        family: Option<Family>,
        draw: &dyn Fn(&mut Rng) -> &'a Entry,
    ) -> Case {
        let mut draft = Draft::new(rng);
        let length = 1 + rng.below(MAX_INSTRUCTIONS);
        let mut last = self.families[0];
        while draft.pieces.len() < length {
            let entry = draw(rng);
            if draft.add(entry) {
                last = entry.family;
            }
        }
        let mut entry = State::new();
        if self.families.iter().any(|f| !Family::INTEGER.contains(f)) || rng.chance(5) {
            values::fill_fxsave(rng, &mut entry);
        }
        let flags = if rng.chance(70) { 0x08d5 } else { 0x0cd5 };
        entry.eflags |= rng.u32() & flags;
        entry.eip = match rng.chance(10) {
            true => CODE_BASE + 0x1000 - rng.below(24) as u32,
            false => CODE_BASE + 0x100 + rng.below(64) as u32,
        };
        draft.finish(seed, family.unwrap_or(last), entry)
    }
}

impl Draft {
    fn new(rng: &mut Rng) -> Draft {
        let mut rng = rng.split();
        Draft {
            registers: Registers::new(&mut rng),
            rng,
            undefined: Undefined::default(),
            pieces: Vec::new(),
            joined: Vec::new(),
            branches: Vec::new(),
            indirect: Vec::new(),
            returns: Vec::new(),
            patches: Vec::new(),
        }
    }

    /// Appends one instruction; false if no form of it fits here.
    fn add(&mut self, entry: &Entry) -> bool {
        if entry.cuts_eip && self.rng.chance(85) {
            return false;
        }
        (0..TRIES).any(|_| self.try_form(entry))
    }

    fn try_form(&mut self, entry: &Entry) -> bool {
        let memory = match (entry.register_forms.len(), entry.memory_forms.len()) {
            (_, 0) => false,
            (0, _) => true,
            _ => self.rng.chance(55),
        };
        let forms = if memory {
            &entry.memory_forms
        } else {
            &entry.register_forms
        };
        let template = &forms[self.rng.below(forms.len())];
        let mut bytes = self.encode(template, memory);
        let Some((insn, offsets)) = decode(&mut bytes) else {
            return false;
        };
        if insn.code() != entry.code && insn.op_count() != 0
            || self.undefined.reads_undefined(&insn, None)
        {
            return false;
        }
        // A register that leads somewhere already may lead back.
        let indirect = matches!(insn.mnemonic(), Mnemonic::Jmp | Mnemonic::Call)
            && insn.op0_kind() == OpKind::Register;
        if indirect && !self.registers.is_undecided(insn.op0_register().number()) {
            return false;
        }
        self.set_immediates(&insn, &offsets, &mut bytes);
        let mut registers = self.registers.clone();
        if !registers.place(&mut self.rng, &insn, &offsets, &mut bytes) {
            return false;
        }
        let Some((insn, _)) = decode(&mut bytes) else {
            return false;
        };
        self.registers = registers;
        self.push(&insn, bytes);
        true
    }

    /// Optional prefixes, the template, a random addressing form, random rest.
    fn encode(&mut self, template: &Template, memory: bool) -> Vec<u8> {
        let rng = &mut self.rng;
        let mut bytes = Vec::with_capacity(24);
        if rng.chance(if memory { 8 } else { 2 }) {
            bytes.push(rng.pick(&[0x26, 0x36, 0x3e, 0x3e]));
        }
        if memory && rng.chance(10) {
            bytes.push(0xf0);
        }
        if rng.chance(2) {
            bytes.push(0x67);
        }
        if is_string_opcode(&template.bytes) && rng.chance(60) {
            bytes.push(rng.pick(&[0xf3, 0xf3, 0xf2]));
        }
        bytes.extend_from_slice(&template.bytes);
        if let Some(modrm) = bytes.last_mut().filter(|_| memory) {
            *modrm = (*modrm & 0x38) | rng.pick(&[0x00, 0x40, 0x80]) | rng.below(8) as u8;
        }
        bytes.extend_from_slice(&rng.u64().to_le_bytes());
        bytes.extend_from_slice(&rng.u64().to_le_bytes());
        bytes
    }

    /// Interesting immediates, and small ones where large ones only ever fault.
    fn set_immediates(&mut self, insn: &Instruction, offsets: &ConstantOffsets, bytes: &mut [u8]) {
        if !offsets.has_immediate() || is_near_branch(insn) {
            return;
        }
        let value = match insn.mnemonic() {
            Mnemonic::Enter => self.rng.below(0x80) as u32,
            Mnemonic::Ret => 4 * self.rng.below(16) as u32,
            _ => values::word(&mut self.rng),
        };
        let at = offsets.immediate_offset();
        let size = offsets.immediate_size();
        if self.rng.chance(70) {
            bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        }
        if insn.mnemonic() == Mnemonic::Enter {
            let level = if self.rng.chance(60) {
                0
            } else {
                self.rng.below(256)
            };
            bytes[offsets.immediate_offset2()] = level as u8;
        }
    }

    /// Takes an instruction in, with what it needs around it.
    fn push(&mut self, insn: &Instruction, bytes: Vec<u8>) {
        match insn.mnemonic() {
            Mnemonic::Popf | Mnemonic::Popfd => self.push_flags_for(insn),
            Mnemonic::Cmpxchg | Mnemonic::Cmpxchg8b => self.make_equal(insn),
            Mnemonic::Ret => {
                if let Some(esp) = self.registers.untouched_stack_top() {
                    self.returns.push((esp, self.pieces.len()));
                }
            }
            Mnemonic::Jmp | Mnemonic::Call if insn.op0_kind() == OpKind::Register => {
                let register = insn.op0_register().number();
                if self.registers.reserve(register) {
                    self.indirect.push((register, self.pieces.len()));
                }
            }
            _ => {}
        }
        if is_near_branch(insn) {
            self.branches.push(self.pieces.len());
        }
        self.append(insn, bytes);
    }

    fn append(&mut self, insn: &Instruction, bytes: Vec<u8>) {
        self.undefined.step(insn, None);
        self.registers.execute(insn);
        self.pieces.push(Piece {
            bytes,
            target: None,
        });
    }

    /// `PUSH imm` of harmless flags before a POPF.
    fn push_flags_for(&mut self, popf: &Instruction) {
        let flags = (self.rng.u32() & POPF_FLAGS).to_le_bytes();
        let mut push = match popf.code() {
            Code::Popfw => vec![0x66, 0x68, flags[0], flags[1]],
            _ => vec![0x68, flags[0], flags[1], flags[2], flags[3]],
        };
        if let Some((insn, _)) = decode(&mut push) {
            self.append(&insn, push);
            self.joined.push(self.pieces.len());
        }
    }

    /// Sometimes gives CMPXCHG a destination equal to the accumulator.
    fn make_equal(&mut self, insn: &Instruction) {
        let Some(addr) = self.registers.placed.filter(|_| self.rng.chance(50)) else {
            return;
        };
        let (low, high) = (values::word(&mut self.rng), values::word(&mut self.rng));
        self.registers.settle(0, low);
        let mut bytes = low.to_le_bytes().to_vec();
        if insn.mnemonic() == Mnemonic::Cmpxchg8b {
            self.registers.settle(2, high);
            bytes.extend_from_slice(&high.to_le_bytes());
        }
        self.patches.push((addr, bytes));
    }

    /// Lays the pieces out and connects the branches.
    fn finish(mut self, seed: u64, family: Family, mut entry: State) -> Case {
        let count = self.pieces.len();
        let joined = std::mem::take(&mut self.joined);
        let after = |rng: &mut Rng, i: usize| {
            let target = i + 1 + rng.below(count - i);
            target - usize::from(joined.contains(&target))
        };
        for &i in &self.branches {
            self.pieces[i].target = Some(after(&mut self.rng, i));
        }
        let (code, starts) = lay_out(&self.pieces);
        for &(register, i) in &self.indirect {
            let target = starts[after(&mut self.rng, i)] as u32;
            self.registers.set_entry(register, entry.eip + target);
        }
        for &(esp, i) in &self.returns {
            let target = entry.eip + starts[after(&mut self.rng, i)] as u32;
            self.patches.push((esp, target.to_le_bytes().to_vec()));
        }
        entry.gpr = self.registers.entry(&mut self.rng);
        Case {
            code,
            entry,
            data_seed: self.rng.u64(),
            patches: self.patches,
            read_only_page: None,
            family,
            seed,
        }
    }
}

/// Decodes and cuts off what follows the instruction.
fn decode(bytes: &mut Vec<u8>) -> Option<(Instruction, ConstantOffsets)> {
    let mut decoder = Decoder::new(32, bytes, DecoderOptions::NONE);
    let insn = decoder.decode();
    let offsets = decoder.get_constant_offsets(&insn);
    bytes.truncate(insn.len());
    (!insn.is_invalid()).then_some((insn, offsets))
}

/// MOVS, CMPS, STOS, LODS, SCAS, which take repeat prefixes.
fn is_string_opcode(bytes: &[u8]) -> bool {
    let opcode = match bytes {
        [opcode] | [0x66, opcode] => *opcode,
        _ => return false,
    };
    matches!(opcode, 0xa4..=0xa7 | 0xaa..=0xaf)
}
