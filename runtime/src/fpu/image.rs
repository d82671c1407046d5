//! Instructions that need no thunk: images of the whole state, MXCSR
//! (SDM vol. 2, FXSAVE, FXRSTOR, LDMXCSR, STMXCSR, WAIT).

use super::pointers::Pointers;
use super::table::Special;
use super::{Fpu, check, host, xsave};
use crate::system::operand::{effective_address, gpr};
use crate::vcpu::{Cpu, cr0};
use iced_x86::Mnemonic;
use shadow_mmu::{Access, LinearAddr};
use std::sync::OnceLock;
use translator::exception::Exception;
use translator::insn::{Insn, Operand, Width};

/// The function for an instruction of this file.
pub fn special(mnemonic: Mnemonic) -> Option<Special> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Fxsave => fxsave,
        M::Fxrstor => fxrstor,
        M::Xsave => xsave::xsave,
        M::Xrstor => xsave::xrstor,
        M::Xgetbv => xsave::xgetbv,
        M::Xsetbv => xsave::xsetbv,
        M::Ldmxcsr => ldmxcsr,
        M::Stmxcsr => stmxcsr,
        M::Wait => wait,
        M::Movnti => movnti,
        M::Clflush => clflush,
        // What coprocessors before the 387 did with these is not done any more.
        M::Fneni | M::Fndisi | M::Fnsetpm => coprocessor_nop,
        _ => return None,
    })
}

/// Bytes of an FXSAVE image that 32-bit code reads and writes.
pub const FXSAVE_USED: usize = 288;

/// Offset of XMM0 in an FXSAVE image.
pub const FXSAVE_XMM: usize = 160;

/// Offsets of the abridged tag word and ST0.
const FTW: usize = 4;
const ST: usize = 32;

/// TOP of the status word.
const TOP: u16 = 7 << 11;

/// x87 exception flags, or masks.
const EXCEPTIONS: u16 = 0x3f;

/// ES and B of the status word.
const SUMMARY: u16 = 0x8080;

impl Fpu {
    /// The state as FXSAVE saves it (SDM vol. 1, "Layout of the 512-byte
    /// Memory Image").
    pub fn image(&mut self) -> [u8; 512] {
        let mut image = [0; 512];
        image[..FXSAVE_XMM].copy_from_slice(&self.x87.area().0[..FXSAVE_XMM]);
        image[24..28].copy_from_slice(&self.state.mxcsr.to_le_bytes());
        if self.mxcsr_mask != MXCSR_WITHOUT_DAZ {
            image[28..32].copy_from_slice(&self.mxcsr_mask.to_le_bytes());
        }
        let xmm = image[FXSAVE_XMM..FXSAVE_USED].chunks_exact_mut(16);
        xmm.zip(&self.state.xmm)
            .for_each(|(to, from)| to.copy_from_slice(from));
        self.last.to_fxsave(&mut image);
        image
    }

    /// Loads such an image; bits of MXCSR that do not exist are dropped.
    pub fn set_image(&mut self, image: &[u8; 512]) {
        self.set_mxcsr(mxcsr_of(image));
        self.set_x87(image);
        self.set_xmm(image);
    }

    /// Loads the x87 and MMX part of such an image.
    pub fn set_x87(&mut self, image: &[u8; 512]) {
        let area = &mut self.x87.area_mut().0;
        area[..5].copy_from_slice(&image[..5]);
        area[32..FXSAVE_XMM].copy_from_slice(&image[32..FXSAVE_XMM]);
        // Reserved halves of the 80-bit registers stay clear.
        area[32..FXSAVE_XMM]
            .chunks_exact_mut(16)
            .for_each(|r| r[10..].fill(0));
        let control = (self.x87_control() & 0x1f7f) | 0x40;
        self.set_x87_control(control);
        self.summarise();
        self.last = Pointers::from_fxsave(image);
    }

    /// Loads the XMM registers of such an image.
    pub fn set_xmm(&mut self, image: &[u8; 512]) {
        let xmm = image[FXSAVE_XMM..FXSAVE_USED].chunks_exact(16);
        xmm.zip(&mut self.state.xmm)
            .for_each(|(from, to)| to.copy_from_slice(from));
    }

    /// Sets MXCSR; bits that do not exist are dropped.
    pub fn set_mxcsr(&mut self, value: u32) {
        self.state.mxcsr = value & self.mxcsr_mask;
    }

    fn x87_word(&mut self, at: usize) -> u16 {
        let area = &self.x87.area().0;
        u16::from_le_bytes([area[at], area[at + 1]])
    }

    fn set_x87_word(&mut self, at: usize, word: u16) {
        self.x87.area_mut().0[at..at + 2].copy_from_slice(&word.to_le_bytes());
    }

    /// The x87 control word.
    pub fn x87_control(&mut self) -> u16 {
        self.x87_word(0)
    }

    /// Sets the x87 control word.
    pub fn set_x87_control(&mut self, word: u16) {
        self.set_x87_word(0, word);
    }

    /// The x87 status word.
    pub fn x87_status(&mut self) -> u16 {
        self.x87_word(2)
    }

    /// Sets the status word's flags, `set` of them, and clears `clear`.
    pub fn change_x87_status(&mut self, clear: u16, set: u16) {
        let status = self.x87_status() & !clear | set;
        self.set_x87_word(2, status);
    }

    /// What the first MMX instruction does: TOP is 0 and no register is empty.
    pub fn change_to_mmx(&mut self) {
        let top = usize::from(self.x87_status() >> 11 & 7);
        let area = &mut self.x87.area_mut().0;
        // The image holds the registers from TOP on.
        area[ST..FXSAVE_XMM].rotate_right(16 * top);
        area[FTW] = 0xff;
        self.change_x87_status(TOP, 0);
    }

    /// The x87 control word masks every exception.
    pub fn x87_masked(&mut self) -> bool {
        // Only such a state is ever in the registers.
        self.x87.is_away() || self.x87_control() & EXCEPTIONS == EXCEPTIONS
    }

    /// An unmasked x87 exception waits to be reported.
    pub fn x87_pending(&mut self) -> bool {
        self.x87_status() & !self.x87_control() & EXCEPTIONS != 0
    }

    /// Makes ES and B what flags and masks say.
    pub fn summarise(&mut self) {
        let set = if self.x87_pending() { SUMMARY } else { 0 };
        self.change_x87_status(SUMMARY, set);
    }
}

/// MXCSR bits without those of denormals-are-zeros: what a CPU means that has no
/// mask in its FXSAVE image.
pub const MXCSR_WITHOUT_DAZ: u32 = 0xffbf;

/// MXCSR bits that the host has.
pub fn mxcsr_mask() -> u32 {
    static MASK: OnceLock<u32> = OnceLock::new();
    *MASK.get_or_init(host::mxcsr_mask)
}

/// The linear address of an image of `bytes` bytes: aligned to `alignment`, which
/// is looked at before the segment's limit, else #GP(0).
pub fn image_address(
    cpu: &Cpu,
    i: &Insn,
    (bytes, alignment): (usize, u32),
    access: Access,
) -> Result<LinearAddr, Exception> {
    let offset = effective_address(cpu, &i.mem);
    let base = cpu.state.segment(i.mem.seg).base;
    let unchecked = base.wrapping_add(offset);
    // Where both apply, silicon prefers #AC.
    cpu.require_alignment(LinearAddr(unchecked), bytes as u32, cpu.sys.cpl == 3)?;
    if unchecked & (alignment - 1) != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    cpu.linear(i.mem.seg, offset, bytes as u32, access)
}

fn fxsave(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    check::x87(cpu)?;
    let addr = image_address(cpu, i, (512, 16), Access::Write)?;
    let user = cpu.sys.cpl == 3;
    cpu.probe_write(addr, 512, user)?;
    let image = cpu.fpu.image();
    cpu.write_bytes(addr, &image[..FXSAVE_USED], user)
}

fn fxrstor(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    check::x87(cpu)?;
    let addr = image_address(cpu, i, (512, 16), Access::Read)?;
    let mut image = [0; 512];
    cpu.read_bytes(addr, &mut image, cpu.sys.cpl == 3)?;
    check_mxcsr(cpu, mxcsr_of(&image))?;
    cpu.fpu.set_image(&image);
    check::drive_ferr(cpu);
    Ok(())
}

/// MXCSR in an FXSAVE image.
pub fn mxcsr_of(image: &[u8; 512]) -> u32 {
    u32::from_le_bytes([image[24], image[25], image[26], image[27]])
}

/// Reserved bits: #GP(0).
pub fn check_mxcsr(cpu: &Cpu, value: u32) -> Result<(), Exception> {
    if value & !cpu.fpu.mxcsr_mask != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    Ok(())
}

fn ldmxcsr(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    check::sse(cpu)?;
    let value = cpu.read_mem(i.mem.seg, effective_address(cpu, &i.mem), Width::D)?;
    check_mxcsr(cpu, value)?;
    cpu.fpu.state.mxcsr = value;
    Ok(())
}

fn stmxcsr(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    check::sse(cpu)?;
    let value = cpu.fpu.state.mxcsr;
    cpu.write_mem(i.mem.seg, effective_address(cpu, &i.mem), Width::D, value)
}

/// #NM if MP and TS are both set; then pending exceptions.
fn wait(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let both = cr0::MP | cr0::TS;
    if cpu.sys.cr0 & both == both {
        return Err(Exception::DeviceNotAvailable);
    }
    check::pending(cpu, i).map(|_| ())
}

fn movnti(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let Operand::Gpr(r, w) = i.ops[1] else {
        return Err(Exception::InvalidOpcode);
    };
    let value = gpr(cpu, r, w);
    cpu.write_mem(i.mem.seg, effective_address(cpu, &i.mem), w, value)
}

fn coprocessor_nop(cpu: &mut Cpu, _i: &Insn) -> Result<(), Exception> {
    check::x87(cpu)
}

/// Nothing to flush, but the address is checked as for a byte load.
fn clflush(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let offset = effective_address(cpu, &i.mem);
    let addr = cpu.linear(i.mem.seg, offset, 1, Access::Read)?;
    let user = cpu.sys.cpl == 3;
    cpu.translate(addr, Access::Read, user).map(|_| ())
}
