//! Exceptions as values (SDM vol. 3A, "Interrupt and Exception Handling").

/// A guest exception: what an instruction raises instead of retiring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// #DE, vector 0.
    DivideError,
    /// #DB, vector 1.
    Debug,
    /// #BP, vector 3 (a trap: EIP is past INT3).
    Breakpoint,
    /// #OF, vector 4 (a trap: EIP is past INTO).
    Overflow,
    /// #BR, vector 5.
    BoundRange,
    /// #UD, vector 6.
    InvalidOpcode,
    /// #NM, vector 7.
    DeviceNotAvailable,
    /// #DF, vector 8; its error code is always 0.
    DoubleFault,
    /// #TS, vector 10, with the selector error code.
    InvalidTss(u16),
    /// #NP, vector 11, with the selector error code.
    SegmentNotPresent(u16),
    /// #SS, vector 12, with the selector error code (0 for a limit violation).
    StackFault(u16),
    /// #GP, vector 13, with the error code.
    GeneralProtection(u16),
    /// #PF, vector 14.
    PageFault {
        /// The faulting linear address, for CR2.
        addr: u32,
        /// P, W/R, U/S, RSVD, I/D bits as the SDM lays them out.
        error: u16,
    },
    /// #MF, vector 16.
    X87Error,
    /// #AC, vector 17; its error code is always 0.
    AlignmentCheck,
    /// #XM, vector 19.
    SimdError,
}

impl Exception {
    /// The interrupt vector.
    pub fn vector(self) -> u8 {
        match self {
            Self::DivideError => 0,
            Self::Debug => 1,
            Self::Breakpoint => 3,
            Self::Overflow => 4,
            Self::BoundRange => 5,
            Self::InvalidOpcode => 6,
            Self::DeviceNotAvailable => 7,
            Self::DoubleFault => 8,
            Self::InvalidTss(_) => 10,
            Self::SegmentNotPresent(_) => 11,
            Self::StackFault(_) => 12,
            Self::GeneralProtection(_) => 13,
            Self::PageFault { .. } => 14,
            Self::X87Error => 16,
            Self::AlignmentCheck => 17,
            Self::SimdError => 19,
        }
    }

    /// The error code pushed for vectors that have one.
    pub fn error_code(self) -> Option<u32> {
        match self {
            Self::DoubleFault | Self::AlignmentCheck => Some(0),
            Self::InvalidTss(code)
            | Self::SegmentNotPresent(code)
            | Self::StackFault(code)
            | Self::GeneralProtection(code)
            | Self::PageFault { error: code, .. } => Some(u32::from(code)),
            _ => None,
        }
    }
}
