//! What all code in a file has in common.
//!
//! Code is a function of its block and of the things here: the translator, what the
//! guest's processor knows, what the host's has, and how the tier makes code. Each
//! combination has a file of its own, so that builds and settings do not take turns in
//! throwing each other's code away.

use super::format::VERSION;
use crate::config::Tier;
use crate::cpu_model::CpuModel;
use crate::mirrored::MirrorPolicy;
use std::fmt::Write;

/// What the names of files with code begin with.
pub const PREFIX: &str = "code-";

/// The identity of the code that a machine makes, relying on GS or not.
pub fn identity(model: &CpuModel, tier: Tier, mirror: MirrorPolicy, gs: bool) -> [u8; 32] {
    let decodable = model.decodable();
    let mut text = format!("{VERSION} {tier:?} {mirror:?} {gs} {decodable:?}");
    for (name, there) in host_features() {
        // Writing to a String cannot fail.
        let _ = write!(text, " {name}={there}");
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(translator::BUILD.as_bytes());
    hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
    hasher.update(text.as_bytes());
    hasher.finalize().into()
}

/// The name of its file.
pub fn file_name(identity: &[u8; 32]) -> String {
    let hex = blake3::Hash::from(*identity).to_hex();
    format!("{PREFIX}{}", &hex[..16])
}

/// What the host's processor has beyond any x86-64.
#[cfg(target_arch = "x86_64")]
fn host_features() -> Vec<(&'static str, bool)> {
    macro_rules! features {
        ($($name:tt),*) => { vec![$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    features![
        "sse3",
        "ssse3",
        "sse4.1",
        "sse4.2",
        "aes",
        "pclmulqdq",
        "popcnt",
        "movbe",
        "lzcnt",
        "bmi1",
        "bmi2",
        "adx",
        "sha",
        "rdrand",
        "rdseed",
        "xsave",
        "avx",
        "avx2",
        "fma",
        "avx512f"
    ]
}

/// Other hosts have no code to keep.
#[cfg(not(target_arch = "x86_64"))]
fn host_features() -> Vec<(&'static str, bool)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu_model::Processor;

    #[test]
    fn processor_tier_policy_and_gs_each_make_another_file() {
        let (max, auto, settled) = (Processor::Max, Tier::Auto, MirrorPolicy::Settled);
        let of = |processor, tier, mirror, gs| {
            file_name(&identity(&CpuModel::new(processor), tier, mirror, gs))
        };
        let usual = of(max, auto, settled, true);
        assert_eq!(usual.len(), PREFIX.len() + 16);
        assert_eq!(usual, of(max, auto, settled, true));
        assert_ne!(usual, of(Processor::Pentium3, auto, settled, true));
        assert_ne!(usual, of(max, Tier::Direct, settled, true));
        assert_ne!(usual, of(max, auto, MirrorPolicy::Never, true));
        assert_ne!(usual, of(max, auto, settled, false));
    }
}
