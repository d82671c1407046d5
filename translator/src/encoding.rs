//! What iced-x86 knows of each encoding, as far as every instruction is asked for it.
//!
//! Its own table is half a megabyte, and a block's instructions are far apart in it:
//! each question would be a cache miss. Here an encoding takes three bytes, and questions
//! that would be long comparisons are asked once of each.

use crate::insn::Flow;
use iced_x86::{Code, CpuidFeature, EncodingKind, Mnemonic};
use std::sync::LazyLock;

/// The facts of one encoding.
#[derive(Clone, Copy)]
pub struct Facts {
    /// The operand size that the encoding requires, 16 or 32, or 0.
    pub operand_bits: u8,
    /// How control leaves the instruction, unless it loads SS or a system register.
    pub flow: Flow,
    flags: u8,
}

/// The opcode is one of D8h to DFh.
const X87: u8 = 1;
/// The encoding has no VEX or the like, and its features are among those of a host.
const PLAIN: u8 = 2;
/// A string instruction.
const STRING: u8 = 4;
/// See [`Facts::leaves_flags_unseen`].
const UNSEEN: u8 = 8;
/// See [`Facts::defines_all_flags`].
const DEFINES: u8 = 16;

impl Facts {
    /// The opcode is one of D8h to DFh.
    pub fn is_x87(self) -> bool {
        self.flags & X87 != 0
    }

    /// A legacy encoding of x87, CMOV, MMX, SSE to SSE4.2, AES or PCLMULQDQ.
    pub fn is_plain_unit(self) -> bool {
        self.flags & PLAIN != 0
    }

    /// A string instruction.
    pub fn is_string(self) -> bool {
        self.flags & STRING != 0
    }

    /// With operands in registers, the instruction neither reads arithmetic flags nor
    /// shows them to anybody.
    pub fn leaves_flags_unseen(self) -> bool {
        self.flags & UNSEEN != 0
    }

    /// Every arithmetic flag after the instruction is independent of those before.
    pub fn defines_all_flags(self) -> bool {
        self.flags & DEFINES != 0
    }
}

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
    let mnemonic = code.mnemonic();
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    Facts {
        operand_bits: of.operand_size() as u8,
        flow: flow(code),
        flags: flag(x87, X87)
            | flag(plain, PLAIN)
            | flag(code.is_string_instruction(), STRING)
            | flag(leaves_flags_unseen(mnemonic), UNSEEN)
            | flag(defines_all_flags(mnemonic), DEFINES),
    }
}

fn flow(code: Code) -> Flow {
    use Mnemonic as M;
    let branches =
        code.is_jcc_short_or_near() || code.is_loop() || code.is_loopcc() || code.is_jcx_short();
    match code.mnemonic() {
        _ if code.is_jmp_short_or_near() => Flow::Jump,
        _ if branches => Flow::Branch,
        _ if code.is_call_near() => Flow::Call,
        _ if code.is_jmp_near_indirect() => Flow::IndirectJump,
        _ if code.is_call_near_indirect() => Flow::IndirectCall,
        M::Ret => Flow::Return,
        M::INVALID | M::Ud0 | M::Ud1 | M::Ud2 | M::Jmp | M::Call | M::Retf => Flow::System,
        M::Iret | M::Iretd | M::Int | M::Int1 | M::Int3 | M::Into => Flow::System,
        M::Sysenter | M::Sysexit | M::Syscall | M::Sysret => Flow::System,
        M::Hlt | M::Sti | M::Clac | M::Stac | M::Popf | M::Popfd => Flow::System,
        M::Lss | M::Lmsw | M::Wrmsr | M::Invlpg | M::Rsm | M::Mwait => Flow::System,
        _ => Flow::Next,
    }
}

fn leaves_flags_unseen(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    #[rustfmt::skip]
    let unseen = matches!(
        mnemonic,
        M::Mov | M::Movzx | M::Movsx | M::Lea | M::Xchg | M::Bswap | M::Nop
        | M::Add | M::Sub | M::And | M::Or | M::Xor | M::Cmp | M::Test | M::Not
        | M::Neg | M::Inc | M::Dec | M::Imul | M::Mul
        | M::Shl | M::Shr | M::Sar | M::Rol | M::Ror | M::Shld | M::Shrd
        | M::Bt | M::Bts | M::Btr | M::Btc | M::Bsf | M::Bsr
        | M::Cbw | M::Cwde | M::Cwd | M::Cdq
    );
    unseen
}

fn defines_all_flags(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Add | M::Sub | M::And | M::Or | M::Xor | M::Cmp | M::Test | M::Neg
    )
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

/// The facts of an encoding.
#[inline]
pub fn of(code: Code) -> Facts {
    FACTS[code as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_those_of_iced() {
        assert_eq!(FACTS.len(), Code::values().count());
        for code in Code::values() {
            assert_eq!(
                u32::from(of(code).operand_bits),
                code.op_code().operand_size()
            );
        }
        let is_x87 = |code| of(code).is_x87();
        let is_plain_unit = |code| of(code).is_plain_unit();
        assert!(is_x87(Code::Fsqrt) && is_x87(Code::Fadd_m32fp) && !is_x87(Code::Emms));
        assert!(is_plain_unit(Code::Addps_xmm_xmmm128) && !is_plain_unit(Code::Add_rm32_r32));
        assert!(!is_plain_unit(Code::VEX_Vaddps_xmm_xmm_xmmm128));
    }
}
