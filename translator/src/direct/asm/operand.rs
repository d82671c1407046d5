//! Operands of the assembler: registers, and places in memory with their encoding.

/// The low bytes of a word, and how many they are.
pub(super) type Bytes = (u64, usize);

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

/// What an address counts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// From 0.
    #[default]
    Plain,
    /// From the base of GS.
    Gs,
    /// The same, once its parts have been added modulo 2^32 (prefix 67).
    GsWrapped,
}

impl Via {
    /// The prefixes.
    #[inline(always)]
    pub(super) const fn prefixes(self) -> Bytes {
        match self {
            Via::Plain => (0, 0),
            Via::Gs => (0x65, 1),
            Via::GsWrapped => (0x6765, 2),
        }
    }
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
    /// What it counts from.
    pub via: Via,
}

impl Mem {
    /// `[base + disp]`.
    pub const fn at(base: Reg, disp: i32) -> Self {
        Self {
            base: Some(base),
            index: None,
            disp,
            wide: false,
            via: Via::Plain,
        }
    }

    /// Whether the instruction must have a REX prefix.
    pub fn needs_rex(self) -> bool {
        let high = |r: Reg| r >= reg::R8;
        self.base.is_some_and(high) || self.index.is_some_and(|(x, _)| high(x))
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
            via: Via::Plain,
        }
    }
}

/// ModR/M, SIB and displacement of a memory operand.
#[inline(always)]
pub(super) fn modrm_mem(r: Reg, m: Mem) -> Bytes {
    let r = u64::from(r & 7) << 3;
    let disp = u64::from(m.disp as u32);
    let sib = |shift: u8, x: Reg, base: Reg| u64::from(shift << 6 | (x & 7) << 3 | base & 7);
    let Some(base) = m.base else {
        let (x, shift) = m.index.unwrap_or((reg::RSP, 0));
        return (r | 4 | sib(shift, x, 5) << 8 | disp << 16, 6);
    };
    let small = m.disp as i8 as i32 == m.disp && !m.wide;
    let (mode, disp_bytes) = match small {
        // A base of RBP or R13 without displacement means something else.
        true if m.disp == 0 && base & 7 != 5 => (0, 0),
        true => (1 << 6, 1),
        false => (2 << 6, 4),
    };
    match m.index {
        None if base & 7 != 4 => {
            let modrm = mode | r | u64::from(base & 7);
            (modrm | disp << 8, 1 + disp_bytes)
        }
        index => {
            let (x, shift) = index.unwrap_or((reg::RSP, 0));
            let modrm = mode | r | 4 | sib(shift, x, base) << 8;
            (modrm | disp << 16, 2 + disp_bytes)
        }
    }
}
