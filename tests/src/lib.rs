//! Tests that need a machine, and the parts they share.
//!
//! The host CPU is the judge: [`silicon`] runs 32-bit code on it, [`generate`]
//! makes random sequences, [`cases`] has hand-written ones, [`judge`] compares
//! what a tier makes of them with what the CPU did, and [`undefined`] knows what
//! the manual leaves open. [`guest`] is the machine in which a tier runs them.
//! [`images`] makes broken guest images. [`machine`] runs whole guests,
//! [`lockstep`] two tiers side by side.

pub mod case;
pub mod cases;
pub mod generate;
pub mod guest;
pub mod images;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod judge;
pub mod lockstep;
pub mod machine;
pub mod rng;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod silicon;
pub mod state;
pub mod suites;
pub mod undefined;
