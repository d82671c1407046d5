//! Looking into a machine.

pub mod dump;
pub mod perf;
pub mod symbols;
