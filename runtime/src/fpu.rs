//! x87, MMX and SSE state and instructions.

/// The state FXSAVE saves, in its layout, with TOP and tags inside.
#[repr(C, align(64))]
pub struct Fpu {
    /// The FXSAVE image (SDM vol. 1, "FXSAVE Area").
    pub fxsave: [u8; 512],
}

impl Default for Fpu {
    /// After FNINIT, MXCSR 0x1f80.
    fn default() -> Self {
        let mut fxsave = [0; 512];
        fxsave[..2].copy_from_slice(&0x037fu16.to_le_bytes());
        fxsave[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        Self { fxsave }
    }
}

/// Runs the instruction if it is one of this module's.
pub fn dispatch(
    _cpu: &mut crate::vcpu::Cpu,
    _i: &translator::insn::Insn,
) -> Option<Result<(), translator::exception::Exception>> {
    None
}
