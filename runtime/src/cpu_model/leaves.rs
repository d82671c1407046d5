//! What CPUID says (SDM vol. 2A, "CPUID"; Intel application note AP-485 for the
//! processors of the past).
//!
//! Every model has the leaves that the real processor has, no more: a guest
//! that asks beyond gets the highest basic leaf, as on Intel's CPUs.

use super::feature::{FeatureSet, Word};
use super::{Processor, signature};
use crate::devices::lapic::timer::CRYSTAL_HZ;
use crate::system::tsc::tsc_hz;

/// EBX, ECX, EDX of leaf 0: GenuineIntel.
const VENDOR: [u32; 3] = [0x756e_6547, 0x6c65_746e, 0x4965_6e69];

const FIRST_EXTENDED: u32 = 0x8000_0000;

/// Bytes of an XSAVE area: the legacy region and the header.
const XSAVE_BYTES: u32 = 512 + 64;

/// The brand strings of those who have one.
const MAX_BRAND: &[u8] = b"ring1 virtual CPU";
const PENTIUM4_BRAND: &[u8] = b"Intel(R) Pentium(R) 4 CPU";

/// EAX, EBX, ECX, EDX of a leaf.
pub fn leaf(processor: Processor, features: &FeatureSet, number: u32, sub: u32) -> [u32; 4] {
    let (highest_basic, highest_extended) = limits(processor);
    let exists = number <= highest_basic || (FIRST_EXTENDED..=highest_extended).contains(&number);
    let number = if exists { number } else { highest_basic };
    match number {
        0 => [highest_basic, VENDOR[0], VENDOR[1], VENDOR[2]],
        1 => [
            signature(processor),
            leaf1_ebx(processor),
            features.word(Word::Leaf1Ecx),
            features.word(Word::Leaf1Edx),
        ],
        2 => cache_descriptors(processor),
        4 => cache_parameters(sub),
        7 if sub == 0 => [
            0,
            features.word(Word::Leaf7Ebx),
            features.word(Word::Leaf7Ecx),
            0,
        ],
        // EAX: the components XCR0 can enable, x87 and SSE; EBX, ECX: their area.
        0xd if sub == 0 => [3, XSAVE_BYTES, XSAVE_BYTES, 0],
        // TSC = crystal × EBX / EAX. The local APIC's timer counts the crystal too.
        0x15 => [
            (CRYSTAL_HZ / 1_000_000) as u32,
            tsc_mhz(),
            CRYSTAL_HZ as u32,
            0,
        ],
        0x16 => [tsc_mhz(), tsc_mhz(), 100, 0],
        FIRST_EXTENDED => [highest_extended, 0, 0, 0],
        0x8000_0001 => [0, 0, 0, features.word(Word::ExtendedEdx)],
        0x8000_0002..=0x8000_0004 => brand(processor, number - 0x8000_0002),
        // EDX bit 8: invariant TSC.
        0x8000_0007 => [0, 0, 0, 1 << 8],
        // 36 physical and 32 linear address bits.
        0x8000_0008 => [0x2024, 0, 0, 0],
        _ => [0; 4],
    }
}

/// The highest basic and extended leaf; 0 if there are no extended ones.
fn limits(processor: Processor) -> (u32, u32) {
    match processor {
        Processor::I486 | Processor::Pentium => (1, 0),
        Processor::Pentium3 => (2, 0),
        Processor::Pentium4 => (2, 0x8000_0004),
        Processor::Max => (0x16, 0x8000_0008),
    }
}

/// Brand index, and the CLFLUSH line of 8 × 8 bytes.
fn leaf1_ebx(processor: Processor) -> u32 {
    match processor {
        Processor::I486 | Processor::Pentium => 0,
        Processor::Pentium3 => 2,
        Processor::Pentium4 => 8 << 8 | 9,
        Processor::Max => 8 << 8,
    }
}

/// Cache and TLB descriptors, as the real processor gives them; AL is 1, for
/// asking once is enough.
fn cache_descriptors(processor: Processor) -> [u32; 4] {
    match processor {
        Processor::I486 | Processor::Pentium => [0; 4],
        Processor::Pentium3 => [0x0302_0101, 0, 0, 0x0c04_0882],
        Processor::Pentium4 => [0x665b_5001, 0, 0, 0x007b_7040],
        Processor::Max => [0x4fba_5901, 0x0e30_80c0, 0, 0],
    }
}

/// An Atom's caches: 24 KiB of data, 32 KiB of code, 512 KiB of both.
fn cache_parameters(sub: u32) -> [u32; 4] {
    const DATA: u32 = 1;
    const CODE: u32 = 2;
    const UNIFIED: u32 = 3;
    let cache = |kind: u32, level: u32, ways: u32, sets: u32| {
        // Self-initialising; lines of 64 bytes.
        [
            1 << 8 | level << 5 | kind,
            (ways - 1) << 22 | 63,
            sets - 1,
            0,
        ]
    };
    match sub {
        0 => cache(DATA, 1, 6, 64),
        1 => cache(CODE, 1, 8, 64),
        2 => cache(UNIFIED, 2, 8, 1024),
        _ => [0; 4],
    }
}

/// A third of the brand string.
fn brand(processor: Processor, third: u32) -> [u32; 4] {
    let text = match processor {
        Processor::Pentium4 => PENTIUM4_BRAND,
        _ => MAX_BRAND,
    };
    let byte = |n: usize| text.get(n).copied().unwrap_or(0);
    let word = |n: usize| {
        let at = third as usize * 16 + n * 4;
        u32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)])
    };
    [word(0), word(1), word(2), word(3)]
}

fn tsc_mhz() -> u32 {
    (tsc_hz() / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::super::CpuModel;
    use super::*;

    #[test]
    fn leaves_end_where_those_of_the_real_processor_do() {
        let pentium3 = CpuModel::new(Processor::Pentium3);
        assert_eq!(pentium3.cpuid(0, 0)[0], 2);
        assert_eq!(pentium3.cpuid(1, 0)[0], 0x068a);
        // Beyond is the highest basic leaf.
        assert_eq!(pentium3.cpuid(0x8000_0000, 0), pentium3.cpuid(2, 0));
        let max = CpuModel::new(Processor::Max);
        assert_eq!(max.cpuid(0x8000_0000, 0)[0], 0x8000_0008);
        assert_eq!(max.cpuid(7, 1), [0; 4]);
    }

    #[test]
    fn the_brand_is_48_bytes() {
        let max = CpuModel::new(Processor::Max);
        let bytes: Vec<u8> = (2..5)
            .flat_map(|n| max.cpuid(0x8000_0000 + n, 0))
            .flat_map(u32::to_le_bytes)
            .collect();
        assert_eq!(&bytes[..MAX_BRAND.len()], MAX_BRAND);
        assert!(bytes[MAX_BRAND.len()..].iter().all(|&b| b == 0));
    }
}
