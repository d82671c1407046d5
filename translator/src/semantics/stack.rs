//! The stack (SDM vol. 1, "Procedure Calls, Interrupts, and Exceptions"): PUSH,
//! POP and their composites.
//!
//! The stack-address size (ESP or SP) and the operand size are independent:
//! [`Insn::stack32`] and the operand's width. Segment registers and flags are
//! pushed and popped by the runtime.

use super::Exec;
use crate::insn::{Gpr, Insn, Operand, SegReg, Width};
use crate::machine::Machine;
use iced_x86::Mnemonic;

/// The definitions of this file.
pub fn lookup<M: Machine>(i: &Insn) -> Option<Exec<M>> {
    Some(match i.mnemonic {
        Mnemonic::Push => push,
        Mnemonic::Pop if matches!(i.ops[0], Operand::Gpr(..)) => pop,
        Mnemonic::Pop => pop_memory,
        Mnemonic::Pusha | Mnemonic::Pushad => pusha,
        Mnemonic::Popa | Mnemonic::Popad => popa,
        Mnemonic::Enter => enter,
        Mnemonic::Leave => leave,
        _ => return None,
    })
}

/// PUSH: PUSH ESP pushes the value before.
#[inline(always)]
pub fn push<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let v = m.read(i, 0)?;
    m.push(i, i.op_width(0), v)
}

/// POP to a register: POP ESP keeps the value popped.
#[inline(always)]
pub fn pop<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let v = m.pop(i, i.op_width(0))?;
    m.write(i, 0, v)
}

/// POP to memory: an address with ESP in it is computed from ESP after the pop.
#[inline]
pub fn pop_memory<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.op_width(0);
    let sp = m.stack_pointer(i);
    let v = m.load(SegReg::Ss, sp, w)?;
    let size = m.imm(w.bytes());
    let new = m.add(sp, size);
    let new = m.stack_offset(i, new);
    let mut at = m.effective_address(&i.mem);
    if i.mem.base == Gpr::ESP {
        // ESP moves by the operand size, or wraps around within SP.
        let moved = m.sub(new, sp);
        at = m.add(at, moved);
    }
    m.store(i.mem.seg, at, w, v)?;
    m.set_stack_pointer(i, new);
    Ok(())
}

/// The offset `bytes` below `sp` on the stack.
#[inline(always)]
fn below<M: Machine>(m: &mut M, i: &Insn, sp: M::Val, bytes: u32) -> M::Val {
    let bytes = m.imm(bytes);
    let at = m.sub(sp, bytes);
    m.stack_offset(i, at)
}

/// PUSHA: EAX to EDI, with ESP as before. ESP moves when all are stored.
#[inline]
pub fn pusha<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.width;
    let sp = m.stack_pointer(i);
    for n in 0..8u8 {
        let v = m.gpr(Gpr(n), w);
        let at = below(m, i, sp, (u32::from(n) + 1) * w.bytes());
        m.store(SegReg::Ss, at, w, v)?;
    }
    let new = below(m, i, sp, 8 * w.bytes());
    m.set_stack_pointer(i, new);
    Ok(())
}

/// POPA: EDI to EAX; the place of ESP is skipped.
#[inline]
pub fn popa<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.width;
    let sp = m.stack_pointer(i);
    let mut values = [sp; 8];
    for n in (0..8u8).rev().filter(|&n| Gpr(n) != Gpr::ESP) {
        let bytes = m.imm((7 - u32::from(n)) * w.bytes());
        let at = m.add(sp, bytes);
        let at = m.stack_offset(i, at);
        values[usize::from(n)] = m.load(SegReg::Ss, at, w)?;
    }
    for n in (0..8u8).filter(|&n| Gpr(n) != Gpr::ESP) {
        m.set_gpr(Gpr(n), w, values[usize::from(n)]);
    }
    let bytes = m.imm(8 * w.bytes());
    let new = m.add(sp, bytes);
    m.set_stack_pointer(i, new);
    Ok(())
}

/// ENTER: a stack frame with the pointers to `imm2` enclosing frames.
#[inline]
pub fn enter<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let w = i.width;
    let stack = if i.stack32 { Width::D } else { Width::W };
    let level = i.imm2 & 31;
    let sp = m.stack_pointer(i);
    let bp = m.gpr(Gpr::EBP, stack);
    let old_bp = m.gpr(Gpr::EBP, w);
    let frame = below(m, i, sp, w.bytes());
    // The frame pointer kept is all of ESP, even if the stack only uses SP.
    let esp = m.gpr(Gpr::ESP, Width::D);
    let moved = m.sub(frame, sp);
    let pointer = m.add(esp, moved);
    m.store(SegReg::Ss, frame, w, old_bp)?;
    for n in 1..level {
        let from = below(m, i, bp, n * w.bytes());
        let to = below(m, i, frame, n * w.bytes());
        let v = m.load(SegReg::Ss, from, w)?;
        m.store(SegReg::Ss, to, w, v)?;
    }
    if level > 0 {
        let to = below(m, i, frame, level * w.bytes());
        m.store(SegReg::Ss, to, w, pointer)?;
    }
    let new = below(m, i, frame, level * w.bytes() + (i.imm & 0xffff));
    // "If a write using the final value of the stack pointer would fault" (SDM).
    m.load_for_write(SegReg::Ss, new, w)?;
    m.set_gpr(Gpr::EBP, w, pointer);
    m.set_stack_pointer(i, new);
    Ok(())
}

/// LEAVE: ESP ← EBP, then POP EBP.
#[inline]
pub fn leave<M: Machine>(m: &mut M, i: &Insn) -> Result<(), M::Fault> {
    let bp = m.gpr(Gpr::EBP, if i.stack32 { Width::D } else { Width::W });
    let v = m.load(SegReg::Ss, bp, i.width)?;
    let size = m.imm(i.width.bytes());
    let new = m.add(bp, size);
    m.set_stack_pointer(i, new);
    m.set_gpr(Gpr::EBP, i.width, v);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::values::Values;

    /// A machine with ESP 0x3000 and other registers that tell themselves.
    fn machine() -> Values {
        Values::new([0xa0, 0xa1, 0xa2, 0xa3, 0x3000, 0x4000, 0xa6, 0xa7])
    }

    #[test]
    fn pushes_and_pops() {
        let mut m = machine();
        m.run(&[0x54]).expect("push esp");
        assert_eq!((m.gpr[4], m.dword(0x2ffc)), (0x2ffc, 0x3000));
        m.run(&[0x6a, 0xff]).expect("push -1");
        m.run(&[0x66, 0x6a, 0xfe]).expect("push word -2");
        assert_eq!(
            (m.gpr[4], m.dword(0x2ff8), m.dword(0x2ff4) >> 16),
            (0x2ff6, u32::MAX, 0xfffe)
        );
        m.run(&[0x66, 0x58]).expect("pop ax");
        m.run(&[0x59]).expect("pop ecx");
        m.run(&[0x5c]).expect("pop esp");
        assert_eq!((m.gpr[0], m.gpr[1], m.gpr[4]), (0xfffe, u32::MAX, 0x3000));
    }

    #[test]
    fn pop_to_memory_computes_its_address_afterwards() {
        let mut m = machine();
        m.set_dword(0x3000, 77);
        m.run(&[0x8f, 0x04, 0x24]).expect("pop [esp]");
        assert_eq!((m.gpr[4], m.dword(0x3004)), (0x3004, 77));
        m.read_only_below = 0x8000;
        m.run(&[0x8f, 0x04, 0x24]).expect_err("pop [esp]");
        assert_eq!(m.gpr[4], 0x3004);
    }

    #[test]
    fn sixteen_bit_stacks_wrap() {
        let mut m = Values::new([0x1234, 0, 0, 0, 0x5_0000, 0, 0, 0]);
        m.run16(&[0x50]).expect("push ax");
        assert_eq!((m.gpr[4], m.memory[0xfffe]), (0x5_fffe, 0x34));
        m.run16(&[0x5b]).expect("pop bx");
        assert_eq!((m.gpr[4], m.gpr[3]), (0x5_0000, 0x1234));
        m.run16(&[0x66, 0x60]).expect("pushad");
        assert_eq!((m.gpr[4], m.dword(0xfffc)), (0x5_ffe0, 0x1234));
        m.gpr[0] = 0;
        m.run16(&[0x66, 0x61]).expect("popad");
        assert_eq!((m.gpr[4], m.gpr[0]), (0x5_0000, 0x1234));
    }

    #[test]
    fn all_registers() {
        let mut m = machine();
        m.run(&[0x60]).expect("pushad");
        assert_eq!(
            (m.gpr[4], m.dword(0x2ffc), m.dword(0x2fec)),
            (0x2fe0, 0xa0, 0x3000)
        );
        let before = m.gpr;
        for r in [0, 1, 2, 3, 5, 6, 7] {
            m.gpr[r] = 0;
        }
        m.run(&[0x61]).expect("popad");
        assert_eq!(m.gpr[..4], before[..4]);
        assert_eq!((m.gpr[4], m.gpr[7]), (0x3000, 0xa7));
        m.read_only_below = 0x2ff0;
        m.run(&[0x60]).expect_err("pushad");
        assert_eq!(m.gpr[4], 0x3000);
    }

    #[test]
    fn frames() {
        let mut m = machine();
        m.run(&[0xc8, 0x20, 0, 0]).expect("enter 32, 0");
        assert_eq!(
            (m.gpr[4], m.gpr[5], m.dword(0x2ffc)),
            (0x2fdc, 0x2ffc, 0x4000)
        );
        m.run(&[0xc9]).expect("leave");
        assert_eq!((m.gpr[4], m.gpr[5]), (0x3000, 0x4000));
        m.set_dword(0x3ffc, 11);
        m.set_dword(0x3ff8, 22);
        m.run(&[0xc8, 8, 0, 3]).expect("enter 8, 3");
        let frame = [
            m.dword(0x2ffc),
            m.dword(0x2ff8),
            m.dword(0x2ff4),
            m.dword(0x2ff0),
        ];
        assert_eq!(frame, [0x4000, 11, 22, 0x2ffc]);
        assert_eq!((m.gpr[4], m.gpr[5]), (0x2fe8, 0x2ffc));
        m.read_only_below = 0x2000;
        m.run(&[0xc8, 0, 0x20, 0])
            .expect_err("the final stack pointer is not writable");
        assert_eq!((m.gpr[4], m.gpr[5]), (0x2fe8, 0x2ffc));
    }
}
