//! Whole guests in ring1 and beside it.
//!
//! [`subject`] knows how each competitor is started, [`child`] runs one and
//! reads its console and the CPU time it has used, [`boot`] and [`workloads`]
//! are the two comparisons, [`families`] and [`report`] turn figures into text.
//!
//! The yardstick is host CPU time, not wall time: a busy host stretches the
//! latter by a factor, the former by some percent.

pub mod boot;
pub mod child;
pub mod families;
pub mod report;
pub mod subject;
pub mod workloads;
