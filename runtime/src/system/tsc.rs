//! The time-stamp counter (SDM vol. 2, "RDTSC"; vol. 3B, "Time-Stamp Counter").
//!
//! It is the host's, invariant, moved by an offset. Its rate is announced in
//! CPUID's leaf 0x15, so that guests need not calibrate it.

use crate::clock::{Clock, HostClock};
use crate::vcpu::{Cpu, cr4};
use std::sync::OnceLock;
use translator::exception::Exception;

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

/// What the guest reads.
pub fn guest_tsc(cpu: &Cpu) -> u64 {
    host_tsc().wrapping_add(cpu.state.tsc_offset)
}

/// RDTSC.
///
/// # Errors
/// #GP(0) if CR4.TSD is set and CPL is not 0.
pub fn rdtsc(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.sys.cr4 & cr4::TSD != 0 && cpu.sys.cpl != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    let tsc = guest_tsc(cpu);
    super::msr::store_pair(cpu, tsc);
    Ok(())
}

/// RDTSCP: as RDTSC, and ECX ← IA32_TSC_AUX.
///
/// # Errors
/// #GP(0) if CR4.TSD is set and CPL is not 0.
pub fn rdtscp(cpu: &mut Cpu) -> Result<(), Exception> {
    rdtsc(cpu)?;
    cpu.state.gpr[1] = super::msr::tsc_aux(cpu);
    Ok(())
}
