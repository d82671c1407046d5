//! x87, MMX and SSE up to SSE4.2, AES and PCLMULQDQ, exactly as the silicon does them: by the silicon.
//!
//! On an x86-64 host each distinct instruction (its encoding and registers, not
//! its address) becomes a small host function that runs the same instruction on
//! the guest's operands, see [`thunk`]. What the host does not know is done
//! around it: whether the guest may use the unit at all ([`check`]), its memory
//! ([`execute`]), exceptions that it has unmasked ([`execute`] too: they must
//! never become host signals), and the instructions that move whole images of
//! the state ([`image`]).
//!
//! On other hosts there is no FPU: every instruction raises #UD and CPUID says
//! so.

#[cfg(target_arch = "x86_64")]
mod check;
#[cfg(target_arch = "x86_64")]
mod dot_product;
#[cfg(target_arch = "x86_64")]
mod execute;
#[cfg(target_arch = "x86_64")]
mod host;
#[cfg(target_arch = "x86_64")]
mod image;
#[cfg(target_arch = "x86_64")]
mod plan;
#[cfg(target_arch = "x86_64")]
mod pointers;
#[cfg(target_arch = "x86_64")]
mod rounding;
#[cfg(target_arch = "x86_64")]
mod table;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
#[cfg(target_arch = "x86_64")]
mod thunk;
#[cfg(target_arch = "x86_64")]
mod unmasked;
#[cfg(target_arch = "x86_64")]
mod xsave;

use crate::cpu_model::CpuModel;
#[cfg(target_arch = "x86_64")]
use crate::cpu_model::feature::Feature;
use crate::vcpu::{Cpu, Raised};
use translator::exception::Exception;
use translator::insn::Insn;
use translator::semantics::Exec;
#[cfg(target_arch = "x86_64")]
use translator::state::NO_INSN;

/// The FPU of a CPU: its registers, and the code made for its instructions.
#[cfg(target_arch = "x86_64")]
pub struct Fpu {
    state: host::State,
    x87: host::X87,
    last: pointers::Pointers,
    thunks: table::Thunks,
    /// MXCSR bits that exist.
    mxcsr_mask: u32,
}

#[cfg(target_arch = "x86_64")]
impl Fpu {
    /// The FPU of a processor.
    pub fn new(model: &CpuModel) -> Self {
        Self {
            state: host::State::default(),
            x87: host::X87::default(),
            last: pointers::Pointers::default(),
            thunks: table::Thunks::default(),
            // The Pentium 4 brought denormals-are-zeros, with SSE2.
            mxcsr_mask: match model.has(Feature::Sse2) {
                true => image::mxcsr_mask(),
                false => image::mxcsr_mask() & image::MXCSR_WITHOUT_DAZ,
            },
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Fpu {
    /// Where the XMM registers and MXCSR are while direct code does not have them.
    pub fn vector_address(&self) -> u64 {
        &raw const self.state as u64
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Fpu {
    /// Nowhere.
    pub fn vector_address(&self) -> u64 {
        0
    }
}

/// Whether the guest may use all units now and has masked all exceptions; its x87
/// state is in the host's registers then.
#[cfg(target_arch = "x86_64")]
pub fn enter_native(cpu: &mut Cpu) -> bool {
    execute::enter_native(cpu)
}

/// Takes note of what direct code has run, before anything else can see or change it.
#[inline(always)]
pub fn after_native(cpu: &mut Cpu) {
    #[cfg(target_arch = "x86_64")]
    if cpu.state.last_x87 != NO_INSN {
        execute::remember(cpu);
    }
}

/// This host has no direct code.
#[cfg(not(target_arch = "x86_64"))]
pub fn enter_native(_cpu: &mut Cpu) -> bool {
    false
}

/// No FPU on this host.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Default)]
pub struct Fpu {}

#[cfg(not(target_arch = "x86_64"))]
impl Fpu {
    /// None, whatever the processor.
    pub fn new(_model: &CpuModel) -> Self {
        Self {}
    }
}

/// Runs the instruction if it is one of this module's.
#[cfg(target_arch = "x86_64")]
pub fn dispatch(cpu: &mut Cpu, i: &Insn) -> Option<Result<(), Exception>> {
    run(cpu, i, plan::key(i))
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn run(cpu: &mut Cpu, i: &Insn, key: u32) -> Option<Result<(), Exception>> {
    match cpu.fpu.thunks.find(i, key) {
        table::Action::Thunk(plan) => Some(execute::execute(cpu, i, &plan)),
        table::Action::Special(run) => Some(run(cpu, i)),
        table::Action::Foreign => None,
    }
}

/// If `i` is one of this module's, notes in it how to find its thunk, and
/// returns the function that runs it: the short way past [`dispatch`].
#[cfg(target_arch = "x86_64")]
pub fn prepare(i: &mut Insn) -> Option<Exec<Cpu>> {
    if plan::unit(i).is_none() && image::special(i.mnemonic).is_none() {
        return None;
    }
    // No instruction with a second immediate is one of these.
    i.imm2 = plan::key(i);
    Some(run_prepared)
}

/// Runs an instruction that was prepared.
#[cfg(target_arch = "x86_64")]
fn run_prepared(cpu: &mut Cpu, i: &Insn) -> Result<(), Raised> {
    let done = run(cpu, i, i.imm2).unwrap_or(Err(Exception::InvalidOpcode));
    done.map_err(|e| cpu.raise(e))
}

/// Prepares nothing.
#[cfg(not(target_arch = "x86_64"))]
pub fn prepare(_i: &mut Insn) -> Option<Exec<Cpu>> {
    None
}

/// Runs nothing: this host has no FPU to lend.
#[cfg(not(target_arch = "x86_64"))]
pub fn dispatch(_cpu: &mut Cpu, _i: &Insn) -> Option<Result<(), Exception>> {
    None
}
