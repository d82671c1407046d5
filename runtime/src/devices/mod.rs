//! Stub, replaced by the devices.
#![allow(missing_docs, unused_variables)]
pub mod pc {
    pub struct Pc;
    pub enum PcEvent {
        PowerOff,
        Reset,
        DebugExit(u32),
    }
    impl Pc {
        pub fn port_read(&mut self, port: u16, size: u8) -> u32 {
            u32::MAX
        }
        pub fn port_write(&mut self, port: u16, size: u8, value: u32) {}
        pub fn mmio_read(&mut self, phys: u64, size: u8) -> u32 {
            u32::MAX
        }
        pub fn mmio_write(&mut self, phys: u64, size: u8, value: u32) {}
        pub fn poll(&mut self) {}
        pub fn next_deadline_ns(&self) -> Option<u64> {
            None
        }
        pub fn interrupt_pending(&self) -> bool {
            false
        }
        pub fn acknowledge(&mut self) -> u8 {
            0
        }
        pub fn has_event(&self) -> bool {
            false
        }
        pub fn take_event(&mut self) -> Option<PcEvent> {
            None
        }
    }
}
pub mod acpi {
    pub const RSDP_ADDRESS: u32 = 0xe0000;
    pub fn acpi_tables(base: u32) -> Vec<(u32, Vec<u8>)> {
        vec![]
    }
}
