//! The general rule: a guest instruction becomes the host instruction of the same
//! name, its registers renamed and its memory operand replaced.
//!
//! A guest register lives in the host register of the same number, ESP in R12.
//! Encodings that 64-bit mode gave another meaning are replaced by their longer
//! synonyms. A high-byte register cannot be named beside a REX prefix, which ESP and
//! most replaced memory operands need: the two bytes of the register are swapped
//! around the instruction instead.

use super::asm::{Mem, Reg, Via, reg};
use crate::insn::{Gpr, Insn, Operand, Width};
use iced_x86::{Code, Instruction, OpCodeOperandKind, OpKind, Register};

/// The host register that holds a guest register.
pub fn host(r: Gpr) -> Reg {
    match r {
        Gpr::ESP => reg::R12,
        r => r.0 & 7,
    }
}

/// iced-x86's name of the host register for a guest register of some width.
fn named(r: Gpr, w: Width) -> Register {
    match w {
        Width::B => Register::AL + u32::from(r.0 & 7),
        Width::W if r == Gpr::ESP => Register::R12W,
        Width::W => Register::AX + u32::from(r.0 & 7),
        Width::D if r == Gpr::ESP => Register::R12D,
        Width::D => Register::EAX + u32::from(r.0 & 7),
    }
}

/// A host instruction, and the register whose bytes must be swapped around it.
pub struct Renamed {
    /// The instruction.
    pub instruction: Instruction,
    /// Number of the register (0–3) whose high byte an operand is.
    pub swapped: Option<Reg>,
}

/// Whether the host instruction for `i` must have a REX prefix.
pub fn needs_rex(i: &Insn, place: Option<Mem>) -> bool {
    i.ops.iter().any(|op| match op {
        Operand::Mem(_) | Operand::Wide(_) => place.is_some_and(Mem::needs_rex),
        Operand::Gpr(r, w) => *r == Gpr::ESP && *w != Width::B,
        _ => false,
    })
}

/// The host instruction for `i`, whose memory operand is at `place`. `None` if an
/// operand has no host form.
pub fn rename(i: &Insn, place: Option<Mem>) -> Option<Renamed> {
    let code = host_code(i.code);
    let mut h = Instruction::default();
    h.set_code(code);
    let operands = code.op_code();
    let rex = needs_rex(i, place);
    let mut swapped = None;
    for (n, op) in (0..).zip(i.ops) {
        match op {
            Operand::None => {}
            Operand::Gpr(r, Width::B) if r.0 >= Gpr::AH.0 && rex => {
                let low = Gpr(r.0 & 3);
                if swapped.replace(low.0).is_some() {
                    return None;
                }
                set_register(&mut h, n, named(low, Width::B));
            }
            Operand::Gpr(r, w) => set_register(&mut h, n, named(r, w)),
            Operand::Mem(_) | Operand::Wide(_) => set_memory(&mut h, n, place?),
            Operand::Xmm(r) => set_register(&mut h, n, Register::XMM0 + u32::from(r & 7)),
            Operand::Mm(r) => set_register(&mut h, n, Register::MM0 + u32::from(r & 7)),
            Operand::St(r) => set_register(&mut h, n, Register::ST0 + u32::from(r & 7)),
            Operand::Imm(_) => set_immediate(&mut h, n, operands.op_kind(n), i.imm)?,
            _ => return None,
        }
    }
    Some(Renamed {
        instruction: h,
        swapped,
    })
}

fn set_memory(h: &mut Instruction, n: u32, place: Mem) {
    let (first, displacement, whole) = match place.via {
        Via::GsWrapped => (Register::EAX, u64::from(place.disp as u32), 4),
        _ => (Register::RAX, i64::from(place.disp) as u64, 8),
    };
    let named = |r: Reg| first + u32::from(r);
    h.set_op_kind(n, OpKind::Memory);
    h.set_memory_base(place.base.map_or(Register::None, named));
    if let Some((index, shift)) = place.index {
        h.set_memory_index(named(index));
        h.set_memory_index_scale(1 << (shift & 3));
    }
    h.set_memory_displacement64(displacement);
    let alone = place.base.is_none() && place.index.is_none();
    h.set_memory_displ_size(match alone {
        true => whole,
        false => u32::from(place.disp != 0),
    });
    if place.via != Via::Plain {
        h.set_segment_prefix(Register::GS);
    }
}

fn set_register(h: &mut Instruction, n: u32, r: Register) {
    h.set_op_kind(n, OpKind::Register);
    h.set_op_register(n, r);
}

/// Puts the immediate back into the form the encoding has.
fn set_immediate(h: &mut Instruction, n: u32, kind: OpCodeOperandKind, v: u32) -> Option<()> {
    use OpCodeOperandKind as K;
    let kind = match kind {
        K::imm8 | K::imm8_const_1 => OpKind::Immediate8,
        K::imm8sex16 => OpKind::Immediate8to16,
        K::imm8sex32 => OpKind::Immediate8to32,
        K::imm16 => OpKind::Immediate16,
        K::imm32 => OpKind::Immediate32,
        _ => return None,
    };
    h.set_op_kind(n, kind);
    match kind {
        OpKind::Immediate8 => h.set_immediate8(v as u8),
        OpKind::Immediate8to16 => h.set_immediate8to16(v as i16),
        OpKind::Immediate8to32 => h.set_immediate8to32(v as i32),
        OpKind::Immediate16 => h.set_immediate16(v as u16),
        _ => h.set_immediate32(v),
    }
    Some(())
}

/// The encoding that 64-bit mode has for what `code` does.
pub fn host_code(code: Code) -> Code {
    match code {
        Code::Inc_r16 => Code::Inc_rm16,
        Code::Inc_r32 => Code::Inc_rm32,
        Code::Dec_r16 => Code::Dec_rm16,
        Code::Dec_r32 => Code::Dec_rm32,
        Code::Add_rm8_imm8_82 => Code::Add_rm8_imm8,
        Code::Or_rm8_imm8_82 => Code::Or_rm8_imm8,
        Code::Adc_rm8_imm8_82 => Code::Adc_rm8_imm8,
        Code::Sbb_rm8_imm8_82 => Code::Sbb_rm8_imm8,
        Code::And_rm8_imm8_82 => Code::And_rm8_imm8,
        Code::Sub_rm8_imm8_82 => Code::Sub_rm8_imm8,
        Code::Xor_rm8_imm8_82 => Code::Xor_rm8_imm8,
        Code::Cmp_rm8_imm8_82 => Code::Cmp_rm8_imm8,
        Code::Mov_AL_moffs8 => Code::Mov_r8_rm8,
        Code::Mov_AX_moffs16 => Code::Mov_r16_rm16,
        Code::Mov_EAX_moffs32 => Code::Mov_r32_rm32,
        Code::Mov_moffs8_AL => Code::Mov_rm8_r8,
        Code::Mov_moffs16_AX => Code::Mov_rm16_r16,
        Code::Mov_moffs32_EAX => Code::Mov_rm32_r32,
        // Stores that bypass the caches are ordinary ones to a guest.
        Code::Movntps_m128_xmm => Code::Movaps_xmmm128_xmm,
        Code::Movntpd_m128_xmm => Code::Movapd_xmmm128_xmm,
        Code::Movntdq_m128_xmm => Code::Movdqa_xmmm128_xmm,
        Code::Movntq_m64_mm => Code::Movq_mmm64_mm,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode_block;
    use crate::mode::Mode;

    fn renamed(bytes: &[u8]) -> Option<(String, Option<Reg>)> {
        let block = decode_block(bytes, 0, Mode::flat32(), 1).expect("a whole instruction");
        let place = Mem::indexed(reg::R8, reg::R9, 0);
        let r = rename(&block.insns[0], Some(place))?;
        Some((r.instruction.to_string(), r.swapped))
    }

    #[test]
    fn registers_and_memory_are_replaced() {
        let cases: [(&[u8], &str, Option<Reg>); 8] = [
            (&[0x01, 0xd8], "add eax,ebx", None),
            (&[0x29, 0xc4], "sub r12d,eax", None),
            (&[0x44], "inc r12d", None),
            (&[0x66, 0x4b], "dec bx", None),
            (&[0x8b, 0x44, 0x24, 8], "mov eax,[r8+r9]", None),
            (&[0x83, 0xc0, 0xff], "add eax,0FFFFFFFFh", None),
            (&[0xa2, 1, 2, 3, 4], "mov [r8+r9],al", None),
            (&[0x88, 0x20], "mov [r8+r9],al", Some(0)),
        ];
        for (bytes, text, swapped) in cases {
            assert_eq!(renamed(bytes), Some((text.to_owned(), swapped)));
        }
    }

    #[test]
    fn high_bytes_stay_where_no_prefix_is_needed() {
        let wanted = Some(("add ah,dl".to_owned(), None));
        assert_eq!(renamed(&[0x00, 0xd4]), wanted);
    }

    #[test]
    fn system_registers_have_no_host_form() {
        assert_eq!(renamed(&[0x8e, 0xd8]), None);
    }
}
