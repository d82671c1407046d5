//! Encoding of the common forms: what iced-x86's encoder would do, from a table
//! that remembers what its tables say of a [`Code`].
//!
//! A guest instruction names its encoding already, so all that is left is to put
//! prefix, opcode, ModR/M and immediate together with other registers and another
//! memory operand. Forms that are not so simple have no entry and go through
//! iced-x86 itself.

use super::asm::{Assembler, Mem, Reg, Size};
use super::rename::{host, host_code, needs_rex};
use crate::insn::{Gpr, Insn, Operand, Width};
use iced_x86::{Code, EncodingKind, MandatoryPrefix, OpCodeOperandKind, OpCodeTableKind};

/// Operand number that no operand has.
const NONE: u8 = u8::MAX;

/// How a code's instructions are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    /// 66, F2, F3 or 0.
    prefix: u8,
    /// The opcode follows 0F.
    escaped: bool,
    opcode: u8,
    /// Opcode extension in ModR/M.
    extension: u8,
    /// Which operands are in ModR/M's fields and in the opcode.
    reg: u8,
    rm: u8,
    in_opcode: u8,
    /// Length of the immediate.
    imm_bytes: u8,
}

/// The forms looked up so far, by code.
pub struct Forms(Vec<Option<Option<Form>>>);

impl Default for Forms {
    fn default() -> Self {
        Self(vec![None; Code::values().len()])
    }
}

/// A register number, and whether it is a high byte.
fn number(op: Operand) -> Option<(Reg, bool)> {
    match op {
        Operand::Gpr(r, Width::B) => Some((r.0 & 7, r.0 >= Gpr::AH.0)),
        Operand::Gpr(r, _) => Some((host(r), false)),
        Operand::Xmm(r) | Operand::Mm(r) => Some((r & 7, false)),
        _ => None,
    }
}

impl Forms {
    fn find(&mut self, code: Code) -> Option<Form> {
        let entry = self.0.get_mut(code as usize)?;
        *entry.get_or_insert_with(|| form(code))
    }

    /// Appends the host instruction for `i`, whose memory operand is at `place`.
    /// `None`, with nothing appended, if it has no simple form.
    pub fn encode(&mut self, asm: &mut Assembler, i: &Insn, place: Option<Mem>) -> Option<()> {
        let form = self.find(host_code(i.code))?;
        let operand = |n: u8| i.ops.get(usize::from(n)).copied();
        let place = match operand(form.rm) {
            Some(Operand::Mem(_) | Operand::Wide(_)) => Some(place?),
            _ => None,
        };
        let rex = needs_rex(i, place);
        let mut swapped = None;
        let mut register = |n: u8| -> Option<Reg> {
            let (r, high) = number(operand(n)?)?;
            if !(high && rex) {
                return Some(r);
            }
            // One swap serves one operand.
            swapped.replace(r & 3).is_none().then_some(r & 3)
        };
        let reg = match form.reg {
            NONE => form.extension,
            n => register(n)?,
        };
        let rm = match (form.rm, form.in_opcode) {
            (NONE, NONE) => None,
            (NONE, n) => Some(register(n)?),
            _ if place.is_some() => None,
            (n, _) => Some(register(n)?),
        };
        swap(asm, swapped);
        form.put(asm, reg, rm, place);
        asm.imm(i.imm, usize::from(form.imm_bytes));
        swap(asm, swapped);
        Some(())
    }
}

/// XCHG of a register's two low bytes.
pub fn swap(asm: &mut Assembler, r: Option<Reg>) {
    if let Some(r) = r {
        asm.raw(&[0x86, 0xc0 | (r + 4) << 3 | r]);
    }
}

impl Form {
    fn put(&self, asm: &mut Assembler, reg: Reg, rm: Option<Reg>, place: Option<Mem>) {
        if self.prefix != 0 {
            asm.raw(&[self.prefix]);
        }
        match self.escaped {
            false => self.put_opcode(asm, &[self.opcode], reg, rm, place),
            true => self.put_opcode(asm, &[0x0f, self.opcode], reg, rm, place),
        }
    }

    fn put_opcode<const N: usize>(
        &self,
        asm: &mut Assembler,
        opcode: &[u8; N],
        reg: Reg,
        rm: Option<Reg>,
        place: Option<Mem>,
    ) {
        match (rm, place) {
            (_, Some(m)) => asm.op_mem(Size::D, opcode, reg, m),
            (Some(r), None) if self.rm == NONE => asm.op_short(opcode, r),
            (Some(r), None) => asm.op_reg(Size::D, opcode, reg, r),
            (None, None) => asm.raw(opcode),
        }
    }
}

/// The form of a code, if it is a simple one.
fn form(code: Code) -> Option<Form> {
    use OpCodeOperandKind as K;
    let of = code.op_code();
    let prefix = match (of.mandatory_prefix(), of.operand_size()) {
        (MandatoryPrefix::None | MandatoryPrefix::PNP, 16) => 0x66,
        (MandatoryPrefix::None | MandatoryPrefix::PNP, _) => 0,
        (MandatoryPrefix::P66, _) => 0x66,
        (MandatoryPrefix::PF3, 0 | 32) => 0xf3,
        (MandatoryPrefix::PF2, 0 | 32) => 0xf2,
        _ => return None,
    };
    let escaped = match of.table() {
        OpCodeTableKind::Normal => false,
        OpCodeTableKind::T0F => true,
        _ => return None,
    };
    let simple = of.encoding() == EncodingKind::Legacy
        && of.op_code_len() == 1
        && of.rm_group_index() < 0
        && of.address_size() == 0;
    let mut form = Form {
        prefix,
        escaped,
        opcode: of.op_code() as u8,
        extension: of.group_index().max(0) as u8,
        reg: NONE,
        rm: NONE,
        in_opcode: NONE,
        imm_bytes: 0,
    };
    for n in 0..of.op_count() {
        let number = n as u8;
        match of.op_kind(n) {
            K::r8_or_mem | K::r16_or_mem | K::r32_or_mem | K::mem => form.rm = number,
            K::xmm_or_mem | K::mm_or_mem | K::xmm_rm | K::mm_rm => form.rm = number,
            K::r8_reg | K::r16_reg | K::r32_reg | K::xmm_reg | K::mm_reg => form.reg = number,
            K::r8_opcode | K::r16_opcode | K::r32_opcode => form.in_opcode = number,
            K::al | K::ax | K::eax | K::cl | K::imm8_const_1 => {}
            K::imm8 | K::imm8sex16 | K::imm8sex32 => form.imm_bytes += 1,
            K::imm16 => form.imm_bytes += 2,
            K::imm32 => form.imm_bytes += 4,
            _ => return None,
        }
    }
    (simple && form.imm_bytes <= 4).then_some(form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode_block;
    use crate::direct::asm::reg;
    use crate::direct::rename::rename;
    use crate::mode::Mode;
    use iced_x86::Encoder;

    fn by_iced(i: &Insn, place: Mem) -> Option<Vec<u8>> {
        let renamed = rename(i, Some(place))?;
        let mut asm = Assembler::default();
        swap(&mut asm, renamed.swapped);
        let mut encoder = Encoder::new(64);
        encoder.encode(&renamed.instruction, 0).ok()?;
        asm.raw(&encoder.take_buffer());
        swap(&mut asm, renamed.swapped);
        Some(asm.bytes)
    }

    #[test]
    fn forms_are_put_together_as_iced_does() {
        let mut forms = Forms::default();
        let place = Mem::indexed(reg::R8, reg::R9, 0).plus(-3);
        let (mut same, mut x) = (0, 0x2545_f491_4f6c_dd1d_u64);
        for _ in 0..200_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let bytes: Vec<u8> = x.to_le_bytes().repeat(2);
            let Ok(block) = decode_block(&bytes, 0, Mode::flat32(), 1) else {
                continue;
            };
            let i = &block.insns[0];
            if !(super::super::is_plain(i) || super::super::vector::is_native(i)) {
                continue;
            }
            let mut asm = Assembler::default();
            if forms.encode(&mut asm, i, Some(place)).is_some() {
                assert_eq!(
                    Some(asm.bytes),
                    by_iced(i, place),
                    "{:?} {bytes:02x?}",
                    i.code
                );
                same += 1;
            }
        }
        assert!(same > 50_000, "only {same} have a form");
    }
}
