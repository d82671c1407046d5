//! Binary integer arithmetic (SDM vol. 1, "Binary Arithmetic Instructions").
//!
//! Memory destinations are read with [`Machine::read_for_write`], so that the
//! later store cannot fault: nothing has changed when an instruction faults.

use super::{Exec, flagops, write_with_register};
use crate::exception::Exception;
use crate::flags::LazyFlags;
use crate::insn::{Gpr, Insn, Operand, SegReg, Width};
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// The definitions of this file.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    Some(match i.mnemonic {
        Mnemonic::Add => add,
        Mnemonic::Adc => adc,
        Mnemonic::Sub => sub,
        Mnemonic::Sbb => sbb,
        Mnemonic::Cmp => cmp,
        Mnemonic::Inc => inc,
        Mnemonic::Dec => dec,
        Mnemonic::Neg => neg,
        Mnemonic::Xadd => xadd,
        Mnemonic::Cmpxchg => cmpxchg,
        Mnemonic::Cmpxchg8b => cmpxchg8b,
        _ => return None,
    })
}

/// ADD: destination ← destination + source.
#[inline(always)]
pub fn add<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let b = m.read(i, 1)?;
    let a = m.read_for_write(i, 0)?;
    let sum = m.add(a, b);
    let r = m.zext(sum, w);
    m.write(i, 0, r)?;
    m.define_flags(i, LazyFlags::Add { a, b, r, w });
    Ok(())
}

/// ADC: destination ← destination + source + CF.
#[inline]
pub fn adc<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let b = m.read(i, 1)?;
    let a = m.read_for_write(i, 0)?;
    let carry = m.carry();
    let sum = m.add(a, b);
    let sum = m.add(sum, carry);
    let r = m.zext(sum, w);
    m.write(i, 0, r)?;
    m.define_flags(i, LazyFlags::Add { a, b, r, w });
    Ok(())
}

/// SUB: destination ← destination − source.
#[inline(always)]
pub fn sub<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let b = m.read(i, 1)?;
    let a = m.read_for_write(i, 0)?;
    let difference = m.sub(a, b);
    let r = m.zext(difference, w);
    m.write(i, 0, r)?;
    m.define_flags(i, LazyFlags::Sub { a, b, r, w });
    Ok(())
}

/// SBB: destination ← destination − source − CF.
#[inline]
pub fn sbb<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let b = m.read(i, 1)?;
    let a = m.read_for_write(i, 0)?;
    let carry = m.carry();
    let difference = m.sub(a, b);
    let difference = m.sub(difference, carry);
    let r = m.zext(difference, w);
    m.write(i, 0, r)?;
    m.define_flags(i, LazyFlags::Sbb { a, b, r, w });
    Ok(())
}

/// CMP: flags of destination − source.
#[inline(always)]
pub fn cmp<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let a = m.read(i, 0)?;
    let b = m.read(i, 1)?;
    let difference = m.sub(a, b);
    let r = m.zext(difference, w);
    m.define_flags(i, LazyFlags::Sub { a, b, r, w });
    Ok(())
}

/// INC: destination ← destination + 1; CF stays.
#[inline(always)]
pub fn inc<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let a = m.read_for_write(i, 0)?;
    let one = m.imm(1);
    let sum = m.add(a, one);
    let r = m.zext(sum, w);
    m.write(i, 0, r)?;
    // A bit carries out when it turned from 1 to 0.
    step_flags(m, i, a, r, r, w);
    Ok(())
}

/// DEC: destination ← destination − 1; CF stays.
#[inline(always)]
pub fn dec<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let a = m.read_for_write(i, 0)?;
    let one = m.imm(1);
    let difference = m.sub(a, one);
    let r = m.zext(difference, w);
    m.write(i, 0, r)?;
    // A bit borrows when it turned from 0 to 1.
    step_flags(m, i, r, a, r, w);
    Ok(())
}

/// Flags of INC and DEC, see [`LazyFlags::Step`].
#[inline(always)]
fn step_flags<M: Machine>(m: &mut M, i: &Insn, on: M::Val, off: M::Val, r: M::Val, w: Width) {
    if i.flags_dead {
        return;
    }
    let cf = m.carry();
    m.set_flags(LazyFlags::Step { on, off, r, w, cf });
}

/// NEG: destination ← −destination.
#[inline]
pub fn neg<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let b = m.read_for_write(i, 0)?;
    let a = m.imm(0);
    let difference = m.sub(a, b);
    let r = m.zext(difference, w);
    m.write(i, 0, r)?;
    m.define_flags(i, LazyFlags::Sub { a, b, r, w });
    Ok(())
}

/// XADD: source ← destination, destination ← their sum.
#[inline]
pub fn xadd<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let Operand::Gpr(source, w) = i.ops[1] else {
        return m.callout(i);
    };
    let b = m.gpr(source, w);
    let a = m.read_for_write(i, 0)?;
    let sum = m.add(a, b);
    let r = m.zext(sum, w);
    write_with_register(m, i, r, (source, w), a)?;
    m.define_flags(i, LazyFlags::Add { a, b, r, w });
    Ok(())
}

/// CMPXCHG: if the accumulator equals the destination, destination ← source,
/// else accumulator ← destination. The destination is written in any case.
#[inline]
pub fn cmpxchg<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let source = m.read(i, 1)?;
    let a = m.gpr(Gpr::EAX, w);
    let b = m.read_for_write(i, 0)?;
    let equal = m.eq(a, b);
    let v = m.select(equal, source, b);
    // When they are equal the accumulator is the destination already.
    write_with_register(m, i, v, (Gpr::EAX, w), b)?;
    let difference = m.sub(a, b);
    let r = m.zext(difference, w);
    m.define_flags(i, LazyFlags::Sub { a, b, r, w });
    Ok(())
}

/// CMPXCHG8B: the same with EDX:EAX and ECX:EBX on a quadword; only ZF changes.
#[inline]
pub fn cmpxchg8b<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let (seg, d) = (i.mem.seg, Width::D);
    let low_at = m.effective_address(&i.mem);
    let four = m.imm(4);
    let high_at = m.add(low_at, four);
    // One operand of eight bytes: a limit is looked at before any page.
    let last_place = m.imm(0xffff_fff8);
    let wraps = m.ult(last_place, low_at);
    let beyond = match seg {
        SegReg::Ss => Exception::StackFault(0),
        _ => Exception::GeneralProtection(0),
    };
    m.fault_if(wraps, beyond)?;
    let low = m.load_for_write(seg, low_at, d)?;
    let high = m.load_for_write(seg, high_at, d)?;
    let (eax, edx) = (m.gpr(Gpr::EAX, d), m.gpr(Gpr::EDX, d));
    let (ebx, ecx) = (m.gpr(Gpr::EBX, d), m.gpr(Gpr::ECX, d));
    let low_equal = m.eq(eax, low);
    let high_equal = m.eq(edx, high);
    let equal = m.both(low_equal, high_equal);
    let new_low = m.select(equal, ebx, low);
    let new_high = m.select(equal, ecx, high);
    m.store(seg, low_at, d, new_low)?;
    m.store(seg, high_at, d, new_high)?;
    m.set_gpr(Gpr::EAX, d, low);
    m.set_gpr(Gpr::EDX, d, high);
    flagops::set_zero(m, i, equal);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::values::{Values, run, run2};
    use crate::exception::Exception;
    use crate::flags::{AF, ARITHMETIC, CF, OF, PF, SF, ZF};

    #[test]
    fn additions() {
        assert_eq!(
            run2(&[0x01, 0xc8], 0xffff_ffff, 1, 0),
            (0, CF | PF | AF | ZF),
            "add"
        );
        let (eax, flags) = run2(&[0x00, 0xc8], 0x1234_567f, 1, 0);
        assert_eq!((eax, flags), (0x1234_5680, AF | SF | OF), "add al, cl");
        let (eax, flags) = run2(&[0x66, 0x11, 0xc8], 0x1_ffff, 0xffff, CF);
        assert_eq!((eax, flags), (0x1_ffff, CF | PF | AF | SF), "adc ax, cx");
        assert_eq!(
            run2(&[0x11, 0xc8], 0xffff_ffff, 0, 0).1,
            SF | PF,
            "adc without CF"
        );
    }

    #[test]
    fn subtractions() {
        assert_eq!(
            run2(&[0x29, 0xc8], 0, 1, 0),
            (0xffff_ffff, CF | PF | AF | SF),
            "sub"
        );
        assert_eq!(run2(&[0x19, 0xc8], 5, 4, CF), (0, ZF | PF), "sbb");
        assert_eq!(
            run2(&[0x18, 0xc8], 0, 0xff, CF),
            (0, CF | AF | ZF | PF),
            "sbb al, cl"
        );
        assert_eq!(
            run2(&[0x38, 0xc8], 0x80, 1, 0),
            (0x80, AF | OF),
            "cmp al, cl"
        );
        assert_eq!(
            run2(&[0xf7, 0xd8], 0x8000_0000, 0, 0).1,
            CF | PF | SF | OF,
            "neg"
        );
        assert_eq!(
            run2(&[0xf7, 0xd8], 0, 0, ARITHMETIC),
            (0, PF | ZF),
            "neg of 0"
        );
    }

    #[test]
    fn steps_keep_cf() {
        assert_eq!(
            run2(&[0x40], 0x7fff_ffff, 0, CF),
            (0x8000_0000, CF | PF | AF | SF | OF)
        );
        assert_eq!(run2(&[0x40], 0xffff_ffff, 0, 0), (0, PF | AF | ZF));
        assert_eq!(
            run2(&[0x48], 0x8000_0000, 0, CF),
            (0x7fff_ffff, CF | PF | AF | OF)
        );
        assert_eq!(run2(&[0x48], 1, 0, 0), (0, PF | ZF));
        assert_eq!(
            run2(&[0xfe, 0xc0], 0x17f, 0, 0),
            (0x180, AF | SF | OF),
            "inc al"
        );
        assert_eq!(run2(&[0x66, 0x48], 0x1_0000, 0, CF).0, 0x1_ffff, "dec ax");
    }

    #[test]
    fn exchanges() {
        let (gpr, _) = run(&[0x0f, 0xc1, 0xc8], [3, 4, 0, 0, 0, 0, 0, 0], 0);
        assert_eq!(gpr[..2], [7, 3], "xadd eax, ecx");
        assert_eq!(run2(&[0x0f, 0xc1, 0xc0], 3, 0, 0).0, 6, "xadd eax, eax");
        let (gpr, flags) = run(&[0x0f, 0xb1, 0xca], [3, 4, 3, 0, 0, 0, 0, 0], 0);
        assert_eq!(
            (gpr[0], gpr[2], flags),
            (3, 4, ZF | PF),
            "cmpxchg edx, ecx: equal"
        );
        let (gpr, flags) = run(&[0x0f, 0xb1, 0xca], [3, 4, 5, 0, 0, 0, 0, 0], 0);
        assert_eq!((gpr[0], gpr[2]), (5, 5), "cmpxchg edx, ecx: different");
        assert_eq!(flags & (ZF | CF), CF);
    }

    #[test]
    fn an_exchanged_register_may_be_the_address() {
        let mut m = Values::new([0x2000, 0, 0, 0, 0, 0, 0, 0]);
        m.set_dword(0x2000, 5);
        m.run(&[0x0f, 0xc1, 0x00]).expect("xadd [eax], eax");
        assert_eq!((m.gpr[0], m.dword(0x2000)), (5, 0x2005));
    }

    #[test]
    fn cmpxchg8b_changes_zf_alone() {
        let mut m = Values::with_flags([1, 7, 2, 8, 0, 0, 0x2000, 0], ARITHMETIC & !ZF);
        m.set_dword(0x2000, 1);
        m.set_dword(0x2004, 2);
        m.run(&[0x0f, 0xc7, 0x0e]).expect("cmpxchg8b [esi]");
        assert_eq!((m.dword(0x2000), m.dword(0x2004)), (8, 7));
        assert_eq!(m.flags(), ARITHMETIC);
        m.run(&[0x0f, 0xc7, 0x0e]).expect("cmpxchg8b [esi]");
        assert_eq!((m.gpr[0], m.gpr[2]), (8, 7));
        assert_eq!(m.flags(), ARITHMETIC & !ZF);
    }

    #[test]
    fn a_fault_changes_nothing() {
        let mut m = Values::with_flags([0x2000, 1, 0, 0, 0, 0, 0, 0], CF);
        m.read_only_below = 0x3000;
        let fault = m.run(&[0x01, 0x08]).expect_err("add [eax], ecx");
        assert_eq!(
            fault,
            Exception::PageFault {
                addr: 0x2000,
                error: 3
            }
        );
        assert_eq!((m.gpr[0], m.gpr[1], m.flags()), (0x2000, 1, CF));
        m.run(&[0x39, 0x08]).expect("cmp [eax], ecx only reads");
    }
}
