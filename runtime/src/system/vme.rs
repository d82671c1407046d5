//! Virtual interrupts: what CR4.VME gives virtual-8086 mode, and CR4.PVI programs
//! of CPL 3, when IOPL keeps the real interrupt flag from them (SDM vol. 3B,
//! "Interrupt and Exception Handling in Virtual-8086 Mode", "Protected-Mode
//! Virtual Interrupts").
//!
//! VIF stands in for IF. VIP is the monitor's note that an interrupt waits: to
//! set VIF then is #GP, so that the monitor can deliver it. INT n of a
//! virtual-8086 program goes straight to the program's own handler where the
//! redirection bitmap in the TSS says so.

use super::branches;
use super::flagops::set_flags;
use super::segment::{self, enter_code_without_descriptor};
use super::stack::Frame;
use super::tss;
use crate::vcpu::{Cpu, cr4};
use shadow_mmu::LinearAddr;
use translator::exception::Exception;
use translator::flags::{AC, ARITHMETIC, DF, IF, IOPL, NT, RF, TF, VIF, VIP, VM};
use translator::insn::{SegReg, Width};

/// Virtual-8086 mode whose IF is virtual.
fn virtual_v86(cpu: &Cpu) -> bool {
    cpu.v86() && cpu.iopl() < 3 && cpu.sys.cr4 & cr4::VME != 0
}

/// CLI and STI reach VIF rather than IF. The caller knows that CPL is above IOPL.
pub fn virtualises_if(cpu: &Cpu) -> bool {
    let feature = if cpu.v86() { cr4::VME } else { cr4::PVI };
    cpu.sys.cpl == 3 && cpu.sys.cr4 & feature != 0
}

/// STI of the virtual flag.
///
/// # Errors
/// #GP(0) if an interrupt waits for it.
pub fn sti(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.state.eflags & VIP != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    cpu.state.eflags |= VIF;
    Ok(())
}

/// CLI of the virtual flag.
pub fn cli(cpu: &mut Cpu) {
    cpu.state.eflags &= !VIF;
}

/// The image PUSHF pushes in virtual-8086 mode with IOPL below 3.
///
/// # Errors
/// #GP(0) without VME, and for PUSHFD.
pub fn pushed_image(cpu: &Cpu, w: Width) -> Result<u32, Exception> {
    if !virtual_v86(cpu) || w != Width::W {
        return Err(Exception::GeneralProtection(0));
    }
    Ok(virtual_image(cpu))
}

/// FLAGS as a program with virtual interrupts sees them: VIF in the place of IF.
fn virtual_image(cpu: &Cpu) -> u32 {
    let image = cpu.state.eflags_image() & !(VM | RF | IF) | IOPL;
    if cpu.state.eflags & VIF != 0 {
        image | IF
    } else {
        image
    }
}

/// POPF or IRET in virtual-8086 mode with IOPL below 3: whether `image` may be loaded.
///
/// # Errors
/// #GP(0) without VME, for 32-bit operands, for TF, and to set VIF while an
/// interrupt waits.
pub fn require_loadable(cpu: &Cpu, w: Width, image: u32) -> Result<(), Exception> {
    let interrupted = image & IF != 0 && cpu.state.eflags & VIP != 0;
    if w != Width::W || !virtual_v86(cpu) || interrupted || image & TF != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    Ok(())
}

/// Loads an image that [`require_loadable`] has accepted.
pub fn load_image(cpu: &mut Cpu, image: u32) {
    let vif = if image & IF != 0 { VIF } else { 0 };
    set_flags(cpu, image & !VIF | vif, ARITHMETIC | TF | DF | NT | VIF);
}

/// INT n in virtual-8086 mode: true if it was redirected to the program's handler.
///
/// # Errors
/// #GP(0) if it is neither redirected nor IOPL 3, or if the TSS has no bitmap; #SS, #PF.
pub fn redirect(cpu: &mut Cpu, vector: u8) -> Result<bool, Exception> {
    if cpu.sys.cr4 & cr4::VME != 0 && tss::redirects(cpu, vector)? {
        enter_handler(cpu, vector)?;
        return Ok(true);
    }
    // In virtual-8086 mode IOPL must be 3, else #GP(0).
    if cpu.iopl() < 3 {
        return Err(Exception::GeneralProtection(0));
    }
    Ok(false)
}

/// As in real mode: a far pointer in the table at linear address 0.
fn enter_handler(cpu: &mut Cpu, vector: u8) -> Result<(), Exception> {
    let entry = LinearAddr(u32::from(vector) * 4);
    let pointer = cpu.read_system(entry, Width::D)?;
    let code = segment::without_descriptor(cpu, SegReg::Cs, (pointer >> 16) as u16);
    let (image, masked) = match cpu.iopl() {
        3 => (cpu.state.eflags_image(), IF),
        _ => (virtual_image(cpu), VIF),
    };
    let old_cs = u32::from(cpu.state.segment(SegReg::Cs).selector);
    let mut frame = Frame::current(cpu);
    frame.push(cpu, Width::W, image)?;
    frame.push(cpu, Width::W, old_cs)?;
    frame.push(cpu, Width::W, cpu.state.eip)?;
    frame.commit(cpu);
    cpu.state.eflags &= !(TF | AC | RF | masked);
    cpu.diverted = true;
    branches::entered_handler(cpu);
    enter_code_without_descriptor(cpu, code, pointer & 0xffff);
    cpu.mode_changed();
    Ok(())
}
