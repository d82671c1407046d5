//! Host functions that run one guest instruction each.
//!
//! The guest's x87, MMX and SSE instructions exist on an x86-64 host with the
//! same encoding and the same results to the last bit. So an instruction is not
//! translated but *re-encoded*: the same iced-x86 `Code` with the same vector
//! registers, its memory operand replaced by `[rsi]` and its general-purpose
//! register by ECX (a source) or EAX (a destination), between loads and stores
//! of the XMM registers it uses. x87 and MMX registers are the host's own while
//! a thunk runs, see [`super::host`].
//!
//! ```text
//! addsd xmm1, [eax+8]   ─►   movups xmm1, [rdx + xmm1's place]
//!                            ldmxcsr [rdx + guest's]
//!                            addsd xmm1, [rsi]
//!                            stmxcsr [rdx + guest's]
//!                            ldmxcsr [rdx + host's]
//!                            movups [rdx + xmm1's place], xmm1
//!                            ret
//! ```
//!
//! RDI and RSI hold the address of the operand (RDI for MASKMOVQ), RDX that of
//! the [`State`], RCX the input, RAX the result.

use super::host::State;
use super::plan::{Plan, Transfer, host_code};
use iced_x86::{
    Code, Encoder, Instruction, InstructionInfo, InstructionInfoFactory, MemoryOperand, OpAccess,
    OpKind, Register,
};
use std::mem::offset_of;
use translator::insn::{Insn, Operand, Width};

/// The host instruction for `i`.
pub fn host_form(i: &Insn) -> Instruction {
    let mut h = Instruction::default();
    h.set_code(host_code(i.code));
    for (n, op) in (0..).zip(i.ops) {
        match op {
            Operand::Xmm(r) => set_register(&mut h, n, Register::XMM0 + u32::from(r & 7)),
            Operand::Mm(r) => set_register(&mut h, n, Register::MM0 + u32::from(r & 7)),
            Operand::St(r) => set_register(&mut h, n, Register::ST0 + u32::from(r & 7)),
            Operand::Gpr(_, Width::W) => set_register(&mut h, n, Register::AX),
            Operand::Gpr(..) if n == 0 => set_register(&mut h, n, Register::EAX),
            Operand::Gpr(..) => set_register(&mut h, n, Register::ECX),
            Operand::Mem(_) | Operand::Wide(_) => {
                h.set_op_kind(n, OpKind::Memory);
                h.set_memory_base(Register::RSI);
            }
            Operand::Imm(_) => {
                h.set_op_kind(n, OpKind::Immediate8);
                h.set_immediate8(i.imm as u8);
            }
            Operand::Implied => h.set_op_kind(n, OpKind::MemorySegRDI),
            _ => {}
        }
    }
    h
}

fn set_register(h: &mut Instruction, n: u32, r: Register) {
    h.set_op_kind(n, OpKind::Register);
    h.set_op_register(n, r);
}

/// What the host instruction reads and writes.
pub fn info(h: &Instruction) -> InstructionInfo {
    InstructionInfoFactory::new().info(h).clone()
}

/// The machine code of the thunk around `h`, or `None` if the host has no such
/// instruction. `registers` are the XMM registers to load and store.
pub fn generate(
    h: &Instruction,
    registers: &[(Register, OpAccess)],
    plan: &Plan,
) -> Option<Vec<u8>> {
    let mut code = Code64(Encoder::new(64));
    for &(r, access) in registers {
        if access != OpAccess::Write {
            code.op2(Code::Movups_xmm_xmmm128, r, xmm_place(r))?;
        }
    }
    if plan.mxcsr {
        code.op1(Code::Ldmxcsr_m32, field(offset_of!(State, mxcsr)))?;
    }
    code.pass_input(plan.input)?;
    code.encode(Ok(*h))?;
    code.fetch_output(plan.output)?;
    if plan.input == Transfer::Lengths {
        code.encode(mov64(Register::RDX, STATE))?;
    }
    if plan.mxcsr {
        code.op1(Code::Stmxcsr_m32, field(offset_of!(State, mxcsr)))?;
        code.op1(Code::Ldmxcsr_m32, field(offset_of!(State, host_mxcsr)))?;
    }
    for &(r, access) in registers {
        if !matches!(access, OpAccess::Read | OpAccess::CondRead) {
            let place = xmm_place(r);
            code.encode(Instruction::with2(Code::Movups_xmmm128_xmm, place, r))?;
        }
    }
    code.encode(Ok(Instruction::with(Code::Retnq)))?;
    Some(code.0.take_buffer())
}

/// The XMM registers an instruction uses, each once, with all that it does to it.
pub fn xmm_registers(info: &InstructionInfo) -> Vec<(Register, OpAccess)> {
    let access = |r| {
        let used = info.used_registers().iter().filter(|u| u.register() == r);
        used.map(|u| u.access())
            .reduce(|a, b| if a == b { a } else { OpAccess::ReadWrite })
    };
    (0..8)
        .map(|n| Register::XMM0 + n)
        .filter_map(|r| Some((r, access(r)?)))
        .collect()
}

/// Where the state's address waits while the instruction needs EDX.
const STATE: Register = Register::R8;

fn mov64(to: Register, from: Register) -> Result<Instruction, iced_x86::IcedError> {
    Instruction::with2(Code::Mov_r64_rm64, to, from)
}

/// A field of [`State`].
fn field(offset: usize) -> MemoryOperand {
    MemoryOperand::with_base_displ(Register::RDX, offset as i64)
}

fn xmm_place(r: Register) -> MemoryOperand {
    field(offset_of!(State, xmm) + 16 * r.number())
}

/// An encoder that answers `None` to what does not exist in 64-bit mode.
struct Code64(Encoder);

impl Code64 {
    fn encode(&mut self, i: Result<Instruction, iced_x86::IcedError>) -> Option<()> {
        // Nothing here depends on where it runs.
        self.0.encode(&i.ok()?, 0).ok().map(|_| ())
    }

    /// Takes the input from RCX to where the instruction expects it.
    fn pass_input(&mut self, input: Transfer) -> Option<()> {
        match input {
            Transfer::Flags => {
                self.encode(Instruction::with1(Code::Push_r64, Register::RCX))?;
                self.encode(Ok(Instruction::with(Code::Popfq)))
            }
            Transfer::Lengths => {
                self.encode(mov64(STATE, Register::RDX))?;
                self.encode(mov64(Register::RAX, Register::RCX))?;
                self.encode(mov64(Register::RDX, Register::RCX))?;
                self.encode(Instruction::with2(Code::Shr_rm64_imm8, Register::RDX, 32))
            }
            _ => Some(()),
        }
    }

    /// Takes the result to RAX: flags low, an index high.
    fn fetch_output(&mut self, output: Transfer) -> Option<()> {
        if !matches!(output, Transfer::Flags | Transfer::FlagsAndIndex) {
            return Some(());
        }
        self.encode(Ok(Instruction::with(Code::Pushfq)))?;
        self.encode(Instruction::with1(Code::Pop_r64, Register::RAX))?;
        if output == Transfer::FlagsAndIndex {
            let (rax, rcx) = (Register::RAX, Register::RCX);
            self.encode(Instruction::with2(Code::Shl_rm64_imm8, rcx, 32))?;
            self.encode(Instruction::with2(Code::Or_r64_rm64, rax, rcx))?;
        }
        Some(())
    }

    fn op1(&mut self, code: Code, m: MemoryOperand) -> Option<()> {
        self.encode(Instruction::with1(code, m))
    }

    fn op2(&mut self, code: Code, r: Register, m: MemoryOperand) -> Option<()> {
        self.encode(Instruction::with2(code, r, m))
    }
}
