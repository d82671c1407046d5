//! CRC32 (SDM vol. 2A, "CRC32 — Accumulate CRC32 Value").
//!
//! The polynomial is 11EDC6F41h, and both value and remainder are bit-reflected:
//! so a step shifts right and subtracts the reflected polynomial if a one came out.

use super::Exec;
use crate::insn::Insn;
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// 1EDC6F41h, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The definition of this file.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    match i.mnemonic {
        Mnemonic::Crc32 => Some(crc32),
        _ => None,
    }
}

/// CRC32: destination ← remainder of destination and source; no flags.
#[inline]
pub fn crc32<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let source = m.read(i, 1)?;
    let value = m.read(i, 0)?;
    let mut crc = m.xor(value, source);
    let (zero, one) = (m.imm(0), m.imm(1));
    let polynomial = m.imm(POLYNOMIAL);
    for _ in 0..i.op_width(1).bits() {
        let out = m.and(crc, one);
        let all = m.sub(zero, out);
        let subtracted = m.and(all, polynomial);
        let shifted = m.shr(crc, one);
        crc = m.xor(shifted, subtracted);
    }
    m.write(i, 0, crc)
}

#[cfg(test)]
mod tests {
    use super::super::values::run2;

    #[test]
    fn remainders_of_each_width() {
        // The check value of CRC-32C: "123456789" gives E3069283h.
        let mut crc = u32::MAX;
        for word in [*b"1234", *b"5678"] {
            let word = u32::from_le_bytes(word);
            crc = run2(&[0xf2, 0x0f, 0x38, 0xf1, 0xc1], crc, word, 0).0;
        }
        crc = run2(&[0xf2, 0x0f, 0x38, 0xf0, 0xc1], crc, 0x39, 0).0;
        assert_eq!(!crc, 0xe306_9283);
        let by_words = [0x3231, 0x3433].into_iter().fold(u32::MAX, |crc, word| {
            run2(&[0x66, 0xf2, 0x0f, 0x38, 0xf1, 0xc1], crc, word, 0).0
        });
        let at_once = run2(&[0xf2, 0x0f, 0x38, 0xf1, 0xc1], u32::MAX, 0x3433_3231, 0).0;
        assert_eq!(by_words, at_once);
    }
}
