//! CPUID and the dispatch of what belongs to it (SDM vol. 2, "CPUID").
//!
//! What it says is the model's, see [`crate::cpu_model`].

use super::{msr, perf, random, tsc};
use crate::cpu_model::feature::Feature;
use crate::vcpu::{Cpu, cr4};
use iced_x86::Mnemonic;
use translator::exception::Exception;
use translator::insn::Insn;

/// Runs CPUID, RDTSC, RDMSR and the like, or returns `None` if `i` is another.
pub fn dispatch(cpu: &mut Cpu, i: &Insn) -> Option<Result<(), Exception>> {
    Some(match i.mnemonic {
        Mnemonic::Cpuid => {
            cpuid(cpu);
            Ok(())
        }
        Mnemonic::Rdtsc => tsc::rdtsc(cpu),
        Mnemonic::Rdtscp => tsc::rdtscp(cpu),
        Mnemonic::Rdrand | Mnemonic::Rdseed => random::rdrand(cpu, i),
        Mnemonic::Rdmsr => msr::rdmsr(cpu),
        Mnemonic::Wrmsr => msr::wrmsr(cpu),
        Mnemonic::Rdpmc => perf::rdpmc(cpu),
        _ => return None,
    })
}

fn cpuid(cpu: &mut Cpu) {
    let (leaf, sub) = (cpu.state.gpr[0], cpu.state.gpr[1]);
    let [eax, ebx, mut ecx, mut edx] = cpu.model.cpuid(leaf, sub);
    if leaf == 1 && cpu.sys.cr4 & cr4::OSXSAVE != 0 {
        ecx |= Feature::Osxsave.bit();
    }
    if leaf == 1 && !cpu.pc.apic_enabled() {
        edx &= !Feature::Apic.bit();
    }
    cpu.state.gpr[0] = eax;
    cpu.state.gpr[3] = ebx;
    cpu.state.gpr[1] = ecx;
    cpu.state.gpr[2] = edx;
}
