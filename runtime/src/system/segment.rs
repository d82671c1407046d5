//! Loading and storing segment registers (SDM vol. 2, MOV, POP, PUSH, LDS/LES/
//! LFS/LGS/LSS; vol. 3A, "Privilege Level Checking When Accessing Data Segments").
//!
//! In protected mode a load consults a descriptor table; in real and
//! virtual-8086 mode the base is the selector times 16. Kernels load flat
//! segments on every entry, so [`install`] recomputes the mode only when the new
//! segment is of another form than the old.

use super::descriptor::{self, Selector, SelectorFault};
use super::loads;
use super::operand;
use super::shown;
use super::stack::Frame;
use crate::vcpu::Cpu;
use translator::exception::Exception;
use translator::insn::{Insn, Operand, SegReg};
use translator::state::Segment;

/// The contents of a data-segment register loaded with a null selector: every
/// access through it faults.
pub fn null(selector: u16) -> Segment {
    Segment {
        selector,
        lo: 1,
        hi: 0,
        ..Segment::default()
    }
}

/// MOV Sreg, r/m16.
///
/// # Errors
/// #UD for CS; #GP, #NP, #SS as the load goes.
pub fn mov_to(cpu: &mut Cpu, i: &Insn, seg: SegReg) -> Result<(), Exception> {
    // CS cannot be loaded by MOV, else #UD.
    if seg == SegReg::Cs {
        return Err(Exception::InvalidOpcode);
    }
    let selector = operand::read_word(cpu, i, 1)?;
    load(cpu, seg, selector)?;
    if seg == SegReg::Ss {
        cpu.shadow_of_ss();
    }
    Ok(())
}

/// MOV r/m16, Sreg: a 32-bit register is zero-extended into.
///
/// # Errors
/// What the memory access raises.
pub fn mov_from(cpu: &mut Cpu, i: &Insn, seg: SegReg) -> Result<(), Exception> {
    let selector = cpu.state.segment(seg).selector;
    operand::write_word(cpu, i, 0, u32::from(selector))
}

/// PUSH Sreg.
///
/// # Errors
/// #SS, #PF.
pub fn push(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let Operand::Seg(seg) = i.ops[0] else {
        return Err(Exception::InvalidOpcode);
    };
    let selector = u32::from(cpu.state.segment(seg).selector);
    let mut frame = Frame::current(cpu);
    frame.push(cpu, i.width, selector)?;
    frame.commit(cpu);
    Ok(())
}

/// POP Sreg.
///
/// # Errors
/// #SS, #PF; #GP, #NP, #SS as the load goes.
pub fn pop(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let Operand::Seg(seg) = i.ops[0] else {
        return Err(Exception::InvalidOpcode);
    };
    let mut frame = Frame::current(cpu);
    let selector = frame.pop(cpu, i.width)?;
    load(cpu, seg, selector as u16)?;
    frame.commit(cpu);
    if seg == SegReg::Ss {
        cpu.shadow_of_ss();
    }
    Ok(())
}

/// LDS, LES, LFS, LGS, LSS: a far pointer into a segment and a general register.
///
/// # Errors
/// What the memory access raises; #GP, #NP, #SS as the load goes.
pub fn load_pointer(cpu: &mut Cpu, i: &Insn, seg: SegReg) -> Result<(), Exception> {
    let (selector, offset) = operand::read_far(cpu, i)?;
    load(cpu, seg, selector)?;
    if let Operand::Gpr(r, w) = i.ops[0] {
        operand::set_gpr(cpu, r, w, offset);
    }
    Ok(())
}

/// Loads ES, SS, DS, FS or GS in the current mode.
///
/// # Errors
/// #GP, #NP, #SS, #PF in protected mode; none otherwise.
pub fn load(cpu: &mut Cpu, seg: SegReg, selector: u16) -> Result<(), Exception> {
    let new = if !cpu.protected() {
        without_descriptor(cpu, seg, selector)
    } else if seg == SegReg::Ss {
        let cpl = cpu.sys.cpl;
        stack_segment(cpu, Selector(selector), cpl, Exception::GeneralProtection)?
    } else if let Some(known) = loads::known(cpu, selector) {
        known
    } else {
        let cpl = cpu.sys.cpl;
        let new = data_segment(cpu, Selector(selector), cpl, Exception::GeneralProtection)?;
        loads::remember(cpu, new);
        new
    };
    install(cpu, seg, new);
    if matches!(seg, SegReg::Fs | SegReg::Gs) && cpu.protected() {
        shown::load(cpu, &new);
    }
    Ok(())
}

/// The segment `selector` gives in real or virtual-8086 mode.
///
/// Real mode leaves limit and attributes alone, which is what "unreal" mode
/// lives on; virtual-8086 mode sets both.
pub fn without_descriptor(cpu: &Cpu, seg: SegReg, selector: u16) -> Segment {
    let real = Segment::real(selector);
    if cpu.v86() {
        return Segment {
            attributes: real.attributes | 3 << 5,
            ..real
        };
    }
    let old = cpu.state.segment(seg);
    if old.attributes & Segment::PRESENT == 0 {
        return real;
    }
    Segment {
        base: real.base,
        selector,
        ..*old
    }
}

/// A segment for SS at `cpl`, by the rules MOV SS, stack switches and outer
/// returns share; `fault` is what they differ in.
///
/// # Errors
/// `fault`, #SS(selector), #PF.
pub fn stack_segment(
    cpu: &mut Cpu,
    selector: Selector,
    cpl: u8,
    fault: SelectorFault,
) -> Result<Segment, Exception> {
    // A null selector, else fault(0).
    if selector.is_null() {
        return Err(fault(0));
    }
    let mut descriptor = descriptor::fetch(cpu, selector, fault)?;
    // RPL and DPL must equal CPL, and the segment be writable data, else fault(selector).
    if selector.rpl() != cpl || !descriptor.is_writable() || descriptor.dpl() != cpl {
        return Err(fault(selector.error_code()));
    }
    // Present, else #SS(selector).
    if !descriptor.present() {
        return Err(Exception::StackFault(selector.error_code()));
    }
    descriptor::mark_accessed(cpu, selector, &mut descriptor)?;
    Ok(descriptor.segment(selector))
}

/// A segment for DS, ES, FS or GS at `cpl`. `fault` is #GP, or #TS in a task switch.
///
/// # Errors
/// `fault(selector)`, #NP(selector), #PF.
pub fn data_segment(
    cpu: &mut Cpu,
    selector: Selector,
    cpl: u8,
    fault: SelectorFault,
) -> Result<Segment, Exception> {
    if selector.is_null() {
        return Ok(null(selector.0));
    }
    let mut descriptor = descriptor::fetch(cpu, selector, fault)?;
    // Data or readable code, else fault(selector).
    if !descriptor.is_readable() {
        return Err(fault(selector.error_code()));
    }
    // Unless conforming, DPL must be at least RPL and CPL, else fault(selector).
    let dpl = descriptor.dpl();
    if !descriptor.is_conforming_code() && (selector.rpl() > dpl || cpl > dpl) {
        return Err(fault(selector.error_code()));
    }
    // Present, else #NP(selector).
    if !descriptor.present() {
        return Err(Exception::SegmentNotPresent(selector.error_code()));
    }
    descriptor::mark_accessed(cpu, selector, &mut descriptor)?;
    Ok(descriptor.segment(selector))
}

/// Puts `new` into the register and recomputes the mode if it, or what EIP
/// means, can have changed.
pub fn install(cpu: &mut Cpu, seg: SegReg, new: Segment) {
    let old = std::mem::replace(&mut cpu.state.seg[seg as usize], new);
    match seg {
        SegReg::Cs if (old.base, old.hi) != (new.base, new.hi) => cpu.mode_changed(),
        SegReg::Cs | SegReg::Ss if form(&old) != form(&new) => cpu.mode_changed(),
        SegReg::Cs | SegReg::Ss => {}
        _ => cpu.data_segment_changed(seg),
    }
}

/// All that the mode bits can say of a segment.
#[inline]
fn form(s: &Segment) -> (bool, bool, u16) {
    let rights = Segment::CODE | Segment::READ_WRITE | Segment::DEFAULT32;
    (
        s.base == 0,
        s.lo == 0 && s.hi == u32::MAX,
        s.attributes & rights,
    )
}

/// Nulls the data segments that an outer level may not keep (SDM vol. 2, IRET
/// and RET): data or non-conforming code with DPL below the new CPL.
///
/// The caller recomputes the mode.
pub fn drop_inner_segments(cpu: &mut Cpu) {
    let cpl = cpu.sys.cpl;
    for seg in [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
        let s = &mut cpu.state.seg[seg as usize];
        let conforming = Segment::CODE | Segment::EXPAND_CONFORM;
        if s.dpl() < cpl && s.attributes & conforming != conforming {
            *s = null(0);
        }
    }
}

/// Checks a code descriptor that a far return or IRET goes back to, for the
/// level `selector.rpl()` (at least CPL), and gives the segment.
///
/// # Errors
/// #GP, #NP, #PF.
pub fn returned_code_segment(cpu: &mut Cpu, selector: Selector) -> Result<Segment, Exception> {
    let gp = Exception::GeneralProtection(selector.error_code());
    // Not null, else #GP(0).
    if selector.is_null() {
        return Err(Exception::GeneralProtection(0));
    }
    let mut descriptor = descriptor::fetch(cpu, selector, Exception::GeneralProtection)?;
    // A code segment, and RPL not inside CPL, else #GP(selector).
    if !descriptor.is_code() || selector.rpl() < cpu.sys.cpl {
        return Err(gp);
    }
    // Conforming: DPL at most RPL; otherwise equal; else #GP(selector).
    let allowed = if descriptor.is_conforming_code() {
        descriptor.dpl() <= selector.rpl()
    } else {
        descriptor.dpl() == selector.rpl()
    };
    if !allowed {
        return Err(gp);
    }
    // Present, else #NP(selector).
    if !descriptor.present() {
        return Err(Exception::SegmentNotPresent(selector.error_code()));
    }
    descriptor::mark_accessed(cpu, selector, &mut descriptor)?;
    Ok(descriptor.segment(selector))
}

/// EIP must lie within the code segment, else #GP(0).
///
/// # Errors
/// #GP(0).
pub fn require_in_limit(code: &Segment, eip: u32) -> Result<(), Exception> {
    if eip > code.hi {
        return Err(Exception::GeneralProtection(0));
    }
    Ok(())
}

/// Makes CS:EIP and CPL current.
pub fn enter_code(cpu: &mut Cpu, code: Segment, cpl: u8, eip: u32) {
    let selector = Selector(code.selector).with_rpl(cpl).0;
    cpu.state.seg[SegReg::Cs as usize] = Segment { selector, ..code };
    cpu.sys.cpl = cpl;
    (cpu.state.eip, cpu.branched) = (eip, true);
    cpu.mode_changed();
}

/// Makes CS:EIP current in real or virtual-8086 mode, where CPL does not come
/// from CS.
pub fn enter_code_without_descriptor(cpu: &mut Cpu, code: Segment, eip: u32) {
    (cpu.state.eip, cpu.branched) = (eip, true);
    install(cpu, SegReg::Cs, code);
}
