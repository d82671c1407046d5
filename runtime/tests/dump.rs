//! `ring1 dump`: its text against golden files, its other formats by parsing them.
//!
//! `BLESS=1 cargo test -p runtime --test dump` rewrites the golden files.

mod dumps;
#[path = "dumps/flat.rs"]
mod flat;

use dumps::{dump, file};
use flat::{LOOP, dump_flat};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

fn text(output: std::process::Output) -> String {
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Compares a dump with a golden file, but for the length of its code, which depends on
/// the host where Cranelift makes it, and the time that took.
fn golden(name: &str, words: &[&str]) {
    let text = text(dump_flat(name, LOOP, words));
    let steady = |line: &str| match line.split_once(" bytes, ") {
        Some((before, after)) if before.starts_with("  code") => {
            let (form, _) = before.rsplit_once(", ").expect("a form before the length");
            let (_, after) = after.split_once("µs").expect("a time");
            format!("{form}{after}\n")
        }
        _ => format!("{line}\n"),
    };
    let found: String = text.lines().map(steady).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
        .with_extension("txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &found).expect("a golden file that can be written");
    }
    let want = fs::read_to_string(&path).expect("a golden file");
    assert_eq!(found, want, "{name} has changed; BLESS=1 accepts it");
}

#[test]
fn blocks_as_text() {
    if !runtime::native::direct_supported() {
        eprintln!("skipped: this host has no direct code");
        return;
    }
    golden("direct", &["--tier", "direct", "--at", "0x8012"]);
    let words = ["--tier", "interp", "--at", "0x8014", "--at", "0x8012"];
    let clif = ["--code", "cranelift", "--stages", "clif"];
    golden("cranelift", &[&words[..], &clif].concat());
}

#[test]
fn an_image_can_be_shown_without_running_it() {
    let words = ["--run-for", "0", "--at", "800d"];
    let shown = text(dump_flat("image", LOOP, &words));
    assert!(
        shown.starts_with("block 0000800d: 2 instructions"),
        "{shown}"
    );
    assert!(shown.contains("never entered"), "{shown}");
    let shown = text(dump(&["--run-for", "0", "--at", "_start"]));
    assert!(shown.contains(" <_start>: "), "{shown}");
}

#[test]
fn addresses_without_code_are_refused() {
    for place in ["nosuch", "0xffff0000"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ring1"));
        let output = command.args(["dump", "--at", place]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{place}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("neither an address") || error.contains("no block at"));
    }
}

/// The default guest's blocks, run in `tier`.
fn json(tier: &str, more: &[&str]) -> Value {
    let words = [&["--tier", tier, "--format", "json"], more].concat();
    serde_json::from_str(&text(dump(&words))).expect("JSON")
}

fn blocks(dump: &Value) -> &[Value] {
    dump["blocks"].as_array().expect("blocks")
}

/// Lines name parts that exist, and host code is as long as it says.
fn check(block: &Value) {
    let parts = block["parts"].as_array().expect("parts").len() as u64;
    assert!(parts >= block["instructions"].as_u64().expect("a count"));
    for column in ["clif", "optimised", "host"] {
        for line in block[column].as_array().expect(column) {
            assert!(
                line[0].as_u64().expect("a part") < parts,
                "{column}: {block}"
            );
        }
    }
    let host = block["host"].as_array().expect("host code");
    let last = host
        .last()
        .map_or(0, |line| line[1].as_u64().expect("an offset"));
    assert!(last <= block["host_bytes"].as_u64().expect("a length"));
    assert_eq!(host.is_empty(), block["code"].is_null(), "{block}");
}

#[test]
fn the_code_shown_is_the_code_that_ran() {
    for tier in ["interp", "auto", "direct", "mirror", "cranelift"] {
        let direct = !matches!(tier, "interp" | "cranelift");
        if direct && !runtime::native::direct_supported() {
            continue;
        }
        let dump = json(tier, &[]);
        blocks(&dump).iter().for_each(check);
        let from = |origin: &str| {
            let blocks = blocks(&dump).iter();
            blocks.filter(|block| block["origin"] == origin).count()
        };
        assert!(blocks(&dump).len() > 300, "{tier}");
        assert_eq!(from("another"), 0, "{tier}");
        assert_eq!(from("ran") > 100, tier != "interp", "{tier}");
    }
}

#[test]
fn links_lead_to_blocks_that_know_them() {
    let dump = json("cranelift", &[]);
    let mut linked = 0;
    for block in blocks(&dump) {
        for way in block["out"].as_array().expect("ways") {
            if way["linked"] == true {
                linked += 1;
                let back = |other: &Value| {
                    let into = other["in"].as_array().expect("ways");
                    other["eip"] == way["eip"] && into.iter().any(|w| w["eip"] == block["eip"])
                };
                assert!(blocks(&dump).iter().any(back), "{way} of {block}");
            }
        }
    }
    assert!(linked > 100, "{linked}");
}

#[test]
fn every_function_of_clif_parses() {
    let folder = file("clif", "blocks");
    let path = folder.to_str().expect("UTF-8");
    dump(&["--all", "--format", "clif", "--output", path]);
    let mut files = 0;
    for entry in fs::read_dir(&folder)
        .expect("the folder")
        .map(Result::unwrap)
    {
        let clif = fs::read_to_string(entry.path()).expect("a file");
        let options = cranelift_reader::ParseOptions::default();
        let parsed = cranelift_reader::parse_test(&clif, options);
        let parsed = parsed.unwrap_or_else(|error| panic!("{:?}: {error}", entry.path()));
        assert_eq!(parsed.functions.len(), 2);
        files += 1;
    }
    assert!(files > 300, "{files}");
    let together = text(dump(&[
        "--hottest",
        "9",
        "--format",
        "clif",
        "--opt",
        "speed",
    ]));
    let parsed = cranelift_reader::parse_functions(&together).expect("CLIF");
    assert_eq!(parsed.len(), 18);
}

#[test]
fn the_graph_has_a_node_for_each_block() {
    let graph = text(dump(&["--format", "dot"]));
    assert!(graph.starts_with("digraph blocks {\n") && graph.ends_with("}\n"));
    let nodes = graph.matches("[label=").count();
    let edges = graph.matches(" -> ").count();
    assert!(
        nodes > 300 && edges > nodes / 2,
        "{nodes} nodes, {edges} edges"
    );
}

#[test]
fn a_guest_that_was_booted_leaves_a_dump() {
    let path = file("leave", "blocks.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ring1"));
    command.args(["boot", "--serial", "none", "--code-cache", "off", "--dump"]);
    let output = command.arg(&path).output().expect("ring1");
    assert_eq!(output.status.code(), Some(0));
    let text = fs::read_to_string(path).expect("the dump");
    let dump: Value = serde_json::from_str(&text).expect("JSON");
    assert!(blocks(&dump).len() > 300);
}
