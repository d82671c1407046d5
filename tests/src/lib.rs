//! Tests that need a machine, and the parts they share.
//!
//! [`silicon`] runs 32-bit code on the host CPU, which judges every tier. [`images`] makes broken guest images.

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
