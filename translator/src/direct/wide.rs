//! Which host registers may hold more than 32 bits: what the verifier must know of an
//! address before it goes into a mirror.

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
