//! The seam between direct code and the run loop: entering, leaving, calling out.
//!
//! Some routines, made once and reached through [`CpuState`] or by the runtime,
//! carry the guest's registers between [`CpuState`] and the host's:
//!
//! - the *trampoline* loads them and jumps to the block, and what a block *leaves*
//!   to, its exit word in R8, stores them again and returns;
//! - the *callout* stores them, calls [`CpuState::resuming_callout`] and loads them
//!   again;
//! - *vector enter* does the same around [`CpuState::vector_prepare`] and loads the
//!   vector state. It stays in the host's registers until one of the other two
//!   finds it there and stores it: Rust runs with its own MXCSR.
//!
//! The arithmetic flags travel as LAHF and SETO see them. Their lazy form comes
//! from a table of its 64 values; the way back is computed.

use super::asm::{Assembler, Branch, Mem, Reg, Size, reg};
use super::way::Way;
use super::{gate, returns};
use crate::compile::ExitKind;
use crate::flags;
use crate::state::{CpuState, VECTOR_MXCSR};
use std::mem::offset_of;

/// Registers the host's calling convention wants preserved.
const SAVED: [Reg; 6] = [reg::RBP, reg::RBX, reg::R12, reg::R13, reg::R14, reg::R15];

/// AH as LAHF leaves it, and OF in bit 0: the six arithmetic flags.
const FLAG_BITS: u32 = 0xd501;

/// Bytes of the frame at [`CpuState::host_stack`]: a host address, an EIP, padding.
const BASE_FRAME: i32 = 24;

/// The routines, each position-independent, to be placed at multiples of 16.
#[derive(Clone, Debug)]
pub struct Routines {
    /// `extern "C" fn(state: *mut CpuState, code: *const u8) -> u64`.
    pub trampoline: Vec<u8>,
    /// Offset in it for [`CpuState::direct_leave`].
    pub leave: u64,
    /// What unlinked slots lead to if code reads them; in direct code, what their stubs
    /// call.
    pub unlinked: Vec<u8>,
    /// What gates call that do not lead on.
    pub closed: Vec<u8>,
    /// For [`CpuState::direct_callout`].
    pub callout: Vec<u8>,
    /// For [`CpuState::vector_enter`].
    pub vector: Vec<u8>,
    /// For [`CpuState::direct_return`].
    pub unpaired: Vec<u8>,
    /// For [`CpuState::ways`]; none where there is no direct code.
    pub ways: Vec<Vec<u8>>,
}

/// Makes the routines.
pub fn routines() -> Routines {
    let (trampoline, leave) = trampoline();
    Routines {
        trampoline,
        leave,
        unlinked: gate::unlinked(),
        closed: gate::closed(),
        callout: callout(),
        vector: vector(),
        unpaired: returns::unpaired(),
        ways: Way::ALL.map(Way::routine).into(),
    }
}

/// A field of the state.
pub fn field(offset: usize) -> Mem {
    Mem::at(reg::R15, offset as i32)
}

/// The trampoline, and the offset of its second half, which blocks leave to.
fn trampoline() -> (Vec<u8>, u64) {
    let mut asm = Assembler::default();
    for r in SAVED {
        push(&mut asm, r);
    }
    asm.mov(Size::Q, reg::R15, reg::RDI);
    asm.mov(Size::Q, reg::R11, reg::RSI);
    // The frame below all guest calls': LEA RAX, [RIP + outermost].
    asm.raw(&[0x48, 0x8d, 0x05, 0, 0, 0, 0]);
    let outermost = Branch::Near(asm.here() - 4);
    for _ in 0..BASE_FRAME / 8 {
        push(&mut asm, reg::RAX);
    }
    asm.store(Size::Q, host_stack(), reg::RSP);
    load_guest(&mut asm);
    // JMP R11. Blocks have RSP at a multiple of 16.
    asm.op_reg(Size::D, &[0xff], 4, reg::R11);
    // A RET to the EIP that the frame happens to name.
    asm.land(outermost);
    asm.store(Size::D, field(offset_of!(CpuState, eip)), reg::R8);
    asm.mov_imm(reg::R8, ExitKind::Next as u32);
    let leave_to = asm.here() as u64;
    let table = store_guest(&mut asm);
    store_vector(&mut asm);
    asm.mov(Size::Q, reg::RAX, reg::R8);
    leave(&mut asm);
    place_flag_table(&mut asm, table);
    (asm.bytes, leave_to)
}

/// R8 is the instruction's index, R9 what to give back to the budget if the block
/// does not go on. Where the callout has changed EIP or what it means, the block
/// there follows at once.
fn callout() -> Vec<u8> {
    let mut asm = Assembler::default();
    push(&mut asm, reg::R9);
    let table = store_guest(&mut asm);
    // Most callouts leave the flags alone, and these are cheaper to load.
    asm.store(Size::D, saved_flags(), reg::RAX);
    asm.store(Size::Q, saved_lazy(), reg::RCX);
    store_vector(&mut asm);
    asm.mov(Size::Q, reg::RDI, reg::R15);
    asm.mov(Size::Q, reg::RSI, reg::R8);
    asm.call_mem(field(offset_of!(CpuState, resuming_callout)));
    pop(&mut asm, reg::R9);
    // TEST RAX, RAX
    asm.op_reg(Size::Q, &[0x85], reg::RAX, reg::RAX);
    let ended = asm.jump_if(NOT_ZERO);
    reload_guest(&mut asm);
    asm.ret();
    asm.land(ended);
    // ADD [budget], R9
    asm.op_mem(Size::Q, &[0x01], reg::R9, budget());
    // CMP EAX, 1
    asm.group1_imm(7, reg::RAX, 1);
    let leaving = asm.jump_if(ZERO);
    reload_guest(&mut asm);
    asm.load(Size::D, reg::R8, field(offset_of!(CpuState, eip)));
    asm.jump_mem(field(offset_of!(CpuState, direct_return)));
    asm.land(leaving);
    // The block does not go on, and the trampoline has nothing to store.
    asm.mov_imm(reg::RAX, ExitKind::Leave as u32);
    leave(&mut asm);
    place_flag_table(&mut asm, table);
    asm.bytes
}

/// Leaves 0 in R8 and the vector state in the host's registers, or something else
/// and nothing. Spares R10.
fn vector() -> Vec<u8> {
    let mut asm = Assembler::default();
    push(&mut asm, reg::R10);
    let table = store_guest(&mut asm);
    asm.mov(Size::Q, reg::RDI, reg::R15);
    asm.call_mem(field(offset_of!(CpuState, vector_prepare)));
    push(&mut asm, reg::RAX);
    // TEST RAX, RAX
    asm.op_reg(Size::Q, &[0x85], reg::RAX, reg::RAX);
    let refused = asm.jump_if(NOT_ZERO);
    let away = field(offset_of!(CpuState, vector_away));
    asm.store(Size::Q, away, reg::RAX);
    asm.load(Size::Q, reg::RAX, field(offset_of!(CpuState, vector_state)));
    for n in 0..8 {
        // MOVUPS XMMn, [RAX + 16 n]
        let place = Mem::at(reg::RAX, 16 * i32::from(n));
        asm.op_mem(Size::D, &[0x0f, 0x10], n, place);
    }
    mxcsr(&mut asm, LDMXCSR, 0);
    asm.land(refused);
    load_guest(&mut asm);
    pop(&mut asm, reg::R8);
    pop(&mut asm, reg::R10);
    asm.ret();
    place_flag_table(&mut asm, table);
    asm.bytes
}

/// Conditions, as encoded.
pub const ZERO: u8 = 4;
/// See [`ZERO`].
pub const NOT_ZERO: u8 = 5;
/// See [`ZERO`].
pub const SIGN: u8 = 8;
/// See [`ZERO`].
pub const NOT_SIGN: u8 = 9;
/// Opcode extensions.
const LDMXCSR: u8 = 2;
const STMXCSR: u8 = 3;

/// LDMXCSR or STMXCSR of the guest's (0) or host's (4) value; RAX is the address
/// of the vector state.
fn mxcsr(asm: &mut Assembler, extension: u8, offset: i32) {
    let place = Mem::at(reg::RAX, VECTOR_MXCSR as i32 + offset);
    asm.op_mem(Size::D, &[0x0f, 0xae], extension, place);
}

/// Stores the vector state if it is in the host's registers. Spares R8 to R11.
fn store_vector(asm: &mut Assembler) {
    let away = field(offset_of!(CpuState, vector_away));
    // CMP qword [away], 0
    asm.op_mem(Size::Q, &[0x83], 7, away);
    asm.raw(&[0]);
    let done = asm.jump_if(NOT_ZERO);
    asm.load(Size::Q, reg::RAX, field(offset_of!(CpuState, vector_state)));
    for n in 0..8 {
        // MOVUPS [RAX + 16 n], XMMn
        let place = Mem::at(reg::RAX, 16 * i32::from(n));
        asm.op_mem(Size::D, &[0x0f, 0x11], n, place);
    }
    mxcsr(asm, STMXCSR, 0);
    mxcsr(asm, LDMXCSR, 4);
    asm.store_imm(away, 1);
    asm.land(done);
}

/// The short forms: of others, valgrind does not know POP.
fn push(asm: &mut Assembler, r: Reg) {
    asm.op_short(&[0x50], r);
}

pub(super) fn pop(asm: &mut Assembler, r: Reg) {
    asm.op_short(&[0x58], r);
}

/// Returns from the trampoline, whatever is on the host's stack.
fn leave(asm: &mut Assembler) {
    asm.load(Size::Q, reg::RSP, host_stack());
    asm.lea(Size::Q, reg::RSP, Mem::at(reg::RSP, BASE_FRAME));
    for &r in SAVED.iter().rev() {
        pop(asm, r);
    }
    asm.ret();
}

/// The host register for guest register `n`.
fn guest(n: Reg) -> Reg {
    if n == reg::RSP { reg::R12 } else { n }
}

fn gpr(n: Reg) -> Mem {
    field(offset_of!(CpuState, gpr) + 4 * usize::from(n))
}

/// Host registers and flags from the state. Spares R11.
fn load_guest(asm: &mut Assembler) {
    load_budget(asm);
    load_flags(asm);
    load_registers(asm);
}

/// The same behind a callout.
fn reload_guest(asm: &mut Assembler) {
    load_budget(asm);
    asm.load(Size::Q, reg::RCX, saved_lazy());
    let lazy = field(offset_of!(CpuState, flag_result));
    // CMP RCX, [lazy]
    asm.op_mem(Size::Q, &[0x3b], reg::RCX, lazy);
    let same = asm.jump_if(ZERO);
    load_flags(asm);
    let loaded = asm.jump_short();
    asm.land(same);
    asm.load(Size::D, reg::RAX, saved_flags());
    // ADD AL, 7F sets OF if AL is 1; SAHF.
    asm.raw(&[0x04, 0x7f, 0x9e]);
    asm.land(loaded);
    load_registers(asm);
}

/// AX as LAHF and SETO AL made it before a callout, and the lazy flags made of it.
fn saved_flags() -> Mem {
    field(offset_of!(CpuState, saved_flags))
}

fn saved_lazy() -> Mem {
    field(offset_of!(CpuState, spill))
}

fn load_registers(asm: &mut Assembler) {
    for n in 0..8 {
        asm.load(Size::D, guest(n), gpr(n));
    }
    asm.load(Size::Q, reg::R14, field(offset_of!(CpuState, read_table)));
}

/// R13 is minus the budget.
fn load_budget(asm: &mut Assembler) {
    asm.load(Size::Q, reg::R13, budget());
    // NEG R13
    asm.op_reg(Size::Q, &[0xf7], 3, reg::R13);
}

fn store_budget(asm: &mut Assembler) {
    asm.op_reg(Size::Q, &[0xf7], 3, reg::R13);
    asm.store(Size::Q, budget(), reg::R13);
}

/// What [`CpuState::host_stack`] is.
pub fn host_stack() -> Mem {
    field(offset_of!(CpuState, host_stack))
}

fn budget() -> Mem {
    field(offset_of!(CpuState, budget))
}

/// Host registers and flags to the state; AX is then as LAHF and SETO AL make it, RCX
/// the lazy flags. Spares R8 to R11. Returns where the address of the flag table is
/// missing.
fn store_guest(asm: &mut Assembler) -> usize {
    for n in 0..8 {
        asm.store(Size::D, gpr(n), guest(n));
    }
    // LAHF; SETO AL
    asm.raw(&[0x9f, 0x0f, 0x90, 0xc0]);
    asm.mov_imm(reg::RDX, FLAG_BITS);
    asm.pext(reg::RDX, reg::RAX, reg::RDX);
    // LEA RCX, [RIP + table]
    asm.raw(&[0x48, 0x8d, 0x0d, 0, 0, 0, 0]);
    let table = asm.here();
    asm.load(Size::Q, reg::RCX, Mem::indexed(reg::RCX, reg::RDX, 3));
    let lazy = field(offset_of!(CpuState, flag_result));
    asm.store(Size::Q, lazy, reg::RCX);
    store_budget(asm);
    table
}

/// The lazy form by `PEXT(AX, FLAG_BITS)`: OF, CF, PF, AF, ZF, SF.
fn place_flag_table(asm: &mut Assembler, reference: usize) {
    while !asm.here().is_multiple_of(8) {
        asm.raw(&[0xcc]);
    }
    let distance = (asm.here() - reference) as u32;
    asm.bytes[reference - 4..reference].copy_from_slice(&distance.to_le_bytes());
    let order = [
        flags::OF,
        flags::CF,
        flags::PF,
        flags::AF,
        flags::ZF,
        flags::SF,
    ];
    for index in 0..64u32 {
        let chosen = (0..6).filter(|n| index >> n & 1 != 0);
        let image = chosen.map(|n| order[n as usize]).sum();
        let (result, carries) = flags::from_eflags(image);
        asm.raw(&result.to_le_bytes());
        asm.raw(&carries.to_le_bytes());
    }
}

/// EFLAGS from the lazy form; changes EAX, ECX, EDX.
fn load_flags(asm: &mut Assembler) {
    use reg::{RAX, RCX, RDX};
    const AND: u8 = 4;
    const SHL: u8 = 4;
    const SHR: u8 = 5;
    let xor = |asm: &mut Assembler, to, from| asm.op_reg(Size::D, &[0x33], to, from);
    let or = |asm: &mut Assembler, to, from| asm.op_reg(Size::D, &[0x0b], to, from);
    asm.load(Size::D, RCX, field(offset_of!(CpuState, flag_carries)));
    // SF = result bit 31 xor carries bit 0, to bit 7.
    asm.load(Size::D, RAX, field(offset_of!(CpuState, flag_result)));
    asm.shift_imm(SHR, RAX, 31);
    xor(asm, RAX, RCX);
    asm.group1_imm(AND, RAX, 1);
    asm.shift_imm(SHL, RAX, 7);
    // AF = carries bit 3, to bit 4.
    asm.mov(Size::D, RDX, RCX);
    asm.group1_imm(AND, RDX, 8);
    asm.op_reg(Size::D, &[0x03], RDX, RDX);
    or(asm, RAX, RDX);
    // ZF: CMP dword [result], 0; SETE DL; to bit 6.
    let result = field(offset_of!(CpuState, flag_result));
    asm.op_mem(Size::D, &[0x83], 7, result);
    asm.raw(&[0, 0x0f, 0x94, 0xc2, 0x0f, 0xb6, 0xd2]);
    asm.shift_imm(SHL, RDX, 6);
    or(asm, RAX, RDX);
    // PF = even parity of result xor carries bits 8–15: XOR DL, CH; SETP DL; to bit 2.
    asm.load(Size::D, RDX, result);
    asm.raw(&[0x32, 0xd5, 0x0f, 0x9a, 0xc2, 0x0f, 0xb6, 0xd2]);
    asm.shift_imm(SHL, RDX, 2);
    or(asm, RAX, RDX);
    // CF = carries bit 31, to bit 0.
    asm.mov(Size::D, RDX, RCX);
    asm.shift_imm(SHR, RDX, 31);
    or(asm, RAX, RDX);
    // OF = CF xor carries bit 30.
    asm.shift_imm(SHR, RCX, 30);
    xor(asm, RCX, RDX);
    asm.group1_imm(AND, RCX, 1);
    // The five low ones to AH, OF to AL; ADD AL, 7F sets OF if AL is 1; SAHF.
    asm.shift_imm(SHL, RAX, 8);
    or(asm, RAX, RCX);
    asm.raw(&[0x04, 0x7f, 0x9e]);
}
