//! Performance-monitoring registers (SDM vol. 3B, "Performance Monitoring",
//! sections on P6 and NetBurst processors).
//!
//! Kernels probe them by writing and reading back, and complain about a
//! processor whose kind must have them and has not.
//!
//! QUIRK: the counters hold what is written, but do not count.

use super::require_cpl0;
use crate::vcpu::{Cpu, cr4};
use std::ops::RangeInclusive;
use translator::exception::Exception;

/// P6: two counters, and what each counts.
const P6_COUNTERS: RangeInclusive<u32> = 0xc1..=0xc2;
const P6_SELECTORS: RangeInclusive<u32> = 0x186..=0x187;

/// NetBurst: 18 counters, their configurations, the event selectors, two of PEBS.
const NETBURST_COUNTERS: RangeInclusive<u32> = 0x300..=0x311;
const NETBURST_OTHERS: [RangeInclusive<u32>; 3] = [0x360..=0x371, 0x3a0..=0x3e1, 0x3f1..=0x3f2];

/// Counters have 40 bits.
const COUNTER_BITS: u64 = (1 << 40) - 1;

/// The counters of a family, if it has any.
fn counters(family: u32) -> Option<RangeInclusive<u32>> {
    match family {
        6 => Some(P6_COUNTERS),
        15 => Some(NETBURST_COUNTERS),
        _ => None,
    }
}

/// Whether the family has the register, and it is one of this file's.
pub fn exists(family: u32, number: u32) -> bool {
    let others: &[RangeInclusive<u32>] = match family {
        6 => &[P6_SELECTORS],
        15 => &NETBURST_OTHERS,
        _ => &[],
    };
    let counter = counters(family).is_some_and(|range| range.contains(&number));
    counter || others.iter().any(|range| range.contains(&number))
}

/// Reads a register that [`exists`].
pub fn read(cpu: &Cpu, number: u32) -> u64 {
    cpu.sys.msrs.get(&number).copied().unwrap_or(0)
}

/// Writes a register that [`exists`]; bits it does not have are dropped.
pub fn write(cpu: &mut Cpu, number: u32, value: u64) {
    let kept = match number {
        // A write sets 32 bits and extends their sign to all 40.
        n if P6_COUNTERS.contains(&n) => value as u32 as i32 as u64 & COUNTER_BITS,
        n if NETBURST_COUNTERS.contains(&n) => value & COUNTER_BITS,
        _ => value & u64::from(u32::MAX),
    };
    cpu.sys.msrs.insert(number, kept);
}

/// RDPMC: EDX:EAX ← the counter that ECX names.
///
/// # Errors
/// #GP(0) at CPL above 0 unless CR4.PCE is set, and for counters that do not exist.
pub fn rdpmc(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.sys.cr4 & cr4::PCE == 0 {
        require_cpl0(cpu)?;
    }
    let range = counters(cpu.model.family()).ok_or(Exception::GeneralProtection(0))?;
    let number = range.start().wrapping_add(cpu.state.gpr[1]);
    if !range.contains(&number) {
        return Err(Exception::GeneralProtection(0));
    }
    let value = read(cpu, number);
    super::msr::store_pair(cpu, value);
    Ok(())
}
