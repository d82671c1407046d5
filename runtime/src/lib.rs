//! runtime.

pub mod bus;
pub mod clock;
pub mod console;
pub mod devices;
pub mod irq;
