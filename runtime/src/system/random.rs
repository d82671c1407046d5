//! RDRAND and RDSEED (SDM vol. 1, "Random Number Generator Instructions").
//!
//! The numbers are the host kernel's. Should it ever refuse, the instructions
//! say what hardware says whose entropy ran out: CF = 0.

use super::operand;
use crate::vcpu::Cpu;
use std::fs::File;
use std::io::Read;
use translator::exception::Exception;
use translator::flags::CF;
use translator::insn::{Insn, Operand};

/// Bytes fetched from the host at once.
const BUFFER_BYTES: usize = 256;

/// Random bytes of the host.
#[derive(Default)]
pub struct Entropy {
    source: Option<File>,
    buffer: Vec<u8>,
}

impl Entropy {
    fn word(&mut self) -> Option<u32> {
        if self.buffer.is_empty() {
            self.refill()?;
        }
        let rest = self.buffer.len().checked_sub(4)?;
        let bytes = self.buffer.split_off(rest);
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn refill(&mut self) -> Option<()> {
        if self.source.is_none() {
            self.source = File::open("/dev/urandom").ok();
        }
        let mut buffer = vec![0; BUFFER_BYTES];
        self.source.as_mut()?.read_exact(&mut buffer).ok()?;
        self.buffer = buffer;
        Some(())
    }
}

/// RDRAND, RDSEED: destination ← a random number, CF ← 1; or 0 and 0.
///
/// # Errors
/// #UD for a memory operand.
pub fn rdrand(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let Operand::Gpr(r, w) = i.ops[0] else {
        return Err(Exception::InvalidOpcode);
    };
    let word = cpu.entropy.word();
    operand::set_gpr(cpu, r, w, word.unwrap_or(0));
    let carry = if word.is_some() { CF } else { 0 };
    let image = cpu.state.eflags | carry;
    cpu.state.set_eflags_image(image);
    Ok(())
}
