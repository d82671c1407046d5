//! Stub of the interface, replaced by the real crate.
#![allow(missing_docs, unused_variables)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinearAddr(pub u32);
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);
#[derive(Debug)]
pub struct Error;
pub struct GuestRam;
impl GuestRam {
    pub fn new(bytes: u64) -> Result<Self, Error> {
        Err(Error)
    }
    pub fn bytes(&self) -> u64 {
        0
    }
    pub fn host(&self, p: PhysAddr, len: u32) -> Option<*mut u8> {
        None
    }
    pub fn read_slice(&self, p: PhysAddr, b: &mut [u8]) -> Option<()> {
        None
    }
    pub fn write_slice(&mut self, p: PhysAddr, b: &[u8]) -> Option<()> {
        None
    }
    pub fn read_u32(&self, p: PhysAddr) -> Option<u32> {
        None
    }
    pub fn read_u64(&self, p: PhysAddr) -> Option<u64> {
        None
    }
}
#[derive(Clone, Copy, Debug, Default)]
pub struct PagingRegs {
    pub cr0: u32,
    pub cr3: u32,
    pub cr4: u32,
    pub nx: bool,
    pub pae_pdptes: [u64; 4],
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Fetch,
}
#[derive(Clone, Copy, Debug)]
pub struct PageFault {
    pub addr: LinearAddr,
    pub error: u16,
}
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    pub phys: PhysAddr,
    pub host: Option<*mut u8>,
    pub traced: bool,
}
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub read: u64,
    pub write: u64,
}
#[derive(Clone, Copy, Debug)]
pub struct WriteEffect {
    pub code: bool,
}
pub struct ShadowMmu {
    ram: GuestRam,
}
impl ShadowMmu {
    pub fn new(ram: GuestRam) -> Result<Self, Error> {
        Ok(Self { ram })
    }
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }
    pub fn write_ram(&mut self, p: PhysAddr, b: &[u8]) -> Option<()> {
        self.ram.write_slice(p, b)
    }
    pub fn set_paging(&mut self, r: &PagingRegs) {}
    pub fn view(&self, user: bool) -> View {
        View { read: 0, write: 0 }
    }
    pub fn translate(
        &mut self,
        a: LinearAddr,
        k: Access,
        user: bool,
    ) -> Result<Translation, PageFault> {
        Err(PageFault { addr: a, error: 0 })
    }
    pub fn peek(&self, a: LinearAddr) -> Option<PhysAddr> {
        None
    }
    pub fn invlpg(&mut self, a: LinearAddr) {}
    pub fn flush(&mut self, global: bool) {}
    pub fn protect_code(&mut self, p: PhysAddr) {}
    pub fn unprotect_code(&mut self, p: PhysAddr) {}
    pub fn note_write(&mut self, p: PhysAddr, len: u32) -> WriteEffect {
        WriteEffect { code: false }
    }
    pub fn is_code(&self, p: PhysAddr) -> bool {
        false
    }
    pub fn fetch_epoch(&self) -> u64 {
        0
    }
    pub fn space_id(&self) -> u32 {
        0
    }
}
pub fn load_pdptes(ram: &GuestRam, cr3: u32) -> Option<[u64; 4]> {
    None
}
