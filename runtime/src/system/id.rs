//! CPUID and the dispatch of what belongs to it (SDM vol. 2, "CPUID").
//!
//! What it says is the model's, see [`crate::cpu_model`].

use super::{msr, perf, random, tsc};
use crate::cpu_model::feature::Feature;
use crate::vcpu::{Cpu, cr4};
use iced_x86::Mnemonic;
use translator::exception::Exception;
use translator::insn::Insn;
use translator::state::CpuidAnswer;

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

/// Makes a first answer known: there is none for "unknown".
pub fn prepare(cpu: &mut Cpu) {
    remember(cpu, [0, 0], cpu.model.cpuid(0, 0));
}

fn remember(cpu: &mut Cpu, [leaf, sub]: [u32; 2], answer: [u32; 4]) {
    cpu.state.cpuid = CpuidAnswer {
        question: u64::from(leaf) | u64::from(sub) << 32,
        answer,
    };
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
    // Leaf 1 depends on CR4 and on the APIC, the others on nothing.
    if leaf != 1 {
        remember(cpu, [leaf, sub], [eax, ebx, ecx, edx]);
    }
    cpu.state.gpr[0] = eax;
    cpu.state.gpr[3] = ebx;
    cpu.state.gpr[1] = ecx;
    cpu.state.gpr[2] = edx;
}
