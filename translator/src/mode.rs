//! The location descriptor's mode bits: everything besides the bytes that
//! changes how code is decoded or translated.

use crate::insn::SegReg;

/// Mode bits a block was decoded and translated under.
///
/// Two blocks with the same bytes, EIP and `Mode` have the same translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mode(pub u32);

impl Mode {
    /// CS.D: 32-bit operands and addresses by default.
    pub const CODE32: u32 = 1 << 0;
    /// SS.B: stack instructions use ESP rather than SP.
    pub const STACK32: u32 = 1 << 1;
    /// CPL is 3: memory goes through the user view.
    pub const USER: u32 = 1 << 2;
    /// CR0.PE is set and EFLAGS.VM clear: segments have descriptors.
    pub const PROTECTED: u32 = 1 << 3;
    /// EFLAGS.TF, a breakpoint or the like: blocks hold one instruction.
    pub const SINGLE: u32 = 1 << 4;
    /// RDTSC is permitted: CPL is 0 or CR4.TSD clear.
    pub const TIME_STAMP: u32 = 1 << 6;
    /// Accesses are checked for alignment: blocks stay interpreted.
    pub const ALIGNED: u32 = 1 << 5;
    /// CPL is 0.
    pub const SUPERVISOR: u32 = 1 << 7;
    /// The address space has been there for long enough that its mirror pays.
    pub const SETTLED: u32 = 1 << 22;
    const UNLIMITED_SHIFT: u32 = 8;
    const ZERO_BASE_SHIFT: u32 = 16;

    /// 32-bit code with every segment flat: base 0, no limit.
    pub const fn flat32() -> Self {
        Self(
            Self::CODE32
                | Self::STACK32
                | Self::PROTECTED
                | 0x3f << Self::UNLIMITED_SHIFT
                | 0x3f << Self::ZERO_BASE_SHIFT,
        )
    }

    /// Adds the facts known about one segment.
    ///
    /// `unlimited`: every offset is readable and (except for CS) writable;
    /// `zero_base`: the base is 0.
    pub const fn with_segment(self, seg: SegReg, unlimited: bool, zero_base: bool) -> Self {
        let index = seg as u32;
        Self(
            self.0
                | (unlimited as u32) << (Self::UNLIMITED_SHIFT + index)
                | (zero_base as u32) << (Self::ZERO_BASE_SHIFT + index),
        )
    }

    /// The same with nothing known about one segment.
    pub const fn without_segment(self, seg: SegReg) -> Self {
        let bits = 1 << Self::UNLIMITED_SHIFT | 1 << Self::ZERO_BASE_SHIFT;
        Self(self.0 & !(bits << seg as u32))
    }

    /// Default operand and address size is 32 bits.
    pub const fn code32(self) -> bool {
        self.0 & Self::CODE32 != 0
    }

    /// Hot code may use the mirror.
    pub const fn settled(self) -> bool {
        self.0 & Self::SETTLED != 0
    }

    /// Stack accesses use ESP.
    pub const fn stack32(self) -> bool {
        self.0 & Self::STACK32 != 0
    }

    /// The block runs at CPL 3.
    pub const fn user(self) -> bool {
        self.0 & Self::USER != 0
    }

    /// The block is known to run at CPL 0.
    pub const fn supervisor(self) -> bool {
        self.0 & Self::SUPERVISOR != 0
    }

    /// The block holds one instruction only.
    pub const fn single(self) -> bool {
        self.0 & Self::SINGLE != 0
    }

    /// RDTSC needs no check.
    pub const fn time_stamp(self) -> bool {
        self.0 & Self::TIME_STAMP != 0
    }

    /// The block must not be compiled: what surrounds each access or instruction matters.
    pub const fn interpreted(self) -> bool {
        self.0 & (Self::SINGLE | Self::ALIGNED) != 0
    }

    /// No limit or rights check is needed for accesses through `seg`.
    pub const fn unlimited(self, seg: SegReg) -> bool {
        self.0 >> (Self::UNLIMITED_SHIFT + seg as u32) & 1 != 0
    }

    /// The base of `seg` is known to be 0.
    pub const fn zero_base(self, seg: SegReg) -> bool {
        self.0 >> (Self::ZERO_BASE_SHIFT + seg as u32) & 1 != 0
    }
}
