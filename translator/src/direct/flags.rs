//! Flags that can be had again.
//!
//! Every access may fault and show the guest's flags, yet hardly anyone looks.
//! Where the instruction that defined them left its operands alone, they can be
//! computed again, from a [`Recipe`]: so a check may destroy them, which makes it
//! half as long, and the side exit repairs them. So does whoever needs them. Where
//! several checks are ahead, it pays to save flags that have no recipe: loading them
//! again is one.

use super::asm::{Assembler, Mem, Size, reg};
use super::effects::Traits;
use super::exit::field;
use super::rename::host;
use super::{Emitter, vector};
use crate::insn::{Flow, Gpr, Insn, Operand, Width};
use crate::state::CpuState;
use iced_x86::{ConditionCode, Mnemonic};
use std::mem::offset_of;

/// Instructions looked at to decide whether saving pays.
const LOOK_AHEAD: usize = 12;

/// Longest recipe in bytes.
const RECIPE_BYTES: usize = 16;

/// Code that makes flags again. It changes R9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    code: [u8; RECIPE_BYTES],
    len: u8,
    /// Guest registers that must not have changed.
    needs: u16,
}

/// Where the guest's arithmetic flags are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flags {
    /// In EFLAGS only.
    #[default]
    Live,
    /// In EFLAGS, and there is a recipe.
    Known(Recipe),
    /// There is a recipe only.
    Lost(Recipe),
}

/// What an instruction does with the arithmetic flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Nothing.
    None,
    /// Looks at them, in registers only.
    Reads,
    /// All are new, whatever they were.
    Defines,
    /// Anything else.
    Mixes,
}

/// See [`Touch`]; `native` says that `i` is a vector or x87 instruction.
pub fn touch(i: &Insn, native: bool) -> Touch {
    use Mnemonic as M;
    match i.mnemonic {
        M::Add | M::Sub | M::Cmp | M::And | M::Or | M::Xor | M::Test | M::Neg => Touch::Defines,
        M::Mov | M::Movzx | M::Movsx | M::Lea | M::Xchg | M::Not | M::Bswap => Touch::None,
        M::Cbw | M::Cwde | M::Cwd | M::Cdq | M::Push | M::Pop | M::Leave | M::Nop => Touch::None,
        M::Cli | M::Cld | M::Std => Touch::None,
        // These look after the flags where control goes on.
        M::Jmp | M::Call | M::Ret => Touch::None,
        _ if reads(i) => Touch::Reads,
        _ if native && !vector::uses_flags(i.mnemonic) => Touch::None,
        _ => Touch::Mixes,
    }
}

/// Jcc, SETcc, CMOVcc without memory, whose lookup would come before the look.
fn reads(i: &Insn) -> bool {
    let memory = i.ops.iter().any(|op| matches!(op, Operand::Mem(_)));
    let branches = i.flow == Flow::Branch;
    let conditional = i.code.condition_code() != ConditionCode::None;
    conditional && !memory && (!branches || i.code.is_jcc_short_or_near())
}

impl Recipe {
    /// The code that `make` appends to what `asm` has, which it loses again.
    fn new(asm: &mut Assembler, needs: u16, make: impl FnOnce(&mut Assembler)) -> Option<Self> {
        let start = asm.here();
        make(asm);
        let recipe = Self::copied(asm.bytes.get(start..)?, needs);
        asm.bytes.truncate(start);
        recipe
    }

    fn copied(bytes: &[u8], needs: u16) -> Option<Self> {
        let mut code = [0; RECIPE_BYTES];
        code.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let len = bytes.len() as u8;
        Some(Self { code, len, needs })
    }

    /// The code.
    pub fn code(&self) -> &[u8] {
        &self.code[..usize::from(self.len)]
    }

    /// How to have the flags again that `i`, encoded from `start` on, has defined.
    fn of(asm: &mut Assembler, i: &Insn, start: usize) -> Option<Self> {
        use Mnemonic as M;
        match (i.mnemonic, i.ops[0], i.ops[1]) {
            // Again the same.
            (M::Cmp | M::Test, Operand::Gpr(..), Operand::Gpr(..) | Operand::Imm(_)) => {
                Self::copied(asm.bytes.get(start..)?, needs(i.ops[0]) | needs(i.ops[1]))
            }
            (M::And | M::Or | M::Xor, Operand::Gpr(r, w), _) => Self::of_result(asm, r, w),
            (M::Sub, Operand::Gpr(r, w), Operand::Gpr(s, _)) if r == s => {
                Self::of_result(asm, r, w)
            }
            (M::Add | M::Sub, Operand::Gpr(r, Width::D), Operand::Imm(_)) => {
                Self::of_sum(asm, r, i.imm as i32, i.mnemonic == M::Sub)
            }
            (M::Add | M::Sub, Operand::Gpr(r, Width::D), Operand::Gpr(s, Width::D)) if r != s => {
                let (redo, undo) = match i.mnemonic == M::Sub {
                    true => (0x2b, 0x03),
                    false => (0x03, 0x2b),
                };
                Self::new(asm, 1 << r.0 | 1 << s.0, |asm| {
                    asm.mov(Size::D, reg::R9, host(r));
                    asm.op_reg(Size::D, &[undo], reg::R9, host(s));
                    asm.op_reg(Size::D, &[redo], reg::R9, host(s));
                })
            }
            _ => None,
        }
    }

    /// What [`Emitter::save_flags`] has saved.
    fn of_saved(asm: &mut Assembler) -> Option<Self> {
        Self::new(asm, 0, |asm| {
            asm.mov(Size::D, reg::R9, reg::RAX);
            // MOVZX EAX, word [saved]; ADD AL, 7F; SAHF
            asm.op_mem(Size::D, &[0x0f, 0xb7], reg::RAX, saved());
            asm.raw(&[0x04, 0x7f, 0x9e]);
            asm.mov(Size::D, reg::RAX, reg::R9);
        })
    }

    /// The flags of a logical result: TEST of it.
    fn of_result(asm: &mut Assembler, r: Gpr, w: Width) -> Option<Self> {
        let op = Operand::Gpr(r, w);
        Self::new(asm, needs(op), |asm| match w {
            Width::B => asm.op_reg(Size::D, &[0x84], r.0 & 7, r.0 & 7),
            Width::W => {
                asm.raw(&[0x66]);
                asm.op_reg(Size::D, &[0x85], host(r), host(r));
            }
            Width::D => asm.op_reg(Size::D, &[0x85], host(r), host(r)),
        })
    }

    /// The flags of a sum or difference with a constant: undone and done again.
    fn of_sum(asm: &mut Assembler, r: Gpr, imm: i32, difference: bool) -> Option<Self> {
        let (extension, before) = match difference {
            true => (5, imm),
            false => (0, imm.wrapping_neg()),
        };
        Self::new(asm, 1 << r.0, |asm| {
            asm.lea(Size::D, reg::R9, Mem::at(host(r), before));
            asm.group1_imm(extension, reg::R9, imm as u32);
        })
    }
}

fn saved() -> Mem {
    field(offset_of!(CpuState, saved_flags))
}

/// The register that an operand is a part of, as a bit.
fn needs(op: Operand) -> u16 {
    match op {
        Operand::Gpr(r, Width::B) => 1 << (r.0 & 3),
        Operand::Gpr(r, _) => 1 << r.0,
        _ => 0,
    }
}

impl Emitter<'_> {
    /// Before `i` is emitted: has the flags in EFLAGS if it needs them, or if they
    /// could not be had again afterwards.
    pub(super) fn flags_before(&mut self, i: &Insn, traits: &Traits) {
        let touch = traits.touch;
        let changed = match (touch, traits.effects) {
            (Touch::Defines, _) => 0,
            (Touch::None | Touch::Reads, None) if i.flow != Flow::Next => 1 << Gpr::ESP.0,
            _ => traits.changed(),
        };
        let needed = match self.flags {
            Flags::Live => return,
            Flags::Known(recipe) | Flags::Lost(recipe) => recipe.needs & changed != 0,
        };
        let mixes = touch == Touch::Mixes;
        if mixes || needed || touch == Touch::Reads {
            self.restore_flags();
        }
        if mixes || needed {
            self.flags = Flags::Live;
        }
    }

    /// After `i`, which defines them, has been emitted, its own code from `start` on.
    pub(super) fn flags_defined(&mut self, i: &Insn, start: usize) {
        let recipe = Recipe::of(&mut self.asm, i, start);
        self.flags = recipe.map_or(Flags::Live, Flags::Known);
    }

    /// Before a check: saves flags that have no recipe if that pays.
    pub(super) fn save_flags(&mut self) {
        if self.flags != Flags::Live || !self.grouped || !self.saving_pays() {
            return;
        }
        self.reserve(40);
        let asm = &mut self.asm;
        asm.mov(Size::D, reg::R11, reg::RAX);
        // LAHF; SETO AL; MOV [saved], AX
        asm.raw(&[0x9f, 0x0f, 0x90, 0xc0, 0x66]);
        asm.store(Size::D, saved(), reg::RAX);
        asm.mov(Size::D, reg::RAX, reg::R11);
        self.flags = Recipe::of_saved(asm).map_or(Flags::Live, Flags::Known);
    }

    /// Two checks are ahead before the flags are defined anew, or three if somebody
    /// wants to see them then.
    fn saving_pays(&self) -> bool {
        let mut roots = [(Gpr::ZERO, Gpr::ZERO); LOOK_AHEAD];
        let mut checks = 0;
        let ahead = self.s.traits.iter().skip(self.index);
        for &Traits { touch, access, .. } in ahead.take(LOOK_AHEAD) {
            if matches!(touch, Touch::Mixes | Touch::Reads) {
                break;
            }
            if let Some((m, _, _)) = access {
                let root = (m.base, m.index);
                if !roots[..checks].contains(&root) {
                    roots[checks] = root;
                    checks += 1;
                }
            }
            if touch == Touch::Defines {
                return checks >= 2;
            }
        }
        checks >= 3
    }

    /// Has the flags in EFLAGS.
    pub(super) fn restore_flags(&mut self) {
        if let Flags::Lost(recipe) = self.flags {
            self.asm.raw(recipe.code());
            self.flags = Flags::Known(recipe);
        }
    }

    /// The recipe, if there is one.
    pub(super) fn recipe(&self) -> Option<Recipe> {
        match self.flags {
            Flags::Live => None,
            Flags::Known(recipe) | Flags::Lost(recipe) => Some(recipe),
        }
    }
}
