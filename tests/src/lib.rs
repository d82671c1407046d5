//! Tests that need a machine, and the parts they share.
//!
//! The host CPU is the judge: [`silicon`] runs 32-bit code on it, [`generate`]
//! makes random sequences, [`judge`] compares what a tier makes of them with what
//! the CPU did, and [`undefined`] knows what the manual leaves open.

pub mod case;
pub mod cases;
pub mod generate;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod judge;
pub mod rng;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod silicon;
pub mod state;
pub mod undefined;
