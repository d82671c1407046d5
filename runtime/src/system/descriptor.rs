//! Segment and gate descriptors: their fields, and the tables that hold them
//! (SDM vol. 3A, "Protected-Mode Memory Management" and "System Architecture
//! Overview").
//!
//! Tables are read by supervisor linear accesses whatever CPL is. A lookup that
//! fails raises an exception of the caller's choosing with the selector as error
//! code, since the same lookup is #GP in a MOV, #TS in a stack switch.

use crate::vcpu::Cpu;
use shadow_mmu::LinearAddr;
use translator::exception::Exception;
use translator::insn::Width;
use translator::state::Segment;

/// What an error code with a selector is put into: `Exception::GeneralProtection`
/// and its like.
pub type SelectorFault = fn(u16) -> Exception;

/// A selector: index, table indicator, requested privilege level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector(pub u16);

impl Selector {
    /// Requested privilege level.
    pub fn rpl(self) -> u8 {
        (self.0 & 3) as u8
    }

    /// Selects entry 0 of the GDT.
    pub fn is_null(self) -> bool {
        self.0 & !3 == 0
    }

    /// TI: selects from the LDT.
    pub fn is_local(self) -> bool {
        self.0 & 4 != 0
    }

    /// The error code that names this selector, EXT clear.
    pub fn error_code(self) -> u16 {
        self.0 & !3
    }

    /// The same descriptor, requested at `rpl`.
    pub fn with_rpl(self, rpl: u8) -> Self {
        Self(self.0 & !3 | u16::from(rpl))
    }
}

/// What a descriptor describes. The widths tell 286 from 386 system types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The SDM's names.
pub enum Kind {
    Code,
    Data,
    Ldt,
    AvailableTss(Width),
    BusyTss(Width),
    CallGate(Width),
    TaskGate,
    InterruptGate(Width),
    TrapGate(Width),
    Reserved,
}

/// An eight-byte descriptor as it lies in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Bits 0–31.
    pub low: u32,
    /// Bits 32–63.
    pub high: u32,
}

impl Descriptor {
    /// The type field, with S.
    pub fn kind(&self) -> Kind {
        if self.high & 1 << 12 != 0 {
            return if self.high & 1 << 11 != 0 {
                Kind::Code
            } else {
                Kind::Data
            };
        }
        match self.high >> 8 & 15 {
            1 => Kind::AvailableTss(Width::W),
            2 => Kind::Ldt,
            3 => Kind::BusyTss(Width::W),
            4 => Kind::CallGate(Width::W),
            5 => Kind::TaskGate,
            6 => Kind::InterruptGate(Width::W),
            7 => Kind::TrapGate(Width::W),
            9 => Kind::AvailableTss(Width::D),
            11 => Kind::BusyTss(Width::D),
            12 => Kind::CallGate(Width::D),
            14 => Kind::InterruptGate(Width::D),
            15 => Kind::TrapGate(Width::D),
            _ => Kind::Reserved,
        }
    }

    /// Descriptor privilege level.
    pub fn dpl(&self) -> u8 {
        (self.high >> 13 & 3) as u8
    }

    /// P.
    pub fn present(&self) -> bool {
        self.high & 1 << 15 != 0
    }

    /// A conforming code segment.
    pub fn is_conforming_code(&self) -> bool {
        self.kind() == Kind::Code && self.high & 1 << 10 != 0
    }

    /// A data segment, or a code segment that may be read.
    pub fn is_readable(&self) -> bool {
        match self.kind() {
            Kind::Data => true,
            Kind::Code => self.high & 1 << 9 != 0,
            _ => false,
        }
    }

    /// A data segment that may be written.
    pub fn is_writable(&self) -> bool {
        self.kind() == Kind::Data && self.high & 1 << 9 != 0
    }

    /// Segment base.
    pub fn base(&self) -> u32 {
        self.low >> 16 | (self.high & 0xff) << 16 | self.high & 0xff00_0000
    }

    /// Segment limit in bytes: the offset of the last one.
    pub fn limit(&self) -> u32 {
        let limit = self.low & 0xffff | self.high & 0xf_0000;
        if self.high & 1 << 23 != 0 {
            limit << 12 | 0xfff
        } else {
            limit
        }
    }

    /// Access byte and G/D/L/AVL, as [`Segment::attributes`] has them.
    pub fn attributes(&self) -> u16 {
        (self.high >> 8) as u16 & 0xf0ff
    }

    /// Where a gate leads: the selector.
    pub fn gate_selector(&self) -> Selector {
        Selector((self.low >> 16) as u16)
    }

    /// Where a gate leads: the offset, 16 or 32 bits as the gate is.
    pub fn gate_offset(&self, w: Width) -> u32 {
        (self.low & 0xffff | self.high & 0xffff_0000) & w.mask()
    }

    /// Parameters a call gate copies.
    pub fn gate_params(&self) -> u32 {
        self.high & 31
    }

    /// The segment register contents this descriptor gives.
    pub fn segment(&self, selector: Selector) -> Segment {
        let attributes = self.attributes();
        let limit = self.limit();
        let expand_down = self.kind() == Kind::Data && attributes & Segment::EXPAND_CONFORM != 0;
        let (lo, hi) = if expand_down {
            let top = if attributes & Segment::DEFAULT32 != 0 {
                u32::MAX
            } else {
                0xffff
            };
            if limit >= top {
                (1, 0)
            } else {
                (limit + 1, top)
            }
        } else {
            (0, limit)
        };
        Segment {
            base: self.base(),
            lo,
            hi,
            limit,
            selector: selector.0,
            attributes,
        }
    }
}

/// Where the selector's descriptor lies, if its table has it.
fn address(cpu: &Cpu, selector: Selector) -> Option<LinearAddr> {
    let last = u32::from(selector.0 | 7);
    let (base, limit) = if selector.is_local() {
        let ldtr = &cpu.sys.ldtr;
        if ldtr.attributes & Segment::PRESENT == 0 {
            return None;
        }
        (ldtr.base, ldtr.limit)
    } else {
        (cpu.sys.gdtr.base, u32::from(cpu.sys.gdtr.limit))
    };
    (last <= limit).then(|| LinearAddr(base.wrapping_add(last & !7)))
}

/// Reads a descriptor at a linear address.
///
/// # Errors
/// #PF.
#[inline]
pub fn read(cpu: &mut Cpu, at: LinearAddr) -> Result<Descriptor, Exception> {
    let low = cpu.read_linear(at, Width::D, false)?;
    let high = cpu.read_linear(LinearAddr(at.0.wrapping_add(4)), Width::D, false)?;
    Ok(Descriptor { low, high })
}

/// Reads the descriptor `selector` names.
///
/// # Errors
/// `fault(selector)` if the table ends before it, #PF.
#[inline]
pub fn fetch(
    cpu: &mut Cpu,
    selector: Selector,
    fault: SelectorFault,
) -> Result<Descriptor, Exception> {
    match address(cpu, selector) {
        Some(at) => read(cpu, at),
        None => Err(fault(selector.error_code())),
    }
}

/// Sets the accessed bit, in the table and in `descriptor`, unless it is set.
///
/// # Errors
/// #PF.
#[inline]
pub fn mark_accessed(
    cpu: &mut Cpu,
    selector: Selector,
    descriptor: &mut Descriptor,
) -> Result<(), Exception> {
    if descriptor.high & 1 << 8 == 0 {
        descriptor.high |= 1 << 8;
        write_access_byte(cpu, selector, descriptor)?;
    }
    Ok(())
}

/// Sets or clears the busy bit of a TSS descriptor in the GDT.
///
/// # Errors
/// #PF.
pub fn set_busy(
    cpu: &mut Cpu,
    selector: Selector,
    descriptor: &mut Descriptor,
    busy: bool,
) -> Result<(), Exception> {
    descriptor.high = descriptor.high & !(1 << 9) | u32::from(busy) << 9;
    write_access_byte(cpu, selector, descriptor)
}

/// Writes the access byte of `descriptor` back to its table.
fn write_access_byte(
    cpu: &mut Cpu,
    selector: Selector,
    descriptor: &Descriptor,
) -> Result<(), Exception> {
    let Some(at) = address(cpu, selector) else {
        return Ok(());
    };
    let byte = LinearAddr(at.0.wrapping_add(5));
    cpu.write_linear(byte, Width::B, descriptor.high >> 8 & 0xff, false)
}
