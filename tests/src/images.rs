//! Broken guest images, made from a seed, and what may come of them.
//!
//! A guest image is the most hostile input that ring1 takes: the loaders parse it, and then its bytes run
//! with every privilege the guest has. Whatever it is, the run must end in one of the documented ways: a clean
//! error, the guest's own end, or a limit. Never a panic, never a signal.
//!
//! Two kinds of [`Case`]: a *mutated kernel* is a sound one with some damage, mostly in its headers (which
//! tries the loaders) or its first kilobytes of code (which tries the translator in a real setting); a
//! *random flat image* is code from the first byte on, with a liking for instructions that change modes,
//! tables and segments, since uniform noise faults too soon to reach them. The same seed gives the same case
//! everywhere, so a failure is named by its kind and seed alone.

use crate::machine::Setup;
use runtime::clock::FakeClock;
use runtime::config::Tier;
use runtime::embedded;
use runtime::loader::{FlatMode, FlatOptions};
use runtime::selftest::rng::Rng;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A broken image.
#[derive(Clone, Debug)]
pub struct Case {
    /// What kind it is and its seed, to name it in a failure.
    pub name: String,
    /// The file's content.
    pub bytes: Vec<u8>,
    /// Set for a flat image.
    pub flat: Option<FlatOptions>,
}

/// Where damage to a kernel is worth most: its headers, and the code that runs first.
const HEADER_BYTES: usize = 1024;
const EARLY_BYTES: usize = 64 << 10;

/// `sound` with one to eight pieces of damage. `sound` is not empty.
pub fn mutated_kernel(sound: &[u8], seed: u64) -> Case {
    let mut random = Rng::new(seed);
    let mut bytes = sound.to_vec();
    for _ in 0..=random.below(8) {
        damage(&mut bytes, &mut random);
    }
    Case {
        name: format!("mutated kernel {seed}"),
        bytes,
        flat: None,
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut Rng) {
    if bytes.is_empty() {
        return;
    }
    let reach = random.pick(&[HEADER_BYTES, HEADER_BYTES, EARLY_BYTES, bytes.len()]);
    let at = random.below(reach.min(bytes.len()));
    let rest = bytes.len() - at;
    match random.below(16) {
        0 => bytes.truncate(at),
        1 => bytes[at..at + rest.min(4096)].fill(0),
        2 => {
            let from = random.below(bytes.len());
            let len = rest.min(bytes.len() - from).min(512);
            bytes.copy_within(from..from + len, at);
        }
        3..=8 => {
            let edge = random.pick(&[
                0,
                1,
                0x7FFF_FFFF,
                0x8000_0000,
                u32::MAX,
                0xFFFF_F000,
                0x10_0000,
            ]);
            let len = rest.min(4);
            bytes[at..at + len].copy_from_slice(&edge.to_le_bytes()[..len]);
        }
        _ => bytes[at] ^= 1 << random.below(8),
    }
}

/// Encodings that lead into the privileged corners of the architecture; random bytes complete them.
const CORNERS: [&[u8]; 32] = [
    &[0x0F, 0x01],       // LGDT, LIDT, SGDT, SMSW, LMSW, INVLPG …
    &[0x0F, 0x00],       // LLDT, LTR, VERR …
    &[0x0F, 0x20],       // MOV from CR
    &[0x0F, 0x22],       // MOV to CR
    &[0x0F, 0x22, 0xC0], // MOV CR0, EAX
    &[0x0F, 0x23],       // MOV to DR
    &[0x0F, 0x30],       // WRMSR
    &[0x0F, 0x32],       // RDMSR
    &[0x0F, 0xA2],       // CPUID
    &[0x0F, 0xC7],       // CMPXCHG8B
    &[0x0F, 0xAE],       // FXSAVE, LDMXCSR …
    &[0x0F, 0x34],       // SYSENTER
    &[0x8E],             // MOV to a segment register
    &[0xC5],             // LDS
    &[0xEA],             // JMP far
    &[0x9A],             // CALL far
    &[0xCB],             // RETF
    &[0xCF],             // IRET
    &[0xCD],             // INT
    &[0xE4],             // IN
    &[0xE6],             // OUT
    &[0xEE],             // OUT DX
    &[0x6C],             // INS
    &[0xF3, 0xA5],       // REP MOVS
    &[0xF3, 0xAB],       // REP STOS
    &[0x9D],             // POPF
    &[0xFB],             // STI
    &[0x66],             // operand size
    &[0x67],             // address size
    &[0xF0],             // LOCK
    &[0xD9],             // x87
    &[0xEB, 0x00],       // JMP short, to the next instruction
];

/// Code from nowhere, for real or protected mode, at an ordinary or an awkward address.
pub fn random_flat(seed: u64) -> Case {
    let mut random = Rng::new(seed);
    let mode = random.pick(&[FlatMode::Real16, FlatMode::Protected32]);
    let address = match mode {
        FlatMode::Real16 => random.pick(&[0x7C00, 0x7C00, 0x8FFF, 0x1_FFF0]),
        FlatMode::Protected32 => random.pick(&[0x10_0000, 0x10_0000, 0x10_0FF3, 0x20_0000]),
    };
    let len = random.pick(&[16, 512, 4096, 0x9000]);
    let noise_in_16 = random.pick(&[0, 4, 8, 16]);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        if random.below(16) < noise_in_16 {
            bytes.push(random.u32() as u8);
        } else {
            push_likely_instruction(&mut bytes, &mut random);
        }
    }
    bytes.truncate(len);
    Case {
        name: format!("random flat image {seed}"),
        bytes,
        flat: Some(FlatOptions { address, mode }),
    }
}

/// A corner of the architecture, a register load to give it something to work on, or plain arithmetic.
fn push_likely_instruction(bytes: &mut Vec<u8>, random: &mut Rng) {
    match random.below(4) {
        0 => {
            let corner = random.pick(&CORNERS);
            bytes.extend_from_slice(corner);
            bytes.push(random.u32() as u8);
        }
        1 => {
            let noise = random.u32();
            let value =
                random.pick(&[0, 8, 0x10, 0x18, 0x1000, 0x7C00, 0xFFFF, 0x8000_0011, noise]);
            bytes.push(0xB8 + ((random.u32() as u8) & 7));
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        2 => bytes.extend_from_slice(&[(random.u32() as u8) & 0x3F, 0xC0 | (random.u32() as u8)]),
        _ => bytes.extend_from_slice(&[
            0x89 | ((random.u32() as u8) & 2),
            (random.u32() as u8) & 0x3F,
        ]),
    }
}

/// Guest instructions that a case may run for. Code that changes itself all the
/// time is compiled all the time where every block is compiled first.
fn limit(tier: Tier) -> u64 {
    match tier {
        Tier::Cranelift => 2_000,
        Tier::Direct | Tier::Mirror => 50_000,
        Tier::Interp | Tier::Auto => 3_000_000,
    }
}

/// Guest time that a case may run for. It passes only in HLT, and at once.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `case` and says how it ended: the machine's exit, or the loader's sentence.
///
/// # Errors
/// A sentence that names the case if that is not an end that a user can be told.
///
/// # Panics
/// If the machine does, which is what this is for.
pub fn run(case: &Case, tier: Tier) -> Result<String, String> {
    let setup = Setup {
        flat: case.flat,
        limit: Some(limit(tier)),
        timeout: TIMEOUT,
        clock: Some(Arc::new(FakeClock::new(0))),
        ..Setup::new(&case.bytes, tier)
    };
    match setup.try_run() {
        Ok(ended) => Ok(format!("{:?}", ended.exit)),
        Err(error) => {
            let sentence = error.to_string();
            match sentence.starts_with("kernel") && sentence.lines().count() == 1 {
                true => Ok(sentence),
                false => Err(format!(
                    "{}: not one clear sentence: {sentence:?}",
                    case.name
                )),
            }
        }
    }
}

/// Sound kernels to damage: Debian's, if `samples/debian.sh --fetch-only` has been
/// run, and guests of our own.
pub fn sound_kernels() -> Vec<Vec<u8>> {
    let ours = [embedded::IMAGE, samples::PAGING, samples::TASKS];
    let mut kernels = debian_kernels();
    kernels.extend(ours.map(<[u8]>::to_vec));
    kernels
}

/// Where Debian's kernels and the initramfs are, if anywhere: `target/debian`, or
/// what `RING1_DEBIAN` names.
pub fn debian_folder() -> PathBuf {
    match std::env::var_os("RING1_DEBIAN") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debian"),
    }
}

/// Debian's kernels, if `samples/debian.sh --fetch-only` has been run.
pub fn debian_kernels() -> Vec<Vec<u8>> {
    let folder = debian_folder();
    ["vmlinuz-686", "vmlinuz-686-pae"]
        .iter()
        .filter_map(|name| std::fs::read(folder.join(name)).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::loader::{File, Image, Memory, load};

    const CASES: u64 = 1000;

    /// Bounds-checked memory that keeps nothing.
    struct NoRam(u64);

    impl Memory for NoRam {
        fn ram_bytes(&self) -> u64 {
            self.0
        }

        fn write(&mut self, phys: u64, bytes: &[u8]) -> Option<()> {
            (phys.checked_add(bytes.len() as u64)? <= self.0).then_some(())
        }
    }

    /// A bzImage with a plausible header and no sense in its code.
    fn plausible_kernel() -> Vec<u8> {
        let mut random = Rng::new(1);
        let mut bytes: Vec<u8> = (0..32 << 10).map(|_| random.u32() as u8).collect();
        bytes[..1024].fill(0);
        bytes[0x1F1] = 1;
        bytes[0x1F4..0x1F8].copy_from_slice(&((31 << 10) / 16u32).to_le_bytes());
        bytes[0x1FE..0x208].copy_from_slice(b"\x55\xAA\xEB\x6AHdrS\x0F\x02");
        bytes[0x211] = 1;
        bytes[0x214..0x218].copy_from_slice(&0x10_0000u32.to_le_bytes());
        bytes[0x230..0x235].copy_from_slice(&[0, 0, 0x10, 0, 1]);
        bytes[0x238..0x23A].copy_from_slice(&[0xFF, 7]);
        bytes
    }

    fn loads(case: &Case) -> bool {
        let kernel = File {
            path: Path::new("kernel"),
            bytes: &case.bytes,
        };
        let image = Image {
            kernel,
            initrd: None,
            cmdline: "",
            flat: case.flat,
            acpi_rsdp: 0,
        };
        load(&image, &mut NoRam(64 << 20)).is_ok()
    }

    #[test]
    fn a_seed_names_its_case() {
        let kernel = plausible_kernel();
        assert_eq!(
            mutated_kernel(&kernel, 7).bytes,
            mutated_kernel(&kernel, 7).bytes
        );
        assert_ne!(
            mutated_kernel(&kernel, 7).bytes,
            mutated_kernel(&kernel, 8).bytes
        );
        assert_eq!(random_flat(7).bytes, random_flat(7).bytes);
        assert_ne!(random_flat(7).bytes, random_flat(8).bytes);
    }

    #[test]
    fn mutated_kernels_try_both_the_loader_and_what_follows() {
        let kernels: Vec<_> = debian_kernels()
            .into_iter()
            .chain([plausible_kernel()])
            .collect();
        for kernel in kernels {
            assert!(loads(&Case {
                name: String::from("sound"),
                bytes: kernel.clone(),
                flat: None
            }));
            let loaded = (0..CASES)
                .filter(|seed| loads(&mutated_kernel(&kernel, *seed)))
                .count();
            assert!(
                (100..900).contains(&loaded),
                "{loaded} of {CASES} mutated kernels load"
            );
        }
    }

    #[test]
    fn random_flat_images_all_load() {
        assert!((0..CASES).all(|seed| loads(&random_flat(seed))));
    }
}
