//! Tests that need a machine, and the parts they share.
//!
//! What compares a tier with the host CPU is [`runtime::selftest`], because users
//! have it too; [`cases`] adds hand-written sequences. [`images`] makes broken
//! guest images, [`fuzz`] code without sense. [`machine`] runs whole guests, [`lockstep`] two tiers side by
//! side.

pub mod cases;
pub mod crossings;
pub mod fuzz;
pub mod gdb;
pub mod images;
pub mod lockstep;
pub mod machine;
pub mod monitor;
pub mod suites;
