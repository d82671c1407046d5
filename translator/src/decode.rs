//! Bytes to [`Insn`] and [`Block`], by way of iced-x86.

use crate::block::{Block, Terminal};
use crate::decodable::Decodable;
use crate::encoding::{self, Facts};
use crate::insn::{Flow, Gpr, Insn, MemRef, Operand, Rep, SegReg, Width};
use crate::mode::Mode;
use iced_x86::{
    Code, Decoder, DecoderError, DecoderOptions, Instruction, Mnemonic, OpKind, Register,
};
use std::ops::Range;

/// Longest legal instruction, in bytes (SDM vol. 2A, "Instruction Format").
pub const MAX_INSN_BYTES: usize = 15;

/// [`Insn::len`] of an instruction that is longer: it raises #GP(0), not #UD.
pub const OVERLONG: u8 = MAX_INSN_BYTES as u8 + 1;

/// Most instructions in a block.
pub const MAX_BLOCK_INSNS: usize = 64;

/// The bytes end inside the first instruction: more are needed to decode a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incomplete;

/// As CPUs decode that announce none of these: TZCNT is BSF, LZCNT is BSR and
/// WBNOINVD is WBINVD, each with a prefix that means nothing, and hints are NOPs.
const OPTIONS: u32 = DecoderOptions::NO_MPFX_0FBC
    | DecoderOptions::NO_MPFX_0FBD
    | DecoderOptions::NO_WBNOINVD
    | DecoderOptions::FORCE_RESERVED_NOP;

/// [`decode_block_for`] a CPU that knows every instruction.
///
/// # Errors
/// [`Incomplete`] if `bytes` ends inside the first instruction.
pub fn decode_block(
    bytes: &[u8],
    eip: u32,
    mode: Mode,
    max_insns: usize,
) -> Result<Block, Incomplete> {
    decode_block_for(&Decodable::EVERYTHING, bytes, eip, mode, max_insns)
}

/// Decodes the block that starts with `bytes[0]` at `eip`.
///
/// `bytes` is what can be fetched from there on, usually to the end of the page.
/// The block ends with the first instruction that transfers control, before one
/// that `bytes` cuts off, or after `max_insns` instructions. Bytes that are no
/// instruction, or none in `known`, become one [`Mnemonic::INVALID`]
/// instruction, which raises #UD, or #GP(0) if it is [`OVERLONG`].
///
/// # Errors
/// [`Incomplete`] if `bytes` ends inside the first instruction.
pub fn decode_block_for(
    known: &Decodable,
    bytes: &[u8],
    eip: u32,
    mode: Mode,
    max_insns: usize,
) -> Result<Block, Incomplete> {
    let bitness = if mode.code32() { 32 } else { 16 };
    let mut decoder = Decoder::with_ip(bitness, bytes, u64::from(eip), OPTIONS);
    let mut insns = Vec::with_capacity(8);
    let mut raw = Instruction::default();
    let max_insns = if mode.single() { 1 } else { max_insns.max(1) };
    while insns.len() < max_insns && decoder.can_decode() {
        decoder.decode_out(&mut raw);
        let start = decoder.position() - raw.len();
        if decoder.last_error() == DecoderError::NoMoreBytes && raw.len() < MAX_INSN_BYTES {
            break;
        }
        let overlong = raw.len() == MAX_INSN_BYTES
            && raw.is_invalid()
            && is_overlong(bitness, &bytes[start..]);
        if !known.allows(raw.code()) {
            raw.set_code(Code::INVALID);
        }
        let facts = encoding::of(raw.code());
        let mut insn = lower(&raw, mode, facts);
        if facts.is_x87()
            && let Some(opcode) = x87_opcode(&bytes[start..start + raw.len()])
        {
            insn.imm = opcode;
        }
        if overlong {
            insn.len = OVERLONG;
        }
        insns.push(insn);
        if insn.flow != Flow::Next {
            break;
        }
    }
    let last = insns.last().ok_or(Incomplete)?;
    let terminal = terminal_of(last);
    let len_bytes = last.next_eip.wrapping_sub(eip);
    mark_dead_flags(&mut insns);
    Ok(Block {
        eip,
        mode,
        insns,
        len_bytes,
        terminal,
    })
}

/// Where the bytes of an instruction are that only say what its operand is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperandBytes {
    /// The immediate; empty if there is none, or more than one.
    pub imm: Range<usize>,
    /// The displacement; empty if there is none.
    pub disp: Range<usize>,
}

/// The operand bytes of the instruction that `bytes` begin with.
pub fn operand_bytes(bytes: &[u8], mode: Mode) -> OperandBytes {
    let bitness = if mode.code32() { 32 } else { 16 };
    let mut decoder = Decoder::new(bitness, bytes, OPTIONS);
    let insn = decoder.decode();
    let at = decoder.get_constant_offsets(&insn);
    let range = |offset: usize, size: usize| offset..offset + size;
    let imm = match at.has_immediate2() {
        true => 0..0,
        false => range(at.immediate_offset(), at.immediate_size()),
    };
    let disp = range(at.displacement_offset(), at.displacement_size());
    OperandBytes { imm, disp }
}

/// The opcode that the FPU remembers, if the instruction is one of its: the low
/// three bits of the first byte and the second (SDM vol. 1, "x87 FPU Opcode").
fn x87_opcode(bytes: &[u8]) -> Option<u32> {
    let prefix = |b: &&u8| {
        matches!(
            **b,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
        )
    };
    let mut rest = bytes.iter().skip_while(prefix);
    let first = rest.next().filter(|&&b| b & 0xf8 == 0xd8)?;
    Some(u32::from(first & 7) << 8 | u32::from(*rest.next()?))
}

/// What is invalid in 15 bytes is so because there are more, unless it is just
/// that it may not have a LOCK prefix.
#[cold]
fn is_overlong(bitness: u32, bytes: &[u8]) -> bool {
    let options = OPTIONS | DecoderOptions::NO_INVALID_CHECK;
    Decoder::new(bitness, bytes, options).decode().is_invalid()
}

/// How a block that ends with `last` ends.
fn terminal_of(last: &Insn) -> Terminal {
    match last.flow {
        Flow::Next => Terminal::Next(last.next_eip),
        Flow::Jump => Terminal::Jump(last.imm),
        Flow::Branch => Terminal::Branch {
            taken: last.imm,
            fallthrough: last.next_eip,
        },
        Flow::Call => Terminal::Call {
            target: last.imm,
            ret: last.next_eip,
        },
        Flow::IndirectJump | Flow::IndirectCall => Terminal::Indirect,
        Flow::Return => Terminal::Return,
        Flow::System => Terminal::System,
    }
}

/// Reduces iced-x86's instruction to ours.
fn lower(raw: &Instruction, mode: Mode, facts: Facts) -> Insn {
    let eip = raw.ip32();
    let mut insn = Insn {
        code: raw.code(),
        mnemonic: raw.mnemonic(),
        next_eip: raw.next_ip32(),
        len: raw.len() as u8,
        flow: flow_of(raw, facts),
        ..Insn::blank(eip, mode)
    };
    for n in 0..raw.op_count().min(3) {
        insn.ops[n as usize] = lower_operand(raw, n, &mut insn);
    }
    insn.width = operand_size(raw, &insn, mode, facts);
    if facts.is_string() {
        insn.rep = match () {
            () if raw.has_repne_prefix() => Rep::Repne,
            () if raw.has_repe_prefix() => Rep::Repe,
            () => Rep::None,
        };
    }
    insn
}

/// Lowers operand `n`, filling the shared fields of `insn`.
fn lower_operand(raw: &Instruction, n: u32, insn: &mut Insn) -> Operand {
    match raw.op_kind(n) {
        OpKind::Register => register(raw.op_register(n)),
        OpKind::NearBranch16 => {
            insn.imm = u32::from(raw.near_branch16());
            Operand::Target
        }
        OpKind::NearBranch32 | OpKind::NearBranch64 => {
            insn.imm = raw.near_branch32();
            Operand::Target
        }
        OpKind::FarBranch16 => {
            insn.imm = u32::from(raw.far_branch16());
            insn.imm2 = u32::from(raw.far_branch_selector());
            Operand::Far
        }
        OpKind::FarBranch32 => {
            insn.imm = raw.far_branch32();
            insn.imm2 = u32::from(raw.far_branch_selector());
            Operand::Far
        }
        OpKind::Immediate8_2nd => {
            insn.imm2 = u32::from(raw.immediate8_2nd());
            Operand::Imm2
        }
        OpKind::Memory => {
            insn.mem = memory(raw);
            match Width::from_bytes(raw.memory_size().size()) {
                Some(w) if !raw.memory_size().is_broadcast() => Operand::Mem(w),
                _ => Operand::Wide(raw.memory_size().size() as u16),
            }
        }
        OpKind::MemorySegSI
        | OpKind::MemorySegESI
        | OpKind::MemoryESDI
        | OpKind::MemoryESEDI
        | OpKind::MemorySegDI
        | OpKind::MemorySegEDI => {
            if !matches!(raw.op_kind(n), OpKind::MemoryESDI | OpKind::MemoryESEDI) {
                insn.mem.seg = segment(raw.memory_segment());
            }
            insn.mem.addr16 = matches!(
                raw.op_kind(n),
                OpKind::MemorySegSI | OpKind::MemoryESDI | OpKind::MemorySegDI
            );
            Operand::Implied
        }
        OpKind::Immediate8 => immediate(raw, n, insn, Width::B),
        OpKind::Immediate16 | OpKind::Immediate8to16 => immediate(raw, n, insn, Width::W),
        OpKind::Immediate32 | OpKind::Immediate8to32 => immediate(raw, n, insn, Width::D),
        _ => Operand::None,
    }
}

fn immediate(raw: &Instruction, n: u32, insn: &mut Insn, w: Width) -> Operand {
    insn.imm = raw.immediate(n) as u32 & w.mask();
    Operand::Imm(w)
}

/// The memory operand's parts.
fn memory(raw: &Instruction) -> MemRef {
    let gpr = |r: Register| match r {
        Register::None => Gpr::ZERO,
        r => Gpr(r.number() as u8),
    };
    let is16 = |r: Register| r.size() == 2;
    let (base, index) = (raw.memory_base(), raw.memory_index());
    MemRef {
        seg: segment(raw.memory_segment()),
        base: gpr(base),
        index: gpr(index),
        shift: raw.memory_index_scale().trailing_zeros() as u8,
        addr16: is16(base) || is16(index) || raw.memory_displ_size() == 2 && base == Register::None,
        disp: raw.memory_displacement32(),
    }
}

fn segment(r: Register) -> SegReg {
    match r {
        Register::ES => SegReg::Es,
        Register::CS => SegReg::Cs,
        Register::SS => SegReg::Ss,
        Register::FS => SegReg::Fs,
        Register::GS => SegReg::Gs,
        _ => SegReg::Ds,
    }
}

fn register(r: Register) -> Operand {
    let number = r.number() as u8;
    match () {
        () if r.is_gpr8() => Operand::Gpr(Gpr(number), Width::B),
        () if r.is_gpr16() => Operand::Gpr(Gpr(number), Width::W),
        () if r.is_gpr32() => Operand::Gpr(Gpr(number), Width::D),
        () if r.is_segment_register() => Operand::Seg(segment(r)),
        () if r.is_cr() => Operand::Cr(number),
        () if r.is_dr() => Operand::Dr(number),
        () if r.is_st() => Operand::St(number),
        () if r.is_mm() => Operand::Mm(number),
        () if r.is_xmm() => Operand::Xmm(number),
        () => Operand::None,
    }
}

/// The operand size that instructions without a sized operand work with.
fn operand_size(raw: &Instruction, insn: &Insn, mode: Mode, facts: Facts) -> Width {
    if facts.is_string() {
        return Width::from_bytes(raw.memory_size().size()).unwrap_or(Width::D);
    }
    match facts.operand_bits {
        16 => Width::W,
        32 => Width::D,
        _ => match insn.ops[0] {
            Operand::Gpr(_, w) | Operand::Mem(w) | Operand::Imm(w) => w,
            _ if mode.code32() => Width::D,
            _ => Width::W,
        },
    }
}

/// How control leaves an instruction.
fn flow_of(raw: &Instruction, facts: Facts) -> Flow {
    let register = raw.op0_register();
    let loads_system = register == Register::SS || register.is_cr() || register.is_dr();
    match raw.mnemonic() {
        Mnemonic::Mov | Mnemonic::Pop if loads_system => Flow::System,
        _ => facts.flow,
    }
}

/// Sets [`Insn::flags_dead`] where a later instruction of the block redefines
/// all arithmetic flags before anything can read them or expose them by faulting.
/// A store may hit code or a device: then the block is left behind it.
fn mark_dead_flags(insns: &mut [Insn]) {
    let mut live = true;
    for insn in insns.iter_mut().rev() {
        insn.flags_dead = !live && !may_store(insn);
        live = match () {
            () if exposes_flags(insn) => true,
            () if encoding::of(insn.code).defines_all_flags() => false,
            () => live,
        };
    }
}

/// The instruction has a destination in memory.
fn may_store(insn: &Insn) -> bool {
    let compares = matches!(insn.mnemonic, Mnemonic::Cmp | Mnemonic::Test);
    !compares && matches!(insn.ops[0], Operand::Mem(_))
}

/// The instruction reads flags, or may leave the block so that they are seen.
fn exposes_flags(insn: &Insn) -> bool {
    let pure_register = insn
        .ops
        .iter()
        .all(|op| matches!(op, Operand::None | Operand::Gpr(..) | Operand::Imm(_)));
    let address_only = insn.mnemonic == Mnemonic::Lea;
    !(pure_register || address_only) || !encoding::of(insn.code).leaves_flags_unseen()
}
