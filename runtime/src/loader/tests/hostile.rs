//! Whatever the bytes, loading ends in an entry or in one sentence.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Memory that bounds-checks like RAM but keeps nothing, so that thousands of images load quickly.
struct NoRam(u64);

impl Memory for NoRam {
    fn ram_bytes(&self) -> u64 {
        self.0
    }

    fn write(&mut self, phys: u64, bytes: &[u8]) -> Option<()> {
        let end = phys.checked_add(bytes.len() as u64)?;
        assert!(
            end <= self.0,
            "a loader wrote to {phys:#x}, which it never claimed"
        );
        Some(())
    }
}

fn sound_image() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(linux::sound()),
        Just(elf32::sound()),
        Just(multiboot::sound())
    ]
}

/// Values that header arithmetic gets wrong.
fn edge_word() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        Just(0),
        Just(u32::MAX),
        Just(i32::MAX as u32),
        (0..32u32).prop_map(|bit| 1 << bit),
        (0..32u32).prop_map(|bit| 0u32.wrapping_sub(1 << bit)),
    ]
}

/// Loads `bytes` and checks what must hold whatever they are.
fn check(bytes: &[u8], initrd_len: usize, cmdline: &str, flat: Option<FlatOptions>, mib: u64) {
    let initrd = vec![0; initrd_len];
    let initrd = (initrd_len > 0).then_some(file("initrd", &initrd));
    let image = Image {
        initrd,
        cmdline,
        flat,
        ..image(bytes)
    };
    match load(&image, &mut NoRam(mib << 20)) {
        Ok(entry) => {
            let base = match entry.mode {
                EntryMode::Real { cs } => u64::from(cs) << 4,
                EntryMode::Flat32 { .. } => 0,
            };
            assert!(
                base + u64::from(entry.eip) < mib << 20,
                "entry {:#x} is not in RAM",
                entry.eip
            );
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.starts_with("kernel ") || text.starts_with("initrd "),
                "{text}"
            );
            assert!(!text.contains('\n'), "{text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn mutated_headers_never_panic(
        mut bytes in sound_image(),
        words in vec((any::<Index>(), edge_word()), 1..6),
        cut in proptest::option::weighted(0.3, any::<Index>()),
        initrd_len in 0..5000usize,
        cmdline in "[a-z= ]{0,40}",
        mib in 1..64u64,
    ) {
        for (index, value) in words {
            let offset = index.index(bytes.len() - 3);
            patch(&mut bytes, &[(offset, value)]);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        multiboot::seal(&mut bytes);
        check(&bytes, initrd_len, &cmdline, None, mib);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in vec(any::<u8>(), 0..1200),
        address in edge_word(),
        real in any::<bool>(),
        explicit in any::<bool>(),
        mib in 1..64u64,
    ) {
        let mode = if real { FlatMode::Real16 } else { FlatMode::Protected32 };
        check(&bytes, 0, "", explicit.then_some(FlatOptions { address, mode }), mib);
    }
}
