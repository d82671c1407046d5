//! Identification, time-stamp counter and model-specific registers (SDM vol. 2,
//! "CPUID", "RDTSC", "RDMSR", "WRMSR"; vol. 4).
//!
//! The CPU announces only what works. It calls itself an in-order Intel core
//! (family 6, model 0x1c), which is what it resembles: nothing here speculates on
//! guest memory, and systems that know the model run it without the mitigations
//! that out-of-order cores need. The TSC is the host's, invariant, and its rate
//! is announced in leaf 0x15, so that guests need not calibrate it.

use crate::clock::{Clock, HostClock};
use crate::vcpu::{Cpu, cr4};
use iced_x86::Mnemonic;
use std::sync::OnceLock;
use translator::exception::Exception;
use translator::insn::Insn;

/// Runs CPUID, RDTSC, RDMSR and the like, or returns `None` if `i` is another.
pub fn dispatch(cpu: &mut Cpu, i: &Insn) -> Option<Result<(), Exception>> {
    Some(match i.mnemonic {
        Mnemonic::Cpuid => {
            cpuid(cpu);
            Ok(())
        }
        Mnemonic::Rdtsc => rdtsc(cpu),
        Mnemonic::Rdmsr => rdmsr(cpu),
        Mnemonic::Wrmsr => wrmsr(cpu),
        // CR4.PCE is not settable and there are no counters.
        Mnemonic::Rdpmc => Err(Exception::GeneralProtection(0)),
        _ => return None,
    })
}

/// Family 6, model 0x1c, stepping 10.
const SIGNATURE: u32 = 0x0001_06ca;
const MAX_LEAF: u32 = 0x16;
const MAX_EXTENDED_LEAF: u32 = 0x8000_0008;
const VENDOR: [u32; 3] = [0x756e_6547, 0x6c65_746e, 0x4965_6e69]; // EBX, ECX, EDX: GenuineIntel
const BRAND: &[u8; 48] =
    b"ring1 virtual CPU\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Leaf 1 EDX.
mod feature {
    pub const FPU: u32 = 1 << 0;
    pub const DE: u32 = 1 << 2;
    pub const PSE: u32 = 1 << 3;
    pub const TSC: u32 = 1 << 4;
    pub const MSR: u32 = 1 << 5;
    pub const PAE: u32 = 1 << 6;
    pub const CX8: u32 = 1 << 8;
    pub const SEP: u32 = 1 << 11;
    pub const PGE: u32 = 1 << 13;
    pub const CMOV: u32 = 1 << 15;
    pub const CLFSH: u32 = 1 << 19;
    pub const MMX: u32 = 1 << 23;
    pub const FXSR: u32 = 1 << 24;
    pub const SSE: u32 = 1 << 25;
    pub const SSE2: u32 = 1 << 26;
}

/// Everything that works without host support.
const BASE_FEATURES: u32 = feature::DE
    | feature::PSE
    | feature::TSC
    | feature::MSR
    | feature::PAE
    | feature::CX8
    | feature::SEP
    | feature::PGE
    | feature::CMOV;

/// x87 and vectors run on the host's own units, on x86-64 hosts.
const VECTOR_FEATURES: u32 = if cfg!(target_arch = "x86_64") {
    feature::FPU | feature::CLFSH | feature::MMX | feature::FXSR | feature::SSE | feature::SSE2
} else {
    0
};

fn cpuid(cpu: &mut Cpu) {
    let [eax, ebx, ecx, edx] = leaf(cpu.state.gpr[0]);
    cpu.state.gpr[0] = eax;
    cpu.state.gpr[3] = ebx;
    cpu.state.gpr[1] = ecx;
    cpu.state.gpr[2] = edx;
}

/// EAX, EBX, ECX, EDX of a leaf; an unknown one reads as zero.
fn leaf(number: u32) -> [u32; 4] {
    match number {
        0 => [MAX_LEAF, VENDOR[0], VENDOR[1], VENDOR[2]],
        // EBX: CLFLUSH line of 8 × 8 bytes.
        1 => [SIGNATURE, 8 << 8, 0, BASE_FEATURES | VECTOR_FEATURES],
        // No cache or TLB descriptors, one CPUID(2) is enough.
        2 => [1, 0, 0, 0],
        // EBX bit 1: IA32_TSC_ADJUST.
        7 => [0, 1 << 1, 0, 0],
        // TSC = crystal × EBX / EAX; the "crystal" is 1 MHz.
        0x15 => [1, (tsc_hz() / 1_000_000) as u32, 1_000_000, 0],
        0x16 => {
            let mhz = (tsc_hz() / 1_000_000) as u32;
            [mhz, mhz, 100, 0]
        }
        0x8000_0000 => [MAX_EXTENDED_LEAF, 0, 0, 0],
        // EDX bit 20: execute-disable.
        0x8000_0001 => [0, 0, 0, 1 << 20],
        0x8000_0002..=0x8000_0004 => {
            let at = (number - 0x8000_0002) as usize * 16;
            let word = |n: usize| {
                let b = &BRAND[at + n * 4..at + n * 4 + 4];
                u32::from_le_bytes([b[0], b[1], b[2], b[3]])
            };
            [word(0), word(1), word(2), word(3)]
        }
        // EDX bit 8: invariant TSC.
        0x8000_0007 => [0, 0, 0, 1 << 8],
        // 36 physical and 32 linear address bits.
        0x8000_0008 => [0x2024, 0, 0, 0],
        _ => [0; 4],
    }
}

/// The host's time-stamp counter, or a nanosecond count where there is none.
pub fn host_tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)] // The intrinsic.
    // SAFETY: RDTSC is available on every x86-64 processor and has no effect.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        static CLOCK: OnceLock<HostClock> = OnceLock::new();
        CLOCK.get_or_init(HostClock::new).now_ns()
    }
}

/// Rate of [`host_tsc`], measured once against the monotonic clock, rounded to
/// a whole MHz.
pub fn tsc_hz() -> u64 {
    static HZ: OnceLock<u64> = OnceLock::new();
    *HZ.get_or_init(|| {
        let clock = HostClock::new();
        let (t0, c0) = (clock.now_ns(), host_tsc());
        let mut now = t0;
        while now < t0 + 10_000_000 {
            std::hint::spin_loop();
            now = clock.now_ns();
        }
        let hz = u128::from(host_tsc() - c0) * 1_000_000_000 / u128::from(now - t0);
        (hz as u64 + 500_000) / 1_000_000 * 1_000_000
    })
}

fn rdtsc(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.sys.cr4 & cr4::TSD != 0 && cpu.sys.cpl != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    let tsc = host_tsc().wrapping_add(cpu.state.tsc_offset);
    store_pair(cpu, tsc);
    Ok(())
}

/// EDX:EAX ← value.
fn store_pair(cpu: &mut Cpu, value: u64) {
    cpu.state.gpr[0] = value as u32;
    cpu.state.gpr[2] = (value >> 32) as u32;
}

/// MSR numbers (SDM vol. 4).
mod msr {
    pub const TSC: u32 = 0x10;
    pub const PLATFORM_ID: u32 = 0x17;
    pub const TSC_ADJUST: u32 = 0x3b;
    pub const BIOS_UPDT_TRIG: u32 = 0x79;
    pub const BIOS_SIGN_ID: u32 = 0x8b;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const DEBUGCTL: u32 = 0x1d9;
    pub const EFER: u32 = 0xc000_0080;
}

/// EFER.NXE, the only bit a 32-bit CPU has.
const EFER_NXE: u64 = 1 << 11;

/// IA32_DEBUGCTL: LBR and BTF.
const DEBUGCTL_BITS: u64 = 3;

/// IA32_MISC_ENABLE bit 0, set at reset.
const FAST_STRINGS: u64 = 1;

fn rdmsr(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.sys.cpl != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    let number = cpu.state.gpr[1];
    let value = match number {
        msr::TSC => host_tsc().wrapping_add(cpu.state.tsc_offset),
        msr::SYSENTER_CS..=msr::SYSENTER_EIP => {
            u64::from(cpu.sys.sysenter[(number - msr::SYSENTER_CS) as usize])
        }
        msr::EFER => cpu.sys.efer,
        msr::TSC_ADJUST => cpu.sys.msrs.get(&number).copied().unwrap_or(0),
        msr::MISC_ENABLE => cpu.sys.msrs.get(&number).copied().unwrap_or(FAST_STRINGS),
        msr::PLATFORM_ID | msr::BIOS_SIGN_ID | msr::DEBUGCTL => {
            cpu.sys.msrs.get(&number).copied().unwrap_or(0)
        }
        _ => return Err(Exception::GeneralProtection(0)),
    };
    store_pair(cpu, value);
    Ok(())
}

/// Moves the TSC, which IA32_TSC_ADJUST shows (SDM vol. 3B, "Time-Stamp Counter Adjustment").
fn adjust_tsc(cpu: &mut Cpu, change: u64) {
    cpu.state.tsc_offset = cpu.state.tsc_offset.wrapping_add(change);
    let shown = cpu.sys.msrs.entry(msr::TSC_ADJUST).or_insert(0);
    *shown = shown.wrapping_add(change);
}

fn wrmsr(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.sys.cpl != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    let number = cpu.state.gpr[1];
    let value = u64::from(cpu.state.gpr[2]) << 32 | u64::from(cpu.state.gpr[0]);
    match number {
        msr::TSC => {
            let change = value
                .wrapping_sub(host_tsc())
                .wrapping_sub(cpu.state.tsc_offset);
            adjust_tsc(cpu, change);
        }
        msr::TSC_ADJUST => {
            let old = cpu.sys.msrs.get(&number).copied().unwrap_or(0);
            adjust_tsc(cpu, value.wrapping_sub(old));
        }
        msr::SYSENTER_CS..=msr::SYSENTER_EIP => {
            cpu.sys.sysenter[(number - msr::SYSENTER_CS) as usize] = value as u32;
        }
        msr::EFER => {
            if value & !EFER_NXE != 0 {
                return Err(Exception::GeneralProtection(0));
            }
            cpu.sys.efer = value;
            cpu.paging_changed();
        }
        // QUIRK: branches are neither recorded nor stepped; the bits are kept.
        msr::DEBUGCTL if value & !DEBUGCTL_BITS != 0 => {
            return Err(Exception::GeneralProtection(0));
        }
        msr::BIOS_SIGN_ID | msr::MISC_ENABLE | msr::DEBUGCTL => {
            cpu.sys.msrs.insert(number, value);
        }
        // A microcode update is accepted and changes nothing.
        msr::BIOS_UPDT_TRIG => {}
        _ => return Err(Exception::GeneralProtection(0)),
    }
    Ok(())
}
