//! EFLAGS as a system register: CLI, STI, PUSHF, POPF; and HLT (SDM vol. 2).
//!
//! Kernels mask and unmask interrupts around everything, nearly always with none
//! pending. So setting IF asks for attention only if one is: a device raises its
//! line either in a port access, or when the run loop polls and looks anyway.

use super::require_cpl0;
use super::stack::Frame;
use super::vme;
use crate::vcpu::{Cpu, Shadow};
use translator::exception::Exception;
use translator::flags::{self, AC, ARITHMETIC, DF, IF, IOPL, NT, TF};
use translator::insn::{Insn, Width};

/// CLI.
///
/// # Errors
/// #GP(0) if CPL is above IOPL and interrupts are not virtual.
pub fn cli(cpu: &mut Cpu) -> Result<(), Exception> {
    if if_is_virtual(cpu)? {
        vme::cli(cpu);
    } else {
        cpu.state.eflags &= !IF;
    }
    Ok(())
}

/// STI: interrupts are recognised after the next instruction.
///
/// # Errors
/// #GP(0) if CPL is above IOPL and interrupts are not virtual, or one waits.
pub fn sti(cpu: &mut Cpu) -> Result<(), Exception> {
    if if_is_virtual(cpu)? {
        return vme::sti(cpu);
    }
    if cpu.state.eflags & IF == 0 {
        cpu.state.eflags |= IF;
        cpu.shadow = Shadow::Sti;
        unmasked(cpu);
    }
    Ok(())
}

/// PUSHF, PUSHFD: VM and RF read as zero.
///
/// # Errors
/// #GP(0) in virtual-8086 mode with IOPL below 3; #SS, #PF.
pub fn pushf(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let image = match keeps_if_from_v86(cpu) {
        true => vme::pushed_image(cpu, i.width)?,
        false => cpu.state.eflags_image() & !(flags::VM | flags::RF),
    };
    let mut frame = Frame::current(cpu);
    frame.push(cpu, i.width, image)?;
    frame.commit(cpu);
    Ok(())
}

/// POPF, POPFD.
///
/// # Errors
/// #GP(0) in virtual-8086 mode with IOPL below 3; #SS, #PF.
pub fn popf(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let mut frame = Frame::current(cpu);
    if keeps_if_from_v86(cpu) {
        // An image without flags asks whether POPF is allowed at all.
        vme::require_loadable(cpu, i.width, 0)?;
        let image = frame.pop(cpu, i.width)?;
        vme::require_loadable(cpu, i.width, image)?;
        frame.commit(cpu);
        vme::load_image(cpu, image);
        return Ok(());
    }
    let image = frame.pop(cpu, i.width)?;
    let mut mask = ARITHMETIC | TF | DF | NT;
    if i.width == Width::D {
        mask |= cpu.model.eflags_writable();
    }
    // IF changes only if CPL is at most IOPL, IOPL only at CPL 0; silently.
    if cpu.sys.cpl <= cpu.iopl() {
        mask |= IF;
    }
    if cpu.sys.cpl == 0 {
        mask |= IOPL;
    }
    frame.commit(cpu);
    let was = cpu.state.eflags;
    set_flags(cpu, image, mask);
    if (cpu.state.eflags ^ was) & (TF | AC) != 0 {
        cpu.mode_changed();
    }
    Ok(())
}

/// CLAC, STAC.
///
/// # Errors
/// #UD if CPL is not 0.
pub fn set_ac(cpu: &mut Cpu, set: bool) -> Result<(), Exception> {
    if cpu.sys.cpl != 0 {
        return Err(Exception::InvalidOpcode);
    }
    cpu.state.eflags = cpu.state.eflags & !AC | if set { AC } else { 0 };
    cpu.smap_changed();
    Ok(())
}

/// HLT.
///
/// # Errors
/// #GP(0) if CPL is not 0.
pub fn hlt(cpu: &mut Cpu) -> Result<(), Exception> {
    require_cpl0(cpu)?;
    cpu.halted = true;
    // HLT is the one instruction that STI shadowed.
    cpu.shadow = Shadow::None;
    cpu.request_attention();
    Ok(())
}

/// Replaces the EFLAGS bits in `mask`; asks for attention if that unmasks a
/// pending interrupt. The mode is the caller's to recompute.
pub fn set_flags(cpu: &mut Cpu, image: u32, mask: u32) {
    let was = cpu.state.eflags;
    let old = was & !ARITHMETIC & !mask;
    if mask & ARITHMETIC == ARITHMETIC {
        cpu.state.set_eflags_image(old | image & mask);
    } else {
        cpu.state.eflags = old | image & mask & !ARITHMETIC | flags::FIXED;
    }
    if cpu.state.eflags & !was & IF != 0 {
        unmasked(cpu);
    }
}

/// IF has become set: see the module's essay.
#[inline]
fn unmasked(cpu: &mut Cpu) {
    if cpu.pc.interrupt_pending() {
        cpu.request_attention();
    }
}

/// CPL must be at most IOPL, else interrupts must be virtual, else #GP(0). Real
/// mode has CPL 0, virtual-8086 mode CPL 3, so this is their rule too.
fn if_is_virtual(cpu: &Cpu) -> Result<bool, Exception> {
    let allowed = cpu.sys.cpl <= cpu.iopl();
    if !allowed && !vme::virtualises_if(cpu) {
        return Err(Exception::GeneralProtection(0));
    }
    Ok(!allowed)
}

/// Virtual-8086 mode with IOPL below 3: FLAGS may be neither read nor written,
/// unless VME makes them virtual.
pub fn keeps_if_from_v86(cpu: &Cpu) -> bool {
    cpu.v86() && cpu.iopl() < 3
}
