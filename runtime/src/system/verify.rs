//! Questions about descriptors that do not fault: LAR, LSL, VERR, VERW; and ARPL
//! (SDM vol. 2; vol. 3A, "Pointer Validation"). ZF is the answer.

use super::descriptor::{self, Descriptor, Kind, Selector};
use super::{operand, require_protected};
use crate::vcpu::Cpu;
use translator::exception::Exception;
use translator::flags::ZF;
use translator::insn::{Insn, Operand, Width};

/// LAR: the access rights, if the descriptor is of a kind that has them and visible.
///
/// # Errors
/// #UD outside protected mode; what the memory access raises.
pub fn lar(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let found = visible(cpu, i, 1, |kind| {
        !matches!(
            kind,
            Kind::InterruptGate(_) | Kind::TrapGate(_) | Kind::Reserved
        )
    })?;
    // The manual leaves bits 19:16 undefined; silicon has the limit there.
    answer(cpu, i, found.map(|d| d.high & 0x00ff_ff00));
    Ok(())
}

/// LSL: the limit in bytes, likewise.
///
/// # Errors
/// #UD outside protected mode; what the memory access raises.
pub fn lsl(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let found = visible(cpu, i, 1, |kind| {
        matches!(
            kind,
            Kind::Code | Kind::Data | Kind::Ldt | Kind::AvailableTss(_) | Kind::BusyTss(_)
        )
    })?;
    answer(cpu, i, found.map(|d| d.limit()));
    Ok(())
}

/// VERR: could the segment be read at this level?
///
/// # Errors
/// #UD outside protected mode; what the memory access raises.
pub fn verr(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let found = visible(cpu, i, 0, |kind| matches!(kind, Kind::Code | Kind::Data))?;
    set_zf(cpu, found.is_some_and(|d| d.is_readable()));
    Ok(())
}

/// VERW: could the segment be written at this level?
///
/// # Errors
/// #UD outside protected mode; what the memory access raises.
pub fn verw(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let found = visible(cpu, i, 0, |kind| matches!(kind, Kind::Code | Kind::Data))?;
    set_zf(cpu, found.is_some_and(|d| d.is_writable()));
    Ok(())
}

/// ARPL: raises the RPL of the first operand to that of the second.
///
/// # Errors
/// #UD outside protected mode; what the memory access raises.
pub fn arpl(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    require_protected(cpu)?;
    let selector = Selector(operand::read_word(cpu, i, 0)?);
    let rpl = Selector(operand::read_word(cpu, i, 1)?).rpl();
    let raise = selector.rpl() < rpl;
    if raise {
        let raised = u32::from(selector.with_rpl(rpl).0);
        match i.ops[0] {
            Operand::Gpr(r, _) => operand::set_gpr(cpu, r, Width::W, raised),
            _ => operand::write_word(cpu, i, 0, raised)?,
        }
    }
    set_zf(cpu, raise);
    Ok(())
}

/// The descriptor operand `n` selects, if it exists, is of an `accepted` kind,
/// and CPL and RPL may see it.
fn visible(
    cpu: &mut Cpu,
    i: &Insn,
    n: usize,
    accepted: fn(Kind) -> bool,
) -> Result<Option<Descriptor>, Exception> {
    require_protected(cpu)?;
    let selector = Selector(operand::read_word(cpu, i, n)?);
    if selector.is_null() {
        return Ok(None);
    }
    let descriptor = match descriptor::fetch(cpu, selector, Exception::GeneralProtection) {
        Ok(descriptor) => descriptor,
        // Outside the table: no descriptor rather than a fault.
        Err(Exception::GeneralProtection(_)) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let dpl = descriptor.dpl();
    let privileged =
        descriptor.is_conforming_code() || (dpl >= cpu.sys.cpl && dpl >= selector.rpl());
    Ok((privileged && accepted(descriptor.kind())).then_some(descriptor))
}

/// Writes the result and ZF; without one the register stays.
fn answer(cpu: &mut Cpu, i: &Insn, value: Option<u32>) {
    if let (Some(value), Operand::Gpr(r, w)) = (value, i.ops[0]) {
        operand::set_gpr(cpu, r, w, value);
    }
    set_zf(cpu, value.is_some());
}

fn set_zf(cpu: &mut Cpu, set: bool) {
    let image = cpu.state.eflags_image() & !ZF | if set { ZF } else { 0 };
    cpu.state.set_eflags_image(image);
}
