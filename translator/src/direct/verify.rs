//! Reads emitted code back and checks that it can reach nothing it should not.
//!
//! The emitter is trusted to be right by tests; this looks at its *output*, from
//! the bytes alone, the way a sandbox's verifier does. One pass, in order, with the
//! little state that the lookup's shape needs ([`Facts`]): whatever is written to a
//! register outside that shape takes the permission away.
//!
//! Checked:
//! - memory is reached only as a field of the state through R15, as an entry of a
//!   table through R14 (loads only), at R8 + R9 after a lookup or at a pointer made
//!   of both (found in the write table if it is written), no further from there than
//!   one check covers, in the mirror through R14 and a register whose upper half is
//!   zero, from GS on, in code that may, at an address of 32 bits or at such a register,
//!   or as a jump-cache entry (loads only);
//! - R13, R14, R15 and RSP are never written, R13 excepted by LEA, and a guest
//!   register never with 64 bits, RCX excepted, which the sequences borrow;
//! - the host's stack has one more EIP and one more address exactly while a call is
//!   under way: PUSH of a constant stands before a CALL of another block, and RET takes
//!   both away; it is written in no other way;
//! - control leaves only by RET, through a jump-cache entry, or by the routines,
//!   ways and callouts of the state; branches and calls stay inside and land on
//!   instructions (links are made later);
//! - nothing privileged.
//!
//! The pass follows the code as it lies, not as it branches: that the code for a
//! page crossing comes back to its own access, and only when the entries agree, is
//! not proved here, nor that the range checked is the range used.

mod facts;
mod wide;

use super::memory::MAX_SPAN;
use super::mirror::MAX_DISPLACEMENT;
use super::way::Way;
use crate::state::{CpuState, MIRROR_DISTANCE, WRITE_TABLE_DISTANCE};
use facts::{Facts, Permission};
use iced_x86::{
    Code, CodeSize, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory,
    OpAccess, Register, UsedMemory,
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

/// Checks the code of one block, which may rely on GS or not: see
/// [`CompileRequest::relies_on_gs`](crate::compile::CompileRequest::relies_on_gs).
///
/// # Errors
/// The first instruction that breaks a rule.
pub fn verify(code: &[u8], gs: bool) -> Result<(), Violation> {
    let decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let instructions: Vec<Instruction> = decoder.into_iter().collect();
    let starts: HashSet<u64> = instructions.iter().map(Instruction::ip).collect();
    let mut factory = InstructionInfoFactory::new();
    let mut facts = Facts::default();
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
        if is_branch(h) && !leads_inside(h, code.len(), &starts) {
            return Err(broken("a branch to no instruction of the block"));
        }
        leaves_properly(h, &facts).map_err(broken)?;
        pairs_calls(h, &facts).map_err(broken)?;
        if !uses_host_stack(h) {
            if !facts.rebasing.makes(h) {
                wide_enough(h).map_err(broken)?;
            }
            for used in info.used_registers() {
                if writes(used.access()) {
                    may_write(h, used.register()).map_err(broken)?;
                }
            }
            for used in info.used_memory() {
                match used.segment() {
                    Register::GS if gs => in_gs(used, &facts),
                    Register::DS | Register::ES | Register::SS => may_use(h, used, &facts),
                    _ => Err("a segment that is not the code's to use"),
                }
                .map_err(broken)?;
            }
        }
        let rebasing = facts.rebasing.after(h);
        facts = facts.after(h, info);
        facts.rebasing = rebasing.ok_or(broken("a pointer of the host's is kept"))?;
    }
    Ok(())
}

fn is_branch(h: &Instruction) -> bool {
    matches!(
        h.flow_control(),
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch | FlowControl::Call
    )
}

/// The pair's own pushes and pops.
fn uses_host_stack(h: &Instruction) -> bool {
    let call = matches!(
        h.code(),
        Code::Call_rm64 | Code::Call_rel32_64 | Code::Pushq_imm32
    );
    call || returns(h)
}

/// RET 8.
fn returns(h: &Instruction) -> bool {
    h.code() == Code::Retnq_imm16 && h.immediate16() == 8
}

/// A call of another block, rather than a callout.
fn calls_block(h: &Instruction) -> bool {
    h.code() == Code::Call_rel32_64
        || h.code() == Code::Call_rm64 && h.memory_base() == Register::R10
}

/// PUSH stands before CALL and nowhere else.
fn pairs_calls(h: &Instruction, facts: &Facts) -> Result<(), &'static str> {
    match facts.pushed == calls_block(h) {
        true => Ok(()),
        false => Err("a call without its EIP, or the reverse"),
    }
}

fn leads_inside(h: &Instruction, end: usize, starts: &HashSet<u64>) -> bool {
    let target = h.near_branch_target();
    target < end as u64 && starts.contains(&target)
}

fn writes(access: OpAccess) -> bool {
    !matches!(
        access,
        OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
    )
}

/// Control leaves only in the ways there are.
fn leaves_properly(h: &Instruction, facts: &Facts) -> Result<(), &'static str> {
    let through = |fields: &[usize]| {
        let field = h.memory_displacement64();
        h.memory_base() == Register::R15
            && h.memory_index() == Register::None
            && fields.iter().any(|&f| f as u64 == field)
    };
    let ways = Way::ALL.map(Way::offset);
    let callouts = [
        offset_of!(CpuState, direct_callout),
        offset_of!(CpuState, vector_enter),
    ];
    let routines = [
        offset_of!(CpuState, direct_leave),
        offset_of!(CpuState, direct_return),
    ];
    let proper = match h.flow_control() {
        FlowControl::Next | FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
            true
        }
        FlowControl::Return => returns(h),
        FlowControl::Call => h.code() == Code::Call_rel32_64,
        FlowControl::IndirectBranch => through(&routines) || facts.is_entry(h),
        FlowControl::IndirectCall => through(&callouts) || through(&ways) || facts.is_entry(h),
        _ => false,
    };
    match proper {
        true => Ok(()),
        false => Err("control leaves the block in an unknown way"),
    }
}

fn may_write(h: &Instruction, r: Register) -> Result<(), &'static str> {
    match r.full_register() {
        Register::R13 if h.code() == Code::Lea_r64_m && h.memory_base() == Register::R13 => Ok(()),
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
        | Code::Test_rm64_r64
        | Code::Cmp_r64_rm64
        | Code::Add_r64_rm64
        | Code::Movsxd_r64_rm32
        | Code::VEX_Rorx_r64_rm64_imm8 => match h.op0_register() {
            Register::None
            | Register::RCX
            | Register::R8
            | Register::R9
            | Register::R10
            | Register::R11
            | Register::R13 => Ok(()),
            _ => Err("writes 64 bits of a guest register"),
        },
        _ => Err("an operation on 64 bits"),
    }
}

/// The access is to one of the things there are.
fn may_use(h: &Instruction, used: &UsedMemory, facts: &Facts) -> Result<(), &'static str> {
    let write = writes(used.access());
    if used.access() == OpAccess::NoMemAccess {
        return Ok(());
    }
    let (base, index, scale) = (used.base(), used.index(), used.scale());
    let bytes = used.memory_size().size();
    match (base, index) {
        (Register::R15, Register::None) => {
            let end = used.displacement() as usize + bytes;
            match end <= size_of::<CpuState>() {
                true => Ok(()),
                false => Err("beyond the state"),
            }
        }
        (Register::R14, Register::R9 | Register::R11 | Register::RCX)
            if !write
                && scale == 8
                && matches!(used.displacement(), 0 | WRITE_TABLE_DISTANCE)
                && h.code() == Code::Mov_r64_rm64 =>
        {
            Ok(())
        }
        (r, Register::None) if facts.rebasing.permits(h, r) => Ok(()),
        (Register::R14, index)
            if scale == 1
                && !facts.wide.is(index)
                && (used.displacement() as i64 - MIRROR_DISTANCE as i64).abs()
                    <= i64::from(MAX_DISPLACEMENT) =>
        {
            Ok(())
        }
        // The EIP of the last call.
        (Register::RSP, Register::None) if !write && used.displacement() == 8 && bytes == 4 => {
            Ok(())
        }
        // The jump cache.
        (Register::R10, _) if !write && facts.is_entry(h) => Ok(()),
        (Register::R8, Register::R9) if scale == 1 => permitted(facts.found, used, write, bytes),
        (Register::R8, Register::None) => permitted(facts.r8, used, write, bytes),
        (Register::R10, Register::None) => permitted(facts.r10, used, write, bytes),
        _ => Err("memory that code may not reach"),
    }
}

/// The user view's mirror, no further out than its guards reach.
fn in_gs(used: &UsedMemory, facts: &Facts) -> Result<(), &'static str> {
    let (base, index) = (used.base(), used.index());
    let short = |r: Register| r == Register::None || r.is_gpr32();
    let displacement = used.displacement() as i64;
    let within = match (used.address_size(), base, index) {
        (CodeSize::Code32, _, _) => short(base) && short(index),
        (CodeSize::Code64, Register::None, Register::None) => {
            (0..=i64::from(u32::MAX)).contains(&displacement)
        }
        (CodeSize::Code64, r, Register::None) => {
            !facts.wide.is(r) && displacement.abs() <= i64::from(MAX_DISPLACEMENT)
        }
        _ => false,
    };
    match within {
        true => Ok(()),
        false => Err("from GS on by more than 32 bits"),
    }
}

/// Guest memory, by the last byte that was checked.
fn permitted(
    permission: Permission,
    used: &UsedMemory,
    write: bool,
    bytes: usize,
) -> Result<(), &'static str> {
    let Some(pointer) = permission else {
        return Err("guest memory without a lookup");
    };
    let end = used.displacement() as i64 + bytes as i64 - 1 - pointer.to_last;
    let begin = used.displacement() as i64 - pointer.to_last;
    match pointer.writable {
        _ if end > 0 || begin <= -i64::from(MAX_SPAN) => {
            Err("guest memory beyond what was looked up")
        }
        false if write => Err("a store where the lookup permits loads"),
        _ => Ok(()),
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

    /// The code of a block, and whether it may rely on GS.
    fn emitted(bytes: &[u8], mode: Mode, mirrored: bool, gs: bool) -> Option<(Vec<u8>, bool)> {
        let block = decode_block(bytes, 0x40_0ff0, mode, 16).ok()?;
        let request = CompileRequest {
            block: &block,
            link_base: 6,
            callout_base: 100,
            grouped: true,
            native_vectors: true,
            mirrored,
            gs,
            listing: false,
        };
        let code = DirectCompiler::new().compile(&request).ok()?;
        Some((code.bytes, request.relies_on_gs()))
    }

    #[test]
    fn code_of_random_blocks_passes() {
        let segmented = Mode(Mode::flat32().0 & !(0x30 << 16));
        let supervisor = Mode(Mode::flat32().0 | Mode::SUPERVISOR);
        let user = Mode(Mode::flat32().0 | Mode::USER);
        let based = Mode(segmented.0 | Mode::USER);
        let modes = [Mode::flat32(), segmented, supervisor, user, based];
        let (mut blocks, mut by_gs) = (0, 0);
        for seed in 0..60_000 {
            let guest = bytes(seed);
            let mode = modes[seed as usize % 5];
            let Some((code, gs)) = emitted(&guest, mode, seed & 4 != 0, seed & 8 != 0) else {
                continue;
            };
            blocks += 1;
            by_gs += u32::from(gs);
            if let Err(violation) = verify(&code, gs) {
                panic!("seed {seed}, guest bytes {guest:02x?}: {violation}");
            }
        }
        assert!(blocks > 30_000, "only {blocks} blocks were emitted");
        assert!(by_gs > 3_000, "only {by_gs} of them may rely on GS");
    }

    #[test]
    fn what_code_must_not_do_is_found() {
        let cases: [(&[u8], &str); 10] = [
            (&[0x48, 0x8b, 0x03], "mov rax, [rbx]"),
            (&[0x43, 0x89, 0x04, 0x08], "mov [r8+r9], eax without lookup"),
            (&[0x49, 0x89, 0xc7], "mov r15, rax"),
            (&[0x48, 0x89, 0xd8], "mov rax, rbx"),
            (&[0xff, 0xe0], "jmp rax"),
            (&[0x41, 0xff, 0x62, 0x08], "jmp [r10+8] without the cache"),
            (&[0x68, 1, 0, 0, 0, 0x90], "push without call"),
            (&[0xc3], "ret that leaves an EIP"),
            (&[0xe8, 0xfb, 0xff, 0xff, 0xff], "call without push"),
            (&[0x0f, 0x05], "syscall"),
        ];
        for (code, what) in cases {
            assert!(verify(code, false).is_err(), "{what}");
        }
    }

    #[test]
    fn a_lookup_permits_what_its_table_does() {
        // mov rcx,[r14+r9*8]; jrcxz over; mov r9,rcx; over:
        let lookup = [0x4b, 0x8b, 0x0c, 0xce, 0xe3, 0x03, 0x4c, 0x8b, 0xc9];
        let mut load = lookup.to_vec();
        let mut store = load.clone();
        // At the address of the last byte less 3.
        let mut beyond = load.clone();
        beyond.extend([0x43, 0x8b, 0x04, 0x08]);
        load.extend([0x43, 0x8b, 0x44, 0x08, 0xfd]);
        store.extend([0x43, 0x89, 0x44, 0x08, 0xfd]);
        assert_eq!(verify(&load, false), Ok(()));
        assert!(verify(&beyond, false).is_err());
        assert!(verify(&store, false).is_err());
    }

    #[test]
    fn the_mirror_is_reached_by_32_bits_only() {
        // add eax, [r14+rbx+disp]
        let direct = |disp: u64| {
            let mut code = vec![0x41, 0x03, 0x84, 0x1e];
            code.extend((disp as u32).to_le_bytes());
            code
        };
        assert_eq!(verify(&direct(MIRROR_DISTANCE + 8), false), Ok(()));
        assert_eq!(verify(&direct(MIRROR_DISTANCE - 8), false), Ok(()));
        assert!(verify(&direct(MIRROR_DISTANCE + (2 << 20)), false).is_err());
        assert!(verify(&direct(0), false).is_err(), "the table itself");
        // add eax, [r14+r8+disp], R8 from a 32-bit or a 64-bit LEA of [rbx+rcx]
        let through = |lea: [u8; 4]| {
            let mut code = lea.to_vec();
            code.extend([0x43, 0x03, 0x84, 0x06]);
            code.extend((MIRROR_DISTANCE as u32).to_le_bytes());
            code
        };
        assert_eq!(verify(&through([0x44, 0x8d, 0x04, 0x0b]), false), Ok(()));
        assert!(verify(&through([0x4c, 0x8d, 0x04, 0x0b]), false).is_err());
    }

    #[test]
    fn gs_is_reached_by_32_bits_only_and_where_code_may() {
        let cases: [(&[u8], bool, &str); 10] = [
            (&[0x65, 0x03, 0x43, 8], true, "add eax, gs:[rbx+8]"),
            (&[0x65, 0x41, 0x03, 0x44, 0x24, 8], true, "[r12+8]"),
            (&[0x65, 0x67, 0x03, 0x44, 0xb3, 8], true, "[ebx+esi*4+8]"),
            (&[0x65, 0x67, 0x03, 0x83, 0, 0, 0, 0x80], true, "[ebx-2G]"),
            (&[0x65, 0x03, 0x04, 0x25, 0, 0, 0, 1], true, "[1000000h]"),
            (&[0x65, 0x03, 0x04, 0x25, 0, 0, 0, 0x80], false, "[-2G]"),
            (&[0x65, 0x03, 0x44, 0xb3, 8], false, "[rbx+rsi*4+8]"),
            (&[0x65, 0x03, 0x83, 0, 0, 0, 1], false, "[rbx+1000000h]"),
            (&[0x65, 0x41, 0x03, 0], false, "[r8], which may be wide"),
            (&[0x64, 0x03, 0x43, 8], false, "fs:[rbx+8]"),
        ];
        for (code, fine, what) in cases {
            assert_eq!(verify(code, true).is_ok(), fine, "{what}");
            assert!(verify(code, false).is_err(), "{what} in other code");
        }
        // LEA R8D, [RBX + RCX]; ADD EAX, GS:[R8]
        let narrow = [0x44, 0x8d, 0x04, 0x0b, 0x65, 0x41, 0x03, 0];
        assert_eq!(verify(&narrow, true), Ok(()));
    }
}
