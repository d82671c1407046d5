//! The virtual machine: vCPU, tiers, translation cache, devices and loaders.

#![deny(unsafe_code)]

pub mod bench;
pub mod bus;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod config;
pub mod console;
pub mod cpu_model;
pub mod debug;
pub mod devices;
pub mod embedded;
pub mod exit;
pub mod fpu;
pub mod gdb;
pub mod interp;
pub mod irq;
pub mod json;
pub mod launch;
pub mod loader;
mod locate;
pub mod log;
pub mod mirrored;
pub mod native;
pub mod run;
pub mod selftest;
pub mod stats;
pub mod stopwatch;
pub mod summary;
pub mod system;
pub mod tags;
pub mod tier;
pub mod vcpu;
pub mod vm;
pub mod volatile;
