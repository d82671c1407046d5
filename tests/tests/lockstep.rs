//! Every compiled tier against the interpreter, on random code in random modes.
//!
//! `RING1_BLOCKS=N` compares N block boundaries for each tier; `RING1_SEED=N`
//! runs one seed alone.

use runtime::config::Tier;
use tests::lockstep::Lockstep;

/// Block boundaries compared unless asked otherwise.
const BLOCKS: usize = 3000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn compare(tier: Tier) {
    let blocks = number("RING1_BLOCKS").map_or(BLOCKS, |n| n as usize);
    let seeds = number("RING1_SEED").map_or(0..u64::MAX, |seed| seed..seed + 1);
    let mut lockstep = Lockstep::new(tier);
    let (mut differences, mut compared) = (Vec::new(), 0);
    for seed in seeds {
        if let Err(difference) = lockstep.run(seed) {
            differences.push(difference);
            // After a difference the machines may disagree for good.
            compared += lockstep.compared;
            lockstep = Lockstep::new(tier);
        }
        if compared + lockstep.compared >= blocks || differences.len() >= 5 {
            break;
        }
    }
    let shown = differences.join("\n");
    assert!(
        differences.is_empty(),
        "{tier:?} of {} blocks:\n{shown}",
        lockstep.compared
    );
    let share = lockstep.share_compiled();
    println!(
        "{tier:?}: {} blocks, {share:.3} compiled",
        lockstep.compared
    );
    // The direct tier leaves 16-bit code to the interpreter.
    let least = if tier.pins_direct_code() { 0.1 } else { 0.3 };
    assert!(share > least, "only {share:.3} ran in compiled code");
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
