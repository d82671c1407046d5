//! What an instruction needs around its thunk, found once from iced-x86's
//! tables.

use super::host::Entry;
use crate::cpu_model::feature::{Feature, works_here};
use iced_x86::{
    Code, CpuidFeature, EncodingKind, Instruction, InstructionInfo, Mnemonic, OpAccess, RflagsBits,
};
use translator::direct::is_remembered;
use translator::insn::{Insn, Operand};

/// Which register files an instruction touches: decides what it checks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// x87 stack, control and status.
    X87,
    /// MMX registers.
    Mmx,
    /// XMM registers.
    Sse,
    /// MMX and XMM registers.
    SseMmx,
}

/// What happens to the memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub enum Memory {
    None,
    Read,
    Write,
    /// Some bytes stay as they were.
    Merge,
}

/// What the input and the result of a thunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub enum Transfer {
    None,
    /// The general-purpose register that is this operand.
    Gpr(u8),
    /// The arithmetic flags.
    Flags,
    /// EAX and EDX, the lengths of PCMPESTRI's and PCMPESTRM's strings.
    Lengths,
    /// The arithmetic flags and ECX, the index that PCMPxSTRI finds.
    FlagsAndIndex,
}

/// How to run one instruction.
#[derive(Clone, Copy)]
pub struct Plan {
    /// The generated code.
    pub entry: Entry,
    /// Register files.
    pub unit: Unit,
    /// The memory operand.
    pub memory: Memory,
    /// Its size.
    pub bytes: u16,
    /// It must be aligned to 16 bytes.
    pub aligned: bool,
    /// Goes into the thunk.
    pub input: Transfer,
    /// Comes out of it.
    pub output: Transfer,
    /// The thunk loads the guest's MXCSR, and may set its flags.
    pub mxcsr: bool,
    /// The instruction first reports a pending x87 exception.
    pub waiting: bool,
    /// It may change which x87 exceptions are masked, or moves an environment.
    pub control: bool,
    /// It is remembered as the last x87 instruction.
    pub remembered: bool,
}

/// The register files of an instruction that runs as a thunk, `None` if it is
/// not one that the host has too.
pub fn unit(i: &Insn) -> Option<Unit> {
    if i.code.op_code().encoding() != EncodingKind::Legacy {
        return None;
    }
    let features = i.code.cpuid_features();
    if features.is_empty() || !features.iter().all(host_has) {
        return None;
    }
    let has = |f: fn(&Operand) -> bool| i.ops.iter().any(f);
    let mm = has(|op| matches!(op, Operand::Mm(_))) || i.mnemonic == Mnemonic::Emms;
    let xmm = has(|op| matches!(op, Operand::Xmm(_)));
    let x87 = features.iter().any(|f| {
        matches!(
            f,
            CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387
        )
    });
    match (mm, xmm) {
        (true, true) => Some(Unit::SseMmx),
        // CVTPS2PI and the like with their source in memory.
        (true, false) if uses_mxcsr(i.mnemonic) => Some(Unit::SseMmx),
        (true, false) => Some(Unit::Mmx),
        (false, true) => Some(Unit::Sse),
        // CVTSD2SI and the like with their source in memory.
        (false, false) if uses_mxcsr(i.mnemonic) => Some(Unit::Sse),
        (false, false) => x87.then_some(Unit::X87),
    }
}

/// Whether the host can run these instructions. The CPU model asks the same, so
/// that a guest never gets here with others; a thunk of one would end the process.
fn host_has(group: &CpuidFeature) -> bool {
    use CpuidFeature as G;
    let feature = match group {
        G::FPU | G::FPU287 | G::FPU387 | G::CMOV | G::MMX | G::SSE | G::SSE2 => return true,
        G::SSE3 => Feature::Sse3,
        G::SSSE3 => Feature::Ssse3,
        G::SSE4_1 => Feature::Sse41,
        G::SSE4_2 => Feature::Sse42,
        G::AES => Feature::Aes,
        G::PCLMULQDQ => Feature::Pclmulqdq,
        _ => return false,
    };
    works_here(&feature)
}

/// The arithmetic flags; iced-x86 counts the x87 condition codes too.
const ARITHMETIC: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

/// Fills in the plan of an instruction whose host form is `host`.
pub fn plan(
    i: &Insn,
    unit: Unit,
    host: &Instruction,
    info: &InstructionInfo,
    entry: Entry,
) -> Plan {
    let (memory, bytes) = memory(i, info);
    let gpr = |n: usize| matches!(i.ops[n], Operand::Gpr(..)).then_some(Transfer::Gpr(n as u8));
    let flags = |touched: u32| (touched & ARITHMETIC != 0).then_some(Transfer::Flags);
    let lengths = matches!(i.mnemonic, Mnemonic::Pcmpestri | Mnemonic::Pcmpestrm)
        .then_some(Transfer::Lengths);
    let index = matches!(i.mnemonic, Mnemonic::Pcmpestri | Mnemonic::Pcmpistri)
        .then_some(Transfer::FlagsAndIndex);
    Plan {
        entry,
        unit,
        memory,
        bytes,
        aligned: bytes == 16 && memory != Memory::Merge && !unaligned(i.mnemonic),
        input: gpr(1)
            .or(lengths)
            .or_else(|| flags(host.rflags_read()))
            .unwrap_or(Transfer::None),
        output: gpr(0)
            .or(index)
            .or_else(|| flags(host.rflags_modified()))
            .unwrap_or(Transfer::None),
        mxcsr: uses_mxcsr(i.mnemonic),
        waiting: unit != Unit::Sse && !non_waiting(i.mnemonic),
        control: unit == Unit::X87 && control(i.mnemonic),
        remembered: unit == Unit::X87 && is_remembered(i),
    }
}

fn memory(i: &Insn, info: &InstructionInfo) -> (Memory, u16) {
    for op in &i.ops {
        let bytes = match op {
            Operand::Mem(w) => w.bytes() as u16,
            Operand::Wide(bytes) => *bytes,
            // MASKMOVQ and MASKMOVDQU store through EDI.
            Operand::Implied if i.mnemonic == Mnemonic::Maskmovq => return (Memory::Merge, 8),
            Operand::Implied => return (Memory::Merge, 16),
            _ => continue,
        };
        let access = info.used_memory().first().map(|m| m.access());
        let memory = match access {
            Some(OpAccess::Write | OpAccess::CondWrite) => Memory::Write,
            Some(OpAccess::ReadWrite | OpAccess::ReadCondWrite) => Memory::Merge,
            _ => Memory::Read,
        };
        return (memory, bytes);
    }
    (Memory::None, 0)
}

/// 16-byte operands that need no alignment.
fn unaligned(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Movups
            | Mnemonic::Movupd
            | Mnemonic::Movdqu
            | Mnemonic::Lddqu
            | Mnemonic::Pcmpestri
            | Mnemonic::Pcmpestrm
            | Mnemonic::Pcmpistri
            | Mnemonic::Pcmpistrm
    )
}

/// Instructions that do not report pending x87 exceptions first.
fn non_waiting(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Fninit | M::Fnclex | M::Fnstsw | M::Fnstcw | M::Fnstenv | M::Fnsave
    )
}

/// Instructions that load the x87 control word, or move it with an environment.
fn control(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Fninit | M::Fldcw | M::Fldenv | M::Frstor | M::Fnstenv | M::Fnsave
    )
}

/// SSE instructions whose result or flags depend on MXCSR.
#[rustfmt::skip]
fn uses_mxcsr(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Addps | M::Addpd | M::Addss | M::Addsd
            | M::Subps | M::Subpd | M::Subss | M::Subsd
            | M::Mulps | M::Mulpd | M::Mulss | M::Mulsd
            | M::Divps | M::Divpd | M::Divss | M::Divsd
            | M::Sqrtps | M::Sqrtpd | M::Sqrtss | M::Sqrtsd
            | M::Minps | M::Minpd | M::Minss | M::Minsd
            | M::Maxps | M::Maxpd | M::Maxss | M::Maxsd
            | M::Cmpps | M::Cmppd | M::Cmpss | M::Cmpsd
            | M::Comiss | M::Comisd | M::Ucomiss | M::Ucomisd
            | M::Rcpps | M::Rcpss | M::Rsqrtps | M::Rsqrtss
            | M::Cvtpi2ps | M::Cvtpi2pd | M::Cvtps2pi | M::Cvtpd2pi | M::Cvttps2pi | M::Cvttpd2pi
            | M::Cvtsi2ss | M::Cvtsi2sd | M::Cvtss2si | M::Cvtsd2si | M::Cvttss2si | M::Cvttsd2si
            | M::Cvtss2sd | M::Cvtsd2ss | M::Cvtps2pd | M::Cvtpd2ps
            | M::Addsubps | M::Addsubpd | M::Haddps | M::Haddpd | M::Hsubps | M::Hsubpd
            | M::Roundps | M::Roundpd | M::Roundss | M::Roundsd | M::Dpps | M::Dppd
            | M::Cvtdq2ps | M::Cvtdq2pd | M::Cvtps2dq | M::Cvtpd2dq | M::Cvttps2dq | M::Cvttpd2dq
    )
}

/// Identifies what a thunk was made for: the instruction without its address
/// and its memory operand's. Never 0.
pub fn key(i: &Insn) -> u32 {
    let register = |op: Operand| match op {
        Operand::St(n) | Operand::Mm(n) | Operand::Xmm(n) => u32::from(n & 7),
        // Forms with a register and with memory share one iced code.
        Operand::Mem(_) | Operand::Wide(_) => 8,
        _ => 0,
    };
    let immediate = |op: &Operand| matches!(op, Operand::Imm(_)).then_some(i.imm & 0xff);
    (i.code as u32) << 19
        | register(i.ops[0]) << 15
        | register(i.ops[1]) << 11
        // MASKMOVDQU's mask, never memory.
        | (register(i.ops[2]) & 7) << 8
        | i.ops.iter().find_map(immediate).unwrap_or(0)
}

/// What a store that bypasses the caches is done as: guests see no difference,
/// and the data is about to be read through other addresses.
pub fn host_code(code: Code) -> Code {
    match code {
        Code::Movntps_m128_xmm => Code::Movaps_xmmm128_xmm,
        Code::Movntpd_m128_xmm => Code::Movapd_xmmm128_xmm,
        Code::Movntdq_m128_xmm => Code::Movdqa_xmmm128_xmm,
        Code::Movntq_m64_mm => Code::Movq_mmm64_mm,
        code => code,
    }
}
