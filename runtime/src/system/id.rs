//! Placeholder: the module is written on another branch.

use crate::vcpu::Cpu;
use translator::exception::Exception;
use translator::insn::Insn;

/// Runs the instruction if it is one of this module's.
pub fn dispatch(_cpu: &mut Cpu, _i: &Insn) -> Option<Result<(), Exception>> {
    None
}
