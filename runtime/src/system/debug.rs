//! Debug registers and the single-step trap (SDM vol. 3B, "Debug, Branch Profile,
//! TSC …").
//!
//! DR0–DR3 and DR7 hold what the guest writes; QUIRK: breakpoints are not
//! matched. So RF has no reader, and EFLAGS never holds it: IRET drops it, the
//! image pushed for a fault sets it.

use super::interrupt::{Event, deliver};
use super::require_cpl0;
use crate::vcpu::{Cpu, cr4};
use iced_x86::Mnemonic;
use translator::exception::Exception;
use translator::flags;

/// DR6.BD: a debug register was accessed with DR7.GD set.
pub const DR6_BD: u32 = 1 << 13;
/// DR6.BS: single step.
pub const DR6_BS: u32 = 1 << 14;
/// DR6.BT: a task switch to a TSS with T set.
pub const DR6_BT: u32 = 1 << 15;
/// DR7.GD: general detect.
pub const DR7_GD: u32 = 1 << 13;

/// DR7.L0–L3 and LE: breakpoints of the current task only.
pub const DR7_LOCAL: u32 = 0x155;

/// DR6 bits that can change; of the others 12 is 0 and the rest 1.
const DR6_WRITABLE: u32 = 0xe00f;
const DR6_ONES: u32 = 0xffff_0ff0;
/// DR7 bits that can change; bit 10 reads as 1, the rest as 0.
const DR7_WRITABLE: u32 = 0xffff_23ff;
const DR7_ONES: u32 = 1 << 10;

/// Delivers the #DB that follows an instruction begun with EFLAGS.TF set.
///
/// The run loop calls it after such an instruction, with EIP at the next one,
/// unless [`suppresses_single_step`] or the interrupt shadow is set.
pub fn single_step_trap(cpu: &mut Cpu) {
    cpu.sys.dr[6] |= DR6_BS;
    deliver(cpu, Event::Exception(Exception::Debug));
}

/// Instructions that deliver an event themselves, which clears TF: no trap
/// follows them.
pub fn suppresses_single_step(m: Mnemonic) -> bool {
    matches!(
        m,
        Mnemonic::Int | Mnemonic::Int1 | Mnemonic::Int3 | Mnemonic::Into
    )
}

/// A #DB handler has been entered: general detect is off so that it can work.
pub fn entered_handler(cpu: &mut Cpu) {
    cpu.sys.dr[7] &= !DR7_GD;
}

/// MOV r32, DRn.
///
/// # Errors
/// #UD, #GP(0), #DB: see [`require_access`].
pub fn read(cpu: &mut Cpu, n: u8) -> Result<u32, Exception> {
    let n = require_access(cpu, n)?;
    Ok(cpu.sys.dr[n])
}

/// MOV DRn, r32.
///
/// # Errors
/// #UD, #GP(0), #DB: see [`require_access`].
pub fn write(cpu: &mut Cpu, n: u8, v: u32) -> Result<(), Exception> {
    let n = require_access(cpu, n)?;
    cpu.sys.dr[n] = match n {
        6 => v & DR6_WRITABLE | DR6_ONES,
        7 => v & DR7_WRITABLE | DR7_ONES,
        _ => v,
    };
    Ok(())
}

/// Checks an access and resolves the alias; the index is at most 7.
fn require_access(cpu: &mut Cpu, n: u8) -> Result<usize, Exception> {
    // DR4 and DR5 are DR6 and DR7, or with CR4.DE set #UD.
    let n = match n & 7 {
        4 | 5 if cpu.sys.cr4 & cr4::DE != 0 => return Err(Exception::InvalidOpcode),
        n @ (4 | 5) => n + 2,
        n => n,
    };
    require_cpl0(cpu)?;
    // General detect: #DB before the access, a fault, hence RF.
    if cpu.sys.dr[7] & DR7_GD != 0 {
        cpu.sys.dr[6] |= DR6_BD;
        cpu.state.eflags |= flags::RF;
        return Err(Exception::Debug);
    }
    Ok(usize::from(n))
}
