//! IRET in its forms: real mode, virtual-8086 mode, to the same level, to an
//! outer level, to virtual-8086 mode, from a nested task (SDM vol. 2, IRET/IRETD).

use super::descriptor::Selector;
use super::flagops::{keeps_if_from_v86, set_flags};
use super::segment::{self, enter_code, require_in_limit};
use super::stack::Frame;
use super::{crossing, debug, task, vme};
use crate::vcpu::Cpu;
use translator::exception::Exception;
use translator::flags::{self, ARITHMETIC, DF, IF, IOPL, NT, RF, TF};
use translator::insn::{Insn, SegReg, Width};
use translator::state::Segment;

/// Flags that every form restores.
const COMMON: u32 = ARITHMETIC | TF | DF | NT;

/// IRET, IRETD.
///
/// # Errors
/// #SS, #GP, #NP, #TS, #PF.
pub fn iret(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let w = i.width;
    cpu.nmi_blocked = false;
    if cpu.nmi_waits() {
        cpu.request_attention();
    }
    if w == Width::D && crossing::outward(cpu) {
        return Ok(());
    }
    if !cpu.protected() {
        return without_descriptors(cpu, w);
    }
    if cpu.state.eflags & NT != 0 {
        return task::return_from_nested(cpu);
    }
    let mut frame = Frame::current(cpu);
    let eip = frame.pop(cpu, w)?;
    let selector = Selector(frame.pop(cpu, w)? as u16);
    let image = frame.pop(cpu, w)?;
    if image & flags::VM != 0 && cpu.sys.cpl == 0 {
        return to_v86(cpu, frame, eip, selector, image);
    }
    let code = segment::returned_code_segment(cpu, selector)?;
    let mask = restorable(cpu, w, image);
    if selector.rpl() == cpu.sys.cpl {
        require_in_limit(&code, eip)?;
        frame.commit(cpu);
        set_flags(cpu, image, mask);
        let cpl = cpu.sys.cpl;
        enter_code(cpu, code, cpl, eip);
        return Ok(());
    }
    let from = cpu.state.mode;
    to_outer_level(cpu, frame, w, code, eip)?;
    set_flags(cpu, image, mask);
    enter_code(cpu, code, selector.rpl(), eip);
    crossing::remember_outward(cpu, from);
    Ok(())
}

/// Pops the outer stack and makes it current, with the outer CPL.
fn to_outer_level(
    cpu: &mut Cpu,
    mut frame: Frame,
    w: Width,
    code: Segment,
    eip: u32,
) -> Result<(), Exception> {
    let level = Selector(code.selector).rpl();
    let esp = frame.pop(cpu, w)?;
    let stack = Selector(frame.pop(cpu, w)? as u16);
    let stack = segment::stack_segment(cpu, stack, level, Exception::GeneralProtection)?;
    require_in_limit(&code, eip)?;
    Frame::switched(cpu, stack, esp, level).commit(cpu);
    cpu.state.seg[SegReg::Ss as usize] = stack;
    cpu.sys.cpl = level;
    segment::drop_inner_segments(cpu);
    Ok(())
}

/// RF as an image that is being loaded gives it.
///
/// Only breakpoints read RF, and an event that is delivered at once shows it; in
/// all other cases it would be gone after the next instruction, and is not kept.
pub fn resume_flag(cpu: &Cpu, image: u32) -> u32 {
    let read = debug::armed(cpu.sys.dr[7]) || cpu.pc.interrupt_pending() && image & IF != 0;
    if read { image & RF } else { 0 }
}

/// The flags IRET may restore at the level it leaves.
pub(super) fn restorable(cpu: &Cpu, w: Width, image: u32) -> u32 {
    let mut mask = COMMON;
    if w == Width::D {
        mask |= cpu.model.eflags_writable() | resume_flag(cpu, image);
    }
    // IF only if CPL is at most IOPL, IOPL only at CPL 0.
    if cpu.sys.cpl <= cpu.iopl() {
        mask |= IF;
    }
    if cpu.sys.cpl == 0 {
        mask |= IOPL;
        if w == Width::D && cpu.protected() {
            mask |= cpu.model.virtual_flags();
        }
    }
    mask
}

/// Real and virtual-8086 mode: no privilege can change.
fn without_descriptors(cpu: &mut Cpu, w: Width) -> Result<(), Exception> {
    let virtualised = keeps_if_from_v86(cpu);
    if virtualised {
        // An image without flags asks whether IRET is allowed at all.
        vme::require_loadable(cpu, w, 0)?;
    }
    let mut frame = Frame::current(cpu);
    let eip = frame.pop(cpu, w)?;
    let selector = frame.pop(cpu, w)? as u16;
    let image = frame.pop(cpu, w)?;
    let code = segment::without_descriptor(cpu, SegReg::Cs, selector);
    require_in_limit(&code, eip)?;
    if virtualised {
        vme::require_loadable(cpu, w, image)?;
    }
    frame.commit(cpu);
    (cpu.state.eip, cpu.branched) = (eip, true);
    cpu.state.seg[SegReg::Cs as usize] = code;
    if virtualised {
        vme::load_image(cpu, image);
    } else {
        let mask = restorable(cpu, w, image);
        set_flags(cpu, image, mask);
    }
    cpu.mode_changed();
    Ok(())
}

/// From level 0 to virtual-8086 mode: six more values are on the stack.
fn to_v86(
    cpu: &mut Cpu,
    mut frame: Frame,
    eip: u32,
    selector: Selector,
    image: u32,
) -> Result<(), Exception> {
    let esp = frame.pop(cpu, Width::D)?;
    let mut selectors = [0; 5];
    for slot in &mut selectors {
        *slot = frame.pop(cpu, Width::D)? as u16;
    }
    // EIP must lie within 64 KiB, else #GP(0).
    if eip > 0xffff {
        return Err(Exception::GeneralProtection(0));
    }
    let mask = COMMON
        | cpu.model.eflags_writable()
        | cpu.model.virtual_flags()
        | IF
        | IOPL
        | flags::VM
        | resume_flag(cpu, image);
    set_flags(cpu, image, mask);
    cpu.state.gpr[4] = esp;
    let order = [SegReg::Ss, SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs];
    for (seg, selector) in order.into_iter().zip(selectors) {
        cpu.state.seg[seg as usize] = segment::without_descriptor(cpu, seg, selector);
    }
    cpu.state.seg[SegReg::Cs as usize] = segment::without_descriptor(cpu, SegReg::Cs, selector.0);
    cpu.sys.cpl = 3;
    (cpu.state.eip, cpu.branched) = (eip, true);
    cpu.mode_changed();
    Ok(())
}
