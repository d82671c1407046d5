//! The task-state segment in memory: its two formats, the stacks it gives to inner
//! levels, the I/O permission bitmap (SDM vol. 3A, "Task-State Segment (TSS)" and
//! "16-Bit Task-State Segment"). What a task switch does with it is in [`super::task`].

use super::descriptor::Selector;
use crate::vcpu::Cpu;
use shadow_mmu::LinearAddr;
use translator::exception::Exception;
use translator::insn::{SegReg, Width};
use translator::state::Segment;

/// Offsets of a format. Every field but the selectors in a 32-bit TSS is `w` wide,
/// every slot is.
struct Layout {
    w: Width,
    cr3: Option<u32>,
    /// EIP; EFLAGS, the eight registers and the selectors follow, each in a slot.
    state: u32,
    selectors: &'static [SegReg],
    ldt: u32,
    trap: Option<u32>,
    /// Smallest limit a switch accepts.
    limit: u32,
}

const SELECTORS: [SegReg; 6] = SegReg::ALL;

/// Offset of the I/O map base in a 32-bit TSS.
const IO_MAP_BASE: u32 = 102;

fn layout(w: Width) -> Layout {
    match w {
        Width::D => Layout {
            w,
            cr3: Some(28),
            state: 32,
            selectors: &SELECTORS,
            ldt: 96,
            trap: Some(100),
            limit: 0x67,
        },
        _ => Layout {
            w: Width::W,
            cr3: None,
            state: 14,
            selectors: &SELECTORS[..4],
            ldt: 42,
            trap: None,
            limit: 0x2b,
        },
    }
}

/// The state of a task as its TSS holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// EIP.
    pub eip: u32,
    /// EFLAGS.
    pub eflags: u32,
    /// The general registers.
    pub gpr: [u32; 8],
    /// ES, CS, SS, DS, FS, GS; the last two are null in a 16-bit TSS.
    pub selectors: [u16; 6],
    /// LDTR.
    pub ldt: u16,
    /// CR3, which a 16-bit TSS does not have.
    pub cr3: Option<u32>,
    /// T: #DB after a switch to this task.
    pub trap: bool,
}

/// 286 or 386 format, by the type of the descriptor the segment was loaded from.
pub fn width(tss: &Segment) -> Width {
    if tss.attributes & 8 != 0 {
        Width::D
    } else {
        Width::W
    }
}

/// The TSS is too short for a task switch.
pub fn too_short(tss: &Segment) -> bool {
    tss.limit < layout(width(tss)).limit
}

/// Reads the state of a task that is switched to.
///
/// # Errors
/// #PF.
pub fn read(cpu: &mut Cpu, tss: &Segment) -> Result<Image, Exception> {
    let l = layout(width(tss));
    let mut image = Image::default();
    let field = |cpu: &mut Cpu, at: u32, w| cpu.read_system(at_offset(tss, at), w);
    let slot = |n: u32| l.state + n * l.w.bytes();
    image.eip = field(cpu, slot(0), l.w)?;
    image.eflags = field(cpu, slot(1), l.w)?;
    for (n, gpr) in (2..).zip(&mut image.gpr) {
        // A 16-bit TSS leaves the upper halves undefined; processors set them.
        *gpr = field(cpu, slot(n), l.w)? | !l.w.mask();
    }
    for (n, &seg) in (10..).zip(l.selectors) {
        image.selectors[seg as usize] = field(cpu, slot(n), Width::W)? as u16;
    }
    image.ldt = field(cpu, l.ldt, Width::W)? as u16;
    if let Some(at) = l.cr3 {
        image.cr3 = Some(field(cpu, at, Width::D)?);
    }
    if let Some(at) = l.trap {
        image.trap = field(cpu, at, Width::W)? & 1 != 0;
    }
    Ok(image)
}

/// Checks that [`save`] will succeed.
///
/// # Errors
/// #PF.
pub fn probe_save(cpu: &mut Cpu, tss: &Segment) -> Result<(), Exception> {
    let l = layout(width(tss));
    let first = at_offset(tss, l.state);
    cpu.probe_system_write(first, l.ldt - l.state)
}

/// Writes the current registers, and `eflags`, to the TSS of the task being left.
///
/// # Errors
/// #PF, excluded by [`probe_save`].
pub fn save(cpu: &mut Cpu, tss: &Segment, eflags: u32) -> Result<(), Exception> {
    let l = layout(width(tss));
    let mut at = l.state;
    let mut put = |cpu: &mut Cpu, v: u32, w: Width| {
        let to = at_offset(tss, at);
        at += l.w.bytes();
        cpu.write_system(to, w, v & w.mask())
    };
    put(cpu, cpu.state.eip, l.w)?;
    put(cpu, eflags, l.w)?;
    for n in 0..8 {
        put(cpu, cpu.state.gpr[n], l.w)?;
    }
    for &seg in l.selectors {
        put(cpu, u32::from(cpu.state.segment(seg).selector), Width::W)?;
    }
    Ok(())
}

/// The selector of the task that this one was called from.
///
/// # Errors
/// #PF.
pub fn back_link(cpu: &mut Cpu, tss: &Segment) -> Result<Selector, Exception> {
    let link = cpu.read_system(at_offset(tss, 0), Width::W)?;
    Ok(Selector(link as u16))
}

/// Writes the back link.
///
/// # Errors
/// #PF.
pub fn set_back_link(cpu: &mut Cpu, tss: &Segment, selector: u16) -> Result<(), Exception> {
    cpu.write_system(at_offset(tss, 0), Width::W, u32::from(selector))
}

/// The stack that the current TSS gives for the inner `level`: SS and ESP.
///
/// # Errors
/// #TS(TR selector) if the TSS ends before it, #PF.
pub fn inner_stack(cpu: &mut Cpu, level: u8) -> Result<(Selector, u32), Exception> {
    let tr = cpu.sys.tr;
    let w = width(&tr);
    let at = match w {
        Width::D => 4 + u32::from(level) * 8,
        _ => 2 + u32::from(level) * 4,
    };
    // ESP and SS must lie in the TSS, else #TS(TR).
    if at + w.bytes() + 1 > tr.limit {
        return Err(Exception::InvalidTss(tr.selector & !3));
    }
    let esp = cpu.read_system(at_offset(&tr, at), w)?;
    let ss = cpu.read_system(at_offset(&tr, at + w.bytes()), Width::W)?;
    Ok((Selector(ss as u16), esp))
}

/// Whether the I/O permission bitmap of the current TSS permits an access.
///
/// # Errors
/// #PF.
pub fn permits_port(cpu: &mut Cpu, port: u16, w: Width) -> Result<bool, Exception> {
    let tr = cpu.sys.tr;
    // Only a 32-bit TSS has a bitmap.
    if width(&tr) != Width::D || tr.limit < IO_MAP_BASE + 1 {
        return Ok(false);
    }
    let map = cpu.read_system(at_offset(&tr, IO_MAP_BASE), Width::W)?;
    let at = map + u32::from(port >> 3);
    // Two bytes are always read, and must lie in the TSS.
    if at + 1 > tr.limit {
        return Ok(false);
    }
    let bits = cpu.read_system(at_offset(&tr, at), Width::W)?;
    let mask = (1 << w.bytes()) - 1;
    Ok(bits >> (port & 7) & mask == 0)
}

/// Whether the interrupt redirection bitmap of the current TSS sends INT `vector`
/// of a virtual-8086 program to the program itself. The bitmap is the 32 bytes
/// below the I/O permission bitmap.
///
/// # Errors
/// #GP(0) if the bitmap is not in the TSS, #PF.
pub fn redirects(cpu: &mut Cpu, vector: u8) -> Result<bool, Exception> {
    let tr = cpu.sys.tr;
    if width(&tr) != Width::D || tr.limit < IO_MAP_BASE + 1 {
        return Err(Exception::GeneralProtection(0));
    }
    let map = cpu.read_system(at_offset(&tr, IO_MAP_BASE), Width::W)?;
    let at = map.wrapping_sub(32).wrapping_add(u32::from(vector >> 3));
    if at > tr.limit {
        return Err(Exception::GeneralProtection(0));
    }
    let bits = cpu.read_system(at_offset(&tr, at), Width::B)?;
    Ok(bits >> (vector & 7) & 1 == 0)
}

fn at_offset(tss: &Segment, offset: u32) -> LinearAddr {
    LinearAddr(tss.base.wrapping_add(offset))
}
