//! Every compiled tier against the interpreter, on random code in random modes.
//!
//! `RING1_BLOCKS=N` compares N block boundaries for each tier; `RING1_SEED=N,…`
//! runs these seeds, one after the other.

use runtime::config::Tier;
use tests::lockstep::Lockstep;

/// Block boundaries compared unless asked otherwise.
const BLOCKS: usize = 3000;
/// Names the seeds to run.
const SEEDS: &str = "RING1_SEED";

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// All, or those that were asked for.
fn seeds() -> Box<dyn Iterator<Item = u64>> {
    match std::env::var(SEEDS) {
        Ok(list) => {
            let seeds = list.split(',').map(|seed| seed.trim().parse());
            let seeds: Result<Vec<u64>, _> = seeds.collect();
            Box::new(seeds.expect("seeds are numbers").into_iter())
        }
        Err(_) => Box::new(0..),
    }
}

fn compare(tier: Tier) {
    let blocks = number("RING1_BLOCKS").map_or(BLOCKS, |n| n as usize);
    let mut lockstep = Lockstep::new(tier);
    let (mut differences, mut compared, mut compiled) = (Vec::new(), 0, 0);
    for seed in seeds() {
        if let Err(difference) = lockstep.run(seed) {
            differences.push(difference);
            // After a difference the machines may disagree for good.
            compared += lockstep.compared;
            compiled += lockstep.compiled;
            lockstep = Lockstep::new(tier);
        }
        if compared + lockstep.compared >= blocks || differences.len() >= 5 {
            break;
        }
    }
    compared += lockstep.compared;
    compiled += lockstep.compiled;
    let shown = differences.join("\n");
    assert!(
        differences.is_empty(),
        "{tier:?} of {compared} blocks:\n{shown}"
    );
    let share = compiled as f64 / compared as f64;
    println!("{tier:?}: {compared} blocks, {share:.3} compiled");
    // The direct tier leaves 16-bit code to the interpreter.
    let least = if tier.pins_direct_code() { 0.25 } else { 0.6 };
    let asked_for = std::env::var_os(SEEDS).is_some();
    assert!(asked_for || share > least, "only {share:.3} were compiled");
}

#[test]
fn cranelift_code_does_what_the_interpreter_does() {
    compare(Tier::Cranelift);
}

#[test]
fn direct_code_does_what_the_interpreter_does() {
    compare(Tier::Direct);
}

#[test]
fn mirrored_code_does_what_the_interpreter_does() {
    compare(Tier::Mirror);
}
