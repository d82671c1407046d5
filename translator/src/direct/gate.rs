//! How fixed jumps leave a block: by the stubs of link slots, and by gates.
//!
//! A *stub* is a call that stands in a row of them, one for each link slot, outside the
//! blocks. Where it comes from says which slot it is; no block has code for that.
//!
//! A *gate* leads from any block to the code at one EIP in another page, under one tag.
//! What a page maps to can change, or be other in another address space: then the tag is
//! another, and the gate is closed. All jumps to that EIP share the gate, so they stay as
//! short as a jump within the page, and the host predicts them as what they are. It looks
//! at the budget, too, for all of them.
//!
//! ```text
//! mov  r11, rcx
//! mov  ecx, [the current tag]
//! rorx r9, r13, 32               −1 in the lower half if the budget is not spent, else 0
//! lea  ecx, [rcx + r9 + 1 − the gate's tag]
//! jrcxz open
//! call closed                    looks into the jump cache, or leaves naming the gate
//! open:
//! mov  rcx, r11
//! jmp  the code
//! dd   EIP
//! ```
//!
//! Tags are even, so the sum is 0 if and only if the tag is the gate's and the budget is
//! not spent. The runtime opens gates, and gives one to another tag when it is asked for
//! under that.

use super::asm::{Assembler, Mem, Size, reg};
use super::exit::{field, pop};
use super::probe;
use crate::compile::ExitKind;
use crate::state::{CpuState, GATE_BYTES, STUB_BYTES};
use std::mem::offset_of;

/// No tag: a gate with this one is closed.
pub const CLOSED: u32 = u32::MAX;

/// Length of a CALL.
const CALL: usize = 5;
/// Offset of the code behind a gate's CALL.
const OPEN: usize = 28;
/// Offset of its EIP.
const EIP: usize = 36;

/// A gate's code at host address `at`, which leads to `code` under `tag` and calls
/// `closed` under others.
pub fn gate(at: u64, closed: u64, eip: u32, tag: u32, code: u64) -> [u8; GATE_BYTES] {
    let mut asm = Assembler::with_capacity(GATE_BYTES);
    let jump = |asm: &mut Assembler, opcode: u8, target: u64| {
        asm.raw(&[opcode]);
        let next = at + asm.here() as u64 + 4;
        asm.imm(target.wrapping_sub(next) as u32, 4);
    };
    asm.mov(Size::Q, reg::R11, reg::RCX);
    asm.load(Size::D, reg::RCX, field(offset_of!(CpuState, jump_tag)));
    asm.rotate_right_wide(reg::R9, reg::R13, 32);
    let constant = 1u32.wrapping_sub(tag) as i32;
    let sum = Mem::indexed(reg::RCX, reg::R9, 0).plus(constant);
    asm.lea(Size::D, reg::RCX, sum.widened());
    let open = asm.jrcxz();
    jump(&mut asm, 0xe8, closed);
    asm.land(open);
    asm.mov(Size::Q, reg::RCX, reg::R11);
    jump(&mut asm, 0xe9, code);
    asm.imm(eip, 4);
    // INT3
    asm.bytes.resize(GATE_BYTES, 0xcc);
    let mut gate = [0; GATE_BYTES];
    gate.copy_from_slice(&asm.bytes);
    gate
}

/// The stub at host address `at`.
pub fn stub(at: u64, unlinked: u64) -> [u8; CALL] {
    let distance = unlinked.wrapping_sub(at + CALL as u64) as u32;
    let [a, b, c, d] = distance.to_le_bytes();
    [0xe8, a, b, c, d]
}

/// What stubs call: leaves naming the slot.
pub fn unlinked() -> Vec<u8> {
    let mut asm = Assembler::default();
    pop(&mut asm, reg::R8);
    let stubs = field(offset_of!(CpuState, stubs));
    name(&mut asm, stubs, CALL, STUB_BYTES, ExitKind::Unlinked);
    asm.bytes
}

/// What closed gates call, RCX in R11: goes on by the jump cache, or leaves.
pub fn closed() -> Vec<u8> {
    let mut asm = Assembler::default();
    pop(&mut asm, reg::R8);
    asm.store(Size::Q, spill(), reg::R8);
    let eip = Mem::at(reg::R8, (EIP - OPEN) as i32);
    asm.load(Size::D, reg::R8, eip);
    asm.rotate_right_wide(reg::RCX, reg::R13, 32);
    let spent = asm.jecxz();
    let entry = probe::find_entry(&mut asm);
    asm.not(Size::Q, reg::RCX);
    let difference = Mem::indexed(reg::RCX, reg::R8, 0).plus(1);
    asm.lea(Size::Q, reg::RCX, difference);
    let found = asm.jrcxz();
    asm.mov(Size::Q, reg::RCX, reg::R11);
    asm.store(Size::D, field(offset_of!(CpuState, eip)), reg::R8);
    asm.load(Size::Q, reg::R8, spill());
    let gates = field(offset_of!(CpuState, gates));
    name(&mut asm, gates, OPEN, GATE_BYTES, ExitKind::Gate);
    asm.land(found);
    asm.mov(Size::Q, reg::RCX, reg::R11);
    asm.jump_mem(probe::code(entry));
    asm.land(spent);
    asm.mov(Size::Q, reg::RCX, reg::R11);
    asm.store(Size::D, field(offset_of!(CpuState, eip)), reg::R8);
    asm.mov_imm(reg::R8, ExitKind::Budget as u32);
    asm.jump_mem(field(offset_of!(CpuState, direct_leave)));
    asm.bytes
}

/// Leaves with the number of the thing, one in a row from `first` on, whose byte at
/// `offset` is at the address in R8. Changes R9.
fn name(asm: &mut Assembler, first: Mem, offset: usize, bytes: usize, kind: ExitKind) {
    asm.load(Size::Q, reg::R9, first);
    asm.not(Size::Q, reg::R9);
    let from_first = Mem::indexed(reg::R8, reg::R9, 0).plus(1 - offset as i32);
    asm.lea(Size::Q, reg::R8, from_first);
    // The number to the upper half: its bytes are a power of two.
    let up = 32 - bytes.trailing_zeros() as u8;
    asm.rotate_right_wide(reg::R8, reg::R8, 64 - up);
    let word = Mem::at(reg::R8, kind as i32);
    asm.lea(Size::Q, reg::R8, word);
    asm.jump_mem(field(offset_of!(CpuState, direct_leave)));
}

fn spill() -> Mem {
    field(offset_of!(CpuState, spill))
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Code, Decoder, DecoderOptions};

    #[test]
    fn a_gate_has_room_and_leads_where_it_should() {
        let (at, closed, code) = (0x7000_0040, 0x7000_0000, 0x7fff_0000);
        let gate = gate(at, closed, 0xc012_3456, 77, code);
        let instructions = Decoder::with_ip(64, &gate[..EIP], at, DecoderOptions::NONE);
        let instructions: Vec<_> = instructions.into_iter().collect();
        let [.., call, restore, jump] = &instructions[..] else {
            panic!("it has more than that");
        };
        assert_eq!(call.near_branch_target(), closed);
        assert_eq!(restore.ip(), at + OPEN as u64);
        assert_eq!(jump.near_branch_target(), code);
        assert_eq!(jump.next_ip(), at + EIP as u64);
        assert_eq!(gate[EIP..EIP + 4], 0xc012_3456_u32.to_le_bytes());
        assert_eq!(instructions[4].code(), Code::Jrcxz_rel8_64);
        assert_eq!(instructions[4].near_branch_target(), restore.ip());
    }

    #[test]
    fn a_stub_calls() {
        let stub = stub(0x7000_0008, 0x7000_0000);
        let call = Decoder::with_ip(64, &stub, 0x7000_0008, DecoderOptions::NONE).decode();
        assert_eq!(call.near_branch_target(), 0x7000_0000);
    }
}
