//! How fast it is.
//!
//! The criterion benches (`benches/`) measure one mechanism each through the
//! public interfaces: a translation, a loop, a fault, an exit, a boot. `ring1
//! bench`, which sets whole guests beside QEMU, is part of `runtime`. What came
//! out is in `docs/performance.md`.
//!
//! [`guest`], [`programs`] and [`events`] are what the benches run, [`cpu_time`] is their
//! clock.

#![forbid(unsafe_code)]

pub mod cpu_time;
pub mod events;
pub mod guest;
pub mod programs;
