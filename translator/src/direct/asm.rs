//! A small assembler for the fixed sequences around guest instructions.
//!
//! The sequences are few and the same for every block, so their instructions are
//! put together by hand here, some nanoseconds each; only the guest's own
//! instructions go through iced-x86's encoder. Nothing in this file knows what a
//! sequence is for.
//!
//! Branches are emitted with an empty displacement and a [`Branch`] that says
//! where it is; [`Assembler::land`] fills it in.

/// A host register, by number.
pub type Reg = u8;

/// Numbers of the host's registers.
#[allow(missing_docs)] // The names are the registers' own.
pub mod reg {
    use super::Reg;
    pub const RAX: Reg = 0;
    pub const RCX: Reg = 1;
    pub const RDX: Reg = 2;
    pub const RBX: Reg = 3;
    pub const RSP: Reg = 4;
    pub const RBP: Reg = 5;
    pub const RSI: Reg = 6;
    pub const RDI: Reg = 7;
    pub const R8: Reg = 8;
    pub const R9: Reg = 9;
    pub const R10: Reg = 10;
    pub const R11: Reg = 11;
    pub const R12: Reg = 12;
    pub const R13: Reg = 13;
    pub const R14: Reg = 14;
    pub const R15: Reg = 15;
}

/// Operand size of an instruction of the assembler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 32 bits; a written register's upper half becomes zero.
    D,
    /// 64 bits.
    Q,
}

/// `[base + index × 2^shift + disp]`; without a base, `disp` is the address's
/// low half, sign-extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mem {
    /// Base register.
    pub base: Option<Reg>,
    /// Index register (not RSP) and shift count.
    pub index: Option<(Reg, u8)>,
    /// Displacement.
    pub disp: i32,
    /// Encode the displacement in four bytes, however small it is.
    pub wide: bool,
}

impl Mem {
    /// `[base + disp]`.
    pub const fn at(base: Reg, disp: i32) -> Self {
        Self {
            base: Some(base),
            index: None,
            disp,
            wide: false,
        }
    }

    /// The same, `by` bytes further.
    pub const fn plus(self, by: i32) -> Self {
        Self {
            disp: self.disp.wrapping_add(by),
            ..self
        }
    }

    /// The same with a displacement of four bytes.
    pub const fn widened(self) -> Self {
        Self { wide: true, ..self }
    }

    /// `[base + index × 2^shift]`.
    pub const fn indexed(base: Reg, index: Reg, shift: u8) -> Self {
        Self {
            base: Some(base),
            index: Some((index, shift)),
            disp: 0,
            wide: false,
        }
    }
}

/// A branch whose displacement is still empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Branch {
    /// Displacement of 8 bits at this offset.
    Short(usize),
    /// Displacement of 32 bits at this offset.
    Near(usize),
}

/// Collects code.
#[derive(Debug, Default)]
pub struct Assembler {
    /// The code so far.
    pub bytes: Vec<u8>,
    /// A short branch could not reach its target: the code is no good.
    pub out_of_reach: bool,
}

impl Assembler {
    /// An empty one with room for some bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            out_of_reach: false,
        }
    }

    /// Offset of the next instruction.
    pub fn here(&self) -> usize {
        self.bytes.len()
    }

    /// Raw bytes, for instructions without operands.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The low `bytes` bytes of `code`. Storing all and taking some away again is
    /// quicker than a copy whose length is not known.
    fn put(&mut self, code: u64, bytes: usize) {
        let end = self.here() + bytes;
        self.bytes.extend_from_slice(&code.to_le_bytes());
        self.bytes.truncate(end);
    }

    /// The low `bytes` bytes, at most 4, of an immediate.
    pub fn imm(&mut self, value: u32, bytes: usize) {
        self.put(u64::from(value), bytes);
    }

    fn imm32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    fn rex(&mut self, size: Size, r: Reg, x: Reg, b: Reg) {
        let w = u8::from(size == Size::Q);
        let bits = w << 3 | (r >> 3) << 2 | (x >> 3) << 1 | b >> 3;
        if bits != 0 {
            self.bytes.push(0x40 | bits);
        }
    }

    /// The prefix that an opcode with register `r` in it needs.
    pub fn rex_for(&mut self, r: Reg) {
        self.rex(Size::D, 0, 0, r);
    }

    /// An instruction with a register (or opcode extension) and a memory operand.
    pub fn op_mem(&mut self, size: Size, opcode: &[u8], r: Reg, m: Mem) {
        let index = m.index.map_or(0, |(x, _)| x);
        self.rex(size, r, index, m.base.unwrap_or(0));
        self.raw(opcode);
        self.modrm_mem(r, m);
    }

    fn modrm_mem(&mut self, r: Reg, m: Mem) {
        let r = u64::from(r & 7) << 3;
        let disp = u64::from(m.disp as u32);
        let sib = |shift: u8, x: Reg, base: Reg| u64::from(shift << 6 | (x & 7) << 3 | base & 7);
        let Some(base) = m.base else {
            let (x, shift) = m.index.unwrap_or((reg::RSP, 0));
            self.put(r | 4 | sib(shift, x, 5) << 8 | disp << 16, 6);
            return;
        };
        let (mode, disp, disp_bytes) = match i8::try_from(m.disp) {
            // A base of RBP or R13 without displacement means something else.
            Ok(0) if base & 7 != 5 && !m.wide => (0, 0, 0),
            Ok(_) if !m.wide => (1 << 6, disp & 0xff, 1),
            _ => (2 << 6, disp, 4),
        };
        match m.index {
            None if base & 7 != 4 => {
                let modrm = mode | r | u64::from(base & 7);
                self.put(modrm | disp << 8, 1 + disp_bytes);
            }
            index => {
                let (x, shift) = index.unwrap_or((reg::RSP, 0));
                let modrm = mode | r | 4 | sib(shift, x, base) << 8;
                self.put(modrm | disp << 16, 2 + disp_bytes);
            }
        }
    }

    /// An instruction with a register (or opcode extension) and a register in r/m.
    pub fn op_reg(&mut self, size: Size, opcode: &[u8], r: Reg, rm: Reg) {
        self.rex(size, r, 0, rm);
        self.raw(opcode);
        self.bytes.push(0xc0 | (r & 7) << 3 | rm & 7);
    }

    /// MOV between registers.
    pub fn mov(&mut self, size: Size, to: Reg, from: Reg) {
        self.op_reg(size, &[0x8b], to, from);
    }

    /// MOV from memory.
    pub fn load(&mut self, size: Size, to: Reg, m: Mem) {
        self.op_mem(size, &[0x8b], to, m);
    }

    /// MOV to memory.
    pub fn store(&mut self, size: Size, m: Mem, from: Reg) {
        self.op_mem(size, &[0x89], from, m);
    }

    /// MOV of a constant to memory, 32 bits.
    pub fn store_imm(&mut self, m: Mem, value: u32) {
        self.op_mem(Size::D, &[0xc7], 0, m);
        self.imm32(value);
    }

    /// MOV of a zero-extended constant to a register.
    pub fn mov_imm(&mut self, to: Reg, value: u32) {
        self.rex(Size::D, 0, 0, to);
        self.bytes.push(0xb8 | to & 7);
        self.imm32(value);
    }

    /// MOV of a 64-bit constant to a register.
    pub fn mov_imm64(&mut self, to: Reg, value: u64) {
        self.rex(Size::Q, 0, 0, to);
        self.bytes.push(0xb8 | to & 7);
        self.raw(&value.to_le_bytes());
    }

    /// LEA.
    pub fn lea(&mut self, size: Size, to: Reg, m: Mem) {
        self.op_mem(size, &[0x8d], to, m);
    }

    /// NOT, which leaves the flags alone.
    pub fn not(&mut self, size: Size, r: Reg) {
        self.op_reg(size, &[0xf7], 2, r);
    }

    /// MOVSXD: 32 bits, sign-extended.
    pub fn sign_extend(&mut self, to: Reg, from: Reg) {
        self.op_reg(Size::Q, &[0x63], to, from);
    }

    /// MOVZX of the low word.
    pub fn zero_extend_word(&mut self, to: Reg, from: Reg) {
        self.op_reg(Size::D, &[0x0f, 0xb7], to, from);
    }

    /// Group 1 (ADD 0, OR 1, AND 4, SUB 5, XOR 6, CMP 7) with a constant.
    pub fn group1_imm(&mut self, extension: u8, r: Reg, value: u32) {
        self.op_reg(Size::D, &[0x81], extension, r);
        self.imm32(value);
    }

    /// Group 2 (SHL 4, SHR 5) by a constant.
    pub fn shift_imm(&mut self, extension: u8, r: Reg, count: u8) {
        self.op_reg(Size::D, &[0xc1], extension, r);
        self.bytes.push(count);
    }

    /// PEXT (BMI2), which leaves the flags alone.
    pub fn pext(&mut self, to: Reg, from: Reg, mask: Reg) {
        self.vex(Size::D, 2, 2, to, from, mask);
        self.raw(&[0xf5, 0xc0 | (to & 7) << 3 | mask & 7]);
    }

    /// PEXT with its mask in memory, without an index.
    pub fn pext_mem(&mut self, to: Reg, from: Reg, mask: Mem) {
        self.vex(Size::D, 2, 2, to, from, mask.base.unwrap_or(0));
        self.raw(&[0xf5]);
        self.modrm_mem(to, mask);
    }

    /// PDEP (BMI2), which leaves the flags alone.
    pub fn pdep(&mut self, to: Reg, from: Reg, mask: Reg) {
        self.vex(Size::D, 2, 3, to, from, mask);
        self.raw(&[0xf5, 0xc0 | (to & 7) << 3 | mask & 7]);
    }

    /// PDEP (BMI2) with its mask in memory, which leaves the flags alone.
    pub fn pdep_mem(&mut self, to: Reg, from: Reg, mask: Mem) {
        self.vex(Size::D, 2, 3, to, from, mask.base.unwrap_or(0));
        self.raw(&[0xf5]);
        self.modrm_mem(to, mask);
    }

    /// SARX of 32 bits (BMI2), which leaves the flags alone.
    pub fn shift_right_signed(&mut self, to: Reg, from: Reg, count: Reg) {
        self.vex(Size::D, 2, 2, to, count, from);
        self.raw(&[0xf7, 0xc0 | (to & 7) << 3 | from & 7]);
    }

    /// RORX of 32 bits (BMI2), which leaves the flags alone.
    pub fn rotate_right(&mut self, to: Reg, from: Reg, count: u8) {
        self.vex(Size::D, 3, 3, to, 0, from);
        self.raw(&[0xf0, 0xc0 | (to & 7) << 3 | from & 7, count]);
    }

    /// RORX by 32 (BMI2): swaps the halves and leaves the flags alone.
    pub fn swap_halves(&mut self, to: Reg, from: Reg) {
        self.vex(Size::Q, 3, 3, to, 0, from);
        self.raw(&[0xf0, 0xc0 | (to & 7) << 3 | from & 7, 32]);
    }

    /// The three-byte VEX prefix, 128 bits.
    fn vex(&mut self, size: Size, map: u8, prefix: u8, r: Reg, v: Reg, rm: Reg) {
        let w = u8::from(size == Size::Q);
        let first = (!(r >> 3) & 1) << 7 | 1 << 6 | (!(rm >> 3) & 1) << 5 | map;
        self.raw(&[0xc4, first, w << 7 | (!v & 15) << 3 | prefix]);
    }

    /// JMP to the address in memory.
    pub fn jump_mem(&mut self, m: Mem) {
        self.op_mem(Size::D, &[0xff], 4, m);
    }

    /// CALL of the address in memory.
    pub fn call_mem(&mut self, m: Mem) {
        self.op_mem(Size::D, &[0xff], 2, m);
    }

    /// PUSH of a constant, sign-extended to 64 bits.
    pub fn push_imm(&mut self, value: u32) {
        self.raw(&[0x68]);
        self.imm32(value);
    }

    /// CALL, near.
    pub fn call(&mut self) -> Branch {
        self.raw(&[0xe8, 0, 0, 0, 0]);
        Branch::Near(self.here() - 4)
    }

    /// RET.
    pub fn ret(&mut self) {
        self.bytes.push(0xc3);
    }

    /// JRCXZ.
    pub fn jrcxz(&mut self) -> Branch {
        self.raw(&[0xe3, 0]);
        Branch::Short(self.here() - 1)
    }

    /// JMP, short.
    pub fn jump_short(&mut self) -> Branch {
        self.raw(&[0xeb, 0]);
        Branch::Short(self.here() - 1)
    }

    /// JMP, near.
    pub fn jump(&mut self) -> Branch {
        self.raw(&[0xe9, 0, 0, 0, 0]);
        Branch::Near(self.here() - 4)
    }

    /// Jcc, near; `condition` as encoded.
    pub fn jump_if(&mut self, condition: u8) -> Branch {
        self.raw(&[0x0f, 0x80 | condition & 15, 0, 0, 0, 0]);
        Branch::Near(self.here() - 4)
    }

    /// JMP back to an offset.
    pub fn jump_to(&mut self, target: usize) {
        let branch = self.jump();
        self.land_at(branch, target);
    }

    /// Makes `branch` lead here.
    pub fn land(&mut self, branch: Branch) {
        self.land_at(branch, self.here());
    }

    /// Makes `branch` lead to `target`, or notes that it cannot.
    pub fn land_at(&mut self, branch: Branch, target: usize) {
        let (at, bytes) = match branch {
            Branch::Short(at) => (at, 1),
            Branch::Near(at) => (at, 4),
        };
        let distance = target.wrapping_sub(at + bytes) as isize;
        self.out_of_reach |= bytes == 1 && i8::try_from(distance).is_err();
        if let Some(place) = self.bytes.get_mut(at..at + bytes) {
            place.copy_from_slice(&(distance as i32).to_le_bytes()[..bytes]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn text(emit: impl FnOnce(&mut Assembler)) -> String {
        let mut asm = Assembler::default();
        emit(&mut asm);
        let decoder = Decoder::new(64, &asm.bytes, DecoderOptions::NONE);
        let lines: Vec<String> = decoder.into_iter().map(|i| i.to_string()).collect();
        lines.join("; ")
    }

    #[test]
    fn memory_operands_are_encoded() {
        let cases = [
            (Mem::at(reg::R12, 0), "lea r8d,[r12]"),
            (Mem::at(reg::RBP, 0), "lea r8d,[rbp]"),
            (Mem::at(reg::R13, 300), "lea r8d,[r13+12Ch]"),
            (Mem::indexed(reg::R12, reg::RDI, 3), "lea r8d,[r12+rdi*8]"),
            (Mem::indexed(reg::RAX, reg::R12, 0), "lea r8d,[rax+r12]"),
        ];
        for (m, wanted) in cases {
            assert_eq!(text(|a| a.lea(Size::D, reg::R8, m)), wanted);
        }
        let no_base = Mem {
            base: None,
            index: Some((reg::R9, 2)),
            disp: -4,
            wide: false,
        };
        let wanted = "lea r10,[r9*4-4]";
        assert_eq!(text(|a| a.lea(Size::Q, reg::R10, no_base)), wanted);
    }

    #[test]
    fn flag_sparing_operations_are_encoded() {
        let pext = text(|a| a.pext(reg::RCX, reg::R8, reg::RCX));
        assert_eq!(pext, "pext ecx,r8d,ecx");
        let pext = text(|a| a.pext_mem(reg::R9, reg::R8, Mem::at(reg::R15, 60)));
        assert_eq!(pext, "pext r9d,r8d,[r15+3Ch]");
        let pdep = text(|a| a.pdep(reg::R9, reg::R9, reg::R11));
        assert_eq!(pdep, "pdep r9d,r9d,r11d");
        let pdep = text(|a| a.pdep_mem(reg::R9, reg::R9, Mem::at(reg::R15, 60)));
        assert_eq!(pdep, "pdep r9d,r9d,[r15+3Ch]");
        let shift = text(|a| a.shift_right_signed(reg::R9, reg::RCX, reg::R11));
        assert_eq!(shift, "sarx r9d,ecx,r11d");
        let rotate = text(|a| a.rotate_right(reg::R9, reg::R8, 12));
        assert_eq!(rotate, "rorx r9d,r8d,0Ch");
        let swap = text(|a| a.swap_halves(reg::R11, reg::R11));
        assert_eq!(swap, "rorx r11,r11,20h");
        assert_eq!(text(|a| a.not(Size::Q, reg::R10)), "not r10");
    }

    #[test]
    fn branches_land() {
        let code = text(|a| {
            let over = a.jrcxz();
            let far = a.jump();
            a.land(over);
            a.land(far);
            a.ret();
        });
        assert_eq!(code, "jrcxz 7; jmp 7; ret");
    }
}
