//! Reads emitted code back and checks that it can reach nothing it should not.
//!
//! The emitter is trusted to be right by tests; this looks at its *output*, from
//! the bytes alone, the way a sandbox's verifier does. One pass, in order, with the
//! little state that the lookup's shape needs ([`Lookup`]): whatever is written to
//! R8 or R9 outside that shape takes the permission away.
//!
//! Checked:
//! - memory is reached only as a field of the state through R15, as an entry of a
//!   table through R13 or R14 (loads only), at R8 + R9 after a lookup (in the write
//!   table if it is written), or as a link slot or jump-cache entry (loads only);
//! - R13, R14, R15 and RSP are never written, and a guest register never with
//!   64 bits, RCX excepted, which the sequences borrow;
//! - control leaves only by RET, through a link slot or jump-cache entry, or by the
//!   callout; branches stay inside and land on instructions;
//! - nothing privileged.
//!
//! The pass follows the code as it lies, not as it branches: that the code for a
//! page crossing comes back to its own access, and only when the entries agree, is
//! not proved here.

use crate::state::CpuState;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess,
    Register, UsedMemory,
};
use std::collections::HashSet;
use std::mem::{offset_of, size_of};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset:#x}: {text}: {reason}")]
pub struct Violation {
    /// Offset of the instruction.
    pub offset: u64,
    /// The instruction.
    pub text: String,
    /// The rule it breaks.
    pub reason: &'static str,
}

/// How far a lookup has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    /// [R8 + R9] is not known to be anything.
    None,
    /// RCX holds the table's entry for the page number in R9.
    Entry { writable: bool },
    /// … which is not zero.
    NotZero { writable: bool },
    /// R9 holds it.
    Done { writable: bool },
}

/// Checks the code of one block.
///
/// # Errors
/// The first instruction that breaks a rule.
pub fn verify(code: &[u8]) -> Result<(), Violation> {
    let decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let instructions: Vec<Instruction> = decoder.into_iter().collect();
    let starts: HashSet<u64> = instructions.iter().map(Instruction::ip).collect();
    let mut factory = InstructionInfoFactory::new();
    let mut lookup = Lookup::None;
    for h in &instructions {
        let broken = |reason| Violation {
            offset: h.ip(),
            text: h.to_string(),
            reason,
        };
        let info = factory.info(h);
        if h.is_invalid() || h.is_privileged() {
            return Err(broken("not an instruction a guest may run"));
        }
        if is_branch(h) && !starts.contains(&h.near_branch_target()) {
            return Err(broken("a branch to no instruction of the block"));
        }
        leaves_properly(h).map_err(broken)?;
        if h.code() != Code::Retnq && h.code() != Code::Call_rm64 {
            wide_enough(h).map_err(broken)?;
            for used in info.used_registers() {
                if writes(used.access()) {
                    may_write(used.register()).map_err(broken)?;
                }
            }
            for used in info.used_memory() {
                may_use(h, used, lookup).map_err(broken)?;
            }
        }
        let written = |r: Register| {
            let mut all = info.used_registers().iter();
            all.any(|u| u.register().full_register() == r && writes(u.access()))
        };
        lookup = advance(h, lookup, written(Register::R8), written(Register::R9));
    }
    Ok(())
}

fn is_branch(h: &Instruction) -> bool {
    matches!(
        h.flow_control(),
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
    )
}

fn writes(access: OpAccess) -> bool {
    !matches!(
        access,
        OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
    )
}

/// Control leaves only in the ways there are.
fn leaves_properly(h: &Instruction) -> Result<(), &'static str> {
    match h.flow_control() {
        FlowControl::Next | FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
            Ok(())
        }
        FlowControl::Return if h.code() == Code::Retnq => Ok(()),
        FlowControl::IndirectBranch
            if matches!(h.memory_base(), Register::R8 | Register::R10)
                && h.memory_index() == Register::None =>
        {
            Ok(())
        }
        FlowControl::IndirectCall
            if h.memory_base() == Register::R15
                && h.memory_index() == Register::None
                && h.memory_displacement64() == offset_of!(CpuState, direct_callout) as u64 =>
        {
            Ok(())
        }
        _ => Err("control leaves the block in an unknown way"),
    }
}

fn may_write(r: Register) -> Result<(), &'static str> {
    match r.full_register() {
        Register::R13 | Register::R14 | Register::R15 | Register::RSP => {
            Err("writes a register that blocks must keep")
        }
        _ => Ok(()),
    }
}

/// Operations on 64 bits are those of the sequences, in their registers.
fn wide_enough(h: &Instruction) -> Result<(), &'static str> {
    let named = (0..h.op_count()).any(|n| h.op_register(n).is_gpr64());
    let wide = named || h.code().op_code().operand_size() == 64;
    if !wide || h.flow_control() != FlowControl::Next {
        return Ok(());
    }
    match h.code() {
        Code::Mov_r64_rm64
        | Code::Mov_rm64_r64
        | Code::Mov_r64_imm64
        | Code::Lea_r64_m
        | Code::Not_rm64
        | Code::VEX_Rorx_r64_rm64_imm8 => match h.op0_register() {
            Register::None
            | Register::RCX
            | Register::R8
            | Register::R9
            | Register::R10
            | Register::R11 => Ok(()),
            _ => Err("writes 64 bits of a guest register"),
        },
        _ => Err("an operation on 64 bits"),
    }
}

/// The access is to one of the things there are.
fn may_use(h: &Instruction, used: &UsedMemory, lookup: Lookup) -> Result<(), &'static str> {
    let write = writes(used.access());
    if used.access() == OpAccess::NoMemAccess {
        return Ok(());
    }
    let (base, index, scale) = (used.base(), used.index(), used.scale());
    match (base, index) {
        (Register::R15, Register::None) => {
            let end = used.displacement() as usize + used.memory_size().size();
            match end <= size_of::<CpuState>() {
                true => Ok(()),
                false => Err("beyond the state"),
            }
        }
        (Register::R13 | Register::R14, Register::R9 | Register::RCX)
            if !write
                && scale == 8
                && used.displacement() == 0
                && h.code() == Code::Mov_r64_rm64 =>
        {
            Ok(())
        }
        (Register::R8, Register::R9) if scale == 1 && used.displacement() == 0 => match lookup {
            Lookup::Done { writable } if writable || !write => Ok(()),
            _ => Err("guest memory without a lookup that permits it"),
        },
        // Link slots and the jump cache: jumps, and loads of the cache's keys.
        (Register::R8, Register::None) if h.code() == Code::Jmp_rm64 => Ok(()),
        (Register::R10, Register::None)
            if matches!(h.code(), Code::Jmp_rm64 | Code::Mov_r64_rm64) && !write =>
        {
            Ok(())
        }
        _ => Err("memory that code may not reach"),
    }
}

/// Follows the shape of a lookup.
fn advance(h: &Instruction, lookup: Lookup, r8_written: bool, r9_written: bool) -> Lookup {
    let to_rcx = h.op0_register() == Register::RCX;
    let table = h.memory_base();
    let is_load = h.code() == Code::Mov_r64_rm64;
    if is_load && to_rcx && h.memory_index() == Register::R9 {
        let writable = table == Register::R13;
        return Lookup::Entry { writable };
    }
    match lookup {
        _ if r8_written => Lookup::None,
        Lookup::Entry { writable } if h.code() == Code::Jrcxz_rel8_64 => {
            Lookup::NotZero { writable }
        }
        Lookup::Entry { .. } => Lookup::None,
        Lookup::NotZero { writable }
            if is_load && h.op0_register() == Register::R9 && h.op1_register() == Register::RCX =>
        {
            Lookup::Done { writable }
        }
        Lookup::NotZero { .. } => Lookup::None,
        _ if r9_written => Lookup::None,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::DirectCompiler;
    use super::*;
    use crate::compile::CompileRequest;
    use crate::decode::decode_block;
    use crate::mode::Mode;

    /// Random bytes, a generator of our own so that a failure can be repeated.
    fn bytes(seed: u64) -> [u8; 48] {
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::array::from_fn(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 24) as u8
        })
    }

    fn emitted(bytes: &[u8], mode: Mode) -> Option<Vec<u8>> {
        let block = decode_block(bytes, 0x40_0ff0, mode, 16).ok()?;
        let request = CompileRequest {
            block: &block,
            link_base: 6,
            callout_base: 100,
            grouped: true,
            listing: false,
        };
        Some(DirectCompiler::new().compile(&request).ok()?.bytes)
    }

    #[test]
    fn code_of_random_blocks_passes() {
        let segmented = Mode(Mode::flat32().0 & !(0x30 << 16));
        let mut blocks = 0;
        for seed in 0..60_000 {
            let guest = bytes(seed);
            let mode = [Mode::flat32(), segmented][seed as usize & 1];
            let Some(code) = emitted(&guest, mode) else {
                continue;
            };
            blocks += 1;
            if let Err(violation) = verify(&code) {
                panic!("seed {seed}, guest bytes {guest:02x?}: {violation}");
            }
        }
        assert!(blocks > 30_000, "only {blocks} blocks were emitted");
    }

    #[test]
    fn what_code_must_not_do_is_found() {
        let cases: [(&[u8], &str); 6] = [
            (&[0x48, 0x8b, 0x03], "mov rax, [rbx]"),
            (&[0x43, 0x89, 0x04, 0x08], "mov [r8+r9], eax without lookup"),
            (&[0x49, 0x89, 0xc7], "mov r15, rax"),
            (&[0x48, 0x89, 0xd8], "mov rax, rbx"),
            (&[0xff, 0xe0], "jmp rax"),
            (&[0x0f, 0x05], "syscall"),
        ];
        for (code, what) in cases {
            assert!(verify(code).is_err(), "{what}");
        }
    }

    #[test]
    fn a_lookup_permits_what_its_table_does() {
        // mov rcx,[r14+r9*8]; jrcxz over; mov r9,rcx; over:
        let lookup = [0x4b, 0x8b, 0x0c, 0xce, 0xe3, 0x03, 0x4c, 0x8b, 0xc9];
        let mut load = lookup.to_vec();
        let mut store = load.clone();
        load.extend([0x43, 0x8b, 0x04, 0x08]);
        store.extend([0x43, 0x89, 0x04, 0x08]);
        assert_eq!(verify(&load), Ok(()));
        assert!(verify(&store).is_err());
    }
}
