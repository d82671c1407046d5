//! Every instruction of the families, found by asking the decoder.
//!
//! All opcodes of the four maps are decoded under every mandatory prefix and
//! every ModRM byte of the register form, and one memory form for each `reg`
//! field. What comes back valid and belongs to a family becomes a template. So
//! redundant encodings are found too, and nothing has to be listed but what is
//! left out.

use crate::cpu_model::feature::{Feature, works_here};
use crate::selftest::case::Family;
use iced_x86::{
    Code, ConstantOffsets, CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction,
    Mnemonic, OpKind,
};
use std::collections::BTreeMap;

const PREFIXES: [&[u8]; 6] = [&[], &[0x66], &[0xf2], &[0xf3], &[0x66, 0xf2], &[0x66, 0xf3]];
const MAPS: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
/// Bytes that are prefixes or escapes, not opcodes.
const NOT_OPCODES: [u8; 12] = [
    0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x0f,
];

/// The start of an encoding: mandatory prefix, opcode and, if there is one, ModRM.
#[derive(Clone)]
pub struct Template {
    /// The bytes, of which the last is ModRM if `modrm`.
    pub bytes: Vec<u8>,
    /// Whether the last byte is ModRM.
    pub modrm: bool,
}

/// One instruction in iced's sense, an opcode with its operand forms.
pub struct Entry {
    /// Its code.
    pub code: Code,
    /// Its family.
    pub family: Family,
    /// Whether it cuts EIP to 16 bits, where nothing is mapped.
    pub cuts_eip: bool,
    /// Encodings without ModRM, or with ModRM naming a register.
    pub register_forms: Vec<Template>,
    /// Encodings with ModRM naming memory; `mod` and `rm` are placeholders.
    pub memory_forms: Vec<Template>,
}

/// All instructions of all families, in a fixed order.
pub fn all() -> Vec<Entry> {
    with(&family)
}

/// All instructions that `family` puts into one, in a fixed order.
pub fn with(family: &dyn Fn(&Instruction) -> Option<Family>) -> Vec<Entry> {
    let mut found = BTreeMap::<u32, Entry>::new();
    for (map, prefix) in MAPS.iter().flat_map(|m| PREFIXES.map(|p| (m, p))) {
        for opcode in 0..=0xff {
            if map.is_empty() && NOT_OPCODES.contains(&opcode) {
                continue;
            }
            let start = [prefix, map, &[opcode]].concat();
            probe(&start, family, &mut found);
        }
    }
    found.into_values().collect()
}

/// Adds what the opcode bytes `start` can be the start of.
fn probe(
    start: &[u8],
    family: &dyn Fn(&Instruction) -> Option<Family>,
    found: &mut BTreeMap<u32, Entry>,
) {
    let memory = (0..8).map(|reg| reg << 3);
    let registers = 0xc0..=0xff;
    for modrm in memory.chain(registers) {
        let mut bytes = [start, &[modrm]].concat();
        let Some((insn, offsets)) = decode(&bytes) else {
            continue;
        };
        let Some(family) = family(&insn) else {
            continue;
        };
        let has_modrm = insn.len() > start.len()
            && !(offsets.has_immediate() && offsets.immediate_offset() == start.len())
            && !(offsets.has_displacement() && offsets.displacement_offset() == start.len());
        if !has_modrm {
            bytes.truncate(start.len());
        }
        let entry = found.entry(insn.code() as u32).or_insert_with(|| Entry {
            code: insn.code(),
            family,
            cuts_eip: cuts_eip(&insn),
            register_forms: Vec::new(),
            memory_forms: Vec::new(),
        });
        let template = Template {
            bytes,
            modrm: has_modrm,
        };
        match has_modrm && modrm < 0xc0 {
            true => entry.memory_forms.push(template),
            false => entry.register_forms.push(template),
        }
        if !has_modrm {
            return;
        }
    }
}

fn decode(bytes: &[u8]) -> Option<(Instruction, ConstantOffsets)> {
    let mut padded = [0; 24];
    padded[..bytes.len()].copy_from_slice(bytes);
    let mut decoder = Decoder::new(32, &padded, DecoderOptions::NONE);
    let insn = decoder.decode();
    let stray_repeat = insn.has_rep_prefix() || insn.has_repne_prefix();
    (!insn.is_invalid() && !stray_repeat).then(|| (insn, decoder.get_constant_offsets(&insn)))
}

/// Near transfers with a 16-bit operand size (SDM vol. 2, "JMP", "CALL", "RET").
fn cuts_eip(insn: &Instruction) -> bool {
    let by_operand = matches!(
        insn.code(),
        Code::Retnw | Code::Retnw_imm16 | Code::Jmp_rm16 | Code::Call_rm16
    );
    by_operand || insn.op0_kind() == OpKind::NearBranch16
}

/// The family of an unprivileged instruction, `None` for what random
/// sequences leave out.
pub fn family(insn: &Instruction) -> Option<Family> {
    if insn.is_privileged() || left_out(insn) {
        return None;
    }
    let mut by_feature = None;
    for &feature in insn.cpuid_features() {
        let family = match feature {
            CpuidFeature::INTEL8086
            | CpuidFeature::INTEL186
            | CpuidFeature::INTEL286
            | CpuidFeature::INTEL386
            | CpuidFeature::INTEL486
            | CpuidFeature::CMOV
            | CpuidFeature::CX8
            | CpuidFeature::MULTIBYTENOP
            | CpuidFeature::PAUSE
            | CpuidFeature::POPCNT
            | CpuidFeature::MOVBE => by_feature,
            CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387 => Some(Family::X87),
            CpuidFeature::MMX => Some(Family::Mmx),
            CpuidFeature::SSE => Some(Family::Sse),
            CpuidFeature::SSE2 => Some(Family::Sse2),
            other => Some(
                newer_family(other)
                    .filter(|(feature, _)| works_here(feature))?
                    .1,
            ),
        };
        by_feature = family;
    }
    Some(by_feature.unwrap_or_else(|| integer_family(insn)))
}

/// The families that not every x86-64 CPU has.
fn newer_family(feature: CpuidFeature) -> Option<(Feature, Family)> {
    Some(match feature {
        CpuidFeature::SSE3 => (Feature::Sse3, Family::Sse3),
        CpuidFeature::SSSE3 => (Feature::Ssse3, Family::Ssse3),
        CpuidFeature::SSE4_1 => (Feature::Sse41, Family::Sse41),
        CpuidFeature::SSE4_2 => (Feature::Sse42, Family::Sse42),
        CpuidFeature::AES => (Feature::Aes, Family::Crypto),
        CpuidFeature::PCLMULQDQ => (Feature::Pclmulqdq, Family::Crypto),
        _ => return None,
    })
}

/// Instructions whose result depends on the machine around them, or which would
/// take control away from the harness.
fn left_out(insn: &Instruction) -> bool {
    use Mnemonic::*;
    let loads_segment =
        insn.op0_register().is_segment_register() && !matches!(insn.mnemonic(), Push);
    let far = insn.is_jmp_far()
        || insn.is_call_far()
        || insn.is_jmp_far_indirect()
        || insn.is_call_far_indirect()
        || matches!(insn.mnemonic(), Retf | Iret | Iretd);
    // They enter the kernel, or another way of ending the sequence.
    let enters = matches!(insn.flow_control(), FlowControl::Exception)
        || matches!(
            insn.mnemonic(),
            Int | Int1 | Int3 | Syscall | Sysenter | Sysret | Sysexit
        );
    let ports = matches!(
        insn.mnemonic(),
        In | Out | Insb | Insw | Insd | Outsb | Outsw | Outsd | Cli | Sti | Hlt
    );
    let tables = matches!(
        insn.mnemonic(),
        Sldt | Str | Smsw | Sgdt | Sidt | Lar | Lsl | Verr | Verw | Lds | Les | Lfs | Lgs | Lss
    );
    let changing = matches!(insn.mnemonic(), Cpuid | Rdtsc | Rdpmc | Clflush);
    // They load MXCSR with bits that only some CPUs have, or store the x87
    // pointers only now and then, as the CPU's maker decided.
    let control = matches!(
        insn.mnemonic(),
        Fxsave | Fxrstor | Ldmxcsr | Fneni | Fndisi | Fnsetpm
    );
    // Hints of later CPUs: only 0F 1F is a no-operation on all of them.
    let hint = is_reserved_nop(insn.code());
    // Approximations differ from CPU to CPU; BSWAP of 16 bits is undefined.
    let undefined = matches!(insn.mnemonic(), Rcpps | Rcpss | Rsqrtps | Rsqrtss)
        || insn.code() == Code::Bswap_r16;
    loads_segment || far || enters || ports || tables || changing || control || hint || undefined
}

fn is_reserved_nop(code: Code) -> bool {
    let code = code as u32;
    let prefetch = Code::Reservednop_rm16_r16_0F0D as u32..=Code::Reservednop_rm64_r64_0F0D as u32;
    let others = Code::Reservednop_rm16_r16_0F18 as u32..=Code::Reservednop_rm64_r64_0F1E as u32;
    prefetch.contains(&code) || others.contains(&code)
}

fn integer_family(insn: &Instruction) -> Family {
    use Mnemonic::*;
    match insn.mnemonic() {
        Add | Adc | Sub | Sbb | Cmp | Inc | Dec | Neg | Xadd | Cmpxchg | Cmpxchg8b | Arpl => {
            Family::Arith
        }
        And | Or | Xor | Not | Test => Family::Logic,
        Rol | Ror | Rcl | Rcr | Shl | Sal | Shr | Sar | Shld | Shrd => Family::Shift,
        Bt | Bts | Btr | Btc | Bsf | Bsr | Popcnt | Bswap => Family::Bits,
        Mul | Imul | Div | Idiv => Family::Muldiv,
        Aaa | Aad | Aam | Aas | Daa | Das => Family::Decimal,
        Push | Pop | Pusha | Pushad | Popa | Popad | Enter | Leave => Family::Stack,
        Movsb | Movsw | Movsd | Cmpsb | Cmpsw | Cmpsd | Scasb | Scasw | Scasd | Lodsb | Lodsw
        | Lodsd | Stosb | Stosw | Stosd => Family::Strings,
        Pushf | Pushfd | Popf | Popfd | Lahf | Sahf | Clc | Stc | Cmc | Cld | Std | Salc => {
            Family::Flagops
        }
        Wait => Family::X87,
        Into | Bound => Family::Branch,
        _ if insn.flow_control() != FlowControl::Next => Family::Branch,
        _ => Family::Transfer,
    }
}
