//! Descriptor-table and task registers: LGDT, LIDT, SGDT, SIDT, LLDT, SLDT, LTR,
//! STR (SDM vol. 2; vol. 3A, "Memory-Management Registers").

use super::descriptor::{self, Kind, Selector};
use super::{loads, operand, require_cpl0, require_protected, require_umip, shown};
use crate::vcpu::{Cpu, TableReg};
use translator::exception::Exception;
use translator::insn::{Insn, Width};
use translator::state::Segment;

/// LGDT.
///
/// # Errors
/// #GP(0) if CPL is not 0; what the memory access raises.
pub fn lgdt(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    cpu.sys.gdtr = load(cpu, i)?;
    loads::forget_places(cpu);
    shown::forget(cpu);
    Ok(())
}

/// LIDT.
///
/// # Errors
/// #GP(0) if CPL is not 0; what the memory access raises.
pub fn lidt(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    cpu.sys.idtr = load(cpu, i)?;
    shown::forget(cpu);
    Ok(())
}

/// SGDT.
///
/// # Errors
/// #GP(0) by CR4.UMIP; what the memory access raises.
pub fn sgdt(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    require_umip(cpu)?;
    store(cpu, i, cpu.sys.gdtr)
}

/// SIDT.
///
/// # Errors
/// #GP(0) by CR4.UMIP; what the memory access raises.
pub fn sidt(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    require_umip(cpu)?;
    store(cpu, i, cpu.sys.idtr)
}

fn load(cpu: &mut Cpu, i: &Insn) -> Result<TableReg, Exception> {
    require_cpl0(cpu)?;
    let ea = operand::effective_address(cpu, &i.mem);
    let limit = cpu.read_mem(i.mem.seg, ea, Width::W)? as u16;
    let past = operand::effective_address_past(cpu, &i.mem, 2);
    let base = cpu.read_mem(i.mem.seg, past, Width::D)?;
    // With a 16-bit operand size the base has 24 bits.
    let base = match i.width {
        Width::W => base & 0xff_ffff,
        _ => base,
    };
    Ok(TableReg { base, limit })
}

/// Processors since the 386 store all 32 bits of the base whatever the operand size.
fn store(cpu: &mut Cpu, i: &Insn, table: TableReg) -> Result<(), Exception> {
    let seg = i.mem.seg;
    let ea = operand::effective_address(cpu, &i.mem);
    let past = operand::effective_address_past(cpu, &i.mem, 2);
    // Neither part is written if the other cannot be.
    let high = cpu.linear(seg, past, 4, shadow_mmu::Access::Write)?;
    cpu.probe_write(high, 4, cpu.sys.cpl == 3)?;
    cpu.write_mem(seg, ea, Width::W, u32::from(table.limit))?;
    cpu.write_mem(seg, past, Width::D, table.base)
}

/// LLDT; a null selector makes every LDT selector fault.
///
/// # Errors
/// #UD outside protected mode; #GP, #NP; what the memory access raises.
pub fn lldt(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    require_protected(cpu)?;
    require_cpl0(cpu)?;
    let selector = Selector(operand::read_word(cpu, i, 0)?);
    let (fault, absent) = (Exception::GeneralProtection, Exception::SegmentNotPresent);
    cpu.sys.ldtr = ldt_segment(cpu, selector, fault, absent)?;
    Ok(())
}

/// The contents of LDTR for `selector`; a task switch has other faults than LLDT.
///
/// # Errors
/// `fault(selector)`, `absent(selector)`, #PF.
pub fn ldt_segment(
    cpu: &mut Cpu,
    selector: Selector,
    fault: descriptor::SelectorFault,
    absent: descriptor::SelectorFault,
) -> Result<Segment, Exception> {
    if selector.is_null() {
        return Ok(super::segment::null(selector.0));
    }
    // In the GDT and an LDT, else fault(selector).
    if selector.is_local() {
        return Err(fault(selector.error_code()));
    }
    let descriptor = descriptor::fetch(cpu, selector, fault)?;
    if descriptor.kind() != Kind::Ldt {
        return Err(fault(selector.error_code()));
    }
    // Present, else absent(selector).
    if !descriptor.present() {
        return Err(absent(selector.error_code()));
    }
    Ok(descriptor.segment(selector))
}

/// SLDT.
///
/// # Errors
/// #UD outside protected mode; #GP(0) by CR4.UMIP; what the memory access raises.
pub fn sldt(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    require_protected(cpu)?;
    require_umip(cpu)?;
    operand::write_word(cpu, i, 0, u32::from(cpu.sys.ldtr.selector))
}

/// LTR: marks the TSS busy.
///
/// # Errors
/// #UD outside protected mode; #GP, #NP; what the memory access raises.
pub fn ltr(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    require_protected(cpu)?;
    require_cpl0(cpu)?;
    let selector = Selector(operand::read_word(cpu, i, 0)?);
    // Not null, else #GP(0).
    if selector.is_null() {
        return Err(Exception::GeneralProtection(0));
    }
    let gp = Exception::GeneralProtection(selector.error_code());
    // In the GDT and an available TSS, else #GP(selector).
    if selector.is_local() {
        return Err(gp);
    }
    let mut tss = descriptor::fetch(cpu, selector, Exception::GeneralProtection)?;
    if !matches!(tss.kind(), Kind::AvailableTss(_)) {
        return Err(gp);
    }
    // Present, else #NP(selector).
    if !tss.present() {
        return Err(Exception::SegmentNotPresent(selector.error_code()));
    }
    descriptor::set_busy(cpu, selector, &mut tss, true)?;
    cpu.sys.tr = tss.segment(selector);
    shown::forget(cpu);
    Ok(())
}

/// STR.
///
/// # Errors
/// #UD outside protected mode; #GP(0) by CR4.UMIP; what the memory access raises.
pub fn str(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    require_protected(cpu)?;
    require_umip(cpu)?;
    operand::write_word(cpu, i, 0, u32::from(cpu.sys.tr.selector))
}
