//! A guest instruction, decoded once into the form both tiers run from.
//!
//! [`Insn`] is iced-x86's instruction reduced to what the definitions need:
//! operands as small `Copy` values, the memory operand's parts in one place, and
//! every constant (next EIP, branch target) already computed, so that no
//! definition looks at the bytes or the mode again.

use crate::mode::Mode;
use iced_x86::{Code, Mnemonic};

/// Operand width of the integer instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Width {
    /// Byte, 8 bits.
    B = 1,
    /// Word, 16 bits.
    W = 2,
    /// Doubleword, 32 bits.
    D = 4,
}

impl Width {
    /// Width in bytes.
    #[inline(always)]
    pub const fn bytes(self) -> u32 {
        self as u32
    }

    /// Width in bits.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self as u32 * 8
    }

    /// All ones in this width.
    #[inline(always)]
    pub const fn mask(self) -> u32 {
        u32::MAX >> (32 - self.bits())
    }

    /// The width with this many bytes.
    pub const fn from_bytes(bytes: usize) -> Option<Self> {
        match bytes {
            1 => Some(Self::B),
            2 => Some(Self::W),
            4 => Some(Self::D),
            _ => None,
        }
    }
}

/// A general-purpose register number as encoded: with [`Width::B`], 4–7 name
/// AH, CH, DH, BH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gpr(pub u8);

impl Gpr {
    /// EAX, AX or AL.
    pub const EAX: Self = Self(0);
    /// ECX, CX or CL.
    pub const ECX: Self = Self(1);
    /// EDX, DX or DL.
    pub const EDX: Self = Self(2);
    /// EBX, BX or BL.
    pub const EBX: Self = Self(3);
    /// ESP or SP (AH as a byte register).
    pub const ESP: Self = Self(4);
    /// EBP or BP.
    pub const EBP: Self = Self(5);
    /// ESI or SI.
    pub const ESI: Self = Self(6);
    /// EDI or DI.
    pub const EDI: Self = Self(7);
    /// AH, with [`Width::B`].
    pub const AH: Self = Self(4);
    /// The always-zero slot that stands for an absent base or index.
    pub const ZERO: Self = Self(8);
}

/// A segment register, numbered as encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // The names are the registers' own.
pub enum SegReg {
    Es = 0,
    Cs = 1,
    Ss = 2,
    Ds = 3,
    Fs = 4,
    Gs = 5,
}

impl SegReg {
    /// All six, in encoding order.
    pub const ALL: [Self; 6] = [Self::Es, Self::Cs, Self::Ss, Self::Ds, Self::Fs, Self::Gs];
}

/// One operand. Immediates and the memory operand's parts are in [`Insn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// No operand.
    None,
    /// A general-purpose register.
    Gpr(Gpr, Width),
    /// The memory operand, accessed with this width. Operands that are not 1, 2
    /// or 4 bytes long are [`Operand::Wide`].
    Mem(Width),
    /// The memory operand of another size, in bytes (0 if the size is not fixed, as for LEA, INVLPG or FXSAVE).
    Wide(u16),
    /// The immediate [`Insn::imm`], already extended to this width and zero-extended.
    Imm(Width),
    /// The second immediate, [`Insn::imm2`] (ENTER's level).
    Imm2,
    /// A near branch target: [`Insn::imm`].
    Target,
    /// A far pointer: offset in [`Insn::imm`], selector in [`Insn::imm2`].
    Far,
    /// A segment register.
    Seg(SegReg),
    /// Control register.
    Cr(u8),
    /// Debug register.
    Dr(u8),
    /// x87 stack register.
    St(u8),
    /// MMX register.
    Mm(u8),
    /// SSE register.
    Xmm(u8),
    /// Implied memory operand of a string instruction or XLAT: the definition knows.
    Implied,
}

/// The memory operand: `seg:[base + index × scale + disp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemRef {
    /// Segment in effect, overrides included.
    pub seg: SegReg,
    /// Base register, or [`Gpr::ZERO`].
    pub base: Gpr,
    /// Index register, or [`Gpr::ZERO`].
    pub index: Gpr,
    /// Index shift count, 0–3.
    pub shift: u8,
    /// The offset is computed modulo 2^16.
    pub addr16: bool,
    /// Displacement, sign-extended.
    pub disp: u32,
}

/// Repeat prefix of a string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The prefixes' own names.
pub enum Rep {
    None,
    Repe,
    Repne,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug)]
pub struct Insn {
    /// iced-x86's name of encoding and operands.
    pub code: Code,
    /// iced-x86's mnemonic; [`Mnemonic::INVALID`] raises #UD.
    pub mnemonic: Mnemonic,
    /// Operands in Intel order.
    pub ops: [Operand; 3],
    /// The memory operand, if any of `ops` refers to it. String instructions
    /// have the source segment here and `addr16` set when they use SI/DI/CX.
    pub mem: MemRef,
    /// Immediate, branch target or far offset; of an x87 instruction its opcode.
    pub imm: u32,
    /// Far selector or ENTER's level.
    pub imm2: u32,
    /// EIP of this instruction.
    pub eip: u32,
    /// EIP of the next instruction.
    pub next_eip: u32,
    /// Operand size: of a string element, PUSHA, IRET, far transfers and the like.
    pub width: Width,
    /// Length in bytes, 1–15.
    pub len: u8,
    /// Repeat prefix.
    pub rep: Rep,
    /// Stack accesses use ESP (SS.B of the mode).
    pub stack32: bool,
    /// What kind of block end this is, [`Flow::Next`] for most.
    pub flow: Flow,
    /// The arithmetic flags this instruction defines are overwritten before any
    /// instruction in the block could read or expose them.
    pub flags_dead: bool,
}

impl Insn {
    /// An instruction without operands and without length, whose code is no instruction's.
    pub fn blank(eip: u32, mode: Mode) -> Self {
        Self {
            code: Code::INVALID,
            mnemonic: Mnemonic::INVALID,
            ops: [Operand::None; 3],
            mem: MemRef {
                seg: SegReg::Ds,
                base: Gpr::ZERO,
                index: Gpr::ZERO,
                shift: 0,
                addr16: false,
                disp: 0,
            },
            imm: 0,
            imm2: 0,
            eip,
            next_eip: eip,
            width: Width::D,
            len: 0,
            rep: Rep::None,
            stack32: mode.stack32(),
            flow: Flow::System,
            flags_dead: false,
        }
    }

    /// The same, `by` bytes further on.
    pub fn moved(self, by: u32) -> Self {
        let imm = match self.ops[0] {
            Operand::Target => self.imm.wrapping_add(by),
            _ => self.imm,
        };
        Self {
            imm,
            eip: self.eip.wrapping_add(by),
            next_eip: self.next_eip.wrapping_add(by),
            ..self
        }
    }

    /// The memory operand has a base register.
    pub fn has_base(&self) -> bool {
        self.mem.base != Gpr::ZERO
    }

    /// Width of operand `n` where it has one of the three, else the operand size.
    #[inline(always)]
    pub fn op_width(&self, n: usize) -> Width {
        match self.ops[n] {
            Operand::Gpr(_, w) | Operand::Mem(w) | Operand::Imm(w) => w,
            _ => self.width,
        }
    }
}

/// How control leaves an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next instruction, in the same block.
    Next,
    /// Near, direct: JMP. The target is [`Insn::imm`].
    Jump,
    /// Near, conditional: Jcc, LOOP, JECXZ. The target is [`Insn::imm`].
    Branch,
    /// Near, direct CALL.
    Call,
    /// Near, indirect JMP.
    IndirectJump,
    /// Near, indirect CALL.
    IndirectCall,
    /// Near RET.
    Return,
    /// A system instruction after which only the run loop knows how to go on.
    System,
}
