//! Machine check: there is a register file to look at, and never an error in it
//! (SDM vol. 3B, "Machine-Check Architecture").
//!
//! IA32_MCG_CAP announces no banks, so nothing is left to enable.

use crate::cpu_model::CpuModel;
use crate::cpu_model::feature::Feature;
use translator::exception::Exception;

/// MSR numbers: IA32_P5_MC_ADDR and IA32_P5_MC_TYPE, IA32_MCG_CAP, IA32_MCG_STATUS.
const P5_MC_ADDR: u32 = 0;
const P5_MC_TYPE: u32 = 1;
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;

/// Whether `number` is one of the registers of this file.
pub fn is_machine_check(number: u32) -> bool {
    matches!(number, P5_MC_ADDR | P5_MC_TYPE | MCG_CAP | MCG_STATUS)
}

/// Whether the model has the register of this file.
pub fn exists(model: &CpuModel, number: u32) -> bool {
    model.has(match number {
        P5_MC_ADDR | P5_MC_TYPE => Feature::Mce,
        _ => Feature::Mca,
    })
}

/// The value of a register of this file.
pub fn read() -> u64 {
    // No banks, no error, no machine check in progress.
    0
}

/// Writes a register of this file: all can be cleared, none set.
///
/// # Errors
/// #GP(0) for IA32_MCG_CAP, and for anything but zero.
pub fn write(number: u32, value: u64) -> Result<(), Exception> {
    if number == MCG_CAP || value != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    Ok(())
}
