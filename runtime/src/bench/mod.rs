//! `ring1 bench`: whole guests in ring1, and beside it.
//!
//! [`subject`] knows how each competitor is started, [`child`] runs one and
//! reads its console, [`clock`] the CPU time it has used. [`boot`] and
//! [`workloads`] are the two comparisons, [`listener`] hears what workloads say of
//! themselves, [`results`] puts the workloads side by
//! side, and [`report`] writes down what came out, with [`host`] saying where.
//! [`options`] and [`guests`] are what the command takes and finds, [`command`]
//! joins all of it.
//!
//! The yardstick is host CPU time, not wall time: a busy host stretches the
//! latter by a factor, the former by some percent.

pub mod boot;
pub mod child;
pub mod clock;
pub mod command;
pub mod figures;
pub mod guests;
pub mod host;
pub mod listener;
pub mod options;
pub mod report;
pub mod results;
pub mod subject;
pub mod workloads;
