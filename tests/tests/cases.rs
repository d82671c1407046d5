//! The tables of hand-written cases, on the host CPU: each ends as its row says.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use runtime::selftest::case::Subject;
use runtime::selftest::silicon::Silicon;
use runtime::selftest::state::{CODE_BASE, CODE_BYTES, Outcome, Run};
use tests::cases::{self, Named};

fn ends_as_written(named: &Named, run: &Run) -> bool {
    let end = named.case.entry.eip + named.case.code.len() as u32;
    match named.end {
        Some(expected) => run.outcome == expected,
        None => run.outcome == Outcome::END && run.state.eip == end,
    }
}

#[test]
fn rows_end_as_they_say() {
    let Some(mut cpu) = Silicon::new() else {
        return;
    };
    let mut wrong = Vec::new();
    let all = cases::all();
    for named in &all {
        let run = Subject::run(&mut cpu, &named.case);
        if !ends_as_written(named, &run) {
            wrong.push(format!(
                "{}: {:x?} at {:x}\n{}",
                named.name, run.outcome, run.state.eip, named.case
            ));
        }
    }
    println!("{} rows", all.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn grid_runs() {
    let Some(mut cpu) = Silicon::new() else {
        return;
    };
    let mut count = 0;
    for case in cases::grid() {
        let run = Subject::run(&mut cpu, &case);
        let inside = run.state.eip.wrapping_sub(CODE_BASE) < CODE_BYTES as u32;
        assert!(inside && run.outcome != Outcome::Hung, "{case}");
        count += 1;
    }
    println!("{count} cases");
}
