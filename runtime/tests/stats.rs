//! `--stats` as a user has it: tables or JSON, on standard error or in a file, and a
//! ledger that adds up.

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

fn boot(options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ring1"))
        .args(["boot", "--code-cache", "off"])
        .args(options)
        .output()
        .expect("the program runs")
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ring1-stats-{}-{name}", std::process::id()))
}

#[test]
fn the_ledger_adds_up_in_every_tier() {
    for tier in ["interp", "cranelift", "direct", "mirror", "auto"] {
        let path = scratch(tier);
        let file = path.to_str().unwrap();
        let output = boot(&[
            "--tier",
            tier,
            "--stats-format",
            "json",
            "--stats-file",
            file,
        ]);
        assert_eq!(output.status.code(), Some(0), "{tier}");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let stats: Value = serde_json::from_str(&text).unwrap();
        let time = &stats["time"];
        let accounts = time["accounts"].as_array().unwrap();
        let sum: u64 = accounts.iter().map(|a| a["cycles"].as_u64().unwrap()).sum();
        assert_eq!(time["cycles"].as_u64(), Some(sum), "{tier}");
        assert!(time["seconds"].as_f64().unwrap() > 0.01, "{tier}");
        let named = |kind: &str, name: &str| {
            let found = accounts
                .iter()
                .find(|a| a["kind"] == kind && a["name"] == name);
            found
                .unwrap_or_else(|| panic!("{tier}: no {kind}, {name}"))
                .clone()
        };
        assert!(named("idle", "asleep in HLT")["cycles"].as_u64() > Some(0));
        let faults = named("events", "exceptions delivered")["count"].clone();
        assert_eq!(faults, stats["events"]["exceptions_vector_14"], "{tier}");
        if tier == "interp" {
            assert_eq!(
                named("guest", "interpreter")["count"],
                stats["execution"]["blocks_interpreted"]
            );
        } else {
            assert_eq!(
                named("callouts", "POP")["count"],
                stats["callouts_from_compiled_code"]["pop"]
            );
            assert!(named("guest", "translated code")["cycles"].as_u64() > Some(0));
        }
    }
}

#[test]
fn tables_are_printed_where_they_are_wanted() {
    let output = boot(&["--stats"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "\nExecution\n",
        "\n  guest instructions  ",
        "\nTime  ",
        "\n    translated code  ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Without being asked, the embedded guest has its counts and no ledger.
    let output = boot(&[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("\nExecution\n") && !text.contains("\nTime  "),
        "{text}"
    );
}

#[test]
fn a_file_that_cannot_be_written_is_an_error() {
    let output = boot(&["--stats-file", "/proc/none/such"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("cannot write the statistics"), "{error}");
}
