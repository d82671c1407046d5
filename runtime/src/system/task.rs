//! The task-state segment and task switches (SDM vol. 3A, "Task Management").

use super::descriptor::{Descriptor, Selector};
use crate::vcpu::Cpu;
use shadow_mmu::LinearAddr;
use translator::exception::Exception;
use translator::insn::Width;
use translator::state::Segment;

/// What makes the processor switch tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The SDM's words.
pub enum Cause {
    Jump,
    Call,
    Interrupt,
    Iret,
}

/// Offset of the I/O map base in a 32-bit TSS.
const IO_MAP_BASE: u32 = 102;

/// The stack that the current TSS gives for the inner `level`: SS and ESP.
///
/// # Errors
/// #TS(TR selector) if the TSS ends before it, #PF.
pub fn inner_stack(cpu: &mut Cpu, level: u8) -> Result<(Selector, u32), Exception> {
    let tr = cpu.sys.tr;
    let w = width(&tr);
    let at = match w {
        Width::W => 2 + u32::from(level) * 4,
        _ => 4 + u32::from(level) * 8,
    };
    // ESP and SS must lie in the TSS, else #TS(TR).
    if at + w.bytes() + 1 > tr.limit {
        return Err(Exception::InvalidTss(tr.selector & !3));
    }
    let esp = cpu.read_linear(LinearAddr(tr.base.wrapping_add(at)), w, false)?;
    let ss = LinearAddr(tr.base.wrapping_add(at + w.bytes()));
    let ss = cpu.read_linear(ss, Width::W, false)?;
    Ok((Selector(ss as u16), esp))
}

/// Whether the I/O permission bitmap of the current TSS permits an access.
///
/// # Errors
/// #PF.
pub fn permits_port(cpu: &mut Cpu, port: u16, w: Width) -> Result<bool, Exception> {
    let tr = cpu.sys.tr;
    // Only a 32-bit TSS has a bitmap.
    if width(&tr) != Width::D || tr.limit < IO_MAP_BASE + 1 {
        return Ok(false);
    }
    let base = LinearAddr(tr.base.wrapping_add(IO_MAP_BASE));
    let map = cpu.read_linear(base, Width::W, false)?;
    let at = map + u32::from(port >> 3);
    // Two bytes are always read, and must lie in the TSS.
    if at + 1 > tr.limit {
        return Ok(false);
    }
    let bits = cpu.read_linear(LinearAddr(tr.base.wrapping_add(at)), Width::W, false)?;
    let mask = (1 << w.bytes()) - 1;
    Ok(bits >> (port & 7) & mask == 0)
}

/// 286 or 386 format, by the type of the descriptor TR was loaded with.
fn width(tr: &Segment) -> Width {
    if tr.attributes & 8 != 0 {
        Width::D
    } else {
        Width::W
    }
}

/// placeholder
pub fn switch_through_gate(_: &mut Cpu, g: &Descriptor, _: Cause) -> Result<(), Exception> {
    Err(Exception::InvalidTss(g.gate_selector().error_code()))
}
/// placeholder
pub fn switch_to(_: &mut Cpu, s: Selector, _: Cause) -> Result<(), Exception> {
    Err(Exception::InvalidTss(s.error_code()))
}
/// placeholder
pub fn interrupt(_: &mut Cpu, g: &Descriptor, _: Option<u32>) -> Result<(), Exception> {
    Err(Exception::InvalidTss(g.gate_selector().error_code()))
}
/// placeholder
pub fn return_from_nested(c: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::InvalidTss(c.sys.tr.selector & !3))
}
