//! SSE exceptions that the guest has unmasked (SDM vol. 1, "SSE and SSE2 SIMD
//! Floating-Point Exception Conditions"; vol. 3A, "#XM").
//!
//! They must not become host signals, so the instruction runs with everything
//! masked, and what it did is undone if an exception turns up that the guest has
//! unmasked.

use super::dot_product;
use super::execute::memory_operand;
use super::host::Place;
use super::plan::Plan;
use super::rounding;
use crate::vcpu::{Cpu, cr4};
use translator::exception::Exception;
use translator::insn::{Insn, Operand};

/// MXCSR: mask bits of all exceptions, and where they start.
pub const MASKS: u32 = 0x1f80;
const MASK_SHIFT: u32 = 7;
const FLAGS: u32 = 0x3f;
/// Invalid, denormal, divide-by-zero: found before computing.
const BEFORE: u32 = 0x07;
const OE: u32 = 1 << 3;
const UE: u32 = 1 << 4;
const PE: u32 = 1 << 5;
const DAZ: u32 = 1 << 6;
const FTZ: u32 = 1 << 15;

/// Runs the instruction; if an exception occurs that the guest has unmasked,
/// undoes what it did and raises #XM, or #UD if the guest does not know that.
#[cold]
pub fn run(cpu: &mut Cpu, i: &Insn, p: &Plan, place: Place, input: u64) -> Result<u64, Exception> {
    if dot_product::is_one(i.mnemonic) {
        dot_product::raise(cpu, i, p)?;
    }
    let state = &mut cpu.fpu.state;
    let (xmm, mxcsr) = (state.xmm, state.mxcsr);
    let masks = mxcsr >> MASK_SHIFT & FLAGS;
    state.mxcsr = (mxcsr | MASKS) & !FLAGS;
    if masks & UE == 0 {
        // Flushing to zero is a masked response.
        state.mxcsr &= !FTZ;
    }
    let output = p.entry.call(place, state, input);
    let mut raised = state.mxcsr & FLAGS;
    let destination = match i.ops[0] {
        Operand::Xmm(r) => usize::from(r & 7),
        _ => 0,
    };
    if masks & UE == 0 && rounding::is_tiny(i.mnemonic, &state.xmm[destination]) {
        raised |= UE;
    }
    let unmasked = raised & !masks;
    // All that the steps of a dot product raise has been seen.
    if unmasked == 0 || dot_product::is_one(i.mnemonic) {
        state.mxcsr = mxcsr | raised & masks;
        return Ok(output);
    }
    state.xmm = xmm;
    if unmasked & BEFORE != 0 {
        raised &= BEFORE;
    } else if unmasked & (OE | UE) != 0 && raised & masks & (OE | UE) == 0 {
        raised &= !PE;
        if is_inexact(cpu, i, p, &xmm[destination]) {
            raised |= PE;
        }
    }
    cpu.fpu.state.mxcsr = mxcsr | raised;
    if cpu.sys.cr4 & cr4::OSXMMEXCPT == 0 {
        return Err(Exception::InvalidOpcode);
    }
    Err(Exception::SimdError)
}

/// Whether the unbounded result is inexact; the registers are as before.
fn is_inexact(cpu: &mut Cpu, i: &Insn, p: &Plan, a: &[u8; 16]) -> bool {
    let b = match i.ops[1] {
        Operand::Xmm(r) => cpu.fpu.state.xmm[usize::from(r & 7)],
        _ => memory_operand(cpu, i, p),
    };
    let daz = cpu.fpu.state.mxcsr & DAZ != 0;
    rounding::is_inexact(i.mnemonic, a, &b, daz)
}
