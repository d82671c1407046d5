//! The generator and the judge themselves.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use runtime::selftest::case::{Case, Family, Subject};
use runtime::selftest::generate::Generator;
use runtime::selftest::judge::{Judge, Side, Verdict};
use runtime::selftest::silicon::Silicon;
use runtime::selftest::state::{CODE_BASE, DATA_BYTES, Outcome, Run, STACK_BYTES, State};
use std::collections::HashSet;

/// A tier that knows `INC r32` only, and forgets the flags of `INC EDX`.
struct Incrementer;

impl Subject for Incrementer {
    fn run(&mut self, case: &Case) -> Run {
        let mut state = case.entry;
        for byte in &case.code {
            let register = usize::from(byte & 7);
            let value = state.gpr[register].wrapping_add(1);
            state.gpr[register] = value;
            state.eip += 1;
            if register == 2 {
                continue;
            }
            let flags = u32::from(value == 0) << 6
                | (value >> 31) << 7
                | u32::from(value & 15 == 0) << 4
                | u32::from((value as u8).count_ones().is_multiple_of(2)) << 2
                | u32::from(value == 0x8000_0000) << 11;
            state.eflags = state.eflags & !0x8d4 | flags;
        }
        let mut run = Run {
            state,
            outcome: Outcome::END,
            data: vec![0; DATA_BYTES],
            stack: vec![0; STACK_BYTES],
        };
        case.fill(&mut run.data, &mut run.stack);
        run
    }
}

/// The side that is judged.
fn incrementer(subject: &mut Incrementer) -> Side<'_> {
    Side {
        name: "wrong",
        subject,
    }
}

fn case(code: &[u8]) -> Case {
    Case {
        code: code.to_vec(),
        entry: State::new(),
        data_seed: 1,
        patches: Vec::new(),
        read_only_page: None,
        family: Family::Arith,
        seed: 0,
    }
}

#[test]
fn a_right_tier_agrees() {
    let Some(mut judge) = Judge::new() else {
        return;
    };
    let verdict = judge.check(
        &case(&[0x40, 0x41, 0x47]),
        &mut [incrementer(&mut Incrementer)],
    );
    assert!(matches!(verdict, Verdict::Agree));
}

#[test]
fn a_wrong_tier_is_shown_the_shortest_sequence() {
    let Some(mut judge) = Judge::new() else {
        return;
    };
    let mut wrong = case(&[0x40, 0x43, 0x41, 0x42]);
    wrong.entry.gpr[2] = 0xffff_ffff;
    wrong.entry.gpr[7] = 5;
    let Verdict::Differ(difference) = judge.check(&wrong, &mut [incrementer(&mut Incrementer)])
    else {
        panic!("the tier is wrong");
    };
    assert_eq!(difference.case.code, [0x42]);
    assert_eq!(difference.case.entry.gpr[7], 0);
    let report = difference.to_string();
    assert!(report.contains("inc edx"), "{report}");
    assert!(report.contains("eflags"), "{report}");
}

/// A tier that raises the exception whatever it is given.
struct Raises(u8, State);

impl Subject for Raises {
    fn run(&mut self, case: &Case) -> Run {
        let outcome = Outcome::Trap {
            vector: self.0,
            error: 0,
            addr: 0,
        };
        let mut run = Run {
            state: self.1,
            outcome,
            data: vec![0; DATA_BYTES],
            stack: vec![0; STACK_BYTES],
        };
        case.fill(&mut run.data, &mut run.stack);
        run
    }
}

#[test]
fn either_operand_of_cmps_may_fault_first() {
    let Some(mut judge) = Judge::new() else {
        return;
    };
    // CMPSD, of which one operand goes round the end and the other is absent.
    let mut both = case(&[0xa7]);
    (both.entry.gpr[6], both.entry.gpr[7]) = (0xffff_fffe, 0);
    let mut absent = both.clone();
    absent.entry.gpr[6] = 4;
    for (case, vector, agrees) in [
        (&both, 13, true),
        (&both, 14, true),
        (&both, 6, false),
        (&absent, 13, false),
    ] {
        let mut raises = Raises(vector, case.entry);
        let side = Side {
            name: "raises",
            subject: &mut raises,
        };
        let verdict = judge.check(case, &mut [side]);
        assert_eq!(matches!(verdict, Verdict::Agree), agrees, "{vector}");
    }
}

#[test]
fn a_case_without_an_instruction_keeps_its_branches() {
    // jmp +2 (to the last inc); inc eax; inc ecx; inc edx
    let shorter = case(&[0xeb, 0x02, 0x40, 0x41, 0x42]).without(1);
    assert_eq!(shorter.code, [0xeb, 0x01, 0x41, 0x42]);
    let shorter = case(&[0xeb, 0x02, 0x40, 0x41, 0x42]).without(3);
    assert_eq!(shorter.code, [0xeb, 0x02, 0x40, 0x41]);
}

#[test]
fn a_seed_always_makes_the_same_case() {
    let generator = Generator::new(&Family::ALL);
    for seed in 0..100 {
        let (one, two) = (generator.case(seed), generator.case(seed));
        assert_eq!(one.code, two.code);
        assert!(one.entry == two.entry);
        assert_eq!(one.data_seed, two.data_seed);
    }
}

#[test]
fn every_instruction_is_drawn() {
    let generator = Generator::new(&Family::ALL);
    let mut missing: HashSet<_> = generator.codes().collect();
    let (codes, mut seed) = (missing.len(), 0);
    while !missing.is_empty() && seed < 200_000 {
        for insn in generator.case(seed).instructions() {
            missing.remove(&insn.code());
        }
        seed += 1;
    }
    println!("{codes} instructions after {seed} sequences");
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn most_sequences_run_to_their_end_and_none_hangs() {
    let Some(mut cpu) = Silicon::new() else {
        return;
    };
    let generator = Generator::new(&Family::ALL);
    let mut ended = 0;
    for seed in 0..20_000 {
        let case = generator.case(seed);
        let run = Subject::run(&mut cpu, &case);
        assert_ne!(run.outcome, Outcome::Hung, "{case}");
        let end = case.entry.eip + case.code.len() as u32;
        ended += usize::from(run.outcome == Outcome::END && run.state.eip == end);
    }
    println!("{ended} of 20000 ran to their end");
    assert!(ended > 15_000);
}

#[test]
fn single_steps_lead_to_the_same_end() {
    let Some(mut cpu) = Silicon::new() else {
        return;
    };
    let generator = Generator::new(&[
        Family::Arith,
        Family::Shift,
        Family::Strings,
        Family::Branch,
    ]);
    for seed in 0..5_000 {
        let case = generator.case(seed);
        let run = Subject::run(&mut cpu, &case);
        let (data, stack) = cpu.arenas();
        case.fill(data, stack);
        let states = cpu.trace(&case.code, &case.entry, 40_000);
        let last = states[states.len() - 1];
        assert_eq!(last.gpr, run.state.gpr, "{case}");
        assert_eq!(last.eip, run.state.eip, "{case}");
        assert_eq!(
            last.eflags | 0x1_0000,
            run.state.eflags | 0x1_0000,
            "{case}"
        );
        assert!(states[0].eip >= CODE_BASE);
    }
}
