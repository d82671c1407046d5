//! How fast warm guest code runs in each tier: elements are guest instructions.
//!
//! Both tiers must count the same instructions, and exactly those that the
//! integer loop has; a figure per instruction is worth nothing otherwise.

use benches::cpu_time::CpuTime;
use benches::guest::{Guest, Ring};
use benches::programs::{self, Program};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use runtime::config::Tier;

const TIERS: [(&str, Tier); 2] = [("interp", Tier::Interp), ("cranelift", Tier::Cranelift)];

/// Retired by the integer loop: the first MOV, 12 a round, HLT.
fn integer_loop_retires(rounds: u32) -> u64 {
    2 + 12 * u64::from(rounds)
}

/// Instructions of one run, the same in both tiers and in cold and warm code.
fn retired(program: &Program) -> u64 {
    let counts: Vec<u64> = TIERS
        .iter()
        .flat_map(|&(_, tier)| {
            let mut guest = Guest::new(tier, Ring::Kernel, &program.code);
            [guest.run(program.rounds), guest.run(program.rounds)]
        })
        .collect();
    let first = counts[0];
    assert!(
        counts.iter().all(|&n| n == first),
        "{}: {counts:?}",
        program.name
    );
    first
}

fn execute_benches(c: &mut Criterion<CpuTime>) {
    for program in programs::all() {
        let count = retired(&program);
        if program.name == "integer loop" {
            assert_eq!(count, integer_loop_retires(program.rounds));
        }
        let mut group = c.benchmark_group(program.name);
        group.throughput(Throughput::Elements(count));
        for (name, tier) in TIERS {
            let mut guest = Guest::new(tier, Ring::Kernel, &program.code);
            guest.run(program.rounds);
            group.bench_function(name, |b| b.iter(|| guest.run(program.rounds)));
        }
    }
}

criterion_group! {
    name = execute;
    config = Criterion::default().with_measurement(CpuTime);
    targets = execute_benches
}
criterion_main!(execute);
