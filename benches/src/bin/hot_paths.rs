//! One hot path, run by its name, for callgrind to count: `tests/callgrind.rs`.
//!
//! All but cold code runs once before, so that what is counted, [`measured`], is
//! the path alone: no decoding, no page for the first time. A run without a name
//! lists them.

use benches::events;
use benches::guest::{Guest, Ring};
use benches::programs;
use memmap2::MmapMut;
use runtime::config::Tier;
use std::process::ExitCode;

/// Rounds of most paths: so many that beginning and end do not count.
const ROUNDS: u32 = 500;
/// Rounds of programs whose round is some thousand instructions.
const LONG_ROUNDS: u32 = 5;

/// A path that guests take often.
struct Path {
    /// The part of ring1 that is meant, and what happens in each round.
    name: &'static str,
    /// The machine whose program takes it.
    machine: fn() -> Guest,
    rounds: u32,
    /// Whether the code has run before it is counted.
    warm: bool,
}

/// The paths: the interpreter, and the run loop with its lookups, callouts and
/// exits around direct code.
const PATHS: &[Path] = &[
    warm("interpreter: arithmetic", || {
        program(Tier::Interp, "integer loop")
    }),
    long("interpreter: memory", || program(Tier::Interp, "copy loop")),
    warm("interpreter: calls", || {
        program(Tier::Interp, "call and return")
    }),
    warm("interpreter: branches", || {
        program(Tier::Interp, "branches")
    }),
    warm("interpreter: system call", || {
        events::software_interrupt(Tier::Interp)
    }),
    warm("dispatcher: callout", || events::callout(Tier::Direct)),
    warm("dispatcher: port", || events::port(Tier::Direct)),
    warm("dispatcher: side exit", || events::side_exit(Tier::Direct)),
    warm("dispatcher: indirect call", || {
        events::indirect_call(Tier::Direct)
    }),
    warm("dispatcher: INT 80h", || {
        events::software_interrupt(Tier::Direct)
    }),
    warm("dispatcher: SYSENTER", || events::fast_call(Tier::Direct)),
    Path {
        warm: false,
        rounds: 1,
        ..warm("dispatcher: cold code", || {
            program(Tier::Direct, "branches")
        })
    },
];

const fn warm(name: &'static str, machine: fn() -> Guest) -> Path {
    Path {
        name,
        machine,
        rounds: ROUNDS,
        warm: true,
    }
}

const fn long(name: &'static str, machine: fn() -> Guest) -> Path {
    Path {
        rounds: LONG_ROUNDS,
        ..warm(name, machine)
    }
}

fn program(tier: Tier, name: &str) -> Guest {
    let mut programs = programs::all().into_iter();
    let program = programs.find(|program| program.name == name);
    let program = program.expect("it is one of them");
    Guest::new(tier, Ring::Kernel, &program.code)
}

/// Takes all address space below 4 GiB in which guest memory could go: valgrind
/// gives it out first, and shadow entries cannot have it.
fn fill_low_addresses() -> Vec<MmapMut> {
    const CHUNK_BYTES: usize = 8 << 20;
    let mut taken = Vec::new();
    while let Ok(chunk) = MmapMut::map_anon(CHUNK_BYTES) {
        if chunk.as_ptr() as usize >= 1 << 32 {
            break;
        }
        taken.push(chunk);
    }
    taken
}

/// What callgrind counts.
#[inline(never)]
fn measured(guest: &mut Guest, rounds: u32) {
    guest.run(rounds);
}

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        PATHS.iter().for_each(|path| println!("{}", path.name));
        return ExitCode::SUCCESS;
    };
    let Some(path) = PATHS.iter().find(|path| path.name == name) else {
        eprintln!("hot_paths: no path is called {name:?}");
        return ExitCode::FAILURE;
    };
    let low_addresses = fill_low_addresses();
    let mut guest = (path.machine)();
    // What ring1 does once in a process is no part of any path.
    (path.machine)().run(path.rounds);
    drop(low_addresses);
    if path.warm {
        guest.run(path.rounds);
    }
    measured(&mut guest, path.rounds);
    ExitCode::SUCCESS
}
