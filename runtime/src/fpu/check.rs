//! Whether the guest may use a unit now (SDM vol. 3A, "Exception 7" and the
//! tables "Action taken for combinations of EM, MP and TS").

use super::plan::{Plan, Unit};
use crate::vcpu::{Cpu, cr0, cr4};
use translator::exception::Exception;

/// The checks in the manual's order: #UD, #NM, #MF.
#[inline(always)]
pub fn check(cpu: &mut Cpu, p: &Plan) -> Result<(), Exception> {
    if cpu.sys.cr0 & (cr0::EM | cr0::TS) != 0
        || matches!(p.unit, Unit::Sse | Unit::SseMmx) && cpu.sys.cr4 & cr4::OSFXSR == 0
    {
        unavailable(cpu, p.unit)?;
    }
    if p.waiting && !cpu.fpu.x87.is_away() {
        pending(cpu)?;
    }
    Ok(())
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

/// #MF if an x87 exception is pending and reported in the native way.
pub fn pending(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.sys.cr0 & cr0::NE != 0 && cpu.fpu.x87_pending() {
        return Err(Exception::X87Error);
    }
    Ok(())
}
