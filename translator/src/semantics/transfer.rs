//! Data transfer (SDM vol. 1, "Data Transfer Instructions"), LEA and XLAT.
//!
//! Moves to and from segment, control and debug registers are system
//! instructions; [`super::lookup`] has sorted them out.

use super::{CONDITIONS, Exec, write_with_register};
use crate::insn::{Gpr, Insn, Operand, Width};
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// The definitions of this file.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    Some(match i.mnemonic {
        Mnemonic::Mov => mov,
        Mnemonic::Movzx => movzx,
        Mnemonic::Movsx => movsx,
        Mnemonic::Lea => lea,
        Mnemonic::Xchg => xchg,
        Mnemonic::Movbe => movbe,
        Mnemonic::Xlatb => xlatb,
        Mnemonic::Cbw => cbw,
        Mnemonic::Cwde => cwde,
        Mnemonic::Cwd => cwd,
        Mnemonic::Cdq => cdq,
        mnemonic => return conditional(mnemonic),
    })
}

/// CMOVcc by condition.
fn conditional<M: Machine>(mnemonic: Mnemonic) -> Option<Exec<M>> {
    Some(match mnemonic {
        Mnemonic::Cmovo => cmovcc::<M, 0>,
        Mnemonic::Cmovno => cmovcc::<M, 1>,
        Mnemonic::Cmovb => cmovcc::<M, 2>,
        Mnemonic::Cmovae => cmovcc::<M, 3>,
        Mnemonic::Cmove => cmovcc::<M, 4>,
        Mnemonic::Cmovne => cmovcc::<M, 5>,
        Mnemonic::Cmovbe => cmovcc::<M, 6>,
        Mnemonic::Cmova => cmovcc::<M, 7>,
        Mnemonic::Cmovs => cmovcc::<M, 8>,
        Mnemonic::Cmovns => cmovcc::<M, 9>,
        Mnemonic::Cmovp => cmovcc::<M, 10>,
        Mnemonic::Cmovnp => cmovcc::<M, 11>,
        Mnemonic::Cmovl => cmovcc::<M, 12>,
        Mnemonic::Cmovge => cmovcc::<M, 13>,
        Mnemonic::Cmovle => cmovcc::<M, 14>,
        Mnemonic::Cmovg => cmovcc::<M, 15>,
        _ => return None,
    })
}

/// MOV between registers, memory and immediates.
#[inline(always)]
pub fn mov<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let v = m.read(i, 1)?;
    m.write(i, 0, v)
}

/// MOVZX: destination ← zero-extended source.
#[inline(always)]
pub fn movzx<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let v = m.read(i, 1)?;
    m.write(i, 0, v)
}

/// MOVSX: destination ← sign-extended source.
#[inline(always)]
pub fn movsx<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let v = m.read(i, 1)?;
    let v = m.sext(v, i.op_width(1));
    m.write(i, 0, v)
}

/// LEA: destination ← offset of the memory operand.
#[inline(always)]
pub fn lea<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let ea = m.effective_address(&i.mem);
    m.write(i, 0, ea)
}

/// XCHG: the operands change places.
#[inline]
pub fn xchg<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let Operand::Gpr(r, w) = i.ops[1] else {
        return m.callout(i);
    };
    let a = m.read_for_write(i, 0)?;
    let b = m.gpr(r, w);
    write_with_register(m, i, b, (r, w), a)
}

/// MOVBE: a move that reverses the bytes.
#[inline]
pub fn movbe<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let v = m.read(i, 1)?;
    let reversed = m.bswap(v);
    let unused = m.imm(32 - i.op_width(0).bits());
    let v = m.shr(reversed, unused);
    m.write(i, 0, v)
}

/// XLAT: AL ← byte at (E)BX + AL.
#[inline]
pub fn xlatb<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let table = m.gpr(Gpr::EBX, Width::D);
    let al = m.gpr(Gpr::EAX, Width::B);
    let at = m.add(table, al);
    let at = if i.mem.addr16 {
        m.zext(at, Width::W)
    } else {
        at
    };
    let v = m.load(i.mem.seg, at, Width::B)?;
    m.set_gpr(Gpr::EAX, Width::B, v);
    Ok(())
}

/// CBW: AX ← sign-extended AL.
#[inline]
pub fn cbw<M: Machine>(m: &mut M, _: &Insn) -> Result<(), M::Fault> {
    let al = m.gpr(Gpr::EAX, Width::B);
    let ax = m.sext(al, Width::B);
    m.set_gpr(Gpr::EAX, Width::W, ax);
    Ok(())
}

/// CWDE: EAX ← sign-extended AX.
#[inline]
pub fn cwde<M: Machine>(m: &mut M, _: &Insn) -> Result<(), M::Fault> {
    let ax = m.gpr(Gpr::EAX, Width::W);
    let eax = m.sext(ax, Width::W);
    m.set_gpr(Gpr::EAX, Width::D, eax);
    Ok(())
}

/// CWD: DX ← sign of AX.
#[inline]
pub fn cwd<M: Machine>(m: &mut M, _: &Insn) -> Result<(), M::Fault> {
    let by31 = m.imm(31);
    let ax = m.gpr(Gpr::EAX, Width::W);
    let ax = m.sext(ax, Width::W);
    let sign = m.sar(ax, by31);
    m.set_gpr(Gpr::EDX, Width::W, sign);
    Ok(())
}

/// CDQ: EDX ← sign of EAX.
#[inline]
pub fn cdq<M: Machine>(m: &mut M, _: &Insn) -> Result<(), M::Fault> {
    let by31 = m.imm(31);
    let eax = m.gpr(Gpr::EAX, Width::D);
    let sign = m.sar(eax, by31);
    m.set_gpr(Gpr::EDX, Width::D, sign);
    Ok(())
}

/// CMOVcc: the source is read, and may fault, whatever the condition.
#[inline]
pub fn cmovcc<M: Machine, const CC: usize>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let source = m.read(i, 1)?;
    let old = m.read(i, 0)?;
    let c = m.condition(CONDITIONS[CC]);
    let v = m.select(c, source, old);
    m.write(i, 0, v)
}

#[cfg(test)]
mod tests {
    use super::super::values::{Values, run, run2};
    use crate::flags::{CF, ZF};

    #[test]
    fn moves() {
        assert_eq!(
            run2(&[0x88, 0xcc], 0x1111_1111, 0x22, 0).0,
            0x1111_2211,
            "mov ah, cl"
        );
        assert_eq!(
            run2(&[0x0f, 0xb6, 0xc5], 0, 0x8765, 0).0,
            0x87,
            "movzx eax, ch"
        );
        assert_eq!(
            run2(&[0x0f, 0xbe, 0xc5], 0, 0x8765, 0).0,
            0xffff_ff87,
            "movsx eax, ch"
        );
        assert_eq!(
            run2(&[0x66, 0x0f, 0xbe, 0xc5], 0x1_0000, 0x8765, 0).0,
            0x1_ff87
        );
        assert_eq!(
            run2(&[0x8d, 0x44, 0x88, 0xff], 8, 2, 0).0,
            15,
            "lea eax, [eax+ecx*4-1]"
        );
        assert_eq!(
            run2(&[0x67, 0x8d, 0x40, 0x10], 0, 0, 0).0,
            0x10,
            "lea eax, [bx+si+0x10]"
        );
        let (gpr, _) = run(&[0x86, 0xe0], [0x1234, 0, 0, 0, 0, 0, 0, 0], 0);
        assert_eq!(gpr[0], 0x3412, "xchg al, ah");
    }

    #[test]
    fn an_exchanged_register_may_be_the_address() {
        let mut m = Values::new([0x2000, 0, 0, 0, 0, 0, 0, 0]);
        m.set_dword(0x2000, 9);
        m.run(&[0x87, 0x00]).expect("xchg [eax], eax");
        assert_eq!((m.gpr[0], m.dword(0x2000)), (9, 0x2000));
    }

    #[test]
    fn moves_that_reverse_bytes() {
        let mut m = Values::new([0x2000, 0, 0, 0, 0, 0, 0, 0]);
        m.set_dword(0x2000, 0x1122_3344);
        m.run(&[0x0f, 0x38, 0xf0, 0x08]).expect("movbe ecx, [eax]");
        m.run(&[0x66, 0x0f, 0x38, 0xf0, 0x10])
            .expect("movbe dx, [eax]");
        m.run(&[0x66, 0x0f, 0x38, 0xf1, 0x08])
            .expect("movbe [eax], cx");
        assert_eq!(
            (m.gpr[1], m.gpr[2], m.dword(0x2000)),
            (0x4433_2211, 0x4433, 0x1122_1122)
        );
    }

    #[test]
    fn xlat_uses_the_address_size() {
        let mut m = Values::new([0xaa05, 0, 0, 0x1_fffe, 0, 0, 0, 0]);
        m.memory[3] = 7;
        m.run(&[0x67, 0xd7]).expect("xlat [bx]");
        assert_eq!(m.gpr[0], 0xaa07);
        m.run(&[0xd7]).expect_err("xlat [ebx] lies outside");
    }

    #[test]
    fn sign_extensions() {
        assert_eq!(run2(&[0x66, 0x98], 0x1_0080, 0, 0).0, 0x1_ff80, "cbw");
        assert_eq!(run2(&[0x98], 0x1_8000, 0, 0).0, 0xffff_8000, "cwde");
        let (gpr, _) = run(&[0x66, 0x99], [0x8000, 0, 0x1_0000, 0, 0, 0, 0, 0], 0);
        assert_eq!(gpr[2], 0x1_ffff, "cwd");
        let (gpr, _) = run(&[0x99], [0x8000_0000, 0, 0, 0, 0, 0, 0, 0], 0);
        assert_eq!(gpr[2], 0xffff_ffff, "cdq");
    }

    #[test]
    fn conditional_moves() {
        assert_eq!(run2(&[0x0f, 0x44, 0xc1], 1, 2, ZF).0, 2, "cmove, taken");
        assert_eq!(run2(&[0x0f, 0x44, 0xc1], 1, 2, CF).0, 1, "cmove, not taken");
        let mut m = Values::new([0x1_0000, 0, 0, 0, 0, 0, 0, 0]);
        m.run(&[0x0f, 0x44, 0x00])
            .expect_err("the source is read if not taken");
    }
}
