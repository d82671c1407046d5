//! memtest86+, a whole program that needs no more than a Pentium.
//!
//! It is that of `samples/debian.sh --fetch-only`, as in `boot.rs`; without it the
//! test passes and says that it was skipped. The program draws on the serial line:
//! text is where the cursor goes.

use runtime::config::Tier;
use runtime::cpu_model::Processor;
use runtime::exit::Exit;
use std::time::Duration;
use tests::images::debian_folder;
use tests::machine::{Setup, Step};

/// Host time for one run; an idle machine takes a tenth of it.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The last of its tests waits 80 seconds for bits to fade; before it come ten that
/// write patterns to all of memory. Escape ends the program, which resets the machine.
const TO_THE_LAST_TEST: [Step; 1] = [("Bit fade", b"\x1b")];

#[test]
fn memtest_finds_no_error_on_any_processor_that_it_runs_on() {
    let Ok(kernel) = std::fs::read(debian_folder().join("memtest86+")) else {
        eprintln!("SKIPPED: no memtest86+; samples/debian.sh --fetch-only fetches it");
        return;
    };
    let processors = [
        (Processor::Pentium, "| Pentium "),
        (Processor::Pentium3, "| Pentium III "),
        (Processor::Max, "| ring1 virtual CPU "),
    ];
    for (cpu, name) in processors {
        let setup = Setup {
            cpu,
            append: "console=ttyS0,115200",
            memory_mib: 8,
            timeout: TIMEOUT,
            script: &TO_THE_LAST_TEST,
            ..Setup::new(&kernel, Tier::Auto)
        };
        let ended = setup.run();
        let context = format!("{cpu:?}: {:?}\n{}", ended.exit, ended.serial);
        assert_eq!(ended.exit, Exit::Reset, "{context}");
        assert!(ended.serial.contains(name), "{context}");
        let counts = ended.serial.split("Errors: ").skip(1);
        let errors = counts.filter(|count| !count.starts_with("0 "));
        assert_eq!(errors.count(), 0, "{context}");
    }
}
