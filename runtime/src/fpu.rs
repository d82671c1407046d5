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

/// tmp
pub fn dispatch(cpu: &mut crate::vcpu::Cpu, i: &translator::insn::Insn) -> Option<Result<(), translator::exception::Exception>> {
    use iced_x86::Mnemonic as M;
    use translator::machine::Machine;
    use translator::insn::{Width, Operand};
    let s = format!("{:?}", i.mnemonic);
    match i.mnemonic {
        M::Mfence | M::Lfence | M::Sfence | M::Clflush | M::Pause | M::Fninit | M::Wait | M::Fxrstor | M::Frstor | M::Fnclex | M::Emms | M::Ldmxcsr | M::Prefetchw | M::Prefetchnta | M::Prefetcht0 => Some(Ok(())),
        M::Fnstsw => { 
            if let Operand::Gpr(r, w) = i.ops[0] { cpu.set_gpr(r, w, 0) } else { let ea = cpu.effective_address(&i.mem); if let Err(e) = cpu.write_mem(i.mem.seg, ea, Width::W, 0) { return Some(Err(e)) } }
            Some(Ok(())) }
        M::Fnstcw => { let ea = cpu.effective_address(&i.mem); Some(cpu.write_mem(i.mem.seg, ea, Width::W, 0x37f)) }
        M::Stmxcsr => { let ea = cpu.effective_address(&i.mem); Some(cpu.write_mem(i.mem.seg, ea, Width::D, 0x1f80)) }
        M::Fistp | M::Fst | M::Fstp => { let ea = cpu.effective_address(&i.mem); Some(cpu.write_mem(i.mem.seg, ea, Width::D, 0)) }
        _ if s.starts_with('F') => Some(Ok(())),
        _ => None }
}
