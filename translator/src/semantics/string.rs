//! One iteration of a string instruction (SDM vol. 1, "String Operations").
//!
//! Repeated forms never come here: the runtime carries them out, a page at a
//! time. The source segment is [`crate::insn::MemRef::seg`], the destination is
//! always ES; `addr16` selects SI and DI.

use super::Exec;
use crate::flags::{self, LazyFlags};
use crate::insn::{Gpr, Insn, Operand, SegReg, Width};
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// The definitions of this file.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    // MOVSD and CMPSD are also SSE2 instructions: those have explicit operands.
    if !i.ops.contains(&Operand::Implied) {
        return None;
    }
    Some(match i.mnemonic {
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd => movs,
        Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsd => cmps,
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd => stos,
        Mnemonic::Lodsb | Mnemonic::Lodsw | Mnemonic::Lodsd => lods,
        Mnemonic::Scasb | Mnemonic::Scasw | Mnemonic::Scasd => scas,
        _ => return None,
    })
}

/// Width of the index registers.
#[inline(always)]
fn address_width(i: &Insn) -> Width {
    if i.mem.addr16 { Width::W } else { Width::D }
}

/// The element size, negative if DF is set.
#[inline(always)]
fn step<M: Machine>(m: &mut M, i: &Insn) -> M::Val {
    let size = i.width.bytes();
    let other = m.eflags_other();
    let df = m.imm(flags::DF);
    let down = m.and(other, df);
    // DF, bit 10, becomes twice the element size.
    let shift = m.imm(9 - size.trailing_zeros());
    let twice = m.shr(down, shift);
    let size = m.imm(size);
    m.sub(size, twice)
}

/// Moves index register `r`, which holds `at`, by one element.
#[inline(always)]
fn advance<M: Machine>(m: &mut M, i: &Insn, r: Gpr, at: M::Val, step: M::Val) {
    let next = m.add(at, step);
    m.set_gpr(r, address_width(i), next);
}

/// MOVS: ES:EDI ← DS:ESI.
#[inline]
pub fn movs<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let from = m.gpr(Gpr::ESI, address_width(i));
    let to = m.gpr(Gpr::EDI, address_width(i));
    let v = m.load(i.mem.seg, from, i.width)?;
    m.store(SegReg::Es, to, i.width, v)?;
    let step = step(m, i);
    advance(m, i, Gpr::ESI, from, step);
    advance(m, i, Gpr::EDI, to, step);
    Ok(())
}

/// CMPS: flags of DS:ESI − ES:EDI.
#[inline]
pub fn cmps<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.width;
    let first = m.gpr(Gpr::ESI, address_width(i));
    let second = m.gpr(Gpr::EDI, address_width(i));
    // Processors read the destination first, which shows if both fault.
    let b = m.load(SegReg::Es, second, w)?;
    let a = m.load(i.mem.seg, first, w)?;
    let step = step(m, i);
    advance(m, i, Gpr::ESI, first, step);
    advance(m, i, Gpr::EDI, second, step);
    compare(m, i, a, b);
    Ok(())
}

/// STOS: ES:EDI ← accumulator.
#[inline]
pub fn stos<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let to = m.gpr(Gpr::EDI, address_width(i));
    let v = m.gpr(Gpr::EAX, i.width);
    m.store(SegReg::Es, to, i.width, v)?;
    let step = step(m, i);
    advance(m, i, Gpr::EDI, to, step);
    Ok(())
}

/// LODS: accumulator ← DS:ESI.
#[inline]
pub fn lods<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let from = m.gpr(Gpr::ESI, address_width(i));
    let v = m.load(i.mem.seg, from, i.width)?;
    m.set_gpr(Gpr::EAX, i.width, v);
    let step = step(m, i);
    advance(m, i, Gpr::ESI, from, step);
    Ok(())
}

/// SCAS: flags of accumulator − ES:EDI.
#[inline]
pub fn scas<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let at = m.gpr(Gpr::EDI, address_width(i));
    let a = m.gpr(Gpr::EAX, i.width);
    let b = m.load(SegReg::Es, at, i.width)?;
    let step = step(m, i);
    advance(m, i, Gpr::EDI, at, step);
    compare(m, i, a, b);
    Ok(())
}

/// Flags of `a` − `b`.
#[inline(always)]
fn compare<M: Machine>(m: &mut M, i: &Insn, a: M::Val, b: M::Val) {
    let w = i.width;
    let difference = m.sub(a, b);
    let r = m.zext(difference, w);
    m.define_flags(i, LazyFlags::Sub { a, b, r, w });
}

#[cfg(test)]
mod tests {
    use super::super::values::Values;
    use crate::flags::{CF, DF, ZF};

    fn machine(esi: u32, edi: u32, image: u32) -> Values {
        let mut m = Values::with_flags([0x1122_3344, 0, 0, 0, 0, 0, esi, edi], image);
        m.set_dword(0x2000, 0x5566_7788);
        m.set_dword(0x3000, 0x1122_3344);
        m
    }

    #[test]
    fn moves_up_and_down() {
        let mut m = machine(0x2000, 0x4000, 0);
        m.run(&[0xa5]).expect("movsd");
        assert_eq!(
            (m.gpr[6], m.gpr[7], m.dword(0x4000)),
            (0x2004, 0x4004, 0x5566_7788)
        );
        let mut m = machine(0x2000, 0x4000, DF);
        m.run(&[0x66, 0xa5]).expect("movsw");
        assert_eq!(
            (m.gpr[6], m.gpr[7], m.dword(0x4000)),
            (0x1ffe, 0x3ffe, 0x7788)
        );
        let mut m = machine(0x2000, 0x4000, DF);
        m.run(&[0xaa]).expect("stosb");
        assert_eq!(
            (m.gpr[6], m.gpr[7], m.dword(0x4000)),
            (0x2000, 0x3fff, 0x44)
        );
        m.run(&[0xac]).expect("lodsb");
        assert_eq!((m.gpr[0], m.gpr[6]), (0x1122_3388, 0x1fff));
    }

    #[test]
    fn comparisons() {
        let mut m = machine(0x2000, 0x3000, 0);
        m.run(&[0xaf]).expect("scasd");
        assert_eq!((m.gpr[7], m.flags() & (ZF | CF)), (0x3004, ZF));
        let mut m = machine(0x3000, 0x2000, 0);
        m.run(&[0xa6]).expect("cmpsb");
        assert_eq!(
            (m.gpr[6], m.gpr[7], m.flags() & (ZF | CF)),
            (0x3001, 0x2001, CF)
        );
    }

    #[test]
    fn short_addresses_wrap() {
        let mut m = machine(0x5_ffff, 0x6_2000, 0);
        m.run(&[0x67, 0xa4]).expect("movsb [di], [si]");
        assert_eq!((m.gpr[6], m.gpr[7]), (0x5_0000, 0x6_2001));
    }

    #[test]
    fn a_fault_moves_nothing() {
        let mut m = machine(0x2000, 0x4000, 0);
        m.read_only_below = 0x5000;
        m.run(&[0xa5]).expect_err("movsd");
        assert_eq!((m.gpr[6], m.gpr[7]), (0x2000, 0x4000));
    }
}
