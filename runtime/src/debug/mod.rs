//! Looking into a machine.

pub mod dump;
pub mod symbols;
