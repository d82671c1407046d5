//! Model-specific registers (SDM vol. 2, "RDMSR", "WRMSR"; vol. 4).
//!
//! A register exists if the CPU model has the feature it belongs to; any other
//! is #GP(0).

use super::tsc::{guest_tsc, host_tsc, tsc_hz};
use super::{branches, mca, mtrr, perf, require_cpl0, shown};
use crate::cpu_model::feature::Feature;
use crate::vcpu::Cpu;
use translator::exception::Exception;

/// EDX:EAX ← value.
pub fn store_pair(cpu: &mut Cpu, value: u64) {
    cpu.state.gpr[0] = value as u32;
    cpu.state.gpr[2] = (value >> 32) as u32;
}

/// MSR numbers (SDM vol. 4).
mod ia32 {
    pub const TSC: u32 = 0x10;
    pub const PLATFORM_ID: u32 = 0x17;
    pub const APIC_BASE: u32 = 0x1b;
    pub const TSC_ADJUST: u32 = 0x3b;
    pub const BIOS_UPDT_TRIG: u32 = 0x79;
    pub const BIOS_SIGN_ID: u32 = 0x8b;
    pub const PLATFORM_INFO: u32 = 0xce;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const EFER: u32 = 0xc000_0080;
    pub const TSC_AUX: u32 = 0xc000_0103;
}

/// EFER.NXE, the only bit a 32-bit CPU has.
const EFER_NXE: u64 = 1 << 11;

/// IA32_MISC_ENABLE after reset: fast strings; and on NetBurst that there are
/// performance counters, but neither branch trace nor precise event storage.
fn misc_enable(family: u32) -> u64 {
    match family {
        15 => 1 << 0 | 1 << 7 | 1 << 11 | 1 << 12,
        _ => 1 << 0,
    }
}

/// Whether the model has the register.
fn exists(cpu: &Cpu, number: u32) -> bool {
    let model = &cpu.model;
    match number {
        ia32::TSC => model.has(Feature::Tsc),
        ia32::TSC_ADJUST => model.has(Feature::TscAdjust),
        ia32::SYSENTER_CS..=ia32::SYSENTER_EIP => model.has(Feature::Sep),
        ia32::EFER => model.has(Feature::Nx),
        ia32::TSC_AUX => model.has(Feature::Rdtscp),
        // The Pentium 4 brought it, with SSE2.
        ia32::MISC_ENABLE => model.has(Feature::Sse2),
        // The Pentium has an APIC, but not the register.
        ia32::APIC_BASE => model.has(Feature::Apic) && model.family() >= 6,
        // As new as the other.
        ia32::PLATFORM_INFO => model.has(Feature::TscAdjust),
        _ if mtrr::is_memory_type(number) => mtrr::exists(model, number),
        _ if mca::is_machine_check(number) => mca::exists(model, number),
        ia32::PLATFORM_ID | ia32::BIOS_UPDT_TRIG | ia32::BIOS_SIGN_ID => model.family() >= 6,
        _ if branches::exists(cpu, number) => true,
        _ => perf::exists(model.family(), number),
    }
}

/// The register's number, from ECX.
///
/// # Errors
/// #GP(0) if CPL is not 0, or there is no such register.
fn selected(cpu: &Cpu) -> Result<u32, Exception> {
    require_cpl0(cpu)?;
    let number = cpu.state.gpr[1];
    if !exists(cpu, number) {
        return Err(Exception::GeneralProtection(0));
    }
    Ok(number)
}

/// RDMSR.
///
/// # Errors
/// #GP(0) if CPL is not 0, or there is no such register.
pub fn rdmsr(cpu: &mut Cpu) -> Result<(), Exception> {
    let number = selected(cpu)?;
    let value = match number {
        ia32::TSC => guest_tsc(cpu),
        ia32::SYSENTER_CS..=ia32::SYSENTER_EIP => {
            u64::from(cpu.sys.sysenter[(number - ia32::SYSENTER_CS) as usize])
        }
        ia32::EFER => cpu.sys.efer,
        ia32::APIC_BASE => cpu.pc.apic_base(),
        ia32::TSC_ADJUST => cpu.sys.msrs.get(&number).copied().unwrap_or(0),
        ia32::MISC_ENABLE => cpu
            .sys
            .msrs
            .get(&number)
            .copied()
            .unwrap_or_else(|| misc_enable(cpu.model.family())),
        ia32::TSC_AUX => cpu.state.tsc_aux.into(),
        ia32::PLATFORM_ID | ia32::BIOS_SIGN_ID => cpu.sys.msrs.get(&number).copied().unwrap_or(0),
        // The ratio of the TSC to 100 MHz.
        ia32::PLATFORM_INFO => (tsc_hz() / 100_000_000) << 8,
        _ if mtrr::is_memory_type(number) => mtrr::read(cpu, number),
        _ if mca::is_machine_check(number) => mca::read(),
        _ if perf::exists(cpu.model.family(), number) => perf::read(cpu, number),
        _ => branches::read(cpu, number)?,
    };
    store_pair(cpu, value);
    Ok(())
}

/// Moves the TSC, which IA32_TSC_ADJUST shows (SDM vol. 3B, "Time-Stamp Counter Adjustment").
fn adjust_tsc(cpu: &mut Cpu, change: u64) {
    cpu.state.tsc_offset = cpu.state.tsc_offset.wrapping_add(change);
    let shown = cpu.sys.msrs.entry(ia32::TSC_ADJUST).or_insert(0);
    *shown = shown.wrapping_add(change);
}

/// WRMSR.
///
/// # Errors
/// #GP(0) if CPL is not 0, there is no such register, or it lacks a bit that is set.
pub fn wrmsr(cpu: &mut Cpu) -> Result<(), Exception> {
    let number = selected(cpu)?;
    let value = u64::from(cpu.state.gpr[2]) << 32 | u64::from(cpu.state.gpr[0]);
    match number {
        ia32::TSC => {
            let change = value
                .wrapping_sub(host_tsc())
                .wrapping_sub(cpu.state.tsc_offset);
            adjust_tsc(cpu, change);
        }
        ia32::TSC_ADJUST => {
            let old = cpu.sys.msrs.get(&number).copied().unwrap_or(0);
            adjust_tsc(cpu, value.wrapping_sub(old));
        }
        ia32::SYSENTER_CS..=ia32::SYSENTER_EIP => {
            cpu.sys.sysenter[(number - ia32::SYSENTER_CS) as usize] = value as u32;
            shown::set_sysenter(cpu, number == ia32::SYSENTER_CS);
        }
        ia32::EFER => {
            if value & !EFER_NXE != 0 {
                return Err(Exception::GeneralProtection(0));
            }
            cpu.sys.efer = value;
            cpu.paging_changed();
        }
        ia32::APIC_BASE if !cpu.pc.set_apic_base(value) => {
            return Err(Exception::GeneralProtection(0));
        }
        ia32::APIC_BASE => cpu.request_attention(),
        // Its upper half is reserved, else #GP(0).
        ia32::TSC_AUX if value > u64::from(u32::MAX) => {
            return Err(Exception::GeneralProtection(0));
        }
        ia32::TSC_AUX => cpu.state.tsc_aux = value as u32,
        ia32::BIOS_SIGN_ID | ia32::MISC_ENABLE => {
            cpu.sys.msrs.insert(number, value);
        }
        // A microcode update is accepted and changes nothing.
        ia32::BIOS_UPDT_TRIG => {}
        _ if mtrr::is_memory_type(number) => mtrr::write(cpu, number, value)?,
        _ if mca::is_machine_check(number) => mca::write(number, value)?,
        _ if perf::exists(cpu.model.family(), number) => perf::write(cpu, number, value),
        _ => branches::write(cpu, number, value)?,
    }
    Ok(())
}

/// IA32_TSC_AUX, which RDTSCP returns.
pub fn tsc_aux(cpu: &Cpu) -> u32 {
    cpu.state.tsc_aux
}
