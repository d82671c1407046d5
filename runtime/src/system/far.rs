//! Far JMP, CALL and RET: direct, through call gates, to tasks (SDM vol. 2, JMP,
//! CALL, RET; vol. 3A, "Privilege Level Checking When Transferring Program
//! Control Between Code Segments").

use super::descriptor::{self, Descriptor, Kind, Selector};
use super::operand;
use super::segment::{self, enter_code, enter_code_without_descriptor, require_in_limit};
use super::stack::Frame;
use super::{task, tss};
use crate::vcpu::Cpu;
use translator::exception::Exception;
use translator::insn::{Insn, Operand, SegReg, Width};
use translator::state::Segment;

/// JMP far.
///
/// # Errors
/// What the operand access and the transfer raise.
pub fn jmp(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let (selector, offset) = target(cpu, i)?;
    if !cpu.protected() {
        let code = segment::without_descriptor(cpu, SegReg::Cs, selector);
        require_in_limit(&code, offset)?;
        enter_code_without_descriptor(cpu, code, offset);
        return Ok(());
    }
    let selector = Selector(selector);
    let descriptor = fetch_target(cpu, selector)?;
    match descriptor.kind() {
        Kind::Code => {
            let code = direct_code_segment(cpu, selector, descriptor)?;
            require_in_limit(&code, offset)?;
            let cpl = cpu.sys.cpl;
            enter_code(cpu, code, cpl, offset);
            Ok(())
        }
        Kind::CallGate(w) => {
            require_gate_access(cpu, selector, &descriptor)?;
            jump_through_gate(cpu, &descriptor, w)
        }
        kind => to_task(cpu, selector, &descriptor, kind, task::Cause::Jump),
    }
}

/// CALL far.
///
/// # Errors
/// What the operand access, the transfer and the pushes raise.
pub fn call(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let (selector, offset) = target(cpu, i)?;
    if !cpu.protected() {
        let code = segment::without_descriptor(cpu, SegReg::Cs, selector);
        require_in_limit(&code, offset)?;
        push_return(cpu, i.width)?;
        enter_code_without_descriptor(cpu, code, offset);
        return Ok(());
    }
    let selector = Selector(selector);
    let descriptor = fetch_target(cpu, selector)?;
    match descriptor.kind() {
        Kind::Code => {
            let code = direct_code_segment(cpu, selector, descriptor)?;
            require_in_limit(&code, offset)?;
            push_return(cpu, i.width)?;
            let cpl = cpu.sys.cpl;
            enter_code(cpu, code, cpl, offset);
            Ok(())
        }
        Kind::CallGate(w) => {
            require_gate_access(cpu, selector, &descriptor)?;
            call_through_gate(cpu, &descriptor, w)
        }
        kind => to_task(cpu, selector, &descriptor, kind, task::Cause::Call),
    }
}

/// RET far, with or without an immediate.
///
/// # Errors
/// #SS, #GP, #NP, #PF.
pub fn ret(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let release = match i.ops[0] {
        Operand::Imm(_) => i.imm & 0xffff,
        _ => 0,
    };
    let mut frame = Frame::current(cpu);
    let eip = frame.pop(cpu, i.width)?;
    let selector = frame.pop(cpu, i.width)? as u16;
    if !cpu.protected() {
        let code = segment::without_descriptor(cpu, SegReg::Cs, selector);
        require_in_limit(&code, eip)?;
        frame.release(release);
        frame.commit(cpu);
        enter_code_without_descriptor(cpu, code, eip);
        return Ok(());
    }
    let selector = Selector(selector);
    let code = segment::returned_code_segment(cpu, selector)?;
    frame.release(release);
    let level = selector.rpl();
    if level == cpu.sys.cpl {
        require_in_limit(&code, eip)?;
        frame.commit(cpu);
        enter_code(cpu, code, level, eip);
        return Ok(());
    }
    let esp = frame.pop(cpu, i.width)?;
    let stack = Selector(frame.pop(cpu, i.width)? as u16);
    let stack = segment::stack_segment(cpu, stack, level, Exception::GeneralProtection)?;
    require_in_limit(&code, eip)?;
    let mut outer = Frame::switched(cpu, stack, esp, level);
    outer.release(release);
    outer.commit(cpu);
    cpu.state.seg[SegReg::Ss as usize] = stack;
    cpu.sys.cpl = level;
    segment::drop_inner_segments(cpu);
    enter_code(cpu, code, level, eip);
    Ok(())
}

/// The far pointer the instruction names, immediate or in memory.
fn target(cpu: &mut Cpu, i: &Insn) -> Result<(u16, u32), Exception> {
    match i.ops[0] {
        Operand::Far => Ok((i.imm2 as u16, i.imm & i.width.mask())),
        _ => operand::read_far(cpu, i),
    }
}

/// Pushes CS and EIP on the current stack.
fn push_return(cpu: &mut Cpu, w: Width) -> Result<(), Exception> {
    let selector = u32::from(cpu.state.segment(SegReg::Cs).selector);
    let eip = cpu.state.eip;
    let mut frame = Frame::current(cpu);
    frame.push(cpu, w, selector)?;
    frame.push(cpu, w, eip)?;
    frame.commit(cpu);
    Ok(())
}

/// The descriptor of a far transfer's selector.
fn fetch_target(cpu: &mut Cpu, selector: Selector) -> Result<Descriptor, Exception> {
    // Not null, else #GP(0).
    if selector.is_null() {
        return Err(Exception::GeneralProtection(0));
    }
    descriptor::fetch(cpu, selector, Exception::GeneralProtection)
}

/// A code segment transferred to without a gate: CPL stays.
fn direct_code_segment(
    cpu: &mut Cpu,
    selector: Selector,
    mut descriptor: Descriptor,
) -> Result<Segment, Exception> {
    let cpl = cpu.sys.cpl;
    let allowed = if descriptor.is_conforming_code() {
        // Conforming: DPL at most CPL, else #GP(selector).
        descriptor.dpl() <= cpl
    } else {
        // RPL at most CPL and DPL equal to it, else #GP(selector).
        selector.rpl() <= cpl && descriptor.dpl() == cpl
    };
    if !allowed {
        return Err(Exception::GeneralProtection(selector.error_code()));
    }
    // Present, else #NP(selector).
    if !descriptor.present() {
        return Err(Exception::SegmentNotPresent(selector.error_code()));
    }
    descriptor::mark_accessed(cpu, selector, &mut descriptor)?;
    Ok(descriptor.segment(selector))
}

/// The checks that call gates, task gates and TSS descriptors share.
fn require_gate_access(cpu: &Cpu, selector: Selector, gate: &Descriptor) -> Result<(), Exception> {
    // DPL at least CPL and RPL, else #GP(selector).
    if gate.dpl() < cpu.sys.cpl || gate.dpl() < selector.rpl() {
        return Err(Exception::GeneralProtection(selector.error_code()));
    }
    // Present, else #NP(selector).
    if !gate.present() {
        return Err(Exception::SegmentNotPresent(selector.error_code()));
    }
    Ok(())
}

/// The code segment behind a call gate, checked as far as CALL and JMP agree.
fn gate_code(cpu: &mut Cpu, gate: &Descriptor) -> Result<(Selector, Descriptor), Exception> {
    let selector = gate.gate_selector();
    let code = fetch_target(cpu, selector)?;
    // A code segment with DPL at most CPL, else #GP(code selector).
    if !code.is_code() || code.dpl() > cpu.sys.cpl {
        return Err(Exception::GeneralProtection(selector.error_code()));
    }
    Ok((selector, code))
}

/// Present, else #NP(code selector); then accessed.
fn gate_segment(
    cpu: &mut Cpu,
    selector: Selector,
    mut code: Descriptor,
) -> Result<Segment, Exception> {
    if !code.present() {
        return Err(Exception::SegmentNotPresent(selector.error_code()));
    }
    descriptor::mark_accessed(cpu, selector, &mut code)?;
    Ok(code.segment(selector))
}

fn jump_through_gate(cpu: &mut Cpu, gate: &Descriptor, w: Width) -> Result<(), Exception> {
    let (selector, code) = gate_code(cpu, gate)?;
    let cpl = cpu.sys.cpl;
    // JMP cannot change CPL: non-conforming DPL must equal it, else #GP(code selector).
    if !code.is_conforming_code() && code.dpl() != cpl {
        return Err(Exception::GeneralProtection(selector.error_code()));
    }
    let code = gate_segment(cpu, selector, code)?;
    let eip = gate.gate_offset(w);
    require_in_limit(&code, eip)?;
    enter_code(cpu, code, cpl, eip);
    Ok(())
}

fn call_through_gate(cpu: &mut Cpu, gate: &Descriptor, w: Width) -> Result<(), Exception> {
    let (selector, code) = gate_code(cpu, gate)?;
    let inner = !code.is_conforming_code() && code.dpl() < cpu.sys.cpl;
    let level = if inner { code.dpl() } else { cpu.sys.cpl };
    let code = gate_segment(cpu, selector, code)?;
    let eip = gate.gate_offset(w);
    if inner {
        return call_inner(cpu, gate, w, code, level);
    }
    require_in_limit(&code, eip)?;
    push_return(cpu, w)?;
    enter_code(cpu, code, level, eip);
    Ok(())
}

/// CALL through a gate to more privilege: a new stack, with parameters copied.
fn call_inner(
    cpu: &mut Cpu,
    gate: &Descriptor,
    w: Width,
    code: Segment,
    level: u8,
) -> Result<(), Exception> {
    let (stack, esp) = tss::inner_stack(cpu, level)?;
    let stack = segment::stack_segment(cpu, stack, level, Exception::InvalidTss)?;
    let params = gate.gate_params();
    let mut frame = Frame::switched(cpu, stack, esp, level);
    // Room for SS, ESP, parameters, CS, EIP, else #SS(SS selector).
    frame.require_room((4 + params) * w.bytes())?;
    let eip = gate.gate_offset(w);
    require_in_limit(&code, eip)?;
    let old = Frame::current(cpu);
    let old_ss = u32::from(cpu.state.segment(SegReg::Ss).selector);
    let old_esp = cpu.state.gpr[4];
    frame.push(cpu, w, old_ss)?;
    frame.push(cpu, w, old_esp)?;
    for n in (0..params).rev() {
        let param = old.peek(cpu, w, n * w.bytes())?;
        frame.push(cpu, w, param)?;
    }
    let old_cs = u32::from(cpu.state.segment(SegReg::Cs).selector);
    let old_eip = cpu.state.eip;
    frame.push(cpu, w, old_cs)?;
    frame.push(cpu, w, old_eip)?;
    frame.commit(cpu);
    cpu.state.seg[SegReg::Ss as usize] = stack;
    enter_code(cpu, code, level, eip);
    Ok(())
}

/// JMP or CALL to a task gate or a TSS; anything else is #GP(selector).
fn to_task(
    cpu: &mut Cpu,
    selector: Selector,
    descriptor: &Descriptor,
    kind: Kind,
    cause: task::Cause,
) -> Result<(), Exception> {
    match kind {
        Kind::TaskGate => {
            require_gate_access(cpu, selector, descriptor)?;
            task::switch_through_gate(cpu, descriptor, cause)
        }
        Kind::AvailableTss(_) => {
            require_gate_access(cpu, selector, descriptor)?;
            task::switch_to(cpu, selector, *descriptor, cause)
        }
        _ => Err(Exception::GeneralProtection(selector.error_code())),
    }
}
