//! Which instructions a CPU knows.
//!
//! An instruction that the guest's CPU model lacks must raise #UD. That is
//! decided once, when a block is decoded: [`Decodable`] has one bit for each
//! encoding form of iced-x86, and a form without its bit decodes as
//! [`iced_x86::Mnemonic::INVALID`]. Nothing is left to check when it runs.

use iced_x86::{Code, CpuidFeature};

/// A set of encoding forms.
#[derive(Clone, Debug)]
pub struct Decodable(Option<Box<[u64]>>);

impl Decodable {
    /// Everything the decoder knows.
    pub const EVERYTHING: Self = Self(None);

    /// The forms all of whose features `has` grants.
    pub fn with_features(has: impl Fn(CpuidFeature) -> bool) -> Self {
        let mut bits = vec![0; Code::values().len().div_ceil(64)];
        for code in Code::values() {
            if code.cpuid_features().iter().all(|&f| has(f)) {
                bits[code as usize / 64] |= 1 << (code as usize % 64);
            }
        }
        Self(Some(bits.into()))
    }

    /// Whether the form is in the set.
    #[inline]
    pub fn allows(&self, code: Code) -> bool {
        match &self.0 {
            None => true,
            Some(bits) => bits[code as usize / 64] >> (code as usize % 64) & 1 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_of_a_form_must_be_there() {
        let no_cmov = Decodable::with_features(|f| f != CpuidFeature::CMOV);
        assert!(no_cmov.allows(Code::Fadd_st0_sti));
        assert!(!no_cmov.allows(Code::Cmove_r32_rm32));
        assert!(!no_cmov.allows(Code::Fcmove_st0_sti)); // FPU and CMOV.
        assert!(no_cmov.allows(Code::INVALID));
        assert!(Decodable::EVERYTHING.allows(Code::Cmove_r32_rm32));
    }
}
