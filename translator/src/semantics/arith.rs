//! Binary integer arithmetic (SDM vol. 1, "Binary Arithmetic Instructions").
//!
//! Memory destinations are read with [`Machine::read_for_write`], so that the
//! later store cannot fault: nothing has changed when an instruction faults.

use super::{Exec, flagops, write_with_register};
use crate::flags::LazyFlags;
use crate::insn::{Gpr, Insn, Operand, Width};
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
    step_flags(m, i, (a, r), r, w);
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
    step_flags(m, i, (r, a), r, w);
    Ok(())
}

/// Flags of INC and DEC. The bits that carried or borrowed are those set in the
/// first of `turned` and clear in the second.
#[inline(always)]
fn step_flags<M: Machine>(m: &mut M, i: &Insn, turned: (M::Val, M::Val), r: M::Val, w: Width) {
    if i.flags_dead {
        return;
    }
    let (_, old) = m.flags_raw();
    let ones = m.imm(u32::MAX);
    let clear = m.xor(turned.1, ones);
    let carries = m.and(turned.0, clear);
    let aligned = if w == Width::D {
        carries
    } else {
        let up = m.imm(32 - w.bits());
        m.shl(carries, up)
    };
    // OF is the carry out of the top bit (now bit 31) xor the carry into it
    // (bit 30); bit 30 of the lazy form is CF xor OF.
    let one = m.imm(1);
    let cf = m.imm(0x8000_0000);
    let cf = m.and(old, cf);
    let half = m.shr(aligned, one);
    let of = m.xor(half, aligned);
    let half = m.shr(cf, one);
    let next = m.xor(of, half);
    let bit30 = m.imm(0x4000_0000);
    let next = m.and(next, bit30);
    let bit3 = m.imm(1 << 3);
    let af = m.and(carries, bit3);
    let carries = m.or(cf, next);
    let carries = m.or(carries, af);
    let result = m.sext(r, w);
    m.set_flags(LazyFlags::Raw { result, carries });
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
