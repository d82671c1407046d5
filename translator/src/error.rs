//! What can go wrong on the host's side of translation.
//!
//! Guest faults are values ([`crate::exception::Exception`]) and never end up
//! here; a [`CompileError`] only means that the block stays interpreted.

use thiserror::Error;

/// A block, stub or compiler could not be made.
#[derive(Debug, Error)]
pub enum CompileError {
    /// Cranelift has no back end for this host, or rejects our settings.
    #[error("this host cannot be compiled for: {0}")]
    Host(String),
    /// Cranelift refused the function.
    #[error("compilation failed: {0}")]
    Codegen(String),
    /// Cranelift panicked; the compiler has been reset and can be used again.
    #[error("the code generator panicked: {0}")]
    Panic(String),
    /// The code refers to something by address, so it could not be moved.
    #[error("compiled code holds {0} relocations; it must be position-independent")]
    Relocations(usize),
    /// The direct tier does not take 16-bit code.
    #[error("the direct tier does not take 16-bit code")]
    Mode,
    /// The block has no instructions or too many.
    #[error("a block of {0} instructions cannot be compiled")]
    Length(usize),
}
