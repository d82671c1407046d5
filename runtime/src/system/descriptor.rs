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
    #[inline]
    pub fn rpl(self) -> u8 {
        (self.0 & 3) as u8
    }

    /// Selects entry 0 of the GDT.
    #[inline]
    pub fn is_null(self) -> bool {
        self.0 & !3 == 0
    }

    /// TI: selects from the LDT.
    #[inline]
    pub fn is_local(self) -> bool {
        self.0 & 4 != 0
    }

    /// The error code that names this selector, EXT clear.
    #[inline]
    pub fn error_code(self) -> u16 {
        self.0 & !3
    }

    /// The same descriptor, requested at `rpl`.
    #[inline]
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

/// By S and type: system types first, then data and code.
const KINDS: [Kind; 32] = {
    let mut kinds = [Kind::Reserved; 32];
    let mut n = 16;
    while n < 32 {
        kinds[n] = if n & 8 == 0 { Kind::Data } else { Kind::Code };
        n += 1;
    }
    kinds[1] = Kind::AvailableTss(Width::W);
    kinds[2] = Kind::Ldt;
    kinds[3] = Kind::BusyTss(Width::W);
    kinds[4] = Kind::CallGate(Width::W);
    kinds[5] = Kind::TaskGate;
    kinds[6] = Kind::InterruptGate(Width::W);
    kinds[7] = Kind::TrapGate(Width::W);
    kinds[9] = Kind::AvailableTss(Width::D);
    kinds[11] = Kind::BusyTss(Width::D);
    kinds[12] = Kind::CallGate(Width::D);
    kinds[14] = Kind::InterruptGate(Width::D);
    kinds[15] = Kind::TrapGate(Width::D);
    kinds
};

/// S, and the type bits that tell code, conforming/expand-down and rights, as
/// they lie in [`Descriptor::high`].
mod bit {
    pub const RIGHTS: u32 = 1 << 9;
    pub const CONFORMING: u32 = 1 << 10;
    pub const CODE: u32 = 1 << 11;
    pub const NON_SYSTEM: u32 = 1 << 12;
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
    #[inline]
    pub fn kind(&self) -> Kind {
        KINDS[(self.high >> 8 & 31) as usize]
    }

    /// Descriptor privilege level.
    #[inline]
    pub fn dpl(&self) -> u8 {
        (self.high >> 13 & 3) as u8
    }

    /// P.
    #[inline]
    pub fn present(&self) -> bool {
        self.high & 1 << 15 != 0
    }

    /// A code segment.
    #[inline]
    pub fn is_code(&self) -> bool {
        let code = bit::NON_SYSTEM | bit::CODE;
        self.high & code == code
    }

    /// A conforming code segment.
    #[inline]
    pub fn is_conforming_code(&self) -> bool {
        let conforming = bit::NON_SYSTEM | bit::CODE | bit::CONFORMING;
        self.high & conforming == conforming
    }

    /// A data segment, or a code segment that may be read.
    #[inline]
    pub fn is_readable(&self) -> bool {
        let rights = self.high & (bit::NON_SYSTEM | bit::CODE | bit::RIGHTS);
        rights & bit::NON_SYSTEM != 0 && rights != bit::NON_SYSTEM | bit::CODE
    }

    /// A data segment that may be written.
    #[inline]
    pub fn is_writable(&self) -> bool {
        let rights = bit::NON_SYSTEM | bit::CODE | bit::RIGHTS;
        self.high & rights == bit::NON_SYSTEM | bit::RIGHTS
    }

    /// Segment base.
    #[inline]
    pub fn base(&self) -> u32 {
        self.low >> 16 | (self.high & 0xff) << 16 | self.high & 0xff00_0000
    }

    /// Segment limit in bytes: the offset of the last one.
    #[inline]
    pub fn limit(&self) -> u32 {
        let limit = self.low & 0xffff | self.high & 0xf_0000;
        if self.high & 1 << 23 != 0 {
            limit << 12 | 0xfff
        } else {
            limit
        }
    }

    /// Access byte and G/D/L/AVL, as [`Segment::attributes`] has them.
    #[inline]
    pub fn attributes(&self) -> u16 {
        (self.high >> 8) as u16 & 0xf0ff
    }

    /// Where a gate leads: the selector.
    #[inline]
    pub fn gate_selector(&self) -> Selector {
        Selector((self.low >> 16) as u16)
    }

    /// Where a gate leads: the offset, 16 or 32 bits as the gate is.
    #[inline]
    pub fn gate_offset(&self, w: Width) -> u32 {
        (self.low & 0xffff | self.high & 0xffff_0000) & w.mask()
    }

    /// Parameters a call gate copies.
    pub fn gate_params(&self) -> u32 {
        self.high & 31
    }

    /// The segment register contents this descriptor gives.
    #[inline]
    pub fn segment(&self, selector: Selector) -> Segment {
        let limit = self.limit();
        let expanding = bit::NON_SYSTEM | bit::CODE | bit::CONFORMING;
        let expand_down = self.high & expanding == bit::NON_SYSTEM | bit::CONFORMING;
        let (lo, hi) = if expand_down {
            self.expand_down_range()
        } else {
            (0, limit)
        };
        Segment {
            base: self.base(),
            lo,
            hi,
            limit,
            selector: selector.0,
            attributes: self.attributes(),
        }
    }

    /// The valid offsets of an expand-down segment: those above the limit.
    #[cold]
    fn expand_down_range(&self) -> (u32, u32) {
        let top = if self.attributes() & Segment::DEFAULT32 != 0 {
            u32::MAX
        } else {
            0xffff
        };
        match self.limit() {
            limit if limit >= top => (1, 0),
            limit => (limit + 1, top),
        }
    }
}

/// Where the selector's descriptor lies, if its table has it.
#[inline]
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
    let low = cpu.read_system(at, Width::D)?;
    let high = cpu.read_system(LinearAddr(at.0.wrapping_add(4)), Width::D)?;
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
#[cold]
fn write_access_byte(
    cpu: &mut Cpu,
    selector: Selector,
    descriptor: &Descriptor,
) -> Result<(), Exception> {
    let Some(at) = address(cpu, selector) else {
        return Ok(());
    };
    let byte = LinearAddr(at.0.wrapping_add(5));
    cpu.write_system(byte, Width::B, descriptor.high >> 8 & 0xff)
}
