//! Every block of a boot of Debian, in every format: `RING1_DUMPS=all`, as it takes
//! minutes.

mod dumps;

use dumps::{dump, file};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Command;

/// Fewest blocks that a boot to a command has.
const BOOT_BLOCKS: usize = 20_000;

/// The folder with Debian's kernels, if these tests are wanted.
fn debian() -> Option<PathBuf> {
    if std::env::var_os("RING1_DUMPS").is_none_or(|value| value != "all") {
        eprintln!("skipped: RING1_DUMPS=all dumps every block of a boot");
        return None;
    }
    let usual = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/debian");
    let folder = std::env::var_os("RING1_DEBIAN").map_or_else(usual, PathBuf::from);
    let there = folder.join("vmlinuz-686").exists();
    if !there {
        eprintln!("skipped: no kernels; samples/debian.sh --fetch-only gets them");
    }
    there.then_some(folder)
}

/// Dumps a boot into a file, and returns that.
fn boot(name: &str, words: &[&str]) -> Option<PathBuf> {
    let folder = debian()?;
    let path = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
    let (kernel, initrd) = (
        path(folder.join("vmlinuz-686")),
        path(folder.join("initrd.gz")),
    );
    let output = file("boot", name);
    let append = "console=ttyS0 nokaslr ring1.run=\"uname -a\"";
    let guest = ["--kernel", &kernel, "--initrd", &initrd, "--append", append];
    let all = [
        "--run-for",
        "60",
        "--all",
        "--output",
        output.to_str().expect("UTF-8"),
    ];
    let said = dump(&[&guest[..], &all, words].concat()).stderr;
    eprint!("{}", String::from_utf8_lossy(&said));
    Some(output)
}

#[test]
fn json_of_a_boot_parses_and_shows_what_ran() {
    let Some(path) = boot("boot.json", &["--format", "json"]) else {
        return;
    };
    let mut blocks = 0;
    // Line by line, as all at once takes gigabytes.
    for line in BufReader::new(File::open(path).expect("the dump")).lines() {
        let line = line.expect("UTF-8");
        if !line.starts_with("{\"eip\"") {
            continue;
        }
        let block: Value = serde_json::from_str(line.trim_end_matches(',')).expect("JSON");
        assert_ne!(block["origin"], "another", "{line}");
        blocks += 1;
    }
    assert!(blocks > BOOT_BLOCKS, "{blocks}");
}

#[test]
fn clif_of_a_boot_parses() {
    let Some(path) = boot("boot.clif", &["--format", "clif"]) else {
        return;
    };
    let text = std::fs::read_to_string(path).expect("the dump");
    let mut functions = 0;
    for block in text.split("\n; block ").skip(1) {
        let parsed = cranelift_reader::parse_functions(&format!("; block {block}"));
        let parsed = parsed.unwrap_or_else(|error| panic!("{error}\n{block}"));
        assert_eq!(parsed.len(), 2, "{block}");
        functions += parsed.len();
    }
    assert!(functions > 2 * BOOT_BLOCKS, "{functions}");
}

#[test]
fn the_graph_of_a_boot_is_one() {
    let Some(path) = boot("boot.dot", &["--format", "dot"]) else {
        return;
    };
    match Command::new("gc").arg("-n").arg(&path).output() {
        Ok(output) => assert!(output.status.success(), "Graphviz does not take it"),
        Err(_) => eprintln!("skipped: there is no Graphviz"),
    }
}
