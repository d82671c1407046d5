//! DPPS and DPPD with unmasked exceptions (SDM vol. 2A, "DPPS").
//!
//! A dot product is made in steps, products first, then sums of two, and each
//! raises exceptions of its own: the first that raises an unmasked one ends the
//! instruction. So here they are done one by one, by the instructions that do
//! such a step, whose exceptions [`unmasked`] knows how to raise.

use super::execute::memory_operand;
use super::host::Place;
use super::plan::{self, Plan};
use super::table::Action;
use super::unmasked;
use crate::vcpu::Cpu;
use iced_x86::Mnemonic;
use translator::decode::decode_block;
use translator::exception::Exception;
use translator::insn::{Insn, Operand};
use translator::mode::Mode;

/// One step: `op xmm0, xmm1`.
const MULPS: &[u8] = &[0x0f, 0x59, 0xc1];
const MULPD: &[u8] = &[0x66, 0x0f, 0x59, 0xc1];
const ADDPS: &[u8] = &[0x0f, 0x58, 0xc1];
const ADDPD: &[u8] = &[0x66, 0x0f, 0x58, 0xc1];

/// Whether the instruction is one of these.
pub fn is_one(mnemonic: Mnemonic) -> bool {
    matches!(mnemonic, Mnemonic::Dpps | Mnemonic::Dppd)
}

/// Raises what the steps raise; flags of masked exceptions go to MXCSR. The
/// registers stay as they are.
pub fn raise(cpu: &mut Cpu, i: &Insn, p: &Plan) -> Result<(), Exception> {
    let xmm = cpu.fpu.state.xmm;
    let register = |op: Operand| match op {
        Operand::Xmm(r) => Some(xmm[usize::from(r & 7)]),
        _ => None,
    };
    let a = register(i.ops[0]).unwrap_or_default();
    let b = match register(i.ops[1]) {
        Some(b) => b,
        None => memory_operand(cpu, i, p),
    };
    let raised = match i.mnemonic {
        Mnemonic::Dpps => steps::<4>(cpu, (MULPS, ADDPS), i.imm, a, b),
        _ => steps::<8>(cpu, (MULPD, ADDPD), i.imm, a, b),
    };
    cpu.fpu.state.xmm = xmm;
    raised
}

/// The steps for elements of `N` bytes.
fn steps<const N: usize>(
    cpu: &mut Cpu,
    (multiply, add): (&[u8], &[u8]),
    selected: u32,
    mut a: [u8; 16],
    mut b: [u8; 16],
) -> Result<(), Exception> {
    for lane in (0..16 / N).filter(|lane| selected >> (4 + lane) & 1 == 0) {
        a[lane * N..][..N].fill(0);
        b[lane * N..][..N].fill(0);
    }
    let mut sums = step(cpu, multiply, a, b)?;
    let mut distance = N;
    while distance < 16 {
        let mut others = sums;
        // Each element meets its neighbour, then each pair the other.
        for (at, other) in others.iter_mut().enumerate() {
            *other = sums[at ^ distance];
        }
        sums = step(cpu, add, sums, others)?;
        distance *= 2;
    }
    Ok(())
}

fn step(cpu: &mut Cpu, code: &[u8], a: [u8; 16], b: [u8; 16]) -> Result<[u8; 16], Exception> {
    cpu.fpu.state.xmm[0] = a;
    cpu.fpu.state.xmm[1] = b;
    let block = decode_block(code, 0, Mode::flat32(), 1).map_err(|_| Exception::InvalidOpcode)?;
    let insn = &block.insns[0];
    if let Action::Thunk(p) = cpu.fpu.thunks.find(insn, plan::key(insn)) {
        let place = Place::scratch(&mut cpu.fpu.state);
        unmasked::run(cpu, insn, &p, place, 0)?;
    }
    Ok(cpu.fpu.state.xmm[0])
}
