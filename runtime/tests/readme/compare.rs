//! Whether a program prints what a text shows.
//!
//! Lines are compared word by word, except for what no two runs have in common. That is
//! listed: figures that are measured, by the words around them, and addresses of guest
//! code, which hang on the C compiler. A line `…` stands for any lines, `…` at a line's
//! end for its rest.

use super::steps::PROMPTS;

/// Each `#` is a figure that was measured.
const MEASURED: &[&str] = &[
    // The default guest, and the summary after it.
    "TSC runs at # MHz",
    "min # median #",
    "guest instructions #",
    "in compiled code # %",
    // Least and median cycles of `ring1 compare`, and the mark of doubt that may follow.
    "# / # ?",
    "# / #",
    // Dumps: times, and the numbers of links and callouts, in the order they came.
    "made in # µs",
    "r8,#",
    "r8d,#",
    // Sequences that agreed, of a random set.
    " # # # 0",
    "# s, # sequences a second",
];

/// What is compared of a line.
fn masked(line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().map(unruled).collect();
    let mut line = words.join(" ");
    for form in MEASURED {
        line = replaced(&line, form);
    }
    let line = line.replace("# / # ?", "# / #");
    let words: Vec<_> = line.split(' ').map(without_address).collect();
    words.join(" ")
}

/// The rule below a table's head is as long as its columns are wide.
fn unruled(word: &str) -> &str {
    match word.trim_matches(['-', ':']).is_empty() {
        true => "-",
        false => word,
    }
}

/// A line with a form instead of what has that form.
fn replaced(line: &str, form: &str) -> String {
    let mut done = String::new();
    let mut rest = line;
    while let Some(next) = rest.chars().next() {
        let inside = done.ends_with(|c: char| c.is_alphanumeric() || c == '.');
        let begins = !inside || !form.starts_with('#');
        match after(rest, form).filter(|_| begins) {
            Some(after) => {
                done.push_str(form);
                rest = after;
            }
            None => {
                done.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    done
}

/// What follows the form at the beginning of a text, if that is there.
fn after<'a>(text: &'a str, form: &str) -> Option<&'a str> {
    let mut pieces = form.split('#');
    let mut rest = text.strip_prefix(pieces.next()?)?;
    for piece in pieces {
        // What is next to nothing may be less, when the loop around it is taken off.
        rest = rest.strip_prefix('-').unwrap_or(rest);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
        let (figure, behind) = rest.split_at(end.unwrap_or(rest.len()));
        figure
            .contains(|c: char| c.is_ascii_digit())
            .then_some(())?;
        rest = behind.strip_prefix(piece)?;
    }
    Some(rest)
}

/// A word with `@` for an address, as guests, dumps and GDB write them.
fn without_address(word: &str) -> String {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_address = |part: &str| {
        let digits = part.trim_end_matches('h');
        let bare = digits.len() == 8 && ["00", "08"].iter().any(|begin| digits.starts_with(begin));
        let marked = part
            .strip_prefix("0x")
            .filter(|digits| (6..=8).contains(&digits.len()));
        bare && hex(digits) || marked.is_some_and(hex)
    };
    let mut done = String::new();
    for part in word.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let bare = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        match is_address(bare) {
            true => done.push('@'),
            false => done.push_str(bare),
        }
        done.push_str(&part[bare.len()..]);
    }
    done
}

/// Whether a line of output is what is shown.
fn same(shown: &str, printed: &str) -> bool {
    match shown.strip_suffix('…') {
        Some(begin) => masked(printed).starts_with(masked(begin).trim_end()),
        None => masked(shown) == masked(printed),
    }
}

/// Without a table's column, which was not measured.
pub fn without_column(shown: &[String], name: &str) -> Vec<String> {
    let cells = |line: &String| line.split('|').map(String::from).collect::<Vec<_>>();
    let heads = shown.iter().map(cells);
    let at = heads
        .flat_map(|head| head.iter().position(|cell| cell.trim() == name))
        .next();
    let Some(at) = at else {
        return shown.to_vec();
    };
    let without = |line: &String| {
        let mut cells = cells(line);
        if cells.len() > at {
            cells.remove(at);
        }
        cells.join("|")
    };
    shown.iter().map(without).collect()
}

/// Messages of a kernel, after a time in brackets, come between any two lines.
fn is_of_linux(line: &str) -> bool {
    let stamp = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "));
    stamp.is_some_and(|(time, _)| time.trim_start().parse::<f64>().is_ok())
}

/// Searches the output for what is shown, in order, and returns the first lines that are
/// not there.
pub fn missing(shown: &[String], printed: &str) -> Option<String> {
    // What is typed at GDB's prompt is no output of its.
    let [_, gdb] = PROMPTS;
    let shown: Vec<&str> = shown
        .iter()
        .map(|line| line.trim_end())
        .filter(|line| !line.starts_with(gdb.trim_end()))
        .collect();
    let printed: Vec<&str> = printed
        .lines()
        .filter(|line| !is_of_linux(line))
        .map(|line| line.trim_start_matches(gdb).trim_end())
        .collect();
    let mut from = 0;
    for (number, part) in shown.split(|line| line.trim() == "…").enumerate() {
        let is_at = |at: &usize| {
            let lines = printed.get(*at..*at + part.len());
            lines.is_some_and(|lines| part.iter().zip(lines).all(|(a, b)| same(a, b)))
        };
        // Before the first gap nothing is left out.
        let last = if number == 0 { 0 } else { printed.len() };
        match (from..=last).find(is_at) {
            Some(at) => from = at + part.len(),
            None => return Some(part.join("\n")),
        }
    }
    None
}

#[test]
fn figures_may_differ_and_words_may_not() {
    let lines = |text: &str| text.lines().map(String::from).collect::<Vec<_>>();
    let shown = lines("  null call  min  161  median  165\n…\nround 1: 09fa8f7c\nat 00100abc…");
    let printed = "null call min 1 median 2\nx\ny\nround 1: 09fa8f7c\nat 00200abc <b>: 2\n";
    assert_eq!(missing(&shown, printed), None);
    for (here, there) in [
        ("null", "nil"),
        ("7c", "7d"),
        ("at", "to"),
        ("null", "\nnull"),
    ] {
        let printed = printed.replacen(here, there, 1);
        assert!(missing(&shown, &printed).is_some(), "{printed}");
    }
    let row = lines("| in | 54.6 / 55.9 | ~214 |\n| -- | ----: | --- |");
    assert_eq!(
        missing(&row, "| in | 1234.6 / 5 ? | ~214 |\n| - | -----: | - |"),
        None
    );
    assert!(missing(&row, "| in | 1234.6 / 5 | ~215 |\n| - | - | - |").is_some());
    let short = without_column(&lines("| a | QEMU | b |\n…\n| 1 | 2 | 3 |"), "QEMU");
    assert_eq!(short, ["| a | b |", "…", "| 1 | 3 |"]);
    let boot = lines("Welcome\n/root # pwd");
    assert_eq!(
        missing(&boot, "Welcome\n[    2.427522] random: done\n/root # pwd"),
        None
    );
    assert!(missing(&boot, "Welcome\n[2.4] x\nWhat?\n/root # pwd").is_some());
    let gdb = lines("(gdb) info line\nLine 3 at 0x1000ab.");
    assert_eq!(missing(&gdb, "(gdb) Line 3 at 0x2000ab.\n(gdb) "), None);
    assert!(missing(&lines("seed 0x60e001c1f753"), "seed 0x60e001c1f754").is_some());
}
