//! Bits and bytes (SDM vol. 1, "Bit and Byte Instructions"), and BSWAP.
//!
//! BT and its relatives with a register offset and a memory operand reach beyond
//! the operand: the offset is a signed number of bits, of which the part above
//! the operand's width moves the address by whole operands.

use super::{CONDITIONS, Exec, flagops};
use crate::flags::LazyFlags;
use crate::insn::{Insn, Operand, Width};
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// The definitions of this file.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    Some(match i.mnemonic {
        Mnemonic::Bt => bt,
        Mnemonic::Bts => bts,
        Mnemonic::Btr => btr,
        Mnemonic::Btc => btc,
        Mnemonic::Bsf => bsf,
        Mnemonic::Bsr => bsr,
        Mnemonic::Bswap => bswap,
        Mnemonic::Popcnt => popcnt,
        mnemonic => return conditional(mnemonic),
    })
}

/// SETcc by condition.
fn conditional<M: Machine>(mnemonic: Mnemonic) -> Option<Exec<M>> {
    Some(match mnemonic {
        Mnemonic::Seto => setcc::<M, 0>,
        Mnemonic::Setno => setcc::<M, 1>,
        Mnemonic::Setb => setcc::<M, 2>,
        Mnemonic::Setae => setcc::<M, 3>,
        Mnemonic::Sete => setcc::<M, 4>,
        Mnemonic::Setne => setcc::<M, 5>,
        Mnemonic::Setbe => setcc::<M, 6>,
        Mnemonic::Seta => setcc::<M, 7>,
        Mnemonic::Sets => setcc::<M, 8>,
        Mnemonic::Setns => setcc::<M, 9>,
        Mnemonic::Setp => setcc::<M, 10>,
        Mnemonic::Setnp => setcc::<M, 11>,
        Mnemonic::Setl => setcc::<M, 12>,
        Mnemonic::Setge => setcc::<M, 13>,
        Mnemonic::Setle => setcc::<M, 14>,
        Mnemonic::Setg => setcc::<M, 15>,
        _ => return None,
    })
}

/// SETcc: destination ← 1 or 0.
#[inline]
pub fn setcc<M: Machine, const CC: usize>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let c = m.condition(CONDITIONS[CC]);
    let v = m.bit(c);
    m.write(i, 0, v)
}

/// What a bit instruction does to the bit it tests.
type Change<M> = fn(&mut M, <M as Machine>::Val, <M as Machine>::Val) -> <M as Machine>::Val;

/// BT: CF ← the bit.
#[inline]
pub fn bt<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    bit_instruction(m, i, None)
}

/// BTS: CF ← the bit, which is set.
#[inline]
pub fn bts<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    bit_instruction(m, i, Some(|m, v, mask| m.or(v, mask)))
}

/// BTR: CF ← the bit, which is cleared.
#[inline]
pub fn btr<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    bit_instruction(
        m,
        i,
        Some(|m, v, mask| {
            let ones = m.imm(u32::MAX);
            let others = m.xor(mask, ones);
            m.and(v, others)
        }),
    )
}

/// BTC: CF ← the bit, which is complemented.
#[inline]
pub fn btc<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    bit_instruction(m, i, Some(|m, v, mask| m.xor(v, mask)))
}

/// The four bit instructions.
#[inline(always)]
fn bit_instruction<M: Machine>(
    m: &mut M,
    i: &Insn,
    change: Option<Change<M>>,
) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let offset = m.read(i, 1)?;
    let within = m.imm(w.bits() - 1);
    let index = m.and(offset, within);
    let address = match (i.ops[0], i.ops[1]) {
        (Operand::Mem(_), Operand::Gpr(..)) => Some(bit_string_address(m, i, offset, w)),
        _ => None,
    };
    let v = match (address, change) {
        (Some(at), None) => m.load(i.mem.seg, at, w)?,
        (Some(at), Some(_)) => m.load_for_write(i.mem.seg, at, w)?,
        (None, None) => m.read(i, 0)?,
        (None, Some(_)) => m.read_for_write(i, 0)?,
    };
    let one = m.imm(1);
    if let Some(change) = change {
        let mask = m.shl(one, index);
        let changed = change(m, v, mask);
        match address {
            Some(at) => m.store(i.mem.seg, at, w, changed)?,
            None => m.write(i, 0, changed)?,
        }
    }
    let bit = m.shr(v, index);
    let bit = m.and(bit, one);
    flagops::set_carry(m, i, bit);
    Ok(())
}

/// Where the operand that holds bit `offset` of a bit string is.
#[inline(always)]
fn bit_string_address<M: Machine>(m: &mut M, i: &Insn, offset: M::Val, w: Width) -> M::Val {
    let offset = m.sext(offset, w);
    let (element_bits, element_bytes) = (w.bits().trailing_zeros(), w.bytes().trailing_zeros());
    let down = m.imm(element_bits);
    let up = m.imm(element_bytes);
    let elements = m.sar(offset, down);
    let bytes = m.shl(elements, up);
    let base = m.effective_address(&i.mem);
    let at = m.add(base, bytes);
    if i.mem.addr16 {
        m.zext(at, Width::W)
    } else {
        at
    }
}

/// BSF: index of the lowest set bit; a zero source leaves the destination.
#[inline]
pub fn bsf<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let source = m.read(i, 1)?;
    let index = m.ctz(source);
    bit_scan(m, i, source, index)
}

/// BSR: index of the highest set bit; a zero source leaves the destination.
#[inline]
pub fn bsr<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let source = m.read(i, 1)?;
    let zeros = m.clz(source);
    let top = m.imm(31);
    let index = m.sub(top, zeros);
    bit_scan(m, i, source, index)
}

/// Writes a bit index unless `source` is 0, which ZF tells.
#[inline(always)]
fn bit_scan<M: Machine>(
    m: &mut M,
    i: &Insn,
    source: M::Val,
    index: M::Val,
) -> Result<(), M::Fault> {
    let zero = m.imm(0);
    let old = m.read(i, 0)?;
    let none = m.eq(source, zero);
    let v = m.select(none, old, index);
    m.write(i, 0, v)?;
    m.define_flags(
        i,
        LazyFlags::Logic {
            r: source,
            w: i.op_width(0),
        },
    );
    Ok(())
}

/// BSWAP: reverses the bytes. With 16 bits the result is 0, as on hardware.
#[inline]
pub fn bswap<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let v = m.read(i, 0)?;
    let v = m.bswap(v);
    m.write(i, 0, v)
}

/// POPCNT: number of set bits. ZF tells a zero source, the other flags are cleared.
#[inline]
pub fn popcnt<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let source = m.read(i, 1)?;
    let ones = m.popcnt(source);
    m.write(i, 0, ones)?;
    let (zero, eight) = (m.imm(0), m.imm(8));
    let none = m.eq(source, zero);
    let zf = m.bit(none);
    let some = m.not(none);
    // A result of 1 has odd parity; for a result of 0 the delta makes it odd.
    let result = m.bit(some);
    let carries = m.shl(zf, eight);
    m.define_flags(i, LazyFlags::Raw { result, carries });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::values::{Values, run2};
    use crate::flags::{ARITHMETIC, CF, OF, PF, SF, ZF};

    #[test]
    fn bits_of_registers() {
        assert_eq!(
            run2(&[0x0f, 0xa3, 0xc8], 4, 34, OF | ZF),
            (4, OF | ZF | CF),
            "bt eax, ecx"
        );
        assert_eq!(run2(&[0x0f, 0xab, 0xc8], 0, 31, 0), (0x8000_0000, 0), "bts");
        assert_eq!(run2(&[0x0f, 0xb3, 0xc8], 7, 1, 0), (5, CF), "btr");
        assert_eq!(run2(&[0x0f, 0xbb, 0xc8], 7, 3, CF), (15, 0), "btc");
        assert_eq!(
            run2(&[0x66, 0x0f, 0xba, 0xe8, 0x11], 0, 0, 0),
            (2, 0),
            "bts ax, 17"
        );
    }

    #[test]
    fn bit_strings_reach_beyond_the_operand() {
        let mut m = Values::new([0x2000, (-33i32) as u32, 0, 0, 0, 0, 0, 0]);
        m.run(&[0x0f, 0xab, 0x08]).expect("bts [eax], ecx");
        assert_eq!(m.dword(0x1ff8), 0x8000_0000);
        m.gpr[1] = 100;
        m.run(&[0x66, 0x0f, 0xab, 0x08]).expect("bts [eax], cx");
        assert_eq!(m.dword(0x200c), 1 << 4);
        m.run(&[0x0f, 0xba, 0x38, 33]).expect("btc dword [eax], 33");
        assert_eq!(m.dword(0x2000), 2, "an immediate offset stays inside");
        m.read_only_below = 0x3000;
        m.run(&[0x0f, 0xa3, 0x08]).expect("bt only reads");
        m.run(&[0x0f, 0xb3, 0x08]).expect_err("btr [eax], ecx");
    }

    #[test]
    fn scans() {
        let (eax, flags) = run2(&[0x0f, 0xbc, 0xc1], 9, 0x50, ZF);
        assert_eq!((eax, flags & ZF), (4, 0), "bsf");
        let (eax, flags) = run2(&[0x0f, 0xbd, 0xc1], 9, 0x50, ZF);
        assert_eq!((eax, flags & ZF), (6, 0), "bsr");
        for bytes in [[0x0f, 0xbc, 0xc1], [0x0f, 0xbd, 0xc1]] {
            let (eax, flags) = run2(&bytes, 9, 0, 0);
            assert_eq!((eax, flags & ZF), (9, ZF), "nothing found");
        }
        assert_eq!(
            run2(&[0xf3, 0x0f, 0xbd, 0xc1], 0, 0x50, 0).0,
            6,
            "lzcnt is bsr"
        );
        assert_eq!(
            run2(&[0x66, 0x0f, 0xbc, 0xc1], 0x1_0009, 0x1_0000, 0).0,
            0x1_0009,
            "bsf ax"
        );
    }

    #[test]
    fn bytes_and_counts() {
        assert_eq!(
            run2(&[0x0f, 0xc8], 0x1122_3344, 0, 0).0,
            0x4433_2211,
            "bswap"
        );
        let popcnt = &[0xf3, 0x0f, 0xb8, 0xc1];
        assert_eq!(run2(popcnt, 0, 0xf001, ARITHMETIC), (5, 0));
        assert_eq!(run2(popcnt, 1, 0, ARITHMETIC), (0, ZF));
    }

    #[test]
    fn every_condition() {
        let holding = [OF, CF, ZF, CF, SF, PF, SF, ZF];
        for (pair, flag) in holding.into_iter().enumerate() {
            for negated in 0..2u32 {
                let bytes = [0x0f, 0x90 + 2 * pair as u8 + negated as u8, 0xc0];
                assert_eq!(run2(&bytes, 0xaa, 0, flag).0, 1 ^ negated, "{bytes:x?}");
                assert_eq!(run2(&bytes, 0xaa, 0, 0).0, negated, "{bytes:x?}");
            }
        }
        assert_eq!(run2(&[0x0f, 0x9c, 0xc0], 0, 0, SF | OF).0, 0, "setl");
    }
}
