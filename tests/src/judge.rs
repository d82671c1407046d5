//! Compares a tier with the host CPU, and makes a disagreement small and readable.
//!
//! Equal results need no thought. Different ones are looked at again: the host
//! CPU single-steps the sequence, which shows the instructions executed and the
//! values they had, and [`undefined`](crate::undefined) says what of the
//! difference the manual allows. What is left is a fault of the tier; the
//! sequence is then shortened as long as it still shows one.

use crate::case::{Case, Subject};
use crate::silicon::Silicon;
use crate::state::{DATA_BASE, Outcome, Run, STACK_BASE, State, fxsave};
use crate::undefined::Undefined;
use iced_x86::Mnemonic;
use std::fmt;

/// EFLAGS bits compared: the arithmetic flags, DF, NT, AC and ID. TF and RF
/// belong to the way of running, IF and IOPL to the kernel.
const COMPARED_FLAGS: u32 = 0x0024_4cd5;
/// Instructions followed when a difference is looked at.
const TRACE_LIMIT: usize = 4096;
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

/// A disagreement, for people to read.
pub struct Difference {
    /// The sequence, shortened if [`Judge::check`] made this.
    pub case: Case,
    /// One line for each thing that differs.
    pub lines: Vec<String>,
    /// Both outcomes.
    pub outcomes: (Outcome, Outcome),
}

/// The host CPU and what it needs to judge.
pub struct Judge {
    silicon: Silicon,
}

impl Subject for Silicon {
    fn run(&mut self, case: &Case) -> Run {
        self.load(case);
        self.run_all(&case.code, &case.entry)
    }
}

impl Silicon {
    fn load(&mut self, case: &Case) {
        let (data, stack) = self.arenas();
        case.fill(data, stack);
    }
}

impl Judge {
    /// `None` on hosts that cannot run 32-bit code.
    pub fn new() -> Option<Judge> {
        Silicon::new().map(|silicon| Judge { silicon })
    }

    /// Runs `case` on both sides; a difference comes back shortened.
    pub fn check(&mut self, case: &Case, subject: &mut dyn Subject) -> Verdict {
        match self.compare(case, subject) {
            Verdict::Differ(_) => {
                let small = self.shrink(case, subject);
                self.compare(&small, subject)
            }
            verdict => verdict,
        }
    }

    /// Runs `case` on both sides as it is.
    pub fn compare(&mut self, case: &Case, subject: &mut dyn Subject) -> Verdict {
        let host = Subject::run(&mut self.silicon, case);
        if runs_data(&host.outcome) || host.outcome == Outcome::Hung {
            return Verdict::Skipped;
        }
        let tier = subject.run(case);
        let everything_defined = Allowed::default();
        if compare(case, &host, &tier, &everything_defined).is_none() {
            return Verdict::Agree;
        }
        let allowed = self.allowed(case);
        if allowed.undefined.everything || allowed.any_byte && at_the_end(&host.outcome) {
            return Verdict::Skipped;
        }
        match compare(case, &host, &tier, &allowed) {
            None => Verdict::Agree,
            Some(difference) => Verdict::Differ(Box::new(difference)),
        }
    }

    /// What the manual leaves open at the end of `case`.
    fn allowed(&mut self, case: &Case) -> Allowed {
        self.silicon.load(case);
        let states = self.silicon.trace(&case.code, &case.entry, TRACE_LIMIT);
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
        }
        let last = last.map_or(INVALID, |insn| insn.mnemonic());
        Allowed {
            undefined,
            partial_stores: matches!(last, Pusha | Pushad | Enter | Maskmovq | Maskmovdqu),
            partial_loads: matches!(last, Popa | Popad),
            either_operand: matches!(last, Cmpsb | Cmpsw | Cmpsd),
            any_byte: matches!(last, Fldenv | Frstor | Fnstenv | Fnsave),
        }
    }

    /// Leaves out instructions and sets registers to plain values, as long as
    /// the sequence still shows a difference.
    fn shrink(&mut self, case: &Case, subject: &mut dyn Subject) -> Case {
        let mut best = case.clone();
        let mut differs = |candidate: &Case| {
            is_harmless(candidate) && matches!(self.compare(candidate, subject), Verdict::Differ(_))
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

/// A page fault so far up that the rest of a large operand is beyond the
/// segment's limit: which comes first is up to the CPU.
fn at_the_end(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Trap { vector: 14, addr, .. } if *addr >= 0xffff_ff00)
}

/// What may differ.
#[derive(Default)]
pub struct Allowed {
    /// Undefined results.
    pub undefined: Undefined,
    /// The last instruction faulted and may have stored part of its data.
    pub partial_stores: bool,
    /// It faulted and may have loaded part of the general registers.
    pub partial_loads: bool,
    /// Which byte of its operand in the absent page it meets first is up to the CPU.
    pub any_byte: bool,
    /// It has two memory operands and either may be the one that faulted.
    pub either_operand: bool,
}

/// Lists what differs between two runs of `case` and is not `allowed` to.
pub fn compare(case: &Case, host: &Run, tier: &Run, allowed: &Allowed) -> Option<Difference> {
    let mut lines = Vec::new();
    let seen = |run: &Run| comparable(run.outcome, allowed);
    if seen(host) != seen(tier) {
        lines.push(format!(
            "outcome  {}  {}",
            Shown(host.outcome),
            Shown(tier.outcome)
        ));
    }
    let names = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
    let pairs = host.state.gpr.iter().zip(&tier.state.gpr);
    let loaded = |name: &str| allowed.partial_loads && name != "esp";
    for (name, (h, t)) in names.iter().zip(pairs).filter(|(_, (h, t))| h != t) {
        if loaded(name) {
            continue;
        }
        lines.push(format!("{name}      {h:08x}  {t:08x}"));
    }
    if host.state.eip != tier.state.eip {
        lines.push(format!(
            "eip      {:08x}  {:08x}",
            host.state.eip, tier.state.eip
        ));
    }
    let compared = COMPARED_FLAGS & !allowed.undefined.flags;
    if (host.state.eflags ^ tier.state.eflags) & compared != 0 {
        let (h, t) = (host.state.eflags & compared, tier.state.eflags & compared);
        lines.push(format!("eflags   {h:08x}  {t:08x}  {}", flag_names(h ^ t)));
    }
    compare_fxsave(&host.state.fxsave, &tier.state.fxsave, &mut lines);
    if !allowed.partial_stores {
        compare_memory(DATA_BASE, &host.data, &tier.data, &mut lines);
        compare_memory(STACK_BASE, &host.stack, &tier.stack, &mut lines);
    }
    (!lines.is_empty()).then(|| Difference {
        case: case.clone(),
        lines,
        outcomes: (host.outcome, tier.outcome),
    })
}

/// Whether a fetch is told apart depends on execute-disable being in use.
fn comparable(outcome: Outcome, allowed: &Allowed) -> Outcome {
    match outcome {
        Outcome::Trap {
            vector: 14,
            error,
            addr,
        } => Outcome::Trap {
            vector: 14,
            error: error & !FETCH,
            addr: match () {
                () if allowed.either_operand => 0,
                () if allowed.partial_loads || allowed.partial_stores || allowed.any_byte => {
                    addr & !0xfff
                }
                () => addr,
            },
        },
        other => other,
    }
}

/// The fields 32-bit code can see, without the x87 instruction and data pointers.
fn compare_fxsave(host: &[u8; 512], tier: &[u8; 512], lines: &mut Vec<String>) {
    let fixed = [
        ("fcw", fxsave::FCW, 2),
        ("fsw", fxsave::FSW, 2),
        ("ftw", fxsave::FTW, 1),
        ("mxcsr", fxsave::MXCSR, 4),
    ];
    let mut fields: Vec<(String, usize, usize)> = fixed
        .map(|(name, at, size)| (name.to_string(), at, size))
        .to_vec();
    if host[..fxsave::END] == tier[..fxsave::END] {
        return;
    }
    for i in 0..8 {
        fields.push((format!("st{i}"), fxsave::ST + 16 * i, 10));
        fields.push((format!("xmm{i}"), fxsave::XMM + 16 * i, 16));
    }
    for (name, at, size) in fields {
        let (h, t) = (&host[at..at + size], &tier[at..at + size]);
        if h != t {
            lines.push(format!("{name:<8} {}  {}", hex(h), hex(t)));
        }
    }
}

/// A little-endian value, most significant byte first.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|b| format!("{b:02x}")).collect()
}

fn compare_memory(base: u32, host: &[u8], tier: &[u8], lines: &mut Vec<String>) {
    if host == tier {
        return;
    }
    let differing = (0..host.len()).filter(|&i| host.get(i) != tier.get(i));
    for i in differing.take(16) {
        let t = tier.get(i).map_or("--".into(), |b| format!("{b:02x}"));
        lines.push(format!("[{:08x}] {:02x}  {t}", base as usize + i, host[i]));
    }
}

fn flag_names(flags: u32) -> String {
    let table = [
        (0, "CF"),
        (2, "PF"),
        (4, "AF"),
        (6, "ZF"),
        (7, "SF"),
        (10, "DF"),
        (11, "OF"),
        (14, "NT"),
        (18, "AC"),
        (21, "ID"),
    ];
    let set = table.iter().filter(|(bit, _)| flags >> bit & 1 != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

struct Shown(Outcome);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Outcome::Trap {
                vector: 14,
                error,
                addr,
            } => write!(f, "#PF({error:x}) at {addr:08x}"),
            Outcome::Trap { vector, error, .. } => write!(f, "vector {vector} ({error:x})"),
            Outcome::Hung => f.write_str("hung"),
            Outcome::Stopped => f.write_str("stopped"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.case)?;
        let entry = &self.case.entry;
        writeln!(
            f,
            "  entry: eax {:08x} ecx {:08x} edx {:08x} ebx {:08x} esp {:08x} ebp {:08x} esi {:08x} edi {:08x} eflags {:08x}",
            entry.gpr[0],
            entry.gpr[1],
            entry.gpr[2],
            entry.gpr[3],
            entry.gpr[4],
            entry.gpr[5],
            entry.gpr[6],
            entry.gpr[7],
            entry.eflags,
        )?;
        let (host, tier) = self.outcomes;
        writeln!(f, "  ended: host {}, tier {}", Shown(host), Shown(tier))?;
        writeln!(f, "  differs (host, then tier):")?;
        self.lines
            .iter()
            .try_for_each(|line| writeln!(f, "    {line}"))
    }
}
