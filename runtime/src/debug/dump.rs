//! Blocks of a machine as text.

use crate::vm::Vm;

/// stub
pub fn blocks(_vm: &mut Vm, _at: Option<u32>, _hottest: usize) -> anyhow::Result<String> {
    Ok(String::new())
}
