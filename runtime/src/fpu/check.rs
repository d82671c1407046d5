//! Whether the guest may use a unit now (SDM vol. 3A, "Exception 7" and the
//! tables "Action taken for combinations of EM, MP and TS").

use super::plan::{Plan, Unit};
use crate::vcpu::{Cpu, cr0, cr4};
use translator::exception::Exception;
use translator::insn::Insn;

/// Whether an instruction may go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Yes.
    Now,
    /// The processor stands still before it, until an interrupt.
    Stopped,
}

/// The checks in the manual's order: #UD, #NM, #MF.
#[inline(always)]
pub fn check(cpu: &mut Cpu, i: &Insn, p: &Plan) -> Result<Ready, Exception> {
    if cpu.sys.cr0 & (cr0::EM | cr0::TS) != 0
        || matches!(p.unit, Unit::Sse | Unit::SseMmx) && cpu.sys.cr4 & cr4::OSFXSR == 0
    {
        unavailable(cpu, p.unit)?;
    }
    if p.waiting && !cpu.fpu.x87.is_away() {
        return pending(cpu, i);
    }
    Ok(Ready::Now)
}

#[cold]
fn unavailable(cpu: &Cpu, unit: Unit) -> Result<(), Exception> {
    match unit {
        Unit::X87 => x87(cpu),
        Unit::Mmx if cpu.sys.cr0 & cr0::EM != 0 => Err(Exception::InvalidOpcode),
        Unit::Mmx => task_switched(cpu),
        Unit::Sse | Unit::SseMmx => sse(cpu),
    }
}

/// x87: #NM if EM or TS is set.
pub fn x87(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.sys.cr0 & (cr0::EM | cr0::TS) != 0 {
        return Err(Exception::DeviceNotAvailable);
    }
    Ok(())
}

/// SSE: #UD if EM is set or OSFXSR clear, #NM if TS is set.
pub fn sse(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.sys.cr0 & cr0::EM != 0 || cpu.sys.cr4 & cr4::OSFXSR == 0 {
        return Err(Exception::InvalidOpcode);
    }
    task_switched(cpu)
}

fn task_switched(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.sys.cr0 & cr0::TS != 0 {
        return Err(Exception::DeviceNotAvailable);
    }
    Ok(())
}

/// What a pending x87 exception does to a waiting instruction: #MF if CR0.NE is
/// set. Otherwise the board is told, and unless it answers by IGNNE# that the
/// exception be ignored, the instruction is not run: it waits for an interrupt.
pub fn pending(cpu: &mut Cpu, i: &Insn) -> Result<Ready, Exception> {
    if !cpu.fpu.x87_pending() {
        return Ok(Ready::Now);
    }
    if cpu.sys.cr0 & cr0::NE != 0 {
        return Err(Exception::X87Error);
    }
    cpu.pc.set_ferr(true);
    if cpu.pc.ignne() {
        return Ok(Ready::Now);
    }
    // Between now and its next try the run loop looks for interrupts.
    cpu.state.eip = i.eip;
    cpu.eip_stored = true;
    cpu.request_attention();
    Ok(Ready::Stopped)
}

/// FERR# follows the pending exception, after an instruction that may have raised
/// or cleared one.
pub fn drive_ferr(cpu: &mut Cpu) {
    let asserted = cpu.sys.cr0 & cr0::NE == 0 && cpu.fpu.x87_pending();
    cpu.pc.set_ferr(asserted);
    if asserted {
        cpu.request_attention();
    }
}
