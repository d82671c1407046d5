//! The processors a machine can have, and what each of them can do.
//!
//! A [`CpuModel`] owns everything that differs between one IA-32 processor and
//! the next: what CPUID says ([`leaves`]), which features stand behind it
//! ([`feature`]), which instructions decode, which bits of CR4 and EFLAGS can be
//! set. A feature is announced if and only if it works: the model is the
//! intersection of what the real processor has, what ring1 defines, and what the
//! host's units can lend. Vector and x87 instructions run on those, see
//! [`crate::fpu`].
//!
//! The instructions of a model are decided when a block is decoded, by
//! [`Decodable`]; nothing asks again when they run.
//!
//! | model | is |
//! | --- | --- |
//! | `486` | an i486DX2 of the first steppings, without CPUID and CR4 |
//! | `pentium` | a Pentium (P54C), family 5, model 2 |
//! | `pentium3` | a Pentium III (Coppermine), family 6, model 8 |
//! | `pentium4` | a Pentium 4 (Northwood), family 15, model 2 |
//! | `max` | everything there is, behind the signature of an in-order Atom |

pub mod feature;
mod leaves;

use crate::vcpu::cr4;
use feature::{Feature, FeatureSet};
use iced_x86::CpuidFeature;
use translator::decodable::Decodable;
use translator::flags;

/// The processor of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Processor {
    /// i486DX2 without CPUID
    #[value(name = "486")]
    I486,
    /// Pentium without MMX
    Pentium,
    /// Pentium III: P6 with SSE
    Pentium3,
    /// Pentium 4: SSE2
    Pentium4,
    /// Everything that ring1 and the host can do
    #[default]
    Max,
}

/// What a processor is and can do.
pub struct CpuModel {
    processor: Processor,
    features: FeatureSet,
    decodable: Decodable,
}

impl CpuModel {
    /// The model of a processor on this host.
    pub fn new(processor: Processor) -> Self {
        let features = feature::of(processor).filter(feature::works_here).collect();
        let family = family(processor);
        Self {
            processor,
            features,
            decodable: Decodable::with_features(|f| exists(f, family, &features)),
        }
    }

    /// The same processor without its local APIC.
    pub fn without_apic(mut self) -> Self {
        self.features.remove(Feature::Apic);
        self
    }

    /// Whether the feature is there.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }

    /// The instructions it knows.
    pub fn decodable(&self) -> &Decodable {
        &self.decodable
    }

    /// Family as CPUID counts it: 4, 5, 6 or 15.
    pub fn family(&self) -> u32 {
        family(self.processor)
    }

    /// Family, model, stepping: EDX after reset and EAX of CPUID's leaf 1.
    pub fn signature(&self) -> u32 {
        signature(self.processor)
    }

    /// Whether there are CPUID, and EFLAGS.ID to tell so, and CR4.
    pub fn has_cpuid(&self) -> bool {
        self.family() >= 5
    }

    /// EFLAGS bits beyond those of a 386 that software can set.
    pub fn eflags_writable(&self) -> u32 {
        match self.has_cpuid() {
            true => flags::AC | flags::ID,
            false => flags::AC,
        }
    }

    /// VIF and VIP, if it has them.
    pub fn virtual_flags(&self) -> u32 {
        match self.has(Feature::Vme) {
            true => flags::VIF | flags::VIP,
            false => 0,
        }
    }

    /// CR4 bits that can be set: those of features it has.
    pub fn cr4_writable(&self) -> u32 {
        let bits = CR4_BITS.iter().filter(|&&(f, _)| self.has(f));
        let counters = if has_rdpmc(self.family()) {
            cr4::PCE
        } else {
            0
        };
        bits.fold(counters, |all, &(_, bit)| all | bit)
    }

    /// EAX, EBX, ECX, EDX of CPUID.
    pub fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        leaves::leaf(self.processor, &self.features, leaf, subleaf)
    }
}

impl Default for CpuModel {
    fn default() -> Self {
        Self::new(Processor::default())
    }
}

/// CR4 bits and what they enable (SDM vol. 3A, "Control Registers").
const CR4_BITS: [(Feature, u32); 12] = [
    (Feature::Vme, cr4::VME | cr4::PVI),
    (Feature::Tsc, cr4::TSD),
    (Feature::De, cr4::DE),
    (Feature::Pse, cr4::PSE),
    (Feature::Pae, cr4::PAE),
    (Feature::Mce, cr4::MCE),
    (Feature::Pge, cr4::PGE),
    (Feature::Xsave, cr4::OSXSAVE),
    (Feature::Umip, cr4::UMIP),
    (Feature::Smep, cr4::SMEP),
    (Feature::Smap, cr4::SMAP),
    (Feature::Fxsr, cr4::OSFXSR | cr4::OSXMMEXCPT),
];

fn signature(processor: Processor) -> u32 {
    match processor {
        Processor::I486 => 0x0433,
        Processor::Pentium => 0x052c,
        Processor::Pentium3 => 0x068a,
        Processor::Pentium4 => 0x0f29,
        Processor::Max => 0x0001_06ca,
    }
}

fn family(processor: Processor) -> u32 {
    signature(processor) >> 8 & 0xf
}

/// The Pentium with MMX and the P6 brought RDPMC.
fn has_rdpmc(family: u32) -> bool {
    family >= 6
}

/// Whether a processor with these features has the instructions that iced-x86
/// files under `group`.
fn exists(group: CpuidFeature, family: u32, features: &FeatureSet) -> bool {
    use CpuidFeature as F;
    let feature = match group {
        F::INTEL8086 | F::INTEL186 | F::INTEL286 | F::INTEL386 | F::INTEL486 => return true,
        // A NOP with a prefix to CPUs that do not know it; RSM is #UD outside SMM.
        F::PAUSE | F::SMM => return true,
        F::CPUID => return family >= 5,
        F::RDPMC => return has_rdpmc(family),
        F::MULTIBYTENOP => return family >= 6,
        F::FPU | F::FPU287 | F::FPU387 => Feature::Fpu,
        F::TSC => Feature::Tsc,
        F::MSR => Feature::Msr,
        F::CX8 => Feature::Cx8,
        F::SEP => Feature::Sep,
        F::CMOV => Feature::Cmov,
        F::CLFSH => Feature::Clfsh,
        F::MMX => Feature::Mmx,
        F::FXSR => Feature::Fxsr,
        F::SSE => Feature::Sse,
        F::SSE2 => Feature::Sse2,
        F::SSE3 => Feature::Sse3,
        F::SSSE3 => Feature::Ssse3,
        F::SSE4_1 => Feature::Sse41,
        F::SSE4_2 => Feature::Sse42,
        F::AES => Feature::Aes,
        F::PCLMULQDQ => Feature::Pclmulqdq,
        F::POPCNT => Feature::Popcnt,
        F::MOVBE => Feature::Movbe,
        F::RDRAND => Feature::Rdrand,
        F::RDSEED => Feature::Rdseed,
        F::RDTSCP => Feature::Rdtscp,
        F::XSAVE => Feature::Xsave,
        F::SMAP => Feature::Smap,
        _ => return false,
    };
    features.has(feature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::Code;

    const ALL: [Processor; 5] = [
        Processor::I486,
        Processor::Pentium,
        Processor::Pentium3,
        Processor::Pentium4,
        Processor::Max,
    ];

    #[test]
    fn each_model_knows_what_its_time_knew() {
        let newer = [
            (Code::Xadd_rm32_r32, 0),
            (Code::Cpuid, 1),
            (Code::Cmpxchg8b_m64, 1),
            (Code::Cmove_r32_rm32, 2),
            (Code::Nop_rm32, 2),
            (Code::Sysenter, 2),
            (Code::Movq_mm_mmm64, 2),
            (Code::Addps_xmm_xmmm128, 2),
            (Code::Addpd_xmm_xmmm128, 3),
            (Code::Clflush_m8, 3),
        ];
        let host_independent = cfg!(target_arch = "x86_64");
        for (n, processor) in ALL.into_iter().enumerate() {
            let model = CpuModel::new(processor);
            for (code, since) in newer.into_iter().filter(|_| host_independent) {
                let known = model.decodable().allows(code);
                assert_eq!(known, n >= since, "{code:?} on {processor:?}");
            }
        }
    }

    #[test]
    fn no_model_knows_what_nothing_defines() {
        let never = [
            Code::Monitord,
            Code::Lzcnt_r32_rm32,
            Code::Vmcall,
            Code::Syscall,
            Code::VEX_Vaddps_xmm_xmm_xmmm128,
            Code::D3NOW_Pfadd_mm_mmm64,
            Code::Clflushopt_m8,
        ];
        for processor in ALL {
            let model = CpuModel::new(processor);
            for code in never {
                assert!(!model.decodable().allows(code), "{code:?} on {processor:?}");
            }
        }
    }

    #[test]
    fn registers_have_the_bits_of_the_features() {
        let i486 = CpuModel::new(Processor::I486);
        assert_eq!(
            (i486.eflags_writable(), i486.cr4_writable()),
            (flags::AC, 0)
        );
        let pentium = CpuModel::new(Processor::Pentium);
        assert_eq!(pentium.eflags_writable(), flags::AC | flags::ID);
        assert_eq!(pentium.cr4_writable() & (cr4::PAE | cr4::OSFXSR), 0);
        assert_ne!(pentium.cr4_writable() & cr4::PSE, 0);
        let max = CpuModel::new(Processor::Max);
        assert_ne!(max.cr4_writable() & cr4::PAE, 0);
    }
}
