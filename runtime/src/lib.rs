//! The virtual machine: vCPU, tiers, translation cache, devices and loaders.

pub mod cli;
pub mod config;
pub mod devices;
pub mod fpu;
pub mod loader;
pub mod system;
pub mod vcpu;
