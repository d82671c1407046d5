//! Near control transfers (SDM vol. 1, "Control Transfer Instructions"), and
//! BOUND.
//!
//! Far transfers, INT and INTO are system instructions. Every definition ends in
//! exactly one `goto`, `goto_if` or `goto_val`. Targets of 16-bit operand size
//! are truncated to 16 bits: direct ones by decoding, computed ones by their width.
//! One beyond the limit of CS is a fault of the transfer, before any effect.

use super::{CONDITIONS, Exec};
use crate::exception::Exception;
use crate::insn::{Flow, Gpr, Insn, Operand, SegReg, Width};
use crate::machine::Machine;
use iced_x86::{Code, Mnemonic};

/// The definitions of this file.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    Some(match (i.mnemonic, i.flow) {
        (Mnemonic::Jmp, Flow::Jump) => jmp,
        (Mnemonic::Jmp, Flow::IndirectJump) => jmp_indirect,
        (Mnemonic::Call, Flow::Call) => call,
        (Mnemonic::Call, Flow::IndirectCall) => call_indirect,
        (Mnemonic::Ret, _) => ret,
        (Mnemonic::Loop, _) => loop_,
        (Mnemonic::Loope, _) => loopcc::<M, 4>,
        (Mnemonic::Loopne, _) => loopcc::<M, 5>,
        (Mnemonic::Jcxz | Mnemonic::Jecxz, _) => jecxz,
        (Mnemonic::Bound, _) => bound,
        (mnemonic, _) => return conditional(mnemonic),
    })
}

/// Jcc by condition.
fn conditional<M: Machine>(mnemonic: Mnemonic) -> Option<Exec<M>> {
    Some(match mnemonic {
        Mnemonic::Jo => jcc::<M, 0>,
        Mnemonic::Jno => jcc::<M, 1>,
        Mnemonic::Jb => jcc::<M, 2>,
        Mnemonic::Jae => jcc::<M, 3>,
        Mnemonic::Je => jcc::<M, 4>,
        Mnemonic::Jne => jcc::<M, 5>,
        Mnemonic::Jbe => jcc::<M, 6>,
        Mnemonic::Ja => jcc::<M, 7>,
        Mnemonic::Js => jcc::<M, 8>,
        Mnemonic::Jns => jcc::<M, 9>,
        Mnemonic::Jp => jcc::<M, 10>,
        Mnemonic::Jnp => jcc::<M, 11>,
        Mnemonic::Jl => jcc::<M, 12>,
        Mnemonic::Jge => jcc::<M, 13>,
        Mnemonic::Jle => jcc::<M, 14>,
        Mnemonic::Jg => jcc::<M, 15>,
        _ => return None,
    })
}

/// JMP, direct.
#[inline(always)]
pub fn jmp<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    check_fixed_target(m, i)?;
    m.goto(i.imm);
    Ok(())
}

/// The target of an unconditional direct transfer, against the limit of CS.
#[inline(always)]
fn check_fixed_target<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let target = m.imm(i.imm);
    check_computed_target(m, target)
}

/// The target of an unconditional transfer, against the limit of CS.
#[inline(always)]
fn check_computed_target<M: Machine>(m: &mut M, target: M::Val) -> Result<(), M::Fault> {
    let zero = m.imm(0);
    let taken = m.eq(zero, zero);
    m.check_target(taken, target)
}

/// JMP, indirect.
#[inline(always)]
pub fn jmp_indirect<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let target = m.read(i, 0)?;
    check_computed_target(m, target)?;
    m.goto_val(target);
    Ok(())
}

/// Jcc.
#[inline(always)]
pub fn jcc<M: Machine, const CC: usize>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let c = m.condition(CONDITIONS[CC]);
    let target = m.imm(i.imm);
    m.check_target(c, target)?;
    m.goto_if(c, i.imm, i.next_eip);
    Ok(())
}

/// CALL, direct.
#[inline(always)]
pub fn call<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    check_fixed_target(m, i)?;
    let ret = m.imm(i.next_eip);
    m.push(i, i.width, ret)?;
    m.goto(i.imm);
    Ok(())
}

/// CALL, indirect: the target is read before the push.
#[inline(always)]
pub fn call_indirect<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let target = m.read(i, 0)?;
    check_computed_target(m, target)?;
    let ret = m.imm(i.next_eip);
    m.push(i, i.width, ret)?;
    m.goto_val(target);
    Ok(())
}

/// RET, which may release `imm` bytes of arguments.
#[inline(always)]
pub fn ret<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    if m.code_limit().is_some() {
        let top = m.stack_pointer(i);
        let target = m.load(SegReg::Ss, top, i.width)?;
        check_computed_target(m, target)?;
    }
    let target = m.pop(i, i.width)?;
    if matches!(i.ops[0], Operand::Imm(_)) {
        let sp = m.stack_pointer(i);
        let bytes = m.imm(i.imm);
        let sp = m.add(sp, bytes);
        m.set_stack_pointer(i, sp);
    }
    m.goto_val(target);
    Ok(())
}

/// Width of the count register of LOOP and JECXZ: the address size.
#[inline(always)]
fn count_width(i: &Insn) -> Width {
    match i.code {
        Code::Loop_rel8_16_CX
        | Code::Loop_rel8_32_CX
        | Code::Loope_rel8_16_CX
        | Code::Loope_rel8_32_CX
        | Code::Loopne_rel8_16_CX
        | Code::Loopne_rel8_32_CX
        | Code::Jcxz_rel8_16
        | Code::Jcxz_rel8_32 => Width::W,
        _ => Width::D,
    }
}

/// LOOP.
#[inline]
pub fn loop_<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let zero = m.imm(0);
    let always = m.eq(zero, zero);
    loop_if(m, i, always)
}

/// LOOPE and LOOPNE.
#[inline]
pub fn loopcc<M: Machine, const CC: usize>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let c = m.condition(CONDITIONS[CC]);
    loop_if(m, i, c)
}

/// Counts (E)CX down and jumps unless it has reached 0, if `c` holds. No flags
/// change.
#[inline(always)]
fn loop_if<M: Machine>(m: &mut M, i: &Insn, c: M::Bool) -> Result<(), M::Fault> {
    let w = count_width(i);
    let one = m.imm(1);
    let count = m.gpr(Gpr::ECX, w);
    let done = m.eq(count, one);
    let more = m.not(done);
    let taken = m.both(more, c);
    let target = m.imm(i.imm);
    m.check_target(taken, target)?;
    let left = m.sub(count, one);
    m.set_gpr(Gpr::ECX, w, left);
    m.goto_if(taken, i.imm, i.next_eip);
    Ok(())
}

/// JCXZ and JECXZ.
#[inline]
pub fn jecxz<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let zero = m.imm(0);
    let count = m.gpr(Gpr::ECX, count_width(i));
    let c = m.eq(count, zero);
    let target = m.imm(i.imm);
    m.check_target(c, target)?;
    m.goto_if(c, i.imm, i.next_eip);
    Ok(())
}

/// BOUND: #BR unless lower ≤ index ≤ upper, signed.
#[inline]
pub fn bound<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let index = m.read(i, 0)?;
    let index = m.sext(index, w);
    let at = m.effective_address(&i.mem);
    let size = m.imm(w.bytes());
    let next = m.add(at, size);
    let lower = m.load(i.mem.seg, at, w)?;
    let lower = m.sext(lower, w);
    let upper = m.load(i.mem.seg, next, w)?;
    let upper = m.sext(upper, w);
    let below = m.slt(index, lower);
    let above = m.slt(upper, index);
    let outside = m.either(below, above);
    m.fault_if(outside, Exception::BoundRange)
}

#[cfg(test)]
mod tests {
    use super::super::values::{CODE, Values};
    use crate::exception::Exception;
    use crate::flags::{CF, ZF};

    /// Where `bytes` lead with ECX and flags, and ECX after.
    fn go(bytes: &[u8], ecx: u32, image: u32) -> (u32, u32) {
        let mut m = Values::with_flags([0, ecx, 0, 0, 0x3000, 0, 0, 0], image);
        m.run(bytes).expect("no fault");
        (m.target.expect("a transfer") - CODE, m.gpr[1])
    }

    #[test]
    fn jumps() {
        assert_eq!(go(&[0xeb, 0x10], 0, 0).0, 0x12, "jmp");
        assert_eq!(go(&[0x74, 0x10], 0, ZF).0, 0x12, "je, taken");
        assert_eq!(go(&[0x74, 0x10], 0, CF).0, 2, "je, not taken");
        assert_eq!(go(&[0xff, 0xe1], 0x5000, 0).0, 0x5000 - CODE, "jmp ecx");
        let mut m = Values::new([0x12_3456; 8]);
        m.run16(&[0xff, 0xe0]).expect("jmp ax");
        assert_eq!(m.target, Some(0x3456));
    }

    #[test]
    fn loops() {
        assert_eq!(go(&[0xe2, 0x10], 2, ZF), (0x12, 1), "loop");
        assert_eq!(go(&[0xe2, 0x10], 1, ZF), (2, 0), "loop ends");
        assert_eq!(
            go(&[0x67, 0xe2, 0x10], 0x1_0000, 0),
            (0x13, 0x1_ffff),
            "loop by cx"
        );
        assert_eq!(go(&[0xe1, 0x10], 2, ZF), (0x12, 1), "loope");
        assert_eq!(go(&[0xe1, 0x10], 2, 0), (2, 1), "loope ends");
        assert_eq!(go(&[0xe0, 0x10], 2, ZF), (2, 1), "loopne ends");
        assert_eq!(go(&[0xe3, 0x10], 0, 0).0, 0x12, "jecxz");
        assert_eq!(go(&[0x67, 0xe3, 0x10], 0x1_0000, 0).0, 0x13, "jcxz");
    }

    #[test]
    fn calls_and_returns() {
        let mut m = Values::new([0, 0, 0, 0, 0x3000, 0, 0, 0]);
        m.run(&[0xe8, 0, 1, 0, 0]).expect("call");
        assert_eq!((m.target, m.dword(0x2ffc)), (Some(CODE + 0x105), CODE + 5));
        m.run(&[0xc2, 8, 0]).expect("ret 8");
        assert_eq!((m.target, m.gpr[4]), (Some(CODE + 5), 0x3008));
        m.set_dword(0x3008, 0x7777);
        m.run(&[0xff, 0x14, 0x24]).expect("call [esp]");
        assert_eq!((m.target, m.gpr[4]), (Some(0x7777), 0x3004));
        m.read_only_below = 0x4000;
        m.run(&[0xe8, 0, 1, 0, 0]).expect_err("call");
        assert_eq!(m.gpr[4], 0x3004);
    }

    #[test]
    fn bounds() {
        let mut m = Values::new([0x2000, 0, 0, 0, 0, 0, 0, 0]);
        m.set_dword(0x2000, -2i32 as u32);
        m.set_dword(0x2004, 5);
        for (index, inside) in [(-3i32, false), (-2, true), (5, true), (6, false)] {
            m.gpr[1] = index as u32;
            let expected = if inside {
                Ok(())
            } else {
                Err(Exception::BoundRange)
            };
            assert_eq!(
                m.run(&[0x62, 0x08]),
                expected,
                "bound ecx, [eax] with {index}"
            );
        }
    }
}
