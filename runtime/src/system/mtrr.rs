//! Memory types: MTRRs and PAT (SDM vol. 3A, "Memory Type Range Registers",
//! "Page Attribute Table").
//!
//! There are no caches, so a type changes nothing. But kernels save, compare and
//! rewrite these registers, so they hold what is written, and refuse what real
//! ones refuse. The loaders, being the firmware, leave them as firmware does.

use crate::cpu_model::CpuModel;
use crate::cpu_model::feature::Feature;
use crate::vcpu::Cpu;
use shadow_mmu::MAXPHYADDR;
use translator::exception::Exception;

/// MSR numbers.
const CAP: u32 = 0xfe;
const PHYSBASE0: u32 = 0x200;
const PHYSMASK_LAST: u32 = PHYSBASE0 + 2 * VARIABLE as u32 - 1;
const FIX64K_00000: u32 = 0x250;
const FIX16K_80000: u32 = 0x258;
const FIX16K_A0000: u32 = 0x259;
const FIX4K_C0000: u32 = 0x268;
const FIX4K_F8000: u32 = 0x26f;
const PAT: u32 = 0x277;
const DEF_TYPE: u32 = 0x2ff;

/// Variable ranges.
const VARIABLE: u64 = 8;
/// IA32_MTRRCAP.FIX: there are fixed ranges.
const CAP_FIX: u64 = 1 << 8;
/// IA32_MTRRCAP.WC: write-combining is a type.
const CAP_WC: u64 = 1 << 10;
/// IA32_MTRR_DEF_TYPE.FE and E.
const FIXED_ENABLED: u64 = 1 << 10;
const ENABLED: u64 = 1 << 11;
/// IA32_MTRR_PHYSMASKn.V.
const VALID: u64 = 1 << 11;
/// IA32_PAT at reset: WB, WT, UC-, UC, twice.
const PAT_AT_RESET: u64 = 0x0007_0406_0007_0406;

/// Memory types: uncacheable, write-combining, write-through, write-protected, write-back.
const TYPES: [u8; 5] = [0, 1, 4, WRITE_PROTECTED, WRITE_BACK];
const WRITE_PROTECTED: u8 = 5;
const WRITE_BACK: u8 = 6;
/// Uncacheable unless an MTRR says write-combining: a type of PAT alone.
const UNCACHED: u8 = 7;

/// Bits 35:12, where bases and masks are.
const ADDRESS: u64 = (1 << MAXPHYADDR) - 0x1000;

fn is_variable(number: u32) -> bool {
    (PHYSBASE0..=PHYSMASK_LAST).contains(&number)
}

fn is_fixed(number: u32) -> bool {
    matches!(
        number,
        FIX64K_00000 | FIX16K_80000 | FIX16K_A0000 | FIX4K_C0000..=FIX4K_F8000
    )
}

/// Whether `number` is one of the registers of this file.
pub fn is_memory_type(number: u32) -> bool {
    matches!(number, CAP | PAT | DEF_TYPE) || is_variable(number) || is_fixed(number)
}

/// Whether the model has the register of this file.
pub fn exists(model: &CpuModel, number: u32) -> bool {
    model.has(if number == PAT {
        Feature::Pat
    } else {
        Feature::Mtrr
    })
}

/// The value of a register of this file.
pub fn read(cpu: &Cpu, number: u32) -> u64 {
    let at_reset = match number {
        CAP => VARIABLE | CAP_FIX | CAP_WC,
        PAT => PAT_AT_RESET,
        _ => 0,
    };
    cpu.sys.msrs.get(&number).copied().unwrap_or(at_reset)
}

/// Writes a register of this file.
///
/// # Errors
/// #GP(0) for IA32_MTRRCAP, reserved bits, and types that do not exist.
pub fn write(cpu: &mut Cpu, number: u32, value: u64) -> Result<(), Exception> {
    let [low, ..] = value.to_le_bytes();
    let allowed = match number {
        PAT => value
            .to_le_bytes()
            .iter()
            .all(|t| TYPES.contains(t) || *t == UNCACHED),
        DEF_TYPE => value & !(0xff | FIXED_ENABLED | ENABLED) == 0 && TYPES.contains(&low),
        _ if is_fixed(number) => value.to_le_bytes().iter().all(|t| TYPES.contains(t)),
        _ if is_variable(number) && number & 1 == 0 => {
            value & !(0xff | ADDRESS) == 0 && TYPES.contains(&low)
        }
        _ if is_variable(number) => value & !(VALID | ADDRESS) == 0,
        _ => false,
    };
    if !allowed {
        return Err(Exception::GeneralProtection(0));
    }
    cpu.sys.msrs.insert(number, value);
    Ok(())
}

/// Leaves the registers as firmware does: memory is write-back, the video hole
/// uncacheable, the firmware's own range write-protected.
pub fn set_as_firmware(cpu: &mut Cpu) {
    let all = |t: u8| u64::from_le_bytes([t; 8]);
    let msrs = &mut cpu.sys.msrs;
    msrs.insert(DEF_TYPE, ENABLED | FIXED_ENABLED | u64::from(WRITE_BACK));
    msrs.insert(FIX64K_00000, all(WRITE_BACK));
    msrs.insert(FIX16K_80000, all(WRITE_BACK));
    for number in FIX4K_C0000..=FIX4K_F8000 {
        msrs.insert(number, all(WRITE_PROTECTED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_registers_are_listed() {
        let count = (0..0x400).filter(|&n| is_memory_type(n)).count();
        assert_eq!(count, 3 + 16 + 11);
    }
}
