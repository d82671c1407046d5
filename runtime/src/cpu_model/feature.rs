//! Features by the names of the SDM, numbered by their place in CPUID.
//!
//! To add one: a [`Feature`], its place in the lists of the models that have
//! it, and, if it adds instructions, a row in `exists` of the parent. A feature
//! whose instructions run on the host's own units gets a row in [`works_here`].

use super::Processor;

/// Leaf 1, EDX and ECX; leaf 7, EBX and ECX; leaf 8000_0001h, EDX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The SDM's names.
#[rustfmt::skip]
pub enum Word { Leaf1Edx, Leaf1Ecx, Leaf7Ebx, Leaf7Ecx, ExtendedEdx }

/// Words in a set.
const WORDS: usize = 5;

const EDX1: u8 = 32 * Word::Leaf1Edx as u8;
const ECX1: u8 = 32 * Word::Leaf1Ecx as u8;
const EBX7: u8 = 32 * Word::Leaf7Ebx as u8;
const ECX7: u8 = 32 * Word::Leaf7Ecx as u8;
const EDXE: u8 = 32 * Word::ExtendedEdx as u8;

/// A feature; its number is that of its word times 32, plus that of its bit
/// (SDM vol. 2A, "CPUID").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // The SDM's names.
pub enum Feature {
    Fpu = EDX1,
    Vme = EDX1 + 1,
    De = EDX1 + 2,
    Pse = EDX1 + 3,
    Tsc = EDX1 + 4,
    Msr = EDX1 + 5,
    Pae = EDX1 + 6,
    Mce = EDX1 + 7,
    Cx8 = EDX1 + 8,
    Apic = EDX1 + 9,
    Sep = EDX1 + 11,
    Mtrr = EDX1 + 12,
    Pge = EDX1 + 13,
    Mca = EDX1 + 14,
    Cmov = EDX1 + 15,
    Pat = EDX1 + 16,
    Pse36 = EDX1 + 17,
    Clfsh = EDX1 + 19,
    Mmx = EDX1 + 23,
    Fxsr = EDX1 + 24,
    Sse = EDX1 + 25,
    Sse2 = EDX1 + 26,
    Sse3 = ECX1,
    Pclmulqdq = ECX1 + 1,
    Ssse3 = ECX1 + 9,
    Sse41 = ECX1 + 19,
    Sse42 = ECX1 + 20,
    Movbe = ECX1 + 22,
    Popcnt = ECX1 + 23,
    Aes = ECX1 + 25,
    Xsave = ECX1 + 26,
    Osxsave = ECX1 + 27,
    Rdrand = ECX1 + 30,
    TscAdjust = EBX7 + 1,
    Smep = EBX7 + 7,
    Rdseed = EBX7 + 18,
    Smap = EBX7 + 20,
    Umip = ECX7 + 2,
    Nx = EDXE + 20,
    Rdtscp = EDXE + 27,
}

impl Feature {
    /// Its bit in its word.
    pub fn bit(self) -> u32 {
        1 << (self as u32 % 32)
    }
}

use Feature as F;

/// What a Pentium announces.
#[rustfmt::skip]
const PENTIUM: &[F] = &[
    F::Fpu, F::Vme, F::De, F::Pse, F::Tsc, F::Msr, F::Mce, F::Cx8, F::Apic,
];

/// What a Pentium III has more.
#[rustfmt::skip]
const PENTIUM3: &[F] = &[
    F::Pae, F::Sep, F::Mtrr, F::Pge, F::Mca, F::Cmov, F::Pat, F::Pse36, F::Mmx, F::Fxsr, F::Sse,
];

/// What a Pentium 4 has more.
const PENTIUM4: &[F] = &[F::Clfsh, F::Sse2];

/// What nothing older has.
const MAX: &[F] = &[
    F::Sse3,
    F::Ssse3,
    F::Sse41,
    F::Sse42,
    F::Aes,
    F::Pclmulqdq,
    F::Xsave,
    F::Movbe,
    F::Popcnt,
    F::Rdrand,
    F::Rdseed,
    F::Rdtscp,
    F::TscAdjust,
    F::Smep,
    F::Smap,
    F::Umip,
    F::Nx,
];

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureSet([u32; WORDS]);

impl FeatureSet {
    /// Whether the feature is in the set.
    pub fn has(&self, feature: Feature) -> bool {
        self.0[feature as usize / 32] & feature.bit() != 0
    }

    /// Takes the feature out.
    pub fn remove(&mut self, feature: Feature) {
        self.0[feature as usize / 32] &= !feature.bit();
    }

    /// A register of CPUID.
    pub fn word(&self, word: Word) -> u32 {
        self.0[word as usize]
    }

    fn insert(&mut self, feature: Feature) {
        self.0[feature as usize / 32] |= feature.bit();
    }
}

/// The features of a processor, whatever the host.
pub fn of(processor: Processor) -> impl Iterator<Item = Feature> {
    let lists: &[&[F]] = match processor {
        // Its FPU is built in, but there is no CPUID to say so.
        Processor::I486 => &[&[F::Fpu]],
        Processor::Pentium => &[PENTIUM],
        Processor::Pentium3 => &[PENTIUM, PENTIUM3],
        Processor::Pentium4 => &[PENTIUM, PENTIUM3, PENTIUM4],
        Processor::Max => &[PENTIUM, PENTIUM3, PENTIUM4, MAX],
    };
    lists.iter().flat_map(|list| list.iter().copied())
}

impl FromIterator<Feature> for FeatureSet {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        let mut set = Self::default();
        features.into_iter().for_each(|f| set.insert(f));
        set
    }
}

/// Whether ring1 can give the feature on this host: what runs on the host's
/// own units needs an x86-64 host that has it too.
#[cfg(target_arch = "x86_64")]
pub fn works_here(feature: &Feature) -> bool {
    match feature {
        F::Sse3 => is_x86_feature_detected!("sse3"),
        F::Ssse3 => is_x86_feature_detected!("ssse3"),
        F::Sse41 => is_x86_feature_detected!("sse4.1"),
        F::Sse42 => is_x86_feature_detected!("sse4.2"),
        F::Aes => is_x86_feature_detected!("aes"),
        F::Rdrand => is_x86_feature_detected!("rdrand"),
        F::Rdseed => is_x86_feature_detected!("rdseed"),
        F::Pclmulqdq => is_x86_feature_detected!("pclmulqdq"),
        // Every x86-64 CPU has the older ones; the rest needs nothing of the host.
        _ => true,
    }
}

/// Other hosts have no such unit.
#[cfg(not(target_arch = "x86_64"))]
pub fn works_here(feature: &Feature) -> bool {
    !matches!(
        feature,
        F::Fpu
            | F::Clfsh
            | F::Mmx
            | F::Fxsr
            | F::Sse
            | F::Sse2
            | F::Sse3
            | F::Ssse3
            | F::Sse41
            | F::Sse42
            | F::Aes
            | F::Pclmulqdq
            | F::Xsave
    )
}
