//! Compares tiers with the host CPU, and makes a disagreement small and readable.
//!
//! Equal results need no thought. Different ones are looked at again: the oracle
//! single-steps the sequence, which shows the instructions executed and the
//! values they had, and [`undefined`](crate::selftest::undefined) says what of the
//! difference the manual allows. What is left is a fault of the tier; the
//! sequence is then shortened as long as it still shows one.
//!
//! Where the host cannot run 32-bit code, the interpreter takes its place: then
//! the tiers are held to each other, and what they have in common goes unseen.

use crate::config::Tier;
use crate::selftest::case::{Case, Oracle, Subject};
use crate::selftest::difference::{Allowed, Difference, agree, rows};
use crate::selftest::guest::Guest;
use crate::selftest::state::{Outcome, Run, State};
use crate::selftest::undefined::Undefined;
use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

/// Instructions followed when a difference is looked at.
const TRACE_LIMIT: usize = 4096;
/// Numbers of registers.
const ESI: usize = 6;
const EDI: usize = 7;
/// Page-fault error code bits: present, and instruction fetch.
const PRESENT: u32 = 1;
const FETCH: u32 = 16;

/// What a comparison found.
pub enum Verdict {
    /// Same results, as far as they are defined.
    Agree,
    /// The sequence says nothing: it depends on something undefined.
    Skipped,
    /// Different results.
    Differ(Box<Difference>),
}

/// Something judged, with the name that reports give it.
pub struct Side<'a> {
    /// Such as `interp`.
    pub name: &'static str,
    /// What runs the cases.
    pub subject: &'a mut dyn Subject,
}

/// An oracle and what it needs to judge.
pub struct Judge {
    oracle: Box<dyn Oracle>,
    /// The name that reports give the oracle.
    pub name: &'static str,
}

impl Judge {
    /// The host CPU as oracle. `None` on hosts that cannot run 32-bit code.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub fn new() -> Option<Judge> {
        Some(Judge {
            oracle: Box::new(crate::selftest::silicon::Silicon::new()?),
            name: "host",
        })
    }

    /// The host CPU as oracle: not on this host.
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    pub fn new() -> Option<Judge> {
        None
    }

    /// The interpreter as oracle.
    ///
    /// # Errors
    /// What the host refuses the machine.
    pub fn interpreter() -> anyhow::Result<Judge> {
        Ok(Judge {
            oracle: Box::new(Guest::new(Tier::Interp)?),
            name: "interp",
        })
    }

    /// Runs `case` on all sides; a difference comes back shortened.
    pub fn check(&mut self, case: &Case, sides: &mut [Side]) -> Verdict {
        match self.compare(case, sides) {
            Compared::Agree => Verdict::Agree,
            Compared::Skipped => Verdict::Skipped,
            Compared::Differs(index) => {
                let small = self.shrink(case, &mut sides[index..=index]);
                Verdict::Differ(Box::new(self.report(small, sides)))
            }
        }
    }

    /// Runs `case` on all sides as it is.
    fn compare(&mut self, case: &Case, sides: &mut [Side]) -> Compared {
        let right = self.oracle.run(case);
        if runs_data(&right.outcome) || right.outcome == Outcome::Hung {
            return Compared::Skipped;
        }
        let mut allowed = None;
        for (index, side) in sides.iter_mut().enumerate() {
            let run = side.subject.run(case);
            if agree(&right, &run, &Allowed::default()) {
                continue;
            }
            let allowed = allowed.get_or_insert_with(|| match straight_on(case, &right) {
                Some(undefined) => Allowed {
                    undefined,
                    ..Allowed::default()
                },
                None => self.allowed(case),
            });
            if allowed.undefined.everything {
                return Compared::Skipped;
            }
            if !agree(&right, &run, allowed) {
                return Compared::Differs(index);
            }
        }
        Compared::Agree
    }

    /// What every side makes of a case in which one is known to differ.
    fn report(&mut self, case: Case, sides: &mut [Side]) -> Difference {
        let allowed = self.allowed(&case);
        let mut runs: Vec<(&str, Run)> = vec![(self.name, self.oracle.run(&case))];
        runs.extend(sides.iter_mut().map(|s| (s.name, s.subject.run(&case))));
        Difference {
            rows: rows(&runs, &allowed),
            names: runs.iter().map(|(name, _)| *name).collect(),
            case,
        }
    }

    /// What the manual leaves open at the end of `case`.
    fn allowed(&mut self, case: &Case) -> Allowed {
        let states = self.oracle.trace(case, TRACE_LIMIT);
        let mut undefined = Undefined::default();
        // The last state is the exception's, the one before it that of the
        // instruction which raised it.
        let (executed, raising) = states.split_at(states.len().saturating_sub(2));
        for state in executed {
            if let Some(insn) = case.instruction_at(state.eip) {
                undefined.step(&insn, Some(state));
            }
        }
        use Mnemonic::*;
        let before = raising.first();
        let last = before.and_then(|state| case.instruction_at(state.eip));
        if let Some(insn) = &last {
            undefined.everything |= undefined.reads_undefined(insn, before);
            undefined.everything |= before.is_some_and(|state| wraps_in_parts(insn, state));
            // These leave flags undefined, and do not say that they do not if they fault.
            if matches!(insn.mnemonic(), Div | Idiv) {
                undefined.step(insn, before);
            }
        }
        let either_fault =
            matches!((&last, before), (Some(insn), Some(state)) if wraps_one(insn, state));
        let last = last.map_or(INVALID, |insn| insn.mnemonic());
        let any_part = in_parts(last);
        Allowed {
            undefined,
            partial_stores: matches!(last, Pusha | Pushad | Enter | Maskmovq | Maskmovdqu),
            partial_loads: matches!(last, Popa | Popad),
            any_part,
            any_page: any_part && case.read_only_page.is_some(),
            either_operand: compares_two(last),
            either_fault,
        }
    }

    /// Leaves out instructions and sets registers to plain values, as long as
    /// the sequence still shows a difference, and ends by the same exception.
    fn shrink(&mut self, case: &Case, side: &mut [Side]) -> Case {
        let mut best = case.clone();
        let ended = exception(&self.oracle.run(case));
        let mut differs = |candidate: &Case| {
            is_harmless(candidate)
                && matches!(self.compare(candidate, side), Compared::Differs(_))
                && exception(&self.oracle.run(candidate)) == ended
        };
        let mut index = 0;
        while index < best.instructions().len() {
            let candidate = best.without(index);
            match differs(&candidate) {
                true => {
                    best = candidate;
                    index = 0;
                }
                false => index += 1,
            }
        }
        let plain = State::new();
        for register in (0..8).filter(|&r| r != 4) {
            let mut candidate = best.clone();
            candidate.entry.gpr[register] = plain.gpr[register];
            if differs(&candidate) {
                best = candidate;
            }
        }
        for image in [true, false] {
            let mut candidate = best.clone();
            match image {
                true => candidate.entry.fxsave = plain.fxsave,
                false => candidate.entry.eflags = plain.eflags,
            }
            if differs(&candidate) {
                best = candidate;
            }
        }
        best
    }
}

/// What running a case as it is shows.
enum Compared {
    Agree,
    Skipped,
    /// The side with this number differs from the oracle.
    Differs(usize),
}

/// Whether the instruction accesses its operand in several parts: the manual does
/// not say which is first.
fn in_parts(m: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(m, Pusha | Pushad | Popa | Popad | Enter)
        || matches!(
            m,
            Retf | Iret | Iretd | Jmp | Call | Lds | Les | Lfs | Lgs | Lss
        )
        || matches!(m, Fldenv | Fnstenv | Frstor | Fnsave | Fxsave | Fxrstor)
        || matches!(m, Maskmovq | Maskmovdqu)
}

/// Whether the instruction compares two memory operands: the manual does not say
/// which is read first.
fn compares_two(m: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(m, Cmpsb | Cmpsw | Cmpsd)
}

/// Whether the instruction compares two memory operands, one of which goes round the
/// end of the address space.
fn wraps_one(insn: &Instruction, before: &State) -> bool {
    let bytes = insn.memory_size().size() as u32;
    let wraps = |n: usize| before.gpr[n] > 0u32.wrapping_sub(bytes);
    compares_two(insn.mnemonic()) && wraps(ESI) != wraps(EDI)
}

/// Whether the instruction has an operand larger than any single access, or
/// written byte by byte, that goes round the end of the address space: whether its
/// first part or the limit is looked at first, the manual does not say. (Other
/// vectors are aligned.)
fn wraps_in_parts(insn: &Instruction, before: &State) -> bool {
    let masked = matches!(insn.mnemonic(), Mnemonic::Maskmovq | Mnemonic::Maskmovdqu);
    let bytes = insn.memory_size().size() as u32;
    if !masked && (bytes <= 8 || bytes == 16) {
        return false;
    }
    let register = |register: Register, _, _| match register.is_gpr32() {
        true => Some(u64::from(before.gpr[register.number()])),
        false => Some(0),
    };
    let is_memory = |&n: &u32| matches!(insn.op_kind(n), OpKind::Memory | OpKind::MemorySegEDI);
    let memory = (0..insn.op_count()).find(is_memory);
    let address = memory.and_then(|n| insn.virtual_address(n, 0, register));
    address.is_some_and(|a| (a as u32).checked_add(bytes - 1).is_none())
}

/// The vector that ended a run.
fn exception(run: &Run) -> Option<u8> {
    match run.outcome {
        Outcome::Trap { vector, .. } => Some(vector),
        _ => None,
    }
}

/// What is undefined at the end of a sequence that ran to its end, if its bytes
/// alone tell: without branches, repeat counts and shift counts in CL. It saves
/// the single steps, which cost more than all the rest.
fn straight_on(case: &Case, run: &Run) -> Option<Undefined> {
    let end = case.entry.eip.wrapping_add(case.code.len() as u32);
    if run.outcome != Outcome::END || run.state.eip != end {
        return None;
    }
    let mut undefined = Undefined::default();
    for insn in case.instructions() {
        let by_cl = (1..insn.op_count()).any(|n| insn.op_register(n) == Register::CL);
        if insn.flow_control() != FlowControl::Next || insn.is_string_instruction() || by_cl {
            return None;
        }
        undefined.step(&insn, None);
    }
    Some(undefined)
}

/// Without the PUSH before it, a POPF may load TF, which no tier need know.
fn is_harmless(case: &Case) -> bool {
    let instructions = case.instructions();
    let popf = |m| matches!(m, Mnemonic::Popf | Mnemonic::Popfd);
    let mut before = None;
    instructions.iter().all(|insn| {
        let fine = !popf(insn.mnemonic()) || before == Some(Mnemonic::Push);
        before = Some(insn.mnemonic());
        fine
    })
}

/// The host refused to fetch from a present page: it is data, which a guest
/// without execute-disable would run.
fn runs_data(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Trap { vector: 14, error, .. } if error & (PRESENT | FETCH) == PRESENT | FETCH)
}
