//! What iced-x86 knows of each encoding, as far as every instruction is asked for it.
//!
//! Its own table is half a megabyte, and a block's instructions are far apart in it:
//! each question would be a cache miss. Here an encoding takes two bytes.

use iced_x86::{Code, CpuidFeature, EncodingKind};
use std::sync::LazyLock;

/// The facts of one encoding.
#[derive(Clone, Copy, Default)]
struct Facts {
    operand_bits: u8,
    flags: u8,
}

/// The opcode is one of D8h to DFh.
const X87: u8 = 1;
/// The encoding has no VEX or the like, and its features are among those of a host.
const PLAIN: u8 = 2;

static FACTS: LazyLock<Box<[Facts]>> = LazyLock::new(|| Code::values().map(facts).collect());

fn facts(code: Code) -> Facts {
    let of = code.op_code();
    // FSQRT and the like have a second byte of opcode.
    let opcode = of.op_code();
    let x87 = [opcode, opcode >> 8].iter().any(|o| o & 0xf8 == 0xd8);
    let features = code.cpuid_features();
    let plain = of.encoding() == EncodingKind::Legacy
        && !features.is_empty()
        && features.iter().all(is_plain);
    Facts {
        operand_bits: of.operand_size() as u8,
        flags: if x87 { X87 } else { 0 } | if plain { PLAIN } else { 0 },
    }
}

/// A feature whose instructions a host with SSE4.2, AES and PCLMULQDQ has.
fn is_plain(feature: &CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(
        feature,
        F::FPU
            | F::FPU287
            | F::FPU387
            | F::CMOV
            | F::MMX
            | F::SSE
            | F::SSE2
            | F::SSE3
            | F::SSSE3
            | F::SSE4_1
            | F::SSE4_2
            | F::AES
            | F::PCLMULQDQ
    )
}

fn of(code: Code) -> Facts {
    FACTS.get(code as usize).copied().unwrap_or_default()
}

/// The operand size that the encoding requires, 16 or 32, or 0.
pub fn operand_bits(code: Code) -> u8 {
    of(code).operand_bits
}

/// The opcode is one of D8h to DFh.
pub fn is_x87(code: Code) -> bool {
    of(code).flags & X87 != 0
}

/// A legacy encoding of x87, CMOV, MMX, SSE to SSE4.2, AES or PCLMULQDQ.
pub fn is_plain_unit(code: Code) -> bool {
    of(code).flags & PLAIN != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_those_of_iced() {
        assert_eq!(FACTS.len(), Code::values().count());
        for code in Code::values() {
            assert_eq!(u32::from(operand_bits(code)), code.op_code().operand_size());
        }
        assert!(is_x87(Code::Fsqrt) && is_x87(Code::Fadd_m32fp) && !is_x87(Code::Emms));
        assert!(is_plain_unit(Code::Addps_xmm_xmmm128) && !is_plain_unit(Code::Add_rm32_r32));
        assert!(!is_plain_unit(Code::VEX_Vaddps_xmm_xmm_xmmm128));
    }
}
