//! How fast it is.
//!
//! Two ways to ask. The criterion benches (`benches/`) measure one mechanism
//! each through the public interfaces: a translation, a loop, a fault, an exit.
//! The program `compare` runs whole guests in ring1, in QEMU and, where they are
//! ordinary programs, natively, and puts the three side by side. What came out
//! is in `docs/performance.md`.

#![forbid(unsafe_code)]

pub mod compare;
