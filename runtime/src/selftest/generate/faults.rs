//! Every memory operand across every edge that memory has.
//!
//! Chance rarely puts the second operand of REP CMPS three bytes before a page
//! that is not present. So this goes through all instructions that the decoder
//! knows, each of their memory operands, and each way an operand can meet an edge
//! ([`Edge`]): the arena's ends, with absent pages beyond, and the boundary in its
//! middle, of which one side may be read-only. A case is one instruction; what is
//! left open (addressing form, registers, how often a string instruction repeats)
//! follows from the seed; now and then the code itself ends at the edge.
//!
//! Some instructions are run only where they fault, since what they do otherwise
//! is not for the oracle: they load segment registers, which it needs, or control
//! words at random. Others have no place here: SGDT, SIDT, SLDT, STR and SMSW,
//! which kernels emulate where they use UMIP.

use super::templates::{self, Template};
use super::{POPF_FLAGS, decode, values};
use crate::selftest::case::{Case, Family};
use crate::selftest::rng::Rng;
use crate::selftest::state::{CODE_BASE, CODE_BYTES, CODE_SELECTOR, DATA_BASE, DATA_BYTES, State};
use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register, UsedMemory,
};

const PAGE: u32 = 0x1000;
const ECX: usize = 1;
/// DF of EFLAGS.
const DF: u32 = 1 << 10;
/// Bytes of an operand before the edge, as a share of its size.
const BEFORE: [Share; 5] = [
    Share::All,
    Share::AllButOne,
    Share::Half,
    Share::One,
    Share::Nothing,
];
const EDGES: [Edge; 6] = [
    Edge::new(0, None),
    Edge::new(0, Some(0)),
    Edge::new(1, Some(0)),
    Edge::new(1, Some(1)),
    Edge::new(2, None),
    Edge::new(2, Some(1)),
];

/// A page boundary of the data arena, and what is on its sides.
#[derive(Clone, Copy)]
struct Edge {
    /// Pages of the arena before it: at 0 and 2 the other side is absent.
    page: u32,
    read_only_page: Option<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Share {
    All,
    AllButOne,
    Half,
    One,
    Nothing,
}

/// One memory operand of one instruction.
struct Shape {
    forms: Vec<Template>,
    operand: usize,
    /// Not to be run where it may not fault.
    must_fault: bool,
}

/// All shapes.
pub struct Faults {
    shapes: Vec<Shape>,
}

impl Edge {
    const fn new(page: u32, read_only_page: Option<usize>) -> Edge {
        Edge {
            page,
            read_only_page,
        }
    }

    fn address(self) -> u32 {
        DATA_BASE + self.page * PAGE
    }

    /// Whether an operand with `before` of its bytes before the edge meets an
    /// absent page.
    fn is_absent(self, before: Share) -> bool {
        match self.page {
            0 => before != Share::Nothing,
            1 => false,
            _ => before != Share::All,
        }
    }
}

impl Share {
    fn of(self, bytes: u32) -> u32 {
        match self {
            Share::All => bytes,
            Share::AllButOne => bytes.saturating_sub(1),
            Share::Half => bytes / 2,
            Share::One => bytes.min(1),
            Share::Nothing => 0,
        }
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::new()
    }
}

impl Faults {
    /// Finds all shapes.
    pub fn new() -> Faults {
        let mut shapes = Vec::new();
        for entry in templates::with(&family) {
            for forms in [&entry.memory_forms, &entry.register_forms] {
                shapes.extend(shapes_of(forms));
            }
        }
        Faults { shapes }
    }

    /// How many different cases there are for each seed.
    pub fn count(&self) -> u64 {
        (self.shapes.len() * EDGES.len() * BEFORE.len()) as u64
    }

    /// Case number `number` of [`count`](Faults::count) with the rest from `seed`;
    /// `None` where the instruction must not be run.
    pub fn case(&self, number: u64, seed: u64) -> Option<Case> {
        let (edges, shares) = (EDGES.len() as u64, BEFORE.len() as u64);
        let shape = &self.shapes[(number / shares / edges) as usize % self.shapes.len()];
        let edge = EDGES[(number / shares % edges) as usize];
        let before = BEFORE[(number % shares) as usize];
        if shape.must_fault && !edge.is_absent(before) {
            return None;
        }
        let mut rng = Rng::new(seed ^ number.rotate_left(40));
        (0..8).find_map(|_| place(&mut rng, shape, edge, before, seed))
    }

    /// The case of `seed` alone.
    pub fn case_of(&self, seed: u64) -> Case {
        let mut rng = Rng::new(seed);
        loop {
            let number = rng.below(self.count() as usize) as u64;
            if let Some(case) = self.case(number, seed) {
                return case;
            }
        }
    }
}

/// Everything unprivileged that random sequences have, and more.
fn family(insn: &Instruction) -> Option<Family> {
    let wanted = !insn.is_privileged() && (templates::family(insn).is_some() || must_fault(insn));
    wanted.then_some(Family::Faults)
}

/// What is run only where it faults.
fn must_fault(insn: &Instruction) -> bool {
    use Mnemonic::*;
    let to_segment = insn.op0_register().is_segment_register();
    let far = insn.is_jmp_far_indirect() || insn.is_call_far_indirect();
    far || matches!(
        insn.mnemonic(),
        Lds | Les
            | Lfs
            | Lgs
            | Lss
            | Retf
            | Iret
            | Iretd
            | Fldcw
            | Fldenv
            | Fnstenv
            | Fnsave
            | Frstor
            | Fxsave
            | Fxrstor
            | Ldmxcsr
            | Lar
            | Lsl
            | Verr
            | Verw
            | Clflush
            | Rcpps
            | Rcpss
            | Rsqrtps
            | Rsqrtss
    ) || to_segment && matches!(insn.mnemonic(), Pop | Mov)
}

/// One shape for each memory operand that the forms have.
fn shapes_of(forms: &[Template]) -> Vec<Shape> {
    let Some(template) = forms.first() else {
        return Vec::new();
    };
    let mut rng = Rng::new(0);
    let Some((insn, _)) = encode(&mut rng, template) else {
        return Vec::new();
    };
    let operands = accesses(&insn).len();
    let shape = |operand| Shape {
        forms: forms.to_vec(),
        operand,
        must_fault: must_fault(&insn),
    };
    (0..operands).map(shape).collect()
}

/// The memory operands that are accessed.
fn accesses(insn: &Instruction) -> Vec<UsedMemory> {
    let mut factory = InstructionInfoFactory::new();
    let all = factory.info(insn).used_memory().iter();
    let accessed = all.filter(|memory| memory.access() != OpAccess::NoMemAccess);
    accessed.copied().collect()
}

/// The instruction with an addressing form, and its bytes.
fn encode(rng: &mut Rng, template: &Template) -> Option<(Instruction, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(24);
    if super::is_string_opcode(&template.bytes) && rng.chance(75) {
        bytes.push(rng.pick(&[0xf3, 0xf3, 0xf2]));
    }
    bytes.extend_from_slice(&template.bytes);
    if let Some(modrm) = bytes.last_mut().filter(|b| template.modrm && **b < 0xc0) {
        // Absolute; base and 8 bits; base, index and 32 bits.
        *modrm = *modrm & 0x38 | rng.pick(&[0x05, 0x40, 0x84]);
        if *modrm & 0xc7 == 0x40 {
            *modrm |= rng.pick(&[0, 1, 2, 3, 5, 6, 7]);
        }
    }
    bytes.extend_from_slice(&rng.u64().to_le_bytes());
    bytes.extend_from_slice(&rng.u64().to_le_bytes());
    let (insn, _) = decode(&mut bytes)?;
    Some((insn, bytes))
}

/// The case in which the shape's operand lies with `before` of it before `edge`.
fn place(rng: &mut Rng, shape: &Shape, edge: Edge, before: Share, seed: u64) -> Option<Case> {
    let template = &shape.forms[rng.below(shape.forms.len())];
    let (insn, mut code) = encode(rng, template)?;
    let mut entry = State::new();
    values::fill_fxsave(rng, &mut entry);
    entry.eflags |= rng.u32() & 0x08d5;
    let mut registers = [None; 8];
    let mut target = edge.address();
    let memories = accesses(&insn);
    let aimed = memories.get(shape.operand)?;
    let bytes = aimed.memory_size().size().max(1) as u32;
    if insn.is_string_instruction() {
        let down = rng.chance(50);
        entry.eflags |= if down { DF } else { 0 };
        target = string_start(rng, &mut registers, target, bytes, before, down);
    } else {
        target = target.wrapping_sub(before.of(bytes));
    }
    let missed = settle(rng, &mut registers, &insn, aimed, target);
    move_by(missed, &mut code)?;
    let inside = (DATA_BASE + 0x200 + rng.below(DATA_BYTES - 0x800) as u32) & !15;
    for (n, memory) in memories.iter().enumerate() {
        if n != shape.operand {
            settle(rng, &mut registers, &insn, memory, inside);
        }
    }
    entry.gpr = registers.map(|value| value.unwrap_or_else(|| values::word(rng)));
    entry.eip = CODE_BASE + 0x100 + rng.below(64) as u32;
    if rng.chance(3) {
        // The rest of the instruction is in a page that is absent, too.
        code.truncate(1 + rng.below(code.len()));
        entry.eip = CODE_BASE + (CODE_BYTES - code.len()) as u32;
    }
    Some(Case {
        code,
        entry,
        data_seed: rng.u64(),
        patches: patches(rng, &insn, target, inside),
        read_only_page: edge.read_only_page,
        family: Family::Faults,
        seed,
    })
}

/// Where a string instruction begins so that its elements reach the edge.
fn string_start(
    rng: &mut Rng,
    registers: &mut [Option<u32>; 8],
    edge: u32,
    bytes: u32,
    before: Share,
    down: bool,
) -> u32 {
    let count = 1 + rng.below(20) as u32;
    registers[ECX] = Some(count);
    // Elements done before the edge is met, and bytes of the one that meets it.
    let done = before.of(count) * bytes;
    let astray = rng.below(bytes as usize) as u32;
    match down {
        false => edge.wrapping_sub(done).wrapping_sub(astray),
        true => edge.wrapping_sub(bytes).wrapping_add(done + astray),
    }
}

/// Decides registers so that `memory` is at `target`; by how much it misses it if
/// they are taken.
fn settle(
    rng: &mut Rng,
    registers: &mut [Option<u32>; 8],
    insn: &Instruction,
    memory: &UsedMemory,
    target: u32,
) -> u32 {
    let mut rest = target.wrapping_sub(memory.displacement() as u32);
    let base = number(memory.base());
    let index = number(memory.index());
    if let Some(index) = index {
        let value = *registers[index].get_or_insert_with(|| rng.below(0x40) as u32);
        // XLAT adds AL.
        let value = if memory.index().size() == 1 {
            value & 0xff
        } else {
            value
        };
        rest = rest.wrapping_sub(value.wrapping_mul(memory.scale()));
    }
    rest = rest.wrapping_sub(bit_offset(rng, registers, insn));
    match base {
        Some(base) => rest.wrapping_sub(*registers[base].get_or_insert(rest)),
        None => rest,
    }
}

/// Adds to the displacement in the instruction, if it has one of 32 bits.
fn move_by(distance: u32, code: &mut [u8]) -> Option<()> {
    if distance == 0 {
        return Some(());
    }
    let mut decoder = Decoder::new(32, code, DecoderOptions::NONE);
    let insn = decoder.decode();
    let offsets = decoder.get_constant_offsets(&insn);
    if offsets.displacement_size() != 4 {
        return None;
    }
    let at = offsets.displacement_offset();
    let moved = insn.memory_displacement32().wrapping_add(distance);
    code[at..at + 4].copy_from_slice(&moved.to_le_bytes());
    Some(())
}

/// What BT and its like add to the address for their bit offset.
fn bit_offset(rng: &mut Rng, registers: &mut [Option<u32>; 8], insn: &Instruction) -> u32 {
    use Mnemonic::*;
    let bits = matches!(insn.mnemonic(), Bt | Bts | Btr | Btc);
    let by_register = insn.op0_kind() == OpKind::Memory && insn.op1_kind() == OpKind::Register;
    let Some(register) = number(insn.op1_register()).filter(|_| bits && by_register) else {
        return 0;
    };
    let wanted = (rng.below(0x4000) as u32).wrapping_sub(0x2000);
    let value = *registers[register].get_or_insert(wanted);
    match insn.op1_register().size() {
        2 => ((value as i16 >> 4) as u32).wrapping_mul(2),
        _ => ((value as i32 >> 5) as u32).wrapping_mul(4),
    }
}

/// Where POPF does not fault it must not load TF or AC; a far CALL whose push is
/// to fault must first find a code segment that both sides have.
fn patches(rng: &mut Rng, insn: &Instruction, target: u32, inside: u32) -> Vec<(u32, Vec<u8>)> {
    if insn.is_call_far_indirect() {
        let selector = CODE_SELECTOR.to_le_bytes().to_vec();
        let offset = insn.memory_size().size() as u32 - 2;
        return vec![(inside + offset, selector)];
    }
    let flags = (rng.u32() & POPF_FLAGS).to_le_bytes();
    match insn.mnemonic() {
        Mnemonic::Popf => vec![(target, flags[..2].to_vec())],
        Mnemonic::Popfd => vec![(target, flags.to_vec())],
        _ => Vec::new(),
    }
}

/// The number of a general register of any width, `None` for others.
fn number(register: Register) -> Option<usize> {
    register
        .is_gpr()
        .then(|| register.full_register32() as usize - Register::EAX as usize)
}
