//! Which results the manual leaves undefined, followed through a sequence.
//!
//! A flag that an instruction leaves undefined stays so until another defines
//! it. At the end such flags are not compared; a sequence in which an instruction
//! reads one says nothing and is skipped. The rules are those of the SDM, vol. 2,
//! "Flags Affected" of each instruction. iced-x86 has them as tables; what
//! depends on operand values is here: shift counts, repeat counts.

use crate::selftest::state::State;
use iced_x86::{Instruction, Mnemonic, OpKind, Register, RflagsBits};

/// CF of EFLAGS.
pub const CF: u32 = 1;
/// PF of EFLAGS.
pub const PF: u32 = 1 << 2;
/// AF of EFLAGS.
pub const AF: u32 = 1 << 4;
/// ZF of EFLAGS.
pub const ZF: u32 = 1 << 6;
/// SF of EFLAGS.
pub const SF: u32 = 1 << 7;
/// OF of EFLAGS.
pub const OF: u32 = 1 << 11;

/// What is undefined at one point of a sequence.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Undefined {
    /// EFLAGS bits.
    pub flags: u32,
    /// A register, memory or the path taken: nothing can be compared any more.
    pub everything: bool,
}

impl Undefined {
    /// Follows one executed instruction. `before` is the state it started from;
    /// without it the answer covers every state.
    pub fn step(&mut self, insn: &Instruction, before: Option<&State>) {
        if self.reads_undefined(insn, before) {
            self.everything = true;
        }
        if let Some(shift) = Shift::of(insn) {
            return self.shift(&shift, before);
        }
        let undefined = eflags(insn.rflags_undefined()) | undefined_besides(insn.mnemonic());
        let defined = eflags(insn.rflags_written() | insn.rflags_cleared() | insn.rflags_set());
        if !may_repeat_zero_times(insn, before) {
            self.flags &= !defined;
        }
        self.flags |= undefined;
    }

    /// Whether the instruction would read a flag that is undefined now.
    pub fn reads_undefined(&self, insn: &Instruction, before: Option<&State>) -> bool {
        let skipped = Shift::of(insn).is_some_and(|shift| shift.count(before) == Some(0));
        !skipped && eflags(insn.rflags_read()) & self.flags != 0
    }

    /// SDM vol. 2, "SAL/SAR/SHL/SHR", "RCL/RCR/ROL/ROR", "SHLD", "SHRD".
    fn shift(&mut self, shift: &Shift, before: Option<&State>) {
        let Some(count) = shift.count(before) else {
            // The count may be zero, so nothing becomes defined.
            self.flags |= shift.may_leave_undefined();
            self.everything |= shift.is_double && shift.width < 32;
            return;
        };
        if count == 0 {
            return;
        }
        self.flags &= !OF;
        // RCL and RCR by all of the operand and CF leave CF as it was.
        if !shift.through_carry || !count.is_multiple_of(shift.width + 1) {
            self.flags &= !CF;
        }
        if !shift.is_rotate {
            self.flags &= !(SF | ZF | PF);
            self.flags |= AF;
        }
        // OF is defined for 1-bit shifts only.
        if count != 1 {
            self.flags |= OF;
        }
        // CF of SHL and SHR is undefined from the operand size on.
        if shift.loses_carry && count >= shift.width {
            self.flags |= CF;
        }
        // A double shift by more than the operand size leaves all undefined.
        if shift.is_double && count > shift.width {
            self.everything = true;
        }
    }
}

/// What the rules ask of a shift or rotate.
struct Shift {
    is_rotate: bool,
    through_carry: bool,
    is_double: bool,
    loses_carry: bool,
    width: u32,
    immediate: Option<u32>,
}

impl Shift {
    fn of(insn: &Instruction) -> Option<Shift> {
        use Mnemonic::*;
        let mnemonic = insn.mnemonic();
        let is_rotate = matches!(mnemonic, Rol | Ror | Rcl | Rcr);
        let is_double = matches!(mnemonic, Shld | Shrd);
        let loses_carry = matches!(mnemonic, Shl | Sal | Shr);
        if !is_rotate && !is_double && !loses_carry && mnemonic != Sar {
            return None;
        }
        let bytes = match insn.op0_kind() {
            OpKind::Register => insn.op0_register().size(),
            _ => insn.memory_size().size(),
        };
        let last = insn.op_count() - 1;
        let by_cl =
            insn.op_kind(last) == OpKind::Register && insn.op_register(last) == Register::CL;
        Some(Shift {
            is_rotate,
            through_carry: matches!(mnemonic, Rcl | Rcr),
            is_double,
            loses_carry,
            width: bytes as u32 * 8,
            immediate: (!by_cl).then(|| insn.immediate(last) as u32),
        })
    }

    /// The count as the CPU masks it, if it is known.
    fn count(&self, before: Option<&State>) -> Option<u32> {
        let count = self.immediate.or(before.map(|state| state.gpr[1]));
        count.map(|count| count & 31)
    }

    fn may_leave_undefined(&self) -> u32 {
        let mut flags = OF;
        if !self.is_rotate {
            flags |= AF;
        }
        if self.loses_carry && self.width < 32 {
            flags |= CF;
        }
        flags
    }
}

/// What the SDM calls undefined and iced-x86 does not.
fn undefined_besides(mnemonic: Mnemonic) -> u32 {
    match mnemonic {
        // "The OF, AF, and CF flags are undefined."
        Mnemonic::Aad => OF | AF | CF,
        _ => 0,
    }
}

/// REPE/REPNE with ECX = 0 compares nothing and leaves the flags alone.
fn may_repeat_zero_times(insn: &Instruction, before: Option<&State>) -> bool {
    let repeats = insn.has_rep_prefix() || insn.has_repne_prefix();
    insn.is_string_instruction() && repeats && before.is_none_or(|state| state.gpr[1] & 0xffff == 0)
}

/// EFLAGS bits of iced's own numbering.
fn eflags(bits: u32) -> u32 {
    let table = [
        (RflagsBits::OF, OF),
        (RflagsBits::SF, SF),
        (RflagsBits::ZF, ZF),
        (RflagsBits::AF, AF),
        (RflagsBits::CF, CF),
        (RflagsBits::PF, PF),
    ];
    let set = table.iter().filter(|(theirs, _)| bits & theirs != 0);
    set.fold(0, |sum, (_, ours)| sum | ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    const ALL: u32 = CF | PF | AF | ZF | SF | OF;

    /// Undefined flags after the instructions of `code`, from `start`.
    fn after(start: u32, code: &[u8], ecx: u32) -> Undefined {
        let mut state = State::new();
        state.gpr[1] = ecx;
        let mut undefined = Undefined {
            flags: start,
            everything: false,
        };
        for insn in Decoder::new(32, code, DecoderOptions::NONE) {
            undefined.step(&insn, Some(&state));
        }
        undefined
    }

    #[test]
    fn tables_agree_with_the_manual() {
        assert_eq!(after(0, &[0x21, 0xc0], 0).flags, AF, "and");
        assert_eq!(after(0, &[0xa8, 0x01], 0).flags, AF, "test");
        assert_eq!(after(0, &[0xf7, 0xe1], 0).flags, SF | ZF | AF | PF, "mul");
        assert_eq!(
            after(0, &[0x0f, 0xaf, 0xc1], 0).flags,
            SF | ZF | AF | PF,
            "imul"
        );
        assert_eq!(after(0, &[0xf7, 0xf1], 0).flags, ALL, "div");
        assert_eq!(after(0, &[0x0f, 0xbc, 0xc1], 0).flags, ALL & !ZF, "bsf");
        assert_eq!(
            after(0, &[0x0f, 0xa3, 0xc1], 0).flags,
            OF | SF | AF | PF,
            "bt"
        );
        assert_eq!(after(0, &[0x37], 0).flags, OF | SF | ZF | PF, "aaa");
        assert_eq!(after(0, &[0x27], 0).flags, OF, "daa");
        assert_eq!(after(0, &[0xd4, 0x0a], 0).flags, OF | AF | CF, "aam");
        assert_eq!(after(0, &[0xd5, 0x0a], 0).flags, OF | AF | CF, "aad");
        assert_eq!(after(ALL, &[0x01, 0xc0], 0).flags, 0, "add");
        assert_eq!(after(ALL, &[0x40], 0).flags, CF, "inc");
        assert_eq!(after(ALL, &[0xf3, 0x0f, 0xb8, 0xc0], 0).flags, 0, "popcnt");
    }

    #[test]
    fn shifts_depend_on_their_count() {
        assert_eq!(after(ALL, &[0xd3, 0xe0], 0).flags, ALL, "shl eax, 0");
        assert_eq!(after(ALL, &[0xd1, 0xe0], 0).flags, AF, "shl eax, 1");
        assert_eq!(after(0, &[0xd3, 0xe0], 33).flags, AF, "shl eax, 33");
        assert_eq!(after(0, &[0xd3, 0xe0], 31).flags, AF | OF);
        assert_eq!(after(0, &[0xd2, 0xe0], 8).flags, AF | OF | CF, "shl al, 8");
        assert_eq!(after(0, &[0xd2, 0xf8], 8).flags, AF | OF, "sar al, 8");
        assert_eq!(after(0, &[0xd3, 0xc0], 2).flags, OF, "rol eax, 2");
        assert_eq!(after(CF, &[0xc0, 0xd0, 18], 0).flags, CF | OF, "rcl al, 18");
        assert!(
            !after(0, &[0x66, 0x0f, 0xa5, 0xc8], 16).everything,
            "shld 16"
        );
        assert!(
            after(0, &[0x66, 0x0f, 0xa5, 0xc8], 17).everything,
            "shld 17"
        );
    }

    #[test]
    fn reading_an_undefined_flag_ends_comparison() {
        assert!(after(CF, &[0x11, 0xc0], 0).everything, "adc");
        assert!(after(OF, &[0x9c], 0).everything, "pushf");
        assert!(after(AF, &[0x9f], 0).everything, "lahf");
        assert!(!after(OF, &[0x9f], 0).everything, "lahf does not store OF");
        assert!(after(ZF, &[0x74, 0x00], 0).everything, "je");
        assert!(!after(CF, &[0xd3, 0xd0], 0).everything, "rcl eax, 0");
    }
}
