//! System instructions, written once, concretely.
//!
//! What follows here is the part of the architecture that is a table of rules
//! rather than a computation: segment loads, far transfers, event delivery, task
//! switches, control registers, port I/O. Both tiers reach it through
//! [`dispatch`]; nothing of it is compiled.
//!
//! The files are cut by SDM topic. Each definition makes its checks in the order
//! of the manual's pseudocode and changes nothing before the last check that can
//! fault, so a failed instruction or event delivery leaves the state it found:
//! new stacks are written through a [`stack::Frame`] and become current only
//! when everything else has succeeded.

pub mod branches;
pub mod control;
pub mod crossing;
pub mod debug;
pub mod descriptor;
pub mod far;
pub mod fast_call;
pub mod flagops;
pub mod id;
pub mod interrupt;
pub mod iret;
pub mod loads;
pub mod mca;
pub mod msr;
pub mod mtrr;
pub mod operand;
pub mod perf;
pub mod port;
pub mod random;
pub mod segment;
mod shown;
pub mod stack;
pub mod string;
pub mod table;
pub mod task;
pub mod tsc;
pub mod tss;
pub mod verify;
pub mod vme;

#[cfg(test)]
mod tests;

pub use interrupt::{Event, deliver};

use crate::vcpu::{Cpu, cr4};
use iced_x86::Mnemonic as M;
use translator::decode::OVERLONG;
use translator::exception::Exception;
use translator::insn::{Insn, SegReg};

/// Runs an instruction that has no generic definition.
///
/// On entry `cpu.state.eip` is the next instruction's; a control transfer
/// changes it. On an error nothing the guest can see has changed (beyond what
/// the architecture says), and the caller restores EIP.
///
/// # Errors
/// The exception the instruction raises.
pub fn dispatch(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    match i.mnemonic {
        M::Cli => flagops::cli(cpu),
        M::Sti => flagops::sti(cpu),
        M::Pushf | M::Pushfd => flagops::pushf(cpu, i),
        M::Popf | M::Popfd => flagops::popf(cpu, i),
        M::Hlt => flagops::hlt(cpu),
        M::Push => segment::push(cpu, i),
        M::Pop => segment::pop(cpu, i),
        M::Mov => control::mov(cpu, i),
        M::Iret | M::Iretd => iret::iret(cpu, i),
        M::Int => interrupt::int(cpu, i),
        M::Int1 => interrupt::int1(cpu),
        M::Int3 => interrupt::int3(cpu),
        M::Into => interrupt::into(cpu),
        M::Sysenter => fast_call::sysenter(cpu),
        M::Sysexit => fast_call::sysexit(cpu),
        M::Jmp => far::jmp(cpu, i),
        M::Call => far::call(cpu, i),
        M::Retf => far::ret(cpu, i),
        M::In => port::input(cpu, i),
        M::Out => port::output(cpu, i),
        M::Insb | M::Insw | M::Insd => port::ins(cpu, i),
        M::Outsb | M::Outsw | M::Outsd => port::outs(cpu, i),
        M::Lds => segment::load_pointer(cpu, i, SegReg::Ds),
        M::Les => segment::load_pointer(cpu, i, SegReg::Es),
        M::Lfs => segment::load_pointer(cpu, i, SegReg::Fs),
        M::Lgs => segment::load_pointer(cpu, i, SegReg::Gs),
        M::Lss => segment::load_pointer(cpu, i, SegReg::Ss),
        _ => dispatch_rare(cpu, i),
    }
}

/// The instructions that no hot path has, and those of the other modules.
fn dispatch_rare(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    match i.mnemonic {
        M::Clts => control::clts(cpu),
        M::Clac => flagops::set_ac(cpu, false),
        M::Stac => flagops::set_ac(cpu, true),
        M::Lmsw => control::lmsw(cpu, i),
        M::Smsw => control::smsw(cpu, i),
        M::Invlpg => control::invlpg(cpu, i),
        M::Invd | M::Wbinvd => control::invd(cpu),
        M::Lgdt => table::lgdt(cpu, i),
        M::Lidt => table::lidt(cpu, i),
        M::Sgdt => table::sgdt(cpu, i),
        M::Sidt => table::sidt(cpu, i),
        M::Lldt => table::lldt(cpu, i),
        M::Sldt => table::sldt(cpu, i),
        M::Ltr => table::ltr(cpu, i),
        M::Str => table::str(cpu, i),
        M::Lar => verify::lar(cpu, i),
        M::Lsl => verify::lsl(cpu, i),
        M::Verr => verify::verr(cpu, i),
        M::Verw => verify::verw(cpu, i),
        M::Arpl => verify::arpl(cpu, i),
        // Longer than 15 bytes: #GP(0) rather than #UD.
        M::INVALID if i.len == OVERLONG => Err(Exception::GeneralProtection(0)),
        _ => string::dispatch(cpu, i)
            .or_else(|| id::dispatch(cpu, i))
            .or_else(|| crate::fpu::dispatch(cpu, i))
            // UD0, UD1, UD2, RSM outside SMM, and whatever CPUID does not announce.
            .unwrap_or(Err(Exception::InvalidOpcode)),
    }
}

/// CPL must be 0, else #GP(0).
fn require_cpl0(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.sys.cpl != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    Ok(())
}

/// With CR4.UMIP, system registers are only for CPL 0 to see, else #GP(0).
fn require_umip(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.sys.cr4 & cr4::UMIP != 0 {
        require_cpl0(cpu)?;
    }
    Ok(())
}

/// Real and virtual-8086 mode have no selectors: #UD.
fn require_protected(cpu: &Cpu) -> Result<(), Exception> {
    if !cpu.protected() {
        return Err(Exception::InvalidOpcode);
    }
    Ok(())
}
