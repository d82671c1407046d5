//! The CPU judged by the host's: random sequences, and whoever runs them.
//!
//! The host CPU is the judge: [`silicon`] runs 32-bit code on it, [`generate`]
//! makes random sequences, [`judge`] compares what a tier makes of them with what
//! the CPU did, and [`undefined`] knows what the manual leaves open. [`guest`] is
//! the machine in which a tier runs them.
//!
//! `ring1 selftest` is [`command`], with its [`options`]; all but the counting
//! happens in a [`helper`] process, the [`worker`].

pub mod case;
pub mod command;
pub mod difference;
pub mod generate;
pub mod guest;
pub mod helper;
pub mod judge;
pub mod options;
pub mod rng;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod silicon;
pub mod state;
pub mod undefined;
pub mod worker;
