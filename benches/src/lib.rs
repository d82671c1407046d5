//! How fast it is.
//!
//! Two ways to ask. The criterion benches (`benches/`) measure one mechanism
//! each through the public interfaces: a translation, a loop, a fault, an exit.
//! The program `compare` runs whole guests in ring1, in QEMU and, where they are
//! ordinary programs, natively, and puts the three side by side. What came out
//! is in `docs/performance.md`.
//!
//! [`guest`] and [`programs`] are what the benches run, [`cpu_time`] is their
//! clock, [`compare`] is all of the program but its command line.

#![forbid(unsafe_code)]

pub mod compare;
pub mod cpu_time;
pub mod guest;
pub mod programs;
