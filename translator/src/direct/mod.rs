//! The direct tier: on x86-64 hosts, guest code re-encoded instead of compiled.
//!
//! The guest's instruction set is nearly the host's. Most instructions are carried
//! over with their registers renamed ([`rename`]) and their memory operand replaced
//! by one that has been looked up ([`memory`]); some need a short sequence
//! ([`special`]); the rest are carried out by the runtime. That takes microseconds a
//! block, and flags are the silicon's own.
//!
//! | host | holds |
//! | --- | --- |
//! | EAX, ECX, EDX, EBX, EBP, ESI, EDI | the guest's of the same name, zero-extended |
//! | R12 | ESP |
//! | EFLAGS | the guest's arithmetic flags; DF is clear |
//! | R13, R14 | the write and the read table |
//! | R15 | the address of [`CpuState`] |
//! | R8 – R11 | nothing between instructions |
//! | RSP | the host's stack, a multiple of 16 |
//!
//! This holds at every instruction boundary and from block to block, so the state
//! is exact wherever a block is left: a side exit names the instruction, and the
//! seam ([`exit`]) stores the registers.
//!
//! Invariant: generated code reaches only [`CpuState`], the shadow tables, memory
//! they permit, link slots, the jump cache and the callout.

mod asm;
mod exit;
mod memory;
mod rename;
mod special;
mod string;
pub mod verify;

pub use exit::{Routines, routines};

use crate::block::Block;
use crate::compile::{Callout, CompileRequest, ExitKind, HostCode, Link};
use crate::emit::loc;
use crate::error::CompileError;
use crate::insn::{Flow, Gpr, Insn, Operand, SegReg, Width};
use crate::state::{CpuState, JUMP_ENTRIES, JumpEntry, jump_index};
use asm::{Assembler, Branch, Mem, Size, reg};
use exit::field;
use iced_x86::{ConditionCode, Encoder, Mnemonic, Register};
use memory::Access;
use std::mem::{offset_of, size_of};

/// Most instructions in a block.
const MAX_INSNS: usize = crate::emit::MAX_INSNS;

/// Re-encodes blocks one after the other.
pub struct DirectCompiler {
    encoder: Encoder,
}

impl Default for DirectCompiler {
    fn default() -> Self {
        Self::new()
    }
}

impl DirectCompiler {
    /// A compiler. The host must have BMI2.
    pub fn new() -> Self {
        Self {
            encoder: Encoder::new(64),
        }
    }

    /// Re-encodes a block, to be entered by [`Routines::trampoline`] or by another
    /// block of this tier.
    ///
    /// # Errors
    /// [`CompileError::Length`], [`CompileError::Mode`]. The block can be
    /// interpreted all the same.
    pub fn compile(&mut self, request: &CompileRequest) -> Result<HostCode, CompileError> {
        let block = request.block;
        let count = block.insns.len();
        if count == 0 || count > MAX_INSNS {
            return Err(CompileError::Length(count));
        }
        // Nothing here checks the target of a transfer against a limit of CS.
        let any_target = block.mode.unlimited(SegReg::Cs);
        if !block.mode.code32() || block.mode.single() || !any_target {
            return Err(CompileError::Mode);
        }
        let mut emitter = Emitter {
            asm: Assembler {
                bytes: Vec::with_capacity(64 * count),
            },
            encoder: &mut self.encoder,
            block,
            link_base: request.link_base,
            callout_base: request.callout_base,
            cold: Vec::new(),
            exits: vec![None; count],
            index: 0,
            code: HostCode::default(),
        };
        emitter.emit();
        let mut code = emitter.code;
        code.bytes = emitter.asm.bytes;
        Ok(code)
    }
}

/// What comes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The next one.
    Insn,
    /// Nothing: control has been transferred.
    Ended,
}

/// Code out of line.
#[derive(Clone, Copy)]
enum Cold {
    /// To the interpreter, before the instruction with this number. RCX is in R11.
    Exit(usize),
    /// The budget does not cover the block. RCX is in R11.
    Budget,
    /// An unaligned access.
    Crossing {
        index: usize,
        access: Access,
        bytes: u32,
        back: usize,
    },
    /// Continues at a fixed EIP.
    Transfer(u32),
    /// The jump cache has no code for the EIP stored. RCX is in R11.
    Miss,
}

/// Emits one block.
struct Emitter<'a> {
    asm: Assembler,
    encoder: &'a mut Encoder,
    block: &'a Block,
    link_base: u32,
    callout_base: u32,
    /// Code out of line, with the branches that lead there.
    cold: Vec<(Branch, Cold)>,
    /// Where the side exit of each instruction is, once it has been emitted.
    exits: Vec<Option<usize>>,
    /// Number of the current instruction.
    index: usize,
    code: HostCode,
}

impl Emitter<'_> {
    fn emit(&mut self) {
        self.spend_budget();
        let block = self.block;
        let mut next = Next::Insn;
        for (index, insn) in block.insns.iter().enumerate() {
            self.index = index;
            self.mark(loc::insn(index).bits(), insn.eip);
            next = self.instruction(insn);
            if next == Next::Ended {
                break;
            }
        }
        if let (Next::Insn, Some(last)) = (next, block.insns.last()) {
            self.transfer(last.next_eip);
        }
        let mut n = 0;
        while let Some(&(branch, cold)) = self.cold.get(n) {
            self.out_of_line(branch, cold);
            n += 1;
        }
    }

    /// Notes what the code from here on is for.
    fn mark(&mut self, part: u32, eip: u32) {
        let here = self.asm.here() as u32;
        self.code.parts.push((here, part));
        self.code.insn_map.push((here, eip));
    }

    /// Emits one instruction, in one of three ways.
    fn instruction(&mut self, i: &Insn) -> Next {
        let (start, cold) = (self.asm.here(), self.cold.len());
        let links = self.code.links.len();
        let done = match is_plain(i) {
            true => self.plain(i).map(|()| Next::Insn),
            false => self.special(i),
        };
        done.unwrap_or_else(|| {
            self.asm.bytes.truncate(start);
            self.cold.truncate(cold);
            self.code.links.truncate(links);
            self.call_out(i)
        })
    }

    /// The general rule.
    fn plain(&mut self, i: &Insn) -> Option<()> {
        let renamed = rename::rename(i, Register::R8, Register::R9)?;
        for op in i.ops {
            if let Operand::Mem(w) = op {
                self.check(&i.mem, access(i), w.bytes())?;
            }
        }
        let swap = |e: &mut Self| {
            if let Some(r) = renamed.swapped {
                // XCHG of the register's two low bytes.
                e.asm.raw(&[0x86, 0xc0 | (r + 4) << 3 | r]);
            }
        };
        swap(self);
        self.encoder.set_buffer(std::mem::take(&mut self.asm.bytes));
        // Nothing here depends on where it runs.
        let encoded = self.encoder.encode(&renamed.instruction, 0);
        self.asm.bytes = self.encoder.take_buffer();
        encoded.ok()?;
        swap(self);
        Some(())
    }

    /// The runtime carries the instruction out.
    fn call_out(&mut self, i: &Insn) -> Next {
        let rest = (self.block.insns.len() - self.index - 1) as u32;
        let number = self.callout_base.wrapping_add(self.index as u32);
        self.asm.mov_imm(reg::R8, number);
        self.asm.mov_imm(reg::R9, rest);
        self.asm
            .call_mem(field(offset_of!(CpuState, direct_callout)));
        self.code.callouts.push(Callout {
            position: self.index as u32,
            mnemonic: i.mnemonic,
        });
        if i.flow == Flow::Next {
            return Next::Insn;
        }
        // The callout has set EIP.
        self.leave(ExitKind::Next, 0);
        Next::Ended
    }

    /// Takes the block's length from the budget, or leaves.
    fn spend_budget(&mut self) {
        let budget = field(offset_of!(CpuState, budget));
        let count = self.block.insns.len() as i32;
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.load(Size::Q, reg::RCX, budget);
        asm.lea(Size::Q, reg::RCX, Mem::at(reg::RCX, -count));
        asm.store(Size::Q, budget, reg::RCX);
        // The upper half is zero unless the budget is negative: it is never large.
        asm.swap_halves(reg::RCX, reg::RCX);
        asm.mov(Size::D, reg::RCX, reg::RCX);
        let enough = asm.jrcxz();
        let exit = asm.jump();
        asm.land(enough);
        asm.mov(Size::Q, reg::RCX, reg::R11);
        self.cold.push((exit, Cold::Budget));
    }

    /// Continues at a fixed EIP.
    fn transfer(&mut self, eip: u32) {
        if !self.block.may_link_to(eip) {
            self.asm.mov_imm(reg::R8, eip);
            let cache = field(offset_of!(CpuState, jump_cache));
            self.asm.load(Size::Q, reg::R10, cache);
            return self.probe_entry((jump_index(eip) * size_of::<JumpEntry>()) as i32);
        }
        let slot = self.link_base.wrapping_add(self.code.links.len() as u32);
        self.code.links.push(Link { slot, eip });
        let links = field(offset_of!(CpuState, links));
        self.asm.load(Size::Q, reg::R8, links);
        self.asm.mov_imm(reg::R9, slot);
        let slot = Mem::at(reg::R8, (slot as i32).wrapping_mul(8));
        self.asm.jump_mem(slot);
    }

    /// Continues at the EIP in R8.
    fn probe(&mut self) {
        let asm = &mut self.asm;
        asm.mov_imm(reg::R9, 12);
        asm.shrx(reg::R9, reg::R8, reg::R9);
        asm.lea(Size::D, reg::R9, Mem::indexed(reg::R8, reg::R9, 0));
        asm.mov_imm(reg::R10, (JUMP_ENTRIES - 1) as u32);
        asm.pext(reg::R9, reg::R9, reg::R10);
        asm.lea(Size::D, reg::R9, Mem::indexed(reg::R9, reg::R9, 0));
        asm.load(Size::Q, reg::R10, field(offset_of!(CpuState, jump_cache)));
        asm.lea(Size::Q, reg::R10, Mem::indexed(reg::R10, reg::R9, 3));
        self.probe_entry(0);
    }

    /// Goes to the code that the entry at R10 + `offset` has for the EIP in R8.
    fn probe_entry(&mut self, offset: i32) {
        let asm = &mut self.asm;
        asm.store(Size::D, field(offset_of!(CpuState, eip)), reg::R8);
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.load(Size::D, reg::RCX, field(offset_of!(CpuState, jump_tag)));
        asm.swap_halves(reg::RCX, reg::RCX);
        asm.lea(Size::Q, reg::R8, Mem::indexed(reg::R8, reg::RCX, 0));
        let key = Mem::at(reg::R10, offset + offset_of!(JumpEntry, key) as i32);
        asm.load(Size::Q, reg::RCX, key);
        asm.not(Size::Q, reg::RCX);
        let difference = Mem {
            disp: 1,
            ..Mem::indexed(reg::RCX, reg::R8, 0)
        };
        asm.lea(Size::Q, reg::RCX, difference);
        let hit = asm.jrcxz();
        let missed = asm.jump();
        asm.land(hit);
        asm.mov(Size::Q, reg::RCX, reg::R11);
        let code = Mem::at(reg::R10, offset + offset_of!(JumpEntry, code) as i32);
        asm.jump_mem(code);
        self.cold.push((missed, Cold::Miss));
    }

    /// Emits code out of line.
    fn out_of_line(&mut self, branch: Branch, cold: Cold) {
        if let Cold::Exit(index) = cold
            && let Some(place) = self.exits.get(index).copied().flatten()
        {
            return self.asm.land_at(branch, place);
        }
        self.asm.land(branch);
        match cold {
            Cold::Exit(index) => self.side_exit(index),
            Cold::Budget => {
                let eip = self.block.eip;
                self.mark(loc::exit(ExitKind::Budget, 0).bits(), eip);
                self.leave_before(0, eip, ExitKind::Budget, 0);
            }
            Cold::Crossing {
                index,
                access,
                bytes,
                back,
            } => {
                self.mark_insn(index);
                self.crossing(index, access, bytes, back);
            }
            Cold::Transfer(eip) => {
                self.mark_insn(self.block.insns.len() - 1);
                self.transfer(eip);
            }
            Cold::Miss => {
                self.asm.mov(Size::Q, reg::RCX, reg::R11);
                self.leave(ExitKind::Next, 0);
            }
        }
    }

    fn mark_insn(&mut self, index: usize) {
        if let Some(insn) = self.block.insns.get(index) {
            self.mark(loc::insn(index).bits(), insn.eip);
        }
    }

    fn side_exit(&mut self, index: usize) {
        let Some(insn) = self.block.insns.get(index) else {
            return;
        };
        self.exits[index] = Some(self.asm.here());
        self.mark(loc::exit(ExitKind::Interpret, index).bits(), insn.eip);
        self.leave_before(index, insn.eip, ExitKind::Interpret, self.link_base);
    }

    /// Leaves with instruction `index`, at `eip`, and those after it not done.
    fn leave_before(&mut self, index: usize, eip: u32, kind: ExitKind, payload: u32) {
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::RCX, reg::R11);
        asm.store_imm(field(offset_of!(CpuState, eip)), eip);
        let budget = field(offset_of!(CpuState, budget));
        let rest = (self.block.insns.len() - index) as i32;
        asm.load(Size::Q, reg::R9, budget);
        asm.lea(Size::Q, reg::R9, Mem::at(reg::R9, rest));
        asm.store(Size::Q, budget, reg::R9);
        self.leave(kind, payload);
    }

    /// Returns to the run loop.
    fn leave(&mut self, kind: ExitKind, payload: u32) {
        let word = u64::from(payload) << 32 | kind as u64;
        match u32::try_from(word) {
            Ok(word) => self.asm.mov_imm(reg::R8, word),
            Err(_) => self.asm.mov_imm64(reg::R8, word),
        }
        self.asm.ret();
    }
}

/// The general rule fits: the instruction does nothing but read and write its
/// operands, EAX, EDX, ECX and the arithmetic flags, as on the host.
fn is_plain(i: &Insn) -> bool {
    use Mnemonic as M;
    if i.flow != Flow::Next {
        return false;
    }
    match i.mnemonic {
        // A register counts bits beyond the operand.
        M::Bt | M::Bts | M::Btr | M::Btc => {
            !(matches!(i.ops[0], Operand::Mem(_)) && matches!(i.ops[1], Operand::Gpr(..)))
        }
        // AL is an operand too, so the bytes of EAX cannot be swapped.
        M::Cmpxchg => i.ops[1] != Operand::Gpr(Gpr::AH, Width::B),
        M::Mov | M::Movzx | M::Movsx | M::Xchg | M::Xadd | M::Bswap => true,
        M::Add | M::Or | M::Adc | M::Sbb | M::And | M::Sub | M::Xor | M::Cmp | M::Test => true,
        M::Inc | M::Dec | M::Neg | M::Not | M::Mul | M::Imul => true,
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr => true,
        M::Shld | M::Shrd | M::Bsf | M::Bsr => true,
        M::Cbw | M::Cwde | M::Cwd | M::Cdq => true,
        M::Clc | M::Stc | M::Cmc | M::Lahf | M::Sahf => true,
        // SETcc and CMOVcc.
        _ => i.code.condition_code() != ConditionCode::None,
    }
}

/// What a plain instruction does with its memory operand.
fn access(i: &Insn) -> Access {
    use Mnemonic as M;
    let destination = matches!(i.ops[0], Operand::Mem(_));
    let only_reads =
        matches!(i.mnemonic, M::Cmp | M::Test | M::Bt | M::Mul) || i.mnemonic == M::Imul;
    match destination && !only_reads {
        true => Access::Write,
        false if i.mnemonic == M::Xchg => Access::Write,
        false => Access::Read,
    }
}
