//! Operands of system instructions: registers and memory, by value.

use crate::vcpu::Cpu;
use translator::exception::Exception;
use translator::insn::{Gpr, Insn, MemRef, Operand, SegReg, Width};

/// The offset a memory operand denotes.
pub fn effective_address(cpu: &Cpu, m: &MemRef) -> u32 {
    let gpr = &cpu.state.gpr;
    let ea = gpr[m.base.0 as usize]
        .wrapping_add(gpr[m.index.0 as usize] << (m.shift & 3))
        .wrapping_add(m.disp);
    if m.addr16 { ea & 0xffff } else { ea }
}

/// The offset `bytes` past the memory operand's, wrapped to the address size.
pub fn effective_address_past(cpu: &Cpu, m: &MemRef, bytes: u32) -> u32 {
    let ea = effective_address(cpu, m).wrapping_add(bytes);
    if m.addr16 { ea & 0xffff } else { ea }
}

/// Reads a register, zero-extended.
pub fn gpr(cpu: &Cpu, r: Gpr, w: Width) -> u32 {
    match w {
        Width::B if r.0 >= 4 => cpu.state.gpr[(r.0 & 3) as usize] >> 8 & 0xff,
        _ => cpu.state.gpr[r.0 as usize] & w.mask(),
    }
}

/// Writes the low `w` of `v`; the rest of the register stays.
pub fn set_gpr(cpu: &mut Cpu, r: Gpr, w: Width, v: u32) {
    let (index, shift) = match w {
        Width::B if r.0 >= 4 => ((r.0 & 3) as usize, 8),
        _ => (r.0 as usize, 0),
    };
    let mask = w.mask() << shift;
    let register = &mut cpu.state.gpr[index];
    *register = *register & !mask | v << shift & mask;
}

/// Reads a 16-bit operand: the low half of a register, or a word of memory.
///
/// # Errors
/// What the memory access raises.
pub fn read_word(cpu: &mut Cpu, i: &Insn, n: usize) -> Result<u16, Exception> {
    match i.ops[n] {
        Operand::Gpr(r, _) => Ok(gpr(cpu, r, Width::W) as u16),
        _ => {
            let ea = effective_address(cpu, &i.mem);
            Ok(cpu.read_mem(i.mem.seg, ea, Width::W)? as u16)
        }
    }
}

/// Writes `v` to a register of its width, or its low half to memory: the form
/// of the instructions that store a selector or machine status word.
///
/// # Errors
/// What the memory access raises.
pub fn write_word(cpu: &mut Cpu, i: &Insn, n: usize, v: u32) -> Result<(), Exception> {
    match i.ops[n] {
        Operand::Gpr(r, w) => {
            set_gpr(cpu, r, w, v);
            Ok(())
        }
        _ => {
            let ea = effective_address(cpu, &i.mem);
            cpu.write_mem(i.mem.seg, ea, Width::W, v & 0xffff)
        }
    }
}

/// Reads a far pointer from the memory operand: `(selector, offset)`.
///
/// # Errors
/// What the memory access raises.
pub fn read_far(cpu: &mut Cpu, i: &Insn) -> Result<(u16, u32), Exception> {
    let seg: SegReg = i.mem.seg;
    let ea = effective_address(cpu, &i.mem);
    let offset = cpu.read_mem(seg, ea, i.width)?;
    let past = effective_address_past(cpu, &i.mem, i.width.bytes());
    let selector = cpu.read_mem(seg, past, Width::W)?;
    Ok((selector as u16, offset))
}
