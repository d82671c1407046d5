//! Which host registers may hold more than 32 bits: what the verifier must know of an
//! address before it goes into a mirror.

use crate::state::MIRROR_DISTANCE;
use iced_x86::{Code, Instruction, Register};

/// Which of the registers that guest addresses are in may have an upper half that
/// is not zero. (Of the others, none ever has.)
#[derive(Clone, Copy, Debug)]
pub struct Wide {
    rcx: bool,
    r8: bool,
    r11: bool,
}

impl Default for Wide {
    fn default() -> Self {
        Self {
            rcx: false,
            r8: true,
            r11: true,
        }
    }
}

impl Wide {
    /// Whether this one may.
    pub fn is(self, r: Register) -> bool {
        match r.full_register() {
            Register::RCX => self.rcx,
            Register::R8 => self.r8,
            Register::R11 => self.r11,
            r => !is_guest(r),
        }
    }

    /// What it is after `h`, which writes its first operand.
    pub fn after(mut self, h: &Instruction) -> Self {
        let to = h.op0_register();
        let copies = h.code() == Code::Mov_r64_rm64 && h.op1_register() != Register::None;
        let wide = match (to.is_gpr64(), to.is_gpr32()) {
            (true, _) => !copies || self.is(h.op1_register()),
            (_, true) => false,
            _ => return self,
        };
        match to.full_register() {
            Register::RCX => self.rcx = wide,
            Register::R8 => self.r8 = wide,
            Register::R11 => self.r11 = wide,
            _ => {}
        }
        self
    }
}

/// The register is the home of a guest register.
fn is_guest(r: Register) -> bool {
    use Register as R;
    matches!(
        r,
        R::RAX | R::RCX | R::RDX | R::RBX | R::RBP | R::RSI | R::RDI | R::R12
    )
}

/// Pointers that lead into the mirror around a repeated string instruction: between
/// the LEAs that make them and those that undo it stands nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rebasing {
    /// R8 is the address of the mirror.
    base: bool,
    rsi: bool,
    rdi: bool,
}

impl Rebasing {
    /// `h` makes a guest pointer one of the host's.
    pub fn makes(self, h: &Instruction) -> bool {
        let r = h.op0_register();
        self.base
            && h.code() == Code::Lea_r64_m
            && matches!(r, Register::RSI | Register::RDI)
            && (h.memory_base(), h.memory_index()) == (r, Register::R8)
            && (h.memory_index_scale(), h.memory_displacement64()) == (1, 0)
    }

    /// Whether a repeated string instruction may use memory at this register.
    pub fn permits(self, h: &Instruction, r: Register) -> bool {
        let repeated = h.is_string_instruction() && (h.has_rep_prefix() || h.has_repne_prefix());
        let rebased = match r {
            Register::RSI => self.rsi,
            Register::RDI => self.rdi,
            _ => false,
        };
        repeated && rebased
    }

    /// What holds after `h`, if it may stand here.
    pub fn after(mut self, h: &Instruction) -> Option<Self> {
        let r = h.op0_register();
        if self.makes(h) {
            self.rsi |= r == Register::RSI;
            self.rdi |= r == Register::RDI;
            return Some(self);
        }
        let r8 = r == Register::R8;
        self.base = h.code() == Code::Lea_r64_m
            && r8
            && (h.memory_base(), h.memory_index()) == (Register::R14, Register::None)
            && h.memory_displacement64() == MIRROR_DISTANCE;
        let undoes = h.code() == Code::Lea_r32_m;
        self.rsi &= !(undoes && r == Register::ESI);
        self.rdi &= !(undoes && r == Register::EDI);
        let rebased = self.rsi || self.rdi;
        let prepares = r8 && matches!(h.code(), Code::Lea_r64_m | Code::Not_rm64);
        (!rebased || undoes || prepares || h.is_string_instruction()).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::verify;

    /// LEA R8, [R14 + the mirror's distance]
    const BASE: [u8; 7] = [0x4d, 0x8d, 0x86, 0, 0, 0, 2];
    /// LEA RDI, [RDI + R8]
    const REBASE: [u8; 4] = [0x4a, 0x8d, 0x3c, 0x07];
    const REP_STOSB: [u8; 2] = [0xf3, 0xaa];
    /// NOT R8; LEA EDI, [RDI + R8 + 1]
    const UNDO: [u8; 8] = [0x49, 0xf7, 0xd0, 0x42, 0x8d, 0x7c, 0x07, 0x01];

    #[test]
    fn pointers_of_the_host_serve_repeated_instructions_only() {
        let sequence = |parts: &[&[u8]]| verify(&parts.concat(), false);
        assert_eq!(sequence(&[&BASE, &REBASE, &REP_STOSB, &UNDO]), Ok(()));
        assert!(sequence(&[&REBASE, &REP_STOSB]).is_err(), "any R8");
        assert!(sequence(&[&BASE, &REP_STOSB]).is_err(), "not rebased");
        assert!(
            sequence(&[&BASE, &REBASE, &[0xaa]]).is_err(),
            "not repeated"
        );
        // MOV [RDI], AL
        assert!(sequence(&[&BASE, &REBASE, &[0x88, 0x07]]).is_err());
        // RET
        assert!(sequence(&[&BASE, &REBASE, &REP_STOSB, &[0xc3]]).is_err());
        // REP MOVSB, of which RSI has not been rebased
        assert!(sequence(&[&BASE, &REBASE, &[0xf3, 0xa4], &UNDO]).is_err());
    }
}
