//! A small assembler for the fixed sequences around guest instructions.
//!
//! The sequences are few and the same for every block, so their instructions are
//! put together by hand here, some nanoseconds each; only the guest's own
//! instructions go through iced-x86's encoder. Nothing in this file knows what a
//! sequence is for.
//!
//! Branches are emitted with an empty displacement and a [`Branch`] that says
//! where it is; [`Assembler::land`] fills it in.

mod operand;

use operand::{Bytes, modrm_mem};
pub use operand::{Mem, Reg, Via, reg};

/// Operand size of an instruction of the assembler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 32 bits; a written register's upper half becomes zero.
    D,
    /// 64 bits.
    Q,
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

/// The REX prefix, if there must be one.
#[inline(always)]
fn rex(size: Size, r: Reg, x: Reg, b: Reg) -> Option<u8> {
    let w = u8::from(size == Size::Q);
    let bits = w << 3 | (r >> 3) << 2 | (x >> 3) << 1 | b >> 3;
    (bits != 0).then_some(0x40 | bits)
}

/// A prefix and an opcode of at most 3 bytes.
#[inline(always)]
fn head<const N: usize>(prefix: Option<u8>, opcode: &[u8; N]) -> Bytes {
    let code = opcode.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b));
    match prefix {
        None => (code, N),
        Some(prefix) => (code << 8 | u64::from(prefix), N + 1),
    }
}

/// The three-byte VEX prefix, 128 bits.
#[inline(always)]
fn vex(size: Size, map: u8, prefix: u8, r: Reg, v: Reg, rm: Reg) -> u64 {
    let w = u8::from(size == Size::Q);
    let first = (!(r >> 3) & 1) << 7 | 1 << 6 | (!(rm >> 3) & 1) << 5 | map;
    let second = w << 7 | (!v & 15) << 3 | prefix;
    0xc4 | u64::from(first) << 8 | u64::from(second) << 16
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

    /// The low `bytes` bytes of `code`, at most 16. Storing all and taking some away
    /// again is quicker than a copy whose length is not known.
    #[inline(always)]
    fn put(&mut self, code: u128, bytes: usize) {
        let end = self.here() + bytes;
        self.bytes.extend_from_slice(&code.to_le_bytes());
        self.bytes.truncate(end);
    }

    /// The low `bytes` bytes, at most 4, of an immediate.
    #[inline(always)]
    pub fn imm(&mut self, value: u32, bytes: usize) {
        self.put(u128::from(value), bytes);
    }

    #[inline(always)]
    fn imm32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    /// An instruction whose opcode has a register in its last three bits.
    #[inline(always)]
    pub fn op_short<const N: usize>(&mut self, opcode: &[u8; N], r: Reg) {
        let (code, bytes) = head(rex(Size::D, 0, 0, r), opcode);
        let register = u64::from(r & 7) << (8 * bytes - 8);
        self.put(u128::from(code | register), bytes);
    }

    /// An instruction with a register (or opcode extension) and a memory operand.
    #[inline(always)]
    pub fn op_mem<const N: usize>(&mut self, size: Size, opcode: &[u8; N], r: Reg, m: Mem) {
        let index = m.index.map_or(0, |(x, _)| x);
        let head = head(rex(size, r, index, m.base.unwrap_or(0)), opcode);
        let tail = modrm_mem(r, m);
        let code = u128::from(head.0) | u128::from(tail.0) << (8 * head.1);
        let (prefixes, bytes) = m.via.prefixes();
        let code = u128::from(prefixes) | code << (8 * bytes);
        self.put(code, bytes + head.1 + tail.1);
    }

    /// An instruction with a register (or opcode extension) and a register in r/m.
    #[inline(always)]
    pub fn op_reg<const N: usize>(&mut self, size: Size, opcode: &[u8; N], r: Reg, rm: Reg) {
        let (head, bytes) = head(rex(size, r, 0, rm), opcode);
        let modrm = u64::from(0xc0 | (r & 7) << 3 | rm & 7);
        let code = u128::from(head | modrm << (8 * bytes));
        self.put(code, bytes + 1);
    }

    /// MOV between registers.
    #[inline(always)]
    pub fn mov(&mut self, size: Size, to: Reg, from: Reg) {
        self.op_reg(size, &[0x8b], to, from);
    }

    /// MOV from memory.
    #[inline(always)]
    pub fn load(&mut self, size: Size, to: Reg, m: Mem) {
        self.op_mem(size, &[0x8b], to, m);
    }

    /// MOV to memory.
    #[inline(always)]
    pub fn store(&mut self, size: Size, m: Mem, from: Reg) {
        self.op_mem(size, &[0x89], from, m);
    }

    /// MOV of a constant to memory, 32 bits.
    #[inline(always)]
    pub fn store_imm(&mut self, m: Mem, value: u32) {
        self.op_mem(Size::D, &[0xc7], 0, m);
        self.imm32(value);
    }

    /// MOV of a zero-extended constant to a register.
    #[inline(always)]
    pub fn mov_imm(&mut self, to: Reg, value: u32) {
        let (head, bytes) = head(rex(Size::D, 0, 0, to), &[0xb8 | to & 7]);
        self.put(
            u128::from(head | u64::from(value) << (8 * bytes)),
            bytes + 4,
        );
    }

    /// MOV of a 64-bit constant to a register.
    #[inline(always)]
    pub fn mov_imm64(&mut self, to: Reg, value: u64) {
        let (head, bytes) = head(rex(Size::Q, 0, 0, to), &[0xb8 | to & 7]);
        let code = u128::from(head) | u128::from(value) << (8 * bytes);
        self.put(code, bytes + 8);
    }

    /// LEA.
    #[inline(always)]
    pub fn lea(&mut self, size: Size, to: Reg, m: Mem) {
        self.op_mem(size, &[0x8d], to, m);
    }

    /// NOT, which leaves the flags alone.
    #[inline(always)]
    pub fn not(&mut self, size: Size, r: Reg) {
        self.op_reg(size, &[0xf7], 2, r);
    }

    /// MOVSXD: 32 bits, sign-extended.
    #[inline(always)]
    pub fn sign_extend(&mut self, to: Reg, from: Reg) {
        self.op_reg(Size::Q, &[0x63], to, from);
    }

    /// MOVZX of the low word.
    #[inline(always)]
    pub fn zero_extend_word(&mut self, to: Reg, from: Reg) {
        self.op_reg(Size::D, &[0x0f, 0xb7], to, from);
    }

    /// Group 1 (ADD 0, OR 1, AND 4, SUB 5, XOR 6, CMP 7) with a constant.
    #[inline(always)]
    pub fn group1_imm(&mut self, extension: u8, r: Reg, value: u32) {
        self.op_reg(Size::D, &[0x81], extension, r);
        self.imm32(value);
    }

    /// Group 2 (SHL 4, SHR 5) by a constant.
    #[inline(always)]
    pub fn shift_imm(&mut self, extension: u8, r: Reg, count: u8) {
        self.op_reg(Size::D, &[0xc1], extension, r);
        self.bytes.push(count);
    }

    /// PEXT (BMI2), which leaves the flags alone.
    #[inline(always)]
    pub fn pext(&mut self, to: Reg, from: Reg, mask: Reg) {
        let vex = vex(Size::D, 2, 2, to, from, mask);
        self.put_vex(vex, 0xf5, to, mask);
    }

    /// PEXT with its mask in memory, without an index.
    #[inline(always)]
    pub fn pext_mem(&mut self, to: Reg, from: Reg, mask: Mem) {
        let vex = vex(Size::D, 2, 2, to, from, mask.base.unwrap_or(0));
        self.put_vex_mem(vex, 0xf5, to, mask);
    }

    /// PDEP (BMI2), which leaves the flags alone.
    #[inline(always)]
    pub fn pdep(&mut self, to: Reg, from: Reg, mask: Reg) {
        let vex = vex(Size::D, 2, 3, to, from, mask);
        self.put_vex(vex, 0xf5, to, mask);
    }

    /// PDEP (BMI2) with its mask in memory, which leaves the flags alone.
    #[inline(always)]
    pub fn pdep_mem(&mut self, to: Reg, from: Reg, mask: Mem) {
        let vex = vex(Size::D, 2, 3, to, from, mask.base.unwrap_or(0));
        self.put_vex_mem(vex, 0xf5, to, mask);
    }

    /// SARX of 32 bits (BMI2), which leaves the flags alone.
    #[inline(always)]
    pub fn shift_right_signed(&mut self, to: Reg, from: Reg, count: Reg) {
        let vex = vex(Size::D, 2, 2, to, count, from);
        self.put_vex(vex, 0xf7, to, from);
    }

    /// RORX of 32 bits (BMI2), which leaves the flags alone.
    #[inline(always)]
    pub fn rotate_right(&mut self, to: Reg, from: Reg, count: u8) {
        let vex = vex(Size::D, 3, 3, to, 0, from);
        self.put_vex(vex, 0xf0, to, from);
        self.bytes.push(count);
    }

    /// RORX of 64 bits, likewise. By 32 it swaps the halves.
    #[inline(always)]
    pub fn rotate_right_wide(&mut self, to: Reg, from: Reg, count: u8) {
        let vex = vex(Size::Q, 3, 3, to, 0, from);
        self.put_vex(vex, 0xf0, to, from);
        self.bytes.push(count);
    }

    /// An instruction with a VEX prefix and a register in r/m.
    #[inline(always)]
    fn put_vex(&mut self, vex: u64, opcode: u8, r: Reg, rm: Reg) {
        let modrm = 0xc0 | (r & 7) << 3 | rm & 7;
        let code = vex | u64::from(opcode) << 24 | u64::from(modrm) << 32;
        self.put(u128::from(code), 5);
    }

    /// The same with a memory operand, of the state.
    #[inline(always)]
    fn put_vex_mem(&mut self, vex: u64, opcode: u8, r: Reg, m: Mem) {
        let (tail, bytes) = modrm_mem(r, m);
        let head = vex | u64::from(opcode) << 24;
        self.put(u128::from(head) | u128::from(tail) << 32, 4 + bytes);
    }

    /// JMP to the address in memory.
    #[inline(always)]
    pub fn jump_mem(&mut self, m: Mem) {
        self.op_mem(Size::D, &[0xff], 4, m);
    }

    /// CALL of the address in memory.
    #[inline(always)]
    pub fn call_mem(&mut self, m: Mem) {
        self.op_mem(Size::D, &[0xff], 2, m);
    }

    /// PUSH of a constant, sign-extended to 64 bits.
    #[inline(always)]
    pub fn push_imm(&mut self, value: u32) {
        self.raw(&[0x68]);
        self.imm32(value);
    }

    /// CALL, near.
    #[inline(always)]
    pub fn call(&mut self) -> Branch {
        self.raw(&[0xe8, 0, 0, 0, 0]);
        Branch::Near(self.here() - 4)
    }

    /// RET.
    #[inline(always)]
    pub fn ret(&mut self) {
        self.bytes.push(0xc3);
    }

    /// RET that takes so many more bytes from the stack.
    #[inline(always)]
    pub fn ret_dropping(&mut self, bytes: u16) {
        let [low, high] = bytes.to_le_bytes();
        self.raw(&[0xc2, low, high]);
    }

    /// JECXZ.
    #[inline(always)]
    pub fn jecxz(&mut self) -> Branch {
        self.raw(&[0x67, 0xe3, 0]);
        Branch::Short(self.here() - 1)
    }

    /// JRCXZ.
    #[inline(always)]
    pub fn jrcxz(&mut self) -> Branch {
        self.raw(&[0xe3, 0]);
        Branch::Short(self.here() - 1)
    }

    /// JMP, short.
    #[inline(always)]
    pub fn jump_short(&mut self) -> Branch {
        self.raw(&[0xeb, 0]);
        Branch::Short(self.here() - 1)
    }

    /// JMP, near.
    #[inline(always)]
    pub fn jump(&mut self) -> Branch {
        self.raw(&[0xe9, 0, 0, 0, 0]);
        Branch::Near(self.here() - 4)
    }

    /// Jcc, near; `condition` as encoded.
    #[inline(always)]
    pub fn jump_if(&mut self, condition: u8) -> Branch {
        self.raw(&[0x0f, 0x80 | condition & 15, 0, 0, 0, 0]);
        Branch::Near(self.here() - 4)
    }

    /// JMP back to an offset.
    pub fn jump_to(&mut self, target: usize) {
        let branch = match self.is_near(target) {
            true => self.jump_short(),
            false => self.jump(),
        };
        self.land_at(branch, target);
    }

    /// Jcc back to an offset.
    pub fn jump_back_if(&mut self, condition: u8, target: usize) {
        let branch = match self.is_near(target) {
            true => {
                self.raw(&[0x70 | condition & 15, 0]);
                Branch::Short(self.here() - 1)
            }
            false => self.jump_if(condition),
        };
        self.land_at(branch, target);
    }

    /// A short branch put here reaches back to an offset.
    fn is_near(&self, target: usize) -> bool {
        self.here() + 2 <= target + 128
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
mod tests;
