//! Repeated string instructions in the mirror: the host's own.
//!
//! ```text
//! lea  r8, [r14 + MIRROR_DISTANCE]
//! lea  rsi, [rsi + r8]          the pointers, as the host has them
//! lea  rdi, [rdi + r8]
//! rep movsd
//! not  r8                       and as the guest has them
//! lea  esi, [rsi + r8 + 1]
//! lea  edi, [rdi + r8 + 1]
//! ```
//!
//! The host's take dozens of cycles to begin, more where they read what was just
//! written in smaller pieces, as kernels do that have pushed the registers and copy them
//! to another stack. So MOVS and STOS with a small count are a loop of plain moves.
//!
//! If the host faults on the way, pointers and count say how far it has come, as the
//! guest's would, and the landing makes them the guest's. Flags are then those from
//! before, as SDM vol. 2B, "REP/REPE/REPZ/REPNE/REPNZ", has it.
//!
//! What moves [`MOST_BYTES`] or more is left to the runtime, which stops for interrupts
//! in between, after as many. So is the direction down.

use super::Emitter;
use super::asm::{Assembler, Branch, Mem, Reg, Size, reg};
use crate::insn::{Insn, Rep, SegReg, Width};
use crate::state::MIRROR_DISTANCE;
use iced_x86::Mnemonic;

/// Bytes from which on the runtime does it, a power of two.
const MOST_BYTES: u32 = 256 << 10;

/// Doublewords from which on the host's instruction moves them; of bytes a quarter.
const FEW: u32 = 32;

/// Which pointers lead into the mirror.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebased {
    /// ESI.
    source: bool,
    /// EDI.
    destination: bool,
}

impl Rebased {
    fn registers(self) -> impl Iterator<Item = Reg> {
        let source = self.source.then_some(reg::RSI);
        source
            .into_iter()
            .chain(self.destination.then_some(reg::RDI))
    }

    /// Makes the guest's pointers of the host's. Changes R8.
    pub fn undo(self, asm: &mut Assembler) {
        if self == Self::default() {
            return;
        }
        asm.lea(Size::Q, reg::R8, mirror());
        asm.not(Size::Q, reg::R8);
        for r in self.registers() {
            let back = Mem::indexed(r, reg::R8, 0).plus(1);
            asm.lea(Size::D, r, back);
        }
    }
}

fn mirror() -> Mem {
    Mem::at(reg::R14, MIRROR_DISTANCE as i32)
}

impl Emitter<'_> {
    /// Emits `i`, which has a repeat prefix. `None` if it must be a callout.
    pub(super) fn repeat(&mut self, i: &Insn, source: bool, destination: bool) -> Option<()> {
        let mode = self.block.mode;
        let flat = |seg: SegReg| mode.zero_base(seg) && mode.unlimited(seg);
        let reaches = (!source || flat(i.mem.seg)) && (!destination || flat(SegReg::Es));
        if !self.mirrored || !reaches {
            return None;
        }
        let (opcode, start) = (opcode(i.mnemonic)?, self.asm.here());
        self.reserve(200);
        self.exit_unless_upwards();
        let few = self.branch_if_few(opcode, i.width);
        self.exit_unless_few(MOST_BYTES / i.width.bytes());
        let rebased = Rebased {
            source,
            destination,
        };
        let asm = &mut self.asm;
        asm.lea(Size::Q, reg::R8, mirror());
        for r in rebased.registers() {
            asm.lea(Size::Q, r, Mem::indexed(r, reg::R8, 0));
        }
        let prefix = if i.rep == Rep::Repne { 0xf2 } else { 0xf3 };
        asm.raw(&[prefix]);
        if i.width == Width::W {
            asm.raw(&[0x66]);
        }
        asm.raw(&[opcode | u8::from(i.width != Width::B)]);
        rebased.undo(asm);
        self.note_range(start, rebased);
        if let Some(few) = few {
            let over = self.asm.jump_short();
            self.asm.land(few);
            self.move_few(opcode, i.width);
            self.asm.land(over);
        }
        Some(())
    }

    /// A branch that is taken if what is moved is little: the count from R11 must then be
    /// restored.
    fn branch_if_few(&mut self, opcode: u8, width: Width) -> Option<Branch> {
        let few = match (opcode, width) {
            (MOVS | STOS, Width::B) => FEW / 4,
            (MOVS | STOS, Width::D) => FEW,
            _ => return None,
        };
        self.count_from(few);
        let branch = self.asm.jrcxz();
        self.asm.mov(Size::Q, reg::RCX, reg::R11);
        Some(branch)
    }

    /// MOVS or STOS as a loop of plain moves.
    fn move_few(&mut self, opcode: u8, width: Width) {
        let (start, byte) = (self.asm.here(), width == Width::B);
        let [from, to] = [reg::RSI, reg::RDI].map(|r| self.place(r));
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::RCX, reg::R11);
        let again = asm.here();
        let over = asm.jrcxz();
        let mut moved = reg::RAX;
        if opcode == MOVS {
            moved = reg::R9;
            match byte {
                // MOVZX R9D, byte [from]
                true => asm.op_mem(Size::D, &[0x0f, 0xb6], moved, from),
                false => asm.load(Size::D, moved, from),
            }
        }
        match byte {
            // MOV byte [to], AL or R9B
            true => asm.op_mem(Size::D, &[0x88], moved, to),
            false => asm.store(Size::D, to, moved),
        }
        let bytes = width.bytes() as i32;
        if opcode == MOVS {
            asm.lea(Size::D, reg::RSI, Mem::at(reg::RSI, bytes));
        }
        asm.lea(Size::D, reg::RDI, Mem::at(reg::RDI, bytes));
        asm.lea(Size::D, reg::RCX, Mem::at(reg::RCX, -1));
        asm.jump_to(again);
        asm.land(over);
        self.note_range(start, Rebased::default());
    }

    /// Leaves if ECX is `most`, a power of two, or more.
    fn exit_unless_few(&mut self, most: u32) {
        self.count_from(most);
        self.go_on_if_zero();
    }

    /// Has ECX in R11, and 0 in RCX if it is less than `limit`, a power of two.
    fn count_from(&mut self, limit: u32) {
        let asm = &mut self.asm;
        asm.mov(Size::Q, reg::R11, reg::RCX);
        asm.mov_imm(reg::R9, !(limit - 1));
        asm.pext(reg::RCX, reg::RCX, reg::R9);
    }
}

const MOVS: u8 = 0xa4;
const STOS: u8 = 0xaa;

/// The opcode for bytes.
fn opcode(mnemonic: Mnemonic) -> Option<u8> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Movsb | M::Movsw | M::Movsd => MOVS,
        M::Cmpsb | M::Cmpsw | M::Cmpsd => 0xa6,
        M::Stosb | M::Stosw | M::Stosd => STOS,
        M::Lodsb | M::Lodsw | M::Lodsd => 0xac,
        M::Scasb | M::Scasw | M::Scasd => 0xae,
        _ => return None,
    })
}
