//! XSAVE, XRSTOR, XGETBV, XSETBV (SDM vol. 1, "Managing State Using the XSAVE
//! Feature Set"), for the x87 and SSE states.
//!
//! Both states count as in use at all times, which the manual allows: the
//! optimisation for states in their initial configuration is not made on saving.

use super::image::{FXSAVE_USED, FXSAVE_XMM, check_mxcsr, image_address, mxcsr_of};
use crate::vcpu::{Cpu, cr0, cr4};
use shadow_mmu::{Access, LinearAddr};
use translator::exception::Exception;
use translator::insn::Insn;

/// State components, as bits of XCR0.
const X87: u32 = 1 << 0;
const SSE: u32 = 1 << 1;
const SUPPORTED: u32 = X87 | SSE;

/// The legacy region, which is an FXSAVE image, and the header behind it.
const LEGACY_BYTES: usize = 512;
const AREA_BYTES: usize = LEGACY_BYTES + 64;
/// Its size and alignment.
const AREA: (usize, u32) = (AREA_BYTES, 64);

/// Parts of the legacy region, by component.
const X87_CONTROL: std::ops::Range<usize> = 0..24;
const MXCSR: std::ops::Range<usize> = 24..32;
const X87_REGISTERS: std::ops::Range<usize> = 32..FXSAVE_XMM;
const XMM: std::ops::Range<usize> = FXSAVE_XMM..FXSAVE_USED;

/// CR4.OSXSAVE must be set, else #UD; then CR0.TS clear, else #NM.
fn check(cpu: &Cpu) -> Result<(), Exception> {
    require_enabled(cpu)?;
    if cpu.sys.cr0 & cr0::TS != 0 {
        return Err(Exception::DeviceNotAvailable);
    }
    Ok(())
}

fn require_enabled(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.sys.cr4 & cr4::OSXSAVE == 0 {
        return Err(Exception::InvalidOpcode);
    }
    Ok(())
}

/// The components asked for in EDX:EAX that XCR0 enables.
fn requested(cpu: &Cpu) -> u32 {
    cpu.state.gpr[0] & cpu.sys.xcr0
}

/// XSAVE.
pub fn xsave(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    check(cpu)?;
    let addr = image_address(cpu, i, AREA, Access::Write)?;
    let user = cpu.sys.cpl == 3;
    let components = requested(cpu);
    cpu.probe_write(addr, AREA_BYTES as u32, user)?;
    let at = |offset: usize| LinearAddr(addr.0.wrapping_add(offset as u32));
    let mut state_bv = [0; 8];
    cpu.read_bytes(at(LEGACY_BYTES), &mut state_bv, user)?;
    let image = cpu.fpu.image();
    let parts = [
        (X87, X87_CONTROL),
        (X87, X87_REGISTERS),
        (SSE, MXCSR),
        (SSE, XMM),
    ];
    for (_, part) in parts.into_iter().filter(|(c, _)| components & c != 0) {
        cpu.write_bytes(at(part.start), &image[part], user)?;
    }
    // Those not asked for stay as they were.
    state_bv[0] = state_bv[0] & !(components as u8) | components as u8;
    cpu.write_bytes(at(LEGACY_BYTES), &state_bv, user)
}

/// XRSTOR.
pub fn xrstor(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    check(cpu)?;
    let addr = image_address(cpu, i, AREA, Access::Read)?;
    let mut bytes = [0; AREA_BYTES];
    cpu.read_bytes(addr, &mut bytes, cpu.sys.cpl == 3)?;
    let (legacy, header) = bytes.split_at(LEGACY_BYTES);
    let mut image = [0; LEGACY_BYTES];
    image.copy_from_slice(legacy);
    let saved = check_header(header, cpu.sys.xcr0)?;
    let components = requested(cpu);
    if components & SSE != 0 {
        check_mxcsr(cpu, mxcsr_of(&image))?;
        cpu.fpu.set_mxcsr(mxcsr_of(&image));
        if saved & SSE == 0 {
            image[XMM].fill(0);
        }
        cpu.fpu.set_xmm(&image);
    }
    if components & X87 != 0 {
        if saved & X87 == 0 {
            image[X87_CONTROL].fill(0);
            image[X87_REGISTERS].fill(0);
            image[..2].copy_from_slice(&0x037f_u16.to_le_bytes());
        }
        cpu.fpu.set_x87(&image);
        super::check::drive_ferr(cpu);
    }
    Ok(())
}

/// XSTATE_BV, if the header is one of the standard form: only enabled components,
/// and zeros behind, else #GP(0).
fn check_header(header: &[u8], enabled: u32) -> Result<u32, Exception> {
    let (state_bv, rest) = (&header[..8], &header[8..24]);
    let saved = u32::from(state_bv[0]);
    let beyond = state_bv[1..].iter().chain(rest).any(|&byte| byte != 0);
    if beyond || saved & !enabled != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    Ok(saved)
}

/// XGETBV: EDX:EAX ← XCR0; there is no other, else #GP(0).
pub fn xgetbv(cpu: &mut Cpu, _i: &Insn) -> Result<(), Exception> {
    require_enabled(cpu)?;
    if cpu.state.gpr[1] != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    cpu.state.gpr[0] = cpu.sys.xcr0;
    cpu.state.gpr[2] = 0;
    Ok(())
}

/// XSETBV: CPL must be 0, the register XCR0, bit 0 set, and no other set than
/// those of supported components, else #GP(0).
pub fn xsetbv(cpu: &mut Cpu, _i: &Insn) -> Result<(), Exception> {
    require_enabled(cpu)?;
    let [eax, ecx, edx] = [0, 1, 2].map(|r: usize| cpu.state.gpr[r]);
    let valid = ecx == 0 && edx == 0 && eax & X87 != 0 && eax & !SUPPORTED == 0;
    if cpu.sys.cpl != 0 || !valid {
        return Err(Exception::GeneralProtection(0));
    }
    cpu.sys.xcr0 = eax;
    Ok(())
}
