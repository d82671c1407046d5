//! The virtual machine: vCPU, tiers, translation cache, devices and loaders.

pub mod devices;
pub mod fpu;
pub mod interp;
pub mod system;
pub mod vcpu;
