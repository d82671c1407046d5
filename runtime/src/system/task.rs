//! Task switches (SDM vol. 3A, "Task Management"): by JMP, CALL, task gate, and
//! IRET with NT set.
//!
//! A switch has a point of no return. Before it, everything that can fault in
//! the outgoing task is checked or probed; faults there belong to the outgoing
//! task, which is unchanged. After it TR names the new task, and a bad selector
//! in its TSS is a fault *of the new task*, at its first instruction. Such a
//! fault cannot be returned as the instruction's, whose EIP is another task's: it
//! is delivered on the spot, unless an exception or interrupt was being
//! delivered, whose rules of escalation then apply.
//!
//! The T bit of the new TSS makes a debug trap pending rather than raising it:
//! delivery then never nests, whatever the guest's tables say.

use super::descriptor::{self, Descriptor, Kind, Selector};
use super::interrupt::{Event, deliver};
use super::iret::resume_flag;
use super::segment;
use super::stack::Frame;
use super::tss::{self, Image};
use super::{control, debug, shown, table};
use crate::vcpu::{Cpu, cr0};
use translator::exception::Exception;
use translator::flags::{ARITHMETIC, DF, IF, IOPL, NT, RF, TF, VM};
use translator::insn::{SegReg, Width};
use translator::state::Segment;

/// What makes the processor switch tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The SDM's words.
pub enum Cause {
    Jump,
    Call,
    Interrupt(Event),
    Iret,
}

/// The flags a task switch loads, besides those of the model and RF.
const LOADED_FLAGS: u32 = ARITHMETIC | TF | IF | DF | IOPL | NT | VM;

impl Cause {
    /// The new task is linked to the old one.
    fn nests(self) -> bool {
        matches!(self, Self::Call | Self::Interrupt(_))
    }
}

/// Switches to the task of a task gate, whose own checks the caller has made.
///
/// # Errors
/// #GP, #NP, #TS, #PF.
pub fn switch_through_gate(
    cpu: &mut Cpu,
    gate: &Descriptor,
    cause: Cause,
) -> Result<(), Exception> {
    let selector = gate.gate_selector();
    let gp = Exception::GeneralProtection(selector.error_code());
    // In the GDT and an available TSS, else #GP(TSS selector).
    if selector.is_local() {
        return Err(gp);
    }
    let descriptor = descriptor::fetch(cpu, selector, Exception::GeneralProtection)?;
    if !matches!(descriptor.kind(), Kind::AvailableTss(_)) {
        return Err(gp);
    }
    // Present, else #NP(TSS selector).
    if !descriptor.present() {
        return Err(Exception::SegmentNotPresent(selector.error_code()));
    }
    switch(cpu, selector, descriptor, cause)
}

/// Switches to an available TSS, named directly; the caller has checked the
/// descriptor's privilege and presence.
///
/// # Errors
/// #GP, #TS, #PF.
pub fn switch_to(
    cpu: &mut Cpu,
    selector: Selector,
    descriptor: Descriptor,
    cause: Cause,
) -> Result<(), Exception> {
    // In the GDT, else #GP(selector).
    if selector.is_local() {
        return Err(Exception::GeneralProtection(selector.error_code()));
    }
    switch(cpu, selector, descriptor, cause)
}

/// IRET with NT set: back to the task in the back link.
///
/// # Errors
/// #TS, #NP, #PF.
pub fn return_from_nested(cpu: &mut Cpu) -> Result<(), Exception> {
    let tr = cpu.sys.tr;
    let selector = tss::back_link(cpu, &tr)?;
    let ts = Exception::InvalidTss(selector.error_code());
    // In the GDT and a busy TSS, else #TS(selector).
    if selector.is_local() {
        return Err(ts);
    }
    let descriptor = descriptor::fetch(cpu, selector, Exception::InvalidTss)?;
    if !matches!(descriptor.kind(), Kind::BusyTss(_)) {
        return Err(ts);
    }
    // Present, else #NP(selector).
    if !descriptor.present() {
        return Err(Exception::SegmentNotPresent(selector.error_code()));
    }
    switch(cpu, selector, descriptor, Cause::Iret)
}

/// The switch itself.
fn switch(
    cpu: &mut Cpu,
    selector: Selector,
    mut descriptor: Descriptor,
    cause: Cause,
) -> Result<(), Exception> {
    let (old, new) = (cpu.sys.tr, descriptor.segment(selector));
    // Both TSSs long enough, else #TS.
    for tss in [&new, &old] {
        if tss::too_short(tss) {
            return Err(Exception::InvalidTss(tss.selector & !3));
        }
    }
    let mut image = tss::read(cpu, &new)?;
    tss::probe_save(cpu, &old)?;
    if cause.nests() {
        tss::set_back_link(cpu, &new, old.selector)?;
        image.eflags |= NT;
    }
    if cause != Cause::Iret {
        descriptor::set_busy(cpu, selector, &mut descriptor, true)?;
    }
    if matches!(cause, Cause::Jump | Cause::Iret) {
        let outgoing = Selector(old.selector);
        let mut descriptor = descriptor::fetch(cpu, outgoing, Exception::InvalidTss)?;
        descriptor::set_busy(cpu, outgoing, &mut descriptor, false)?;
    }
    tss::save(cpu, &old, outgoing_flags(cpu, cause))?;
    cpu.sys.tr = descriptor.segment(selector);
    shown::forget(cpu);

    let entered = enter_task(cpu, &image).and_then(|()| push_error_code(cpu, &new, cause));
    cpu.diverted = true;
    if image.trap && entered.is_ok() {
        // The run loop delivers it before the new task's first instruction.
        cpu.pending_debug |= debug::DR6_BT;
    }
    if let Cause::Interrupt(Event::Exception(_) | Event::External(_)) = cause {
        return entered;
    }
    if let Err(e) = entered {
        deliver(cpu, Event::Exception(e));
    }
    Ok(())
}

/// EFLAGS as the outgoing task will find them.
fn outgoing_flags(cpu: &Cpu, cause: Cause) -> u32 {
    let image = cpu.state.eflags_image();
    match cause {
        Cause::Iret => image & !NT,
        Cause::Interrupt(event) if event.is_fault() => image | RF,
        _ => image,
    }
}

/// Loads the state of the new task. The registers come first, so that a fault in
/// a segment finds them; a segment not yet loaded is unusable.
fn enter_task(cpu: &mut Cpu, image: &Image) -> Result<(), Exception> {
    cpu.sys.cr0 |= cr0::TS;
    cpu.sys.dr[7] &= !debug::DR7_LOCAL;
    cpu.state.gpr[..8].copy_from_slice(&image.gpr);
    (cpu.state.eip, cpu.branched) = (image.eip, true);
    let loaded = LOADED_FLAGS
        | cpu.model.eflags_writable()
        | cpu.model.virtual_flags()
        | resume_flag(cpu, image.eflags);
    cpu.state.set_eflags_image(image.eflags & loaded);
    for (s, &selector) in cpu.state.seg.iter_mut().zip(&image.selectors) {
        *s = segment::null(selector);
    }
    cpu.sys.ldtr = segment::null(image.ldt);
    let cs = Selector(image.selectors[SegReg::Cs as usize]);
    cpu.sys.cpl = if cpu.v86() { 3 } else { cs.rpl() };
    cpu.request_attention();
    let loaded = load_segments(cpu, image, cs);
    cpu.mode_changed();
    loaded
}

fn load_segments(cpu: &mut Cpu, image: &Image, cs: Selector) -> Result<(), Exception> {
    if let Some(cr3) = image.cr3
        && cpu.sys.cr0 & cr0::PG != 0
    {
        control::set_cr3(cpu, cr3)?;
    }
    let ts: descriptor::SelectorFault = Exception::InvalidTss;
    cpu.sys.ldtr = table::ldt_segment(cpu, Selector(image.ldt), ts, ts)?;
    if image.eflags & VM != 0 {
        for (seg, selector) in SegReg::ALL.into_iter().zip(image.selectors) {
            cpu.state.seg[seg as usize] = segment::without_descriptor(cpu, seg, selector);
        }
        let code = *cpu.state.segment(SegReg::Cs);
        return segment::require_in_limit(&code, image.eip);
    }
    let code = code_segment(cpu, cs)?;
    cpu.state.seg[SegReg::Cs as usize] = code;
    let cpl = cpu.sys.cpl;
    let ss = Selector(image.selectors[SegReg::Ss as usize]);
    cpu.state.seg[SegReg::Ss as usize] = segment::stack_segment(cpu, ss, cpl, ts)?;
    for seg in [SegReg::Ds, SegReg::Es, SegReg::Fs, SegReg::Gs] {
        let selector = Selector(image.selectors[seg as usize]);
        cpu.state.seg[seg as usize] = segment::data_segment(cpu, selector, cpl, ts)?;
    }
    // EIP within the code segment, else #GP(0).
    segment::require_in_limit(&code, image.eip)
}

/// The new task's code segment, whose RPL is its CPL.
fn code_segment(cpu: &mut Cpu, selector: Selector) -> Result<Segment, Exception> {
    let ts = Exception::InvalidTss(selector.error_code());
    // Not null and in its table, else #TS(selector).
    if selector.is_null() {
        return Err(ts);
    }
    let mut code = descriptor::fetch(cpu, selector, Exception::InvalidTss)?;
    // Code; conforming with DPL at most RPL, or DPL equal to RPL; else #TS(selector).
    let allowed = match code.kind() {
        Kind::Code if code.is_conforming_code() => code.dpl() <= selector.rpl(),
        Kind::Code => code.dpl() == selector.rpl(),
        _ => false,
    };
    if !allowed {
        return Err(ts);
    }
    // Present, else #NP(selector).
    if !code.present() {
        return Err(Exception::SegmentNotPresent(selector.error_code()));
    }
    descriptor::mark_accessed(cpu, selector, &mut code)?;
    Ok(code.segment(selector))
}

/// Pushes the error code of the exception that caused the switch, in the width
/// of the new TSS, on the new task's stack.
fn push_error_code(cpu: &mut Cpu, tss: &Segment, cause: Cause) -> Result<(), Exception> {
    let Cause::Interrupt(event) = cause else {
        return Ok(());
    };
    let Some(code) = event.error_code() else {
        return Ok(());
    };
    let w: Width = tss::width(tss);
    let mut frame = Frame::current(cpu);
    frame.push(cpu, w, code)?;
    frame.commit(cpu);
    Ok(())
}
