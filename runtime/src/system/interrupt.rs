//! Event delivery: exceptions, external interrupts, INT n (SDM vol. 3A,
//! "Interrupt and Exception Handling"; vol. 2, INT n/INTO/INT3/INT1).
//!
//! [`deliver`] never fails: a fault in delivering one event becomes the next
//! event, by the rules of "Interrupt 8 — Double Fault Exception", and ends at the
//! latest in shutdown. Each attempt is atomic: if a check or a push fails,
//! CS:EIP, SS:ESP, EFLAGS and CPL are as before, and the second event reports
//! them.

use super::descriptor::{self, Descriptor, Kind};
use super::segment::{self, enter_code, enter_code_without_descriptor, require_in_limit};
use super::stack::Frame;
use super::task::{self, Cause};
use super::{branches, crossing, tss, vme};
use crate::vcpu::{Cpu, Shadow, cr0};
use shadow_mmu::LinearAddr;
use translator::exception::Exception;
use translator::flags;
use translator::insn::{Insn, SegReg, Width};
use translator::state::Segment;

/// The vector of non-maskable interrupts.
const NMI: u8 = 2;

/// What breaks into the instruction stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An exception; for faults EIP is that of the faulting instruction.
    Exception(Exception),
    /// An interrupt from a device, with the vector the controller gave. Also
    /// NMI (vector 2), and INT1, which like these asks for no privilege.
    External(u8),
    /// INT n, INT3, INTO: the gate's DPL must allow it. EIP is past the instruction.
    Software(u8),
}

impl Event {
    /// The entry of the IDT it goes through.
    pub fn vector(self) -> u8 {
        match self {
            Self::Exception(e) => e.vector(),
            Self::External(vector) | Self::Software(vector) => vector,
        }
    }

    /// The error code that goes with it.
    pub fn error_code(self) -> Option<u32> {
        match self {
            Self::Exception(e) => e.error_code(),
            _ => None,
        }
    }

    /// The EXT bit of error codes for faults met while delivering this event.
    fn ext(self) -> u16 {
        u16::from(!matches!(self, Self::Software(_)))
    }

    /// The instruction will be restarted: RF is set in the pushed EFLAGS.
    pub fn is_fault(self) -> bool {
        use Exception as E;
        match self {
            Self::Exception(E::Debug | E::Breakpoint | E::Overflow | E::DoubleFault) => false,
            Self::Exception(_) => true,
            _ => false,
        }
    }
}

/// Delivers an event, or what becomes of it.
pub fn deliver(cpu: &mut Cpu, event: Event) {
    let recording = cpu.sys.branches.recording();
    let from = recording.then(|| branches::place(cpu));
    let mut event = event;
    while let Err(second) = enter(cpu, event) {
        let next = match event {
            Event::Exception(first) => escalate(first, second),
            _ => Some(second),
        };
        match next {
            Some(e) => event = Event::Exception(e),
            None => {
                cpu.shutdown = true;
                cpu.request_attention();
                return;
            }
        }
    }
    if let Some(from) = from {
        branches::record(cpu, from);
    }
}

/// Delivers the NMI that is due; others wait until the next IRET.
pub fn deliver_nmi(cpu: &mut Cpu) {
    cpu.nmi_pending = false;
    cpu.nmi_line &= cpu.pc.nmi_masked();
    cpu.nmi_blocked = true;
    // That unblocks NMIs.
    cpu.state.records.forget_iret();
    deliver(cpu, Event::External(NMI));
}

/// What follows when delivering `first` raises `second`; `None` is shutdown
/// (SDM vol. 3A, "Conditions for Generating a Double Fault").
fn escalate(first: Exception, second: Exception) -> Option<Exception> {
    use Exception as E;
    let contributory = |e| {
        matches!(
            e,
            E::DivideError
                | E::InvalidTss(_)
                | E::SegmentNotPresent(_)
                | E::StackFault(_)
                | E::GeneralProtection(_)
        )
    };
    let page = |e| matches!(e, E::PageFault { .. });
    match first {
        E::DoubleFault => None,
        _ if contributory(first) && contributory(second) => Some(E::DoubleFault),
        _ if page(first) && (contributory(second) || page(second)) => Some(E::DoubleFault),
        _ => Some(second),
    }
}

/// INT n.
///
/// # Errors
/// What the delivery raises; EXT is clear in its error code.
pub fn int(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let vector = i.imm as u8;
    if cpu.v86() && vme::redirect(cpu, vector)? {
        return Ok(());
    }
    enter(cpu, Event::Software(vector))
}

/// INT1: #DB without touching DR6 and without the gate's DPL check.
///
/// # Errors
/// What the delivery raises.
pub fn int1(cpu: &mut Cpu) -> Result<(), Exception> {
    enter(cpu, Event::External(1))
}

/// INT3.
///
/// # Errors
/// What the delivery raises.
pub fn int3(cpu: &mut Cpu) -> Result<(), Exception> {
    enter(cpu, Event::Software(3))
}

/// INTO: #OF if OF is set.
///
/// # Errors
/// What the delivery raises.
pub fn into(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.state.eflags_image() & flags::OF == 0 {
        return Ok(());
    }
    enter(cpu, Event::Software(4))
}

/// One attempt at delivery.
///
/// # Errors
/// The exception met on the way; only CR2 has changed then.
pub fn enter(cpu: &mut Cpu, event: Event) -> Result<(), Exception> {
    if cpu.log.is_some() {
        cpu.log_event(event);
    }
    if let Event::Exception(Exception::PageFault { addr, .. }) = event {
        cpu.sys.cr2 = addr;
    }
    if cpu.sys.cr0 & cr0::PE == 0 {
        real_mode(cpu, event)?;
    } else if !crossing::inward(cpu, event) {
        through_idt(cpu, event).map_err(|e| with_ext(e, event.ext()))?;
    }
    if event == Event::Exception(Exception::Debug) {
        super::debug::entered_handler(cpu);
    }
    branches::entered_handler(cpu);
    cpu.halted = false;
    cpu.shadow = Shadow::None;
    cpu.diverted = true;
    Ok(())
}

/// Sets EXT in the error code of the exceptions whose code has it.
fn with_ext(e: Exception, ext: u16) -> Exception {
    match e {
        Exception::InvalidTss(code) => Exception::InvalidTss(code | ext),
        Exception::SegmentNotPresent(code) => Exception::SegmentNotPresent(code | ext),
        Exception::StackFault(code) => Exception::StackFault(code | ext),
        Exception::GeneralProtection(code) => Exception::GeneralProtection(code | ext),
        e => e,
    }
}

/// Real mode: a far pointer in the interrupt vector table, three words pushed.
fn real_mode(cpu: &mut Cpu, event: Event) -> Result<(), Exception> {
    let at = u32::from(event.vector()) * 4;
    // The entry must lie in the table, else #GP.
    if at + 3 > u32::from(cpu.sys.idtr.limit) {
        return Err(Exception::GeneralProtection(0));
    }
    let entry = LinearAddr(cpu.sys.idtr.base.wrapping_add(at));
    let pointer = cpu.read_system(entry, Width::D)?;
    let code = segment::without_descriptor(cpu, SegReg::Cs, (pointer >> 16) as u16);
    let image = cpu.state.eflags_image();
    let mut frame = Frame::current(cpu);
    let eip = pointer & 0xffff;
    require_in_limit(&code, eip)?;
    let old_cs = u32::from(cpu.state.segment(SegReg::Cs).selector);
    let old_eip = cpu.state.eip;
    frame.push(cpu, Width::W, image)?;
    frame.push(cpu, Width::W, old_cs)?;
    frame.push(cpu, Width::W, old_eip)?;
    frame.commit(cpu);
    cpu.state.eflags &= !(flags::IF | flags::TF | flags::AC | flags::RF);
    enter_code_without_descriptor(cpu, code, eip);
    cpu.mode_changed();
    Ok(())
}

/// Protected and virtual-8086 mode: a gate in the IDT.
fn through_idt(cpu: &mut Cpu, event: Event) -> Result<(), Exception> {
    let at = u32::from(event.vector()) * 8;
    let code = at as u16 | 2;
    // The gate must lie in the IDT, else #GP(vector).
    if at + 7 > u32::from(cpu.sys.idtr.limit) {
        return Err(Exception::GeneralProtection(code));
    }
    let gate = descriptor::read(cpu, LinearAddr(cpu.sys.idtr.base.wrapping_add(at)))?;
    // An interrupt, trap or task gate, else #GP(vector).
    let kind = gate.kind();
    if !matches!(
        kind,
        Kind::TaskGate | Kind::InterruptGate(_) | Kind::TrapGate(_)
    ) {
        return Err(Exception::GeneralProtection(code));
    }
    // INT n needs DPL at least CPL, else #GP(vector).
    if matches!(event, Event::Software(_)) && gate.dpl() < cpu.sys.cpl {
        return Err(Exception::GeneralProtection(code));
    }
    // Present, else #NP(vector).
    if !gate.present() {
        return Err(Exception::SegmentNotPresent(code));
    }
    match kind {
        Kind::InterruptGate(w) => through_gate(cpu, event, &gate, w, flags::IF),
        Kind::TrapGate(w) => through_gate(cpu, event, &gate, w, 0),
        _ => task::switch_through_gate(cpu, &gate, Cause::Interrupt(event)),
    }
}

/// Interrupt or trap gate; `masked` is IF for the former.
fn through_gate(
    cpu: &mut Cpu,
    event: Event,
    gate: &Descriptor,
    w: Width,
    masked: u32,
) -> Result<(), Exception> {
    let from = cpu.state.mode;
    let (code, level) = handler_segment(cpu, gate)?;
    let eip = gate.gate_offset(w);
    let mut frame = if level < cpu.sys.cpl {
        inner_frame(cpu, event, level, w)?
    } else {
        let frame = Frame::current(cpu);
        let slots = 3 + u32::from(event.error_code().is_some());
        // Room for the frame, else #SS(0).
        frame.require_room(slots * w.bytes())?;
        frame
    };
    require_in_limit(&code, eip)?;
    if level < cpu.sys.cpl {
        push_outer_stack(cpu, &mut frame, w)?;
    }
    push_state(cpu, event, &mut frame, w)?;
    frame.commit(cpu);
    if level < cpu.sys.cpl {
        cpu.state.seg[SegReg::Ss as usize] = *frame.segment();
    }
    if cpu.v86() {
        for seg in [SegReg::Gs, SegReg::Fs, SegReg::Ds, SegReg::Es] {
            cpu.state.seg[seg as usize] = segment::null(0);
        }
    }
    cpu.state.eflags &= !(flags::TF | flags::NT | flags::RF | flags::VM | masked);
    enter_code(cpu, code, level, eip);
    crossing::remember_inward(cpu, event, gate, from);
    Ok(())
}

/// The handler's code segment and the level it will run at.
fn handler_segment(cpu: &mut Cpu, gate: &Descriptor) -> Result<(Segment, u8), Exception> {
    let selector = gate.gate_selector();
    let gp = Exception::GeneralProtection(selector.error_code());
    // Not null, else #GP(0).
    if selector.is_null() {
        return Err(Exception::GeneralProtection(0));
    }
    let mut code = descriptor::fetch(cpu, selector, Exception::GeneralProtection)?;
    // A code segment with DPL at most CPL, else #GP(selector).
    if !code.is_code() || code.dpl() > cpu.sys.cpl {
        return Err(gp);
    }
    // Present, else #NP(selector).
    if !code.present() {
        return Err(Exception::SegmentNotPresent(selector.error_code()));
    }
    let level = if code.is_conforming_code() {
        cpu.sys.cpl
    } else {
        code.dpl()
    };
    // From virtual-8086 mode only to level 0, else #GP(selector).
    if cpu.v86() && level != 0 {
        return Err(gp);
    }
    descriptor::mark_accessed(cpu, selector, &mut code)?;
    Ok((code.segment(selector), level))
}

/// The stack of the inner `level`, from the TSS, with room for what follows.
fn inner_frame(cpu: &mut Cpu, event: Event, level: u8, w: Width) -> Result<Frame, Exception> {
    let (stack, esp) = tss::inner_stack(cpu, level)?;
    let stack = segment::stack_segment(cpu, stack, level, Exception::InvalidTss)?;
    let frame = Frame::switched(cpu, stack, esp, level);
    let slots = 5 + u32::from(event.error_code().is_some()) + if cpu.v86() { 4 } else { 0 };
    // Room for the frame, else #SS(SS selector).
    frame.require_room(slots * w.bytes())?;
    Ok(frame)
}

/// Pushes the interrupted stack, and from virtual-8086 mode the data segments.
fn push_outer_stack(cpu: &mut Cpu, frame: &mut Frame, w: Width) -> Result<(), Exception> {
    if cpu.v86() {
        for seg in [SegReg::Gs, SegReg::Fs, SegReg::Ds, SegReg::Es] {
            let selector = u32::from(cpu.state.segment(seg).selector);
            frame.push(cpu, w, selector)?;
        }
    }
    let selector = u32::from(cpu.state.segment(SegReg::Ss).selector);
    let esp = cpu.state.gpr[4];
    frame.push(cpu, w, selector)?;
    frame.push(cpu, w, esp)
}

/// Pushes EFLAGS, CS, EIP and the error code.
fn push_state(cpu: &mut Cpu, event: Event, frame: &mut Frame, w: Width) -> Result<(), Exception> {
    let restarted = if event.is_fault() { flags::RF } else { 0 };
    let image = cpu.state.eflags_image() | restarted;
    let selector = u32::from(cpu.state.segment(SegReg::Cs).selector);
    let eip = cpu.state.eip;
    frame.push(cpu, w, image)?;
    frame.push(cpu, w, selector)?;
    frame.push(cpu, w, eip)?;
    match event.error_code() {
        Some(code) => frame.push(cpu, w, code),
        None => Ok(()),
    }
}
