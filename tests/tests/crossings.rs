//! System calls and their ways back, in every tier, while what decides them changes.
//!
//! Direct code takes a way that has been taken before by itself. The guest here makes the
//! same calls over and over, by INT 80h and SYSENTER, with a load of FS in the kernel, and
//! after some of them changes one thing: a byte of gate or descriptor, a table, the TSS, an
//! MSR, a flag, an address space. What goes wrong then raises an exception, whose handler
//! puts everything right and tries again. All that the kernel finds on its stack and all
//! exceptions are summed up; the interpreter is right.

use iced_x86::Mnemonic;
use runtime::config::Tier;
use runtime::loader::FlatMode;
use tests::crossings::{RESULT, START, image};
use tests::machine::{Setup, agree};

#[test]
fn a_way_that_was_taken_before_may_lead_elsewhere() {
    agree(&image(), START, RESULT, "a guest that makes system calls");
}

/// Most calls must go that way, or the guest shows nothing.
#[test]
fn direct_code_takes_most_ways_by_itself() {
    use Mnemonic as M;
    let callouts = |tier| {
        let ended = Setup::flat(&image(), START, FlatMode::Protected32, tier).run();
        let count = |m| ended.vm.cpu.callout_counts[m as usize];
        [M::Int, M::Iretd, M::Sysenter, M::Sysexit, M::Stac, M::Clac].map(count)
    };
    if !runtime::native::direct_supported() {
        return;
    }
    let all = callouts(Tier::Cranelift);
    let rest = callouts(Tier::Direct);
    assert!(all.iter().zip(rest).all(|(all, rest)| rest < all / 2));
}
