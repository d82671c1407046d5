//! Looking into a machine.

pub mod dump;
