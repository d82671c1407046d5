//! What an instruction of this tier does to the guest's registers, flags and memory,
//! as far as others need to know it. Several look ahead, so it is found out once.

use super::flags::{Touch, touch};
use super::memory::Access;
use super::{bits, is_plain, vector};
use crate::insn::{Flow, Gpr, Insn, MemRef, Operand, SegReg, Width};
use iced_x86::{Code, Mnemonic};

/// Register changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effects {
    /// Registers that get values nobody knows, by number.
    pub written: u16,
    /// What is added to ESP.
    pub esp: i32,
}

impl Effects {
    const NONE: Self = Self { written: 0, esp: 0 };

    fn written(written: u16) -> Self {
        Self { written, esp: 0 }
    }

    fn esp(esp: i32) -> Self {
        Self { written: 0, esp }
    }
}

/// What the tier must know of an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// The general rule fits it.
    pub plain: bool,
    /// A vector or x87 instruction that can run as it is.
    pub native: bool,
    /// What it does to registers, or `None` if it ends what is known: it is a
    /// callout, or may be one.
    pub effects: Option<Effects>,
    /// What it does with the arithmetic flags.
    pub touch: Touch,
    /// The access that it makes to memory, if it makes one that may share a lookup.
    pub access: Option<(MemRef, Access, u32)>,
}

impl Traits {
    /// Those of `i`.
    pub fn of(i: &Insn) -> Self {
        let plain = is_plain(i);
        let native = !plain && vector::is_native(i);
        Self {
            plain,
            native,
            effects: effects(i, plain, native),
            touch: touch(i, native),
            access: access_of(i, plain || native),
        }
    }

    /// The registers that it changes, by number; all where nobody knows.
    pub fn changed(&self) -> u16 {
        match self.effects {
            Some(e) => e.written | u16::from(e.esp != 0) << Gpr::ESP.0,
            None => u16::MAX,
        }
    }
}

const ESP: Operand = Operand::Gpr(Gpr::ESP, Width::D);

fn bit(r: Gpr) -> u16 {
    1 << r.0
}

/// The bit of the register that `op` is a part of, if it is one.
fn operand(op: Operand) -> u16 {
    match op {
        Operand::Gpr(r, Width::B) => 1 << (r.0 & 3),
        Operand::Gpr(r, _) => bit(r),
        _ => 0,
    }
}

/// See [`Traits::effects`].
fn effects(i: &Insn, plain: bool, native: bool) -> Option<Effects> {
    use Mnemonic as M;
    if i.flow != Flow::Next {
        return None;
    }
    Some(match i.mnemonic {
        M::Nop | M::Endbr32 | M::Pause | M::Lfence | M::Mfence | M::Sfence => Effects::NONE,
        M::Push if i.stack32 && i.width == Width::D => Effects::esp(-4),
        M::Pop if i.stack32 => match i.ops[0] {
            ESP => Effects::written(bit(Gpr::ESP)),
            Operand::Gpr(r, Width::D) => Effects {
                written: bit(r),
                esp: 4,
            },
            _ => return None,
        },
        M::Leave => Effects::written(bit(Gpr::ESP) | bit(Gpr::EBP)),
        M::Add if i.ops[0] == ESP && matches!(i.ops[1], Operand::Imm(_)) => {
            Effects::esp(i.imm as i32)
        }
        M::Sub if i.ops[0] == ESP && matches!(i.ops[1], Operand::Imm(_)) => {
            Effects::esp((i.imm as i32).wrapping_neg())
        }
        M::Lea if i.ops[0] == ESP && i.mem.base == Gpr::ESP && i.mem.index == Gpr::ZERO => {
            match i.mem.addr16 {
                false => Effects::esp(i.mem.disp as i32),
                true => return None,
            }
        }
        M::Lea => Effects::written(operand(i.ops[0])),
        M::Cmp | M::Test | M::Bt => Effects::NONE,
        M::Xchg | M::Xadd if plain => Effects::written(operand(i.ops[0]) | operand(i.ops[1])),
        M::Mul | M::Imul | M::Cwd | M::Cdq | M::Cbw | M::Cwde | M::Cmpxchg | M::Lahf if plain => {
            Effects::written(bit(Gpr::EAX) | bit(Gpr::EDX) | operand(i.ops[0]))
        }
        M::Div | M::Idiv | M::Rdtsc => Effects::written(bit(Gpr::EAX) | bit(Gpr::EDX)),
        M::Cpuid => {
            let [eax, ecx] = [Gpr::EAX, Gpr::ECX].map(bit);
            Effects::written(eax | ecx | bit(Gpr::EDX) | bit(Gpr::EBX))
        }
        M::Rdtscp => Effects::written(bit(Gpr::EAX) | bit(Gpr::EDX) | bit(Gpr::ECX)),
        M::Cmpxchg8b | M::Bts | M::Btr | M::Btc if !plain => Effects::written(bits::written(i)),
        M::Cli | M::Cld | M::Std => Effects::NONE,
        M::Pushfd if i.stack32 => Effects::esp(-4),
        M::Mov if matches!(i.ops[1], Operand::Seg(_)) => Effects::written(operand(i.ops[0])),
        _ if plain || native => Effects::written(operand(i.ops[0])),
        _ => return None,
    })
}

/// See [`Traits::access`]; `known` says that `i` is plain or native.
fn access_of(i: &Insn, known: bool) -> Option<(MemRef, Access, u32)> {
    use Mnemonic as M;
    let of_stack = |base, disp: i32, access| {
        let m = MemRef {
            seg: SegReg::Ss,
            base,
            index: Gpr::ZERO,
            shift: 0,
            addr16: false,
            disp: disp as u32,
        };
        i.stack32.then_some((m, access, 4))
    };
    match i.mnemonic {
        M::Push | M::Pushfd => of_stack(Gpr::ESP, -4, Access::Write),
        M::Call if i.code == Code::Call_rel32_32 => of_stack(Gpr::ESP, -4, Access::Write),
        M::Pop | M::Ret => of_stack(Gpr::ESP, 0, Access::Read),
        M::Leave => of_stack(Gpr::EBP, 0, Access::Read),
        M::Lea => None,
        _ => {
            let bytes = i.ops.iter().find_map(|op| match op {
                Operand::Mem(w) => Some(w.bytes()),
                Operand::Wide(bytes) => Some(u32::from(*bytes)),
                _ => None,
            })?;
            known.then(|| (i.mem, access(i), bytes))
        }
    }
}

/// What an instruction does with its memory operand.
pub fn access(i: &Insn) -> Access {
    use Mnemonic as M;
    let destination = matches!(i.ops[0], Operand::Mem(_) | Operand::Wide(_));
    let only_reads = matches!(i.mnemonic, M::Cmp | M::Test | M::Bt | M::Mul | M::Imul)
        || matches!(i.mnemonic, M::Div | M::Idiv)
        || vector::reads_first_operand(i);
    match destination && !only_reads {
        true => Access::Write,
        false if i.mnemonic == M::Xchg => Access::Write,
        false => Access::Read,
    }
}
