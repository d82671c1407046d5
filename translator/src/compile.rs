//! Stub.
#![allow(missing_docs, unused_variables)]
use crate::block::Block;
pub struct CompileRequest<'a> {
    pub block: &'a Block,
    pub link_base: u32,
    pub callout_base: u32,
    pub listing: bool,
}
pub struct HostCode {
    pub bytes: Vec<u8>,
    pub links: Vec<Link>,
}
pub struct Link {
    pub slot: u32,
    pub eip: u32,
}
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct CompileError;
pub struct Compiler;
impl Compiler {
    pub fn new() -> Result<Self, CompileError> {
        Ok(Self)
    }
    pub fn compile(&mut self, r: &CompileRequest) -> Result<HostCode, CompileError> {
        Err(CompileError)
    }
    pub fn trampoline(&mut self) -> Result<Vec<u8>, CompileError> {
        Ok(vec![0xc3])
    }
    pub fn unlinked_stub(&mut self) -> Result<Vec<u8>, CompileError> {
        Ok(vec![0xc3])
    }
}
pub mod exit_kind {
    pub const NEXT: u64 = 0;
    pub const INTERPRET: u64 = 1;
    pub const UNLINKED: u64 = 2;
    pub const BUDGET: u64 = 3;
    pub const LEAVE: u64 = 4;
}
