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
