//! The repository as a test subject: rules that no compiler checks.
//!
//! Each rule is a function from the files to what it has to complain about, so
//! that the last test can show each rule a file that breaks it. Words that a rule
//! forbids are put together from halves here, as this file obeys the rules too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest source or text file, in lines.
const MAX_LINES: usize = 600;

/// The only files with code that Rust cannot check, and what they need it for.
const UNSAFE_FILES: &[(&str, &str)] = &[
    (
        "runtime/src/bench/clock.rs",
        "the CPU-time clock of another process",
    ),
    ("runtime/src/cache/arena.rs", "memory for compiled code"),
    ("runtime/src/console/terminal.rs", "signal handlers"),
    (
        "runtime/src/debug/perf/jitdump.rs",
        "the mapping by which perf finds the file",
    ),
    ("runtime/src/fpu/host.rs", "x87 and vectors on the host"),
    ("runtime/src/idle.rs", "the allocator gives memory back"),
    (
        "runtime/src/native/mod.rs",
        "entry into compiled code, callout",
    ),
    ("runtime/src/native/gs.rs", "reads and writes GS's base"),
    (
        "runtime/src/native/landing.rs",
        "the handler for faults in mirrors",
    ),
    ("runtime/src/run.rs", "calls compiled code"),
    ("runtime/src/system/tsc.rs", "the RDTSC intrinsic"),
    (
        "runtime/src/selftest/silicon/arena.rs",
        "memory at fixed addresses",
    ),
    (
        "runtime/src/selftest/silicon/signals.rs",
        "32-bit code on the host CPU",
    ),
    (
        "runtime/src/vcpu/memory.rs",
        "guest memory through the shadow tables",
    ),
    ("runtime/src/vm.rs", "names the trampoline"),
    (
        "shadow-mmu/src/mirror.rs",
        "memory mapped again for the host's MMU",
    ),
    (
        "shadow-mmu/src/mirror_pages.rs",
        "bits in memory that takes room where it is written",
    ),
    (
        "shadow-mmu/tests/coherency.rs",
        "looks at memory through mirrors",
    ),
    (
        "shadow-mmu/src/mapping.rs",
        "the arrays of the shadow tables",
    ),
    ("shadow-mmu/src/memory.rs", "guest memory"),
    (
        "shadow-mmu/tests/paging.rs",
        "accesses through shadow entries",
    ),
];

/// The only hosts that texts may name.
const HOSTS: &[&str] = &["cranelift.dev", "deb.debian.org", "rustup.rs"];

/// A text file of the repository.
struct File {
    /// Path from the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|e| e == extension)
    }

    /// Written by a tool or by others: only some rules apply.
    fn is_foreign(&self) -> bool {
        self.path == "Cargo.lock" || self.path == "LICENSE-APACHE"
    }

    /// Complaints about the lines for which `bad` says what is wrong.
    fn lines_with(&self, bad: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let numbered = self.text.lines().enumerate();
        numbered
            .filter_map(|(n, line)| Some(format!("{}:{}: {}", self.path, n + 1, bad(line)?)))
            .collect()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All text files that belong to the repository. Hidden folders and those that
/// `.gitignore` names do not, except for `.ci`.
fn files() -> Vec<File> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let path = entry.path();
            if path.is_dir() {
                if name == ".ci" || !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if name != ".git"
                && !name.ends_with(".log")
                && let Ok(text) = fs::read_to_string(&path)
            {
                let path = path.strip_prefix(&root).unwrap();
                let path = path.to_str().unwrap().to_owned();
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Files are short enough to be read in one go.
fn length(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    if lines <= MAX_LINES || file.is_foreign() {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines, at most {MAX_LINES}", file.path)]
}

/// A Rust file begins with its essay.
fn essay(file: &File) -> Vec<String> {
    if !file.has_extension("rs") || file.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!("{}: does not begin with `//!`", file.path)]
}

/// Lines end with their text, files with a line end.
fn whitespace(file: &File) -> Vec<String> {
    let mut complaints = file.lines_with(|line| {
        let trailing = line.ends_with([' ', '\t', '\r']);
        trailing.then(|| "trailing white space".to_owned())
    });
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        complaints.push(format!("{}: no line end at the end", file.path));
    }
    complaints
}

/// No notes to self, nothing unfinished, no debugging aids.
fn unfinished(file: &File) -> Vec<String> {
    const WORDS: [&str; 6] = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("db", "g!("),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    file.lines_with(|line| {
        let word = WORDS.iter().find(|word| line.contains(*word))?;
        Some(format!("`{word}`"))
    })
}

/// No code in comments. A guess: prose seldom ends with a semicolon or brace.
fn commented_code(file: &File) -> Vec<String> {
    if !file.has_extension("rs") {
        return Vec::new();
    }
    file.lines_with(|line| {
        let comment = line.trim_start().strip_prefix("//")?;
        if comment.starts_with(['/', '!']) {
            return None;
        }
        let comment = comment.trim();
        let statement = comment.ends_with(';') && comment.contains(['(', '=']);
        let opening = comment.ends_with('{') || comment.starts_with("#[");
        let binding = comment.starts_with("let ") && comment.contains('=');
        (statement || opening || binding).then(|| format!("code in a comment: {comment}"))
    })
}

/// Nothing that only makes sense on one machine.
fn machine_paths(file: &File) -> Vec<String> {
    const PATHS: [&str; 3] = [
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
        concat!("/roo", "t/."),
    ];
    file.lines_with(|line| {
        PATHS.iter().find_map(|path| {
            let before = line[..line.find(path)?].chars().next_back();
            let relative = before.is_some_and(|c| c.is_alphanumeric() || "_-.}".contains(c));
            (!relative).then(|| format!("a path of some machine: {path}"))
        })
    })
}

/// Only known hosts are named: no mirror or registry of somebody's.
fn hosts(file: &File) -> Vec<String> {
    if file.is_foreign() {
        return Vec::new();
    }
    file.lines_with(|line| {
        let urls = line.split("://").skip(1);
        let mut names = urls.map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '.' && c != '-');
            &rest[..end.unwrap_or(rest.len())]
        });
        let unknown = names.find(|name| !name.is_empty() && !HOSTS.contains(name))?;
        Some(format!(
            "the host {unknown} is not among those that may be named"
        ))
    })
}

/// Whether a line of Rust has the keyword that turns the checks off.
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or("");
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.into_iter().any(|word| word == concat!("un", "safe"))
}

/// Code that Rust cannot check is where it is expected, and nowhere else.
fn unsafe_code(file: &File) -> Vec<String> {
    let expected = UNSAFE_FILES.iter().any(|(path, _)| *path == file.path);
    if !file.has_extension("rs") {
        return Vec::new();
    }
    let uses = file.text.lines().any(has_unsafe);
    match (uses, expected) {
        (true, false) => vec![format!("{}: needs to be listed in UNSAFE_FILES", file.path)],
        (false, true) => vec![format!("{}: listed in UNSAFE_FILES for nothing", file.path)],
        _ => Vec::new(),
    }
}

/// The name by which a link reaches a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The anchors of a Markdown text.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// The links of a Markdown text, code left out.
fn links(text: &str) -> Vec<String> {
    let mut in_fence = false;
    let mut found = Vec::new();
    for line in text.lines() {
        in_fence ^= line.trim_start().starts_with("```");
        if in_fence {
            continue;
        }
        let rests = line.split("](").skip(1);
        found.extend(rests.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())));
    }
    found
}

/// Every link in a document leads somewhere.
fn dead_links(file: &File) -> Vec<String> {
    if !file.has_extension("md") {
        return Vec::new();
    }
    let folder = root().join(&file.path).parent().unwrap().to_owned();
    let mut complaints = Vec::new();
    for link in links(&file.text) {
        if link.contains("://") {
            continue;
        }
        let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
        let target = if path.is_empty() {
            root().join(&file.path)
        } else {
            folder.join(path)
        };
        let known = fragment.is_empty()
            || fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(fragment));
        if !target.exists() || !known {
            complaints.push(format!("{}: the link {link} leads nowhere", file.path));
        }
    }
    complaints
}

/// Reports all complaints at once.
fn expect_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn check(rule: fn(&File) -> Vec<String>) {
    expect_none(files().iter().flat_map(rule).collect());
}

#[test]
fn files_are_short() {
    check(length);
}

#[test]
fn rust_files_begin_with_an_essay() {
    check(essay);
}

#[test]
fn lines_end_with_their_text() {
    check(whitespace);
}

#[test]
fn nothing_is_unfinished() {
    check(unfinished);
}

#[test]
fn comments_hold_no_code() {
    check(commented_code);
}

#[test]
fn no_machine_is_named() {
    check(machine_paths);
    check(hosts);
}

#[test]
fn unsafe_code_is_where_it_is_expected() {
    check(unsafe_code);
    for (path, _) in UNSAFE_FILES {
        assert!(root().join(path).exists(), "{path} is listed but gone");
    }
}

#[test]
fn links_lead_somewhere() {
    check(dead_links);
}

/// The part of the README under a heading.
fn readme_section(heading: &str) -> String {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let start = readme.find(&format!("\n## {heading}\n")).expect(heading) + 1;
    let rest = &readme[start..];
    rest[..rest[1..].find("\n## ").map_or(rest.len(), |end| end + 1)].to_owned()
}

#[test]
fn the_map_in_the_readme_has_every_folder() {
    let map = readme_section("Map");
    let folders: BTreeSet<String> = files()
        .iter()
        .filter_map(|file| Some(file.path.split_once('/')?.0.to_owned()))
        .filter(|folder| !folder.starts_with('.'))
        .collect();
    for folder in folders {
        assert!(
            map.contains(&format!("| [`{folder}`](")),
            "{folder} is not on the map"
        );
    }
}

#[test]
fn the_readme_lists_every_quirk() {
    let section = readme_section("Quirks");
    let listed: BTreeSet<String> = links(&section).into_iter().collect();
    let mark = concat!("QUI", "RK:");
    let marked: BTreeSet<String> = files()
        .into_iter()
        .filter(|file| file.has_extension("rs") && file.text.contains(mark))
        .map(|file| file.path)
        .collect();
    assert_eq!(listed, marked, "left: the README, right: the files");
}

#[test]
fn the_readme_names_the_test_command() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let commands = readme.lines().filter(|line| line.starts_with("cargo test"));
    assert_eq!(
        commands.count(),
        1,
        ".ci/run takes the test command from the README"
    );
}

#[test]
fn every_rule_finds_what_it_forbids() {
    let shown = |rule: fn(&File) -> Vec<String>, path: &str, text: &str| {
        let (path, text) = (path.to_owned(), text.to_owned());
        let complaints = rule(&File { path, text });
        assert_eq!(complaints.len(), 1, "{complaints:?}");
    };
    shown(length, "a.c", &"\n".repeat(MAX_LINES + 1));
    shown(essay, "a.rs", "use std::fs;\n");
    shown(whitespace, "a.md", "text \n");
    shown(whitespace, "a.md", "text");
    shown(unfinished, "a.rs", concat!("// TO", "DO later\n"));
    shown(commented_code, "a.rs", "    // call(this);\n");
    shown(commented_code, "a.rs", "// let x = 1\n");
    shown(machine_paths, "a.md", concat!("see /ho", "me/me\n"));
    shown(hosts, "a.md", concat!("http:/", "/mirror.example/x\n"));
    shown(unsafe_code, "a.rs", concat!("un", "safe { call() }\n"));
    shown(dead_links, "a.md", "[a](no-such-file)\n");
    shown(dead_links, "README.md", "[a](README.md#no-such-heading)\n");
}
