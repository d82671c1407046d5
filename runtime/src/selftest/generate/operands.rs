//! Entry values that make the operands of a sequence meet memory.
//!
//! The registers start undecided. The first instruction to use one as an address
//! decides its entry value, so that the operand lands where chance wanted it:
//! mostly inside the data arena, sometimes across its end into the absent page.
//! A register that an instruction has written is unknown from then on, and makes
//! a poor address: the generator then takes another form of the instruction.

use crate::selftest::generate::values;
use crate::selftest::rng::Rng;
use crate::selftest::state::{CODE_BASE, DATA_BASE, DATA_BYTES, STACK_BASE, STACK_BYTES};
use iced_x86::{
    ConstantOffsets, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
    UsedMemory,
};

const ECX: usize = 1;
const EDX: usize = 2;
const ESP: usize = 4;
const EBP: usize = 5;

/// What is known of a register at the current point of the sequence.
#[derive(Clone, Copy, PartialEq)]
enum Now {
    /// Still the entry value, which is undecided.
    Undecided,
    Known(u32),
    Unknown,
}

/// The registers while a sequence is being made.
#[derive(Clone)]
pub struct Registers {
    entry: [Option<u32>; 8],
    now: [Now; 8],
    /// Linear address of the last memory operand placed.
    pub placed: Option<u32>,
}

impl Registers {
    /// All undecided but ESP, which starts somewhere in the stack arena.
    pub fn new(rng: &mut Rng) -> Registers {
        let esp = match rng.below(20) {
            0 => STACK_BASE + rng.below(48) as u32,
            1 => STACK_BASE + STACK_BYTES as u32 - rng.below(48) as u32,
            2..=4 => STACK_BASE + 0x200 + rng.below(0xc00) as u32,
            _ => STACK_BASE + 0x200 + 4 * rng.below(0x300) as u32,
        };
        let mut registers = Registers {
            entry: [None; 8],
            now: [Now::Undecided; 8],
            placed: None,
        };
        registers.settle(ESP, esp);
        registers
    }

    /// The entry values; those that nothing asked for are random.
    pub fn entry(&self, rng: &mut Rng) -> [u32; 8] {
        self.entry
            .map(|value| value.unwrap_or_else(|| values::word(rng)))
    }

    /// The register's value now, if that is known.
    pub fn known(&self, register: usize) -> Option<u32> {
        match self.now[register] {
            Now::Known(value) => Some(value),
            _ => None,
        }
    }

    /// Whether nothing has asked for the register's value yet.
    pub fn is_undecided(&self, register: usize) -> bool {
        self.now[register] == Now::Undecided
    }

    /// Whether ESP is where it started or above, and where.
    pub fn untouched_stack_top(&self) -> Option<u32> {
        self.known(ESP).filter(|&esp| Some(esp) >= self.entry[ESP])
    }

    /// Decides an undecided register; whether it has that value now.
    pub fn settle(&mut self, register: usize, value: u32) -> bool {
        if self.now[register] == Now::Undecided {
            self.entry[register] = Some(value);
            self.now[register] = Now::Known(value);
        }
        self.now[register] == Now::Known(value)
    }

    /// Leaves the entry value of an undecided register to be set after layout.
    pub fn reserve(&mut self, register: usize) -> bool {
        let free = self.now[register] == Now::Undecided;
        if free {
            self.entry[register] = Some(0);
            self.now[register] = Now::Unknown;
        }
        free
    }

    /// Sets an entry value that [`reserve`](Registers::reserve) left open.
    pub fn set_entry(&mut self, register: usize, value: u32) {
        self.entry[register] = Some(value);
    }

    /// Makes every memory operand of `insn` meet the arenas, by deciding registers
    /// and rewriting the displacement in `bytes`. False if that cannot be done.
    pub fn place(
        &mut self,
        rng: &mut Rng,
        insn: &Instruction,
        offsets: &ConstantOffsets,
        bytes: &mut [u8],
    ) -> bool {
        self.placed = None;
        if !self.prepare_counts(rng, insn) {
            return false;
        }
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(insn);
        info.used_memory().iter().all(|memory| {
            memory.access() == OpAccess::NoMemAccess
                || memory.base().size() == 2
                || self.place_one(rng, insn, memory, offsets, bytes)
        })
    }

    fn place_one(
        &mut self,
        rng: &mut Rng,
        insn: &Instruction,
        memory: &UsedMemory,
        offsets: &ConstantOffsets,
        bytes: &mut [u8],
    ) -> bool {
        let base = number(memory.base());
        if base == Some(ESP) && memory.index() == Register::None {
            let implicit = insn.memory_base() != Register::ESP;
            if implicit || offsets.displacement_size() != 4 {
                return self.known(ESP).is_some() || rng.chance(10);
            }
        }
        let explicit = memory.base() == insn.memory_base()
            && memory.index() == insn.memory_index()
            && (0..insn.op_count()).any(|i| insn.op_kind(i) == OpKind::Memory);
        let frame = matches!(insn.mnemonic(), Mnemonic::Enter | Mnemonic::Leave);
        let size = memory.memory_size().size().max(1) as u32;
        let target = if frame && rng.chance(90) {
            STACK_BASE + 0x100 + rng.below(0xe00) as u32
        } else {
            target(rng, size)
        };
        let Some(index) = self.index_part(rng, memory) else {
            return rng.chance(5);
        };
        let displacement = memory.displacement() as u32;
        let wide = explicit && offsets.displacement_size() == 4;
        let rest = target.wrapping_sub(index);
        self.placed = Some(target);
        let base_value = match base.map(|r| (r, self.now[r])) {
            None => 0,
            Some((_, Now::Unknown)) => return rng.chance(5),
            Some((_, Now::Known(value))) => value,
            Some((r, Now::Undecided)) => {
                let value = rest.wrapping_sub(displacement);
                self.settle(r, value);
                value
            }
        };
        if wide {
            let at = offsets.displacement_offset();
            bytes[at..at + 4].copy_from_slice(&rest.wrapping_sub(base_value).to_le_bytes());
            return true;
        }
        let addr = base_value.wrapping_add(index).wrapping_add(displacement);
        self.placed = Some(addr);
        let aligned = size != 16 || addr.is_multiple_of(16);
        near_arenas(addr) && aligned || rng.chance(5)
    }

    /// The scaled index, deciding the index register where it is undecided.
    fn index_part(&mut self, rng: &mut Rng, memory: &UsedMemory) -> Option<u32> {
        let Some(register) = number(memory.index()) else {
            return Some(0);
        };
        if memory.index().size() == 1 {
            // XLAT adds AL, whatever it is.
            return Some(0);
        }
        let wanted = match rng.below(3) {
            0 => values::word(rng),
            _ => rng.below(64) as u32,
        };
        self.settle(register, wanted);
        let scale = memory.scale();
        self.known(register).map(|value| value.wrapping_mul(scale))
    }

    /// Repeat counts and bit offsets decide how far an operand reaches; small
    /// high halves of dividends let a division succeed.
    fn prepare_counts(&mut self, rng: &mut Rng, insn: &Instruction) -> bool {
        if insn.has_rep_prefix() || insn.has_repne_prefix() {
            self.settle(ECX, rng.below(25) as u32);
            return self.known(ECX).is_some_and(|count| count < 64) || rng.chance(10);
        }
        use Mnemonic::*;
        match insn.mnemonic() {
            Bt | Bts | Btr | Btc if insn.op0_kind() == OpKind::Memory => {
                let Some(register) = number(insn.op1_register()) else {
                    return true;
                };
                let wanted = (rng.below(0x4000) as u32).wrapping_sub(0x2000);
                self.settle(register, wanted);
                let small = |v: u32| v.wrapping_add(0x8000) < 0x1_0000;
                self.known(register).is_some_and(small) || rng.chance(10)
            }
            Pcmpestri | Pcmpestrm => {
                // Lengths count up to 16 bytes, in either direction.
                for register in [0, EDX] {
                    self.settle(register, (rng.below(40) as u32).wrapping_sub(20));
                }
                true
            }
            Div | Idiv if rng.chance(70) => {
                let high = rng.pick(&[0, 0, 1, 2, 0xffff_ffff]);
                self.settle(EDX, high);
                if insn.op0_kind() == OpKind::Memory && insn.memory_size().size() == 1 {
                    self.settle(0, rng.below(0x400) as u32);
                }
                true
            }
            _ => true,
        }
    }

    /// Forgets what `insn` writes.
    pub fn execute(&mut self, insn: &Instruction) {
        let esp = self.now[ESP];
        let ebp = self.now[EBP];
        let mut factory = InstructionInfoFactory::new();
        for used in factory.info(insn).used_registers() {
            let writes = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
            if let Some(register) = number(used.register()).filter(|_| writes) {
                self.now[register] = Now::Unknown;
            }
        }
        let names_esp = insn.op0_register().full_register32() == Register::ESP;
        let moved = match insn.mnemonic() {
            Mnemonic::Leave => (ebp, if insn.op_count() == 0 { 4 } else { 2 }),
            _ => (esp, insn.stack_pointer_increment()),
        };
        if let ((Now::Known(value), by), true) = (moved, insn.is_stack_instruction())
            && !(names_esp && self.now[ESP] == Now::Unknown && insn.mnemonic() == Mnemonic::Pop)
        {
            self.now[ESP] = Now::Known(value.wrapping_add_signed(by));
        }
    }
}

/// The number of a general register of any width, `None` for others.
fn number(register: Register) -> Option<usize> {
    register
        .is_gpr()
        .then(|| register.full_register32() as usize - Register::EAX as usize)
}

/// Where an operand of `size` bytes goes.
fn target(rng: &mut Rng, size: u32) -> u32 {
    let target = any_target(rng, size);
    // Most 16-byte operands must be aligned.
    match size == 16 && rng.chance(85) {
        true => target & !15,
        false => target,
    }
}

fn any_target(rng: &mut Rng, size: u32) -> u32 {
    let end = DATA_BASE + DATA_BYTES as u32;
    let inside = DATA_BASE + 64 + rng.below(DATA_BYTES - 640) as u32;
    match rng.below(100) {
        0..50 => inside & !15,
        50..72 => inside,
        // The page boundary in the middle of the arena.
        72..78 => DATA_BASE + 0x1000 - rng.below(size as usize + 1) as u32,
        78..84 => end - size,
        84..88 => end.wrapping_sub(rng.below(size as usize + 1) as u32),
        88..90 => DATA_BASE - rng.below(size as usize + 1) as u32,
        90..96 => STACK_BASE + 0x100 + rng.below(0xe00) as u32,
        96..98 => CODE_BASE + rng.below(0x1f00) as u32,
        _ => inside & !3,
    }
}

fn near_arenas(addr: u32) -> bool {
    addr.wrapping_sub(DATA_BASE) < DATA_BYTES as u32
        || addr.wrapping_sub(STACK_BASE) < STACK_BYTES as u32
}
