//! SYSENTER and SYSEXIT (SDM vol. 2; vol. 3A, "Performing Fast Calls to System
//! Procedures with the SYSENTER and SYSEXIT Instructions"): segments are made up
//! rather than loaded, so there is nothing to read from memory.

use super::crossing;
use super::require_cpl0;
use crate::vcpu::{Cpu, cr0};
use translator::exception::Exception;
use translator::flags;
use translator::insn::Gpr;
use translator::state::Segment;

/// SYSENTER.
///
/// # Errors
/// #GP(0) without protection or with a null IA32_SYSENTER_CS.
pub fn sysenter(cpu: &mut Cpu) -> Result<(), Exception> {
    let [cs, esp, eip] = cpu.sys.sysenter;
    let selector = cs as u16 & !3;
    if cpu.sys.cr0 & cr0::PE == 0 || selector == 0 {
        return Err(Exception::GeneralProtection(0));
    }
    cpu.state.eflags &= !(flags::VM | flags::IF | flags::RF);
    cpu.state.gpr[Gpr::ESP.0 as usize] = esp;
    let stack = Segment::flat(selector.wrapping_add(8), false, 0);
    crossing::fast(cpu, Segment::flat(selector, true, 0), stack, 0, eip);
    Ok(())
}

/// SYSEXIT: to ECX (stack) and EDX (code) at level 3.
///
/// # Errors
/// #GP(0) without protection, with a null IA32_SYSENTER_CS, or if CPL is not 0.
pub fn sysexit(cpu: &mut Cpu) -> Result<(), Exception> {
    let selector = cpu.sys.sysenter[0] as u16 & !3;
    if cpu.sys.cr0 & cr0::PE == 0 || selector == 0 {
        return Err(Exception::GeneralProtection(0));
    }
    require_cpl0(cpu)?;
    let code = selector.wrapping_add(16) | 3;
    let stack = selector.wrapping_add(24) | 3;
    let eip = cpu.state.gpr[Gpr::EDX.0 as usize];
    cpu.state.gpr[Gpr::ESP.0 as usize] = cpu.state.gpr[Gpr::ECX.0 as usize];
    let stack = Segment::flat(stack, false, 3);
    crossing::fast(cpu, Segment::flat(code, true, 3), stack, 3, eip);
    Ok(())
}
