//! System instructions, written once, concretely.

use crate::vcpu::Cpu;
use translator::exception::Exception;
use translator::insn::Insn;

/// Runs an instruction that has no generic definition.
///
/// On entry `cpu.state.eip` is the next instruction's; a control transfer
/// changes it. On an error nothing the guest can see has changed (beyond what
/// the architecture says), and the caller restores EIP.
///
/// # Errors
/// The exception the instruction raises.
pub fn dispatch(_cpu: &mut Cpu, _i: &Insn) -> Result<(), Exception> {
    Err(Exception::InvalidOpcode)
}
pub mod interrupt {
    #![allow(missing_docs)]
    use super::*;
    pub enum Event {
        Exception(Exception),
        External(u8),
    }
    pub fn deliver(_c: &mut Cpu, _e: Event) {}
    pub fn single_step_trap(_c: &mut Cpu) {}
}
pub mod id;
pub mod string;
