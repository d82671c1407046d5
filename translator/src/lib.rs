//! Decodes 32-bit x86, defines every instruction once, and compiles blocks.
//!
//! The crate knows x86 and CLIF and nothing of memory maps, devices, signals or
//! threads. Its pipeline is its folder:
//!
//! ```text
//! bytes ─► decode ─► Insn ─► Block ─► semantics × Emitter ─► CLIF ─► HostCode
//!                              └────► semantics × the runtime's interpreter
//! ```
//!
//! [`machine::Machine`] is the seam: an instruction's definition in
//! [`semantics`] is generic over it, the runtime's interpreter implements it on
//! values, [`emit`] implements it on CLIF.

#![forbid(unsafe_code)]

pub mod block;
pub mod compile;
pub mod decodable;
pub mod decode;
pub mod direct;
pub mod dump;
pub mod emit;
mod encoding;
pub mod error;
pub mod exception;
pub mod flags;
pub mod insn;
pub mod machine;
pub mod mode;
pub mod records;
pub mod semantics;
pub mod state;

/// Names the translator that this is: the same for builds of the same sources by the
/// same compiler, and for no others. Code kept from another is of no use.
pub const BUILD: &str = env!("TRANSLATOR_BUILD");
