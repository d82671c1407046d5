//! The page of `ring1 dump --format html`, in a real browser: Chromium without a window.
//!
//! A script put behind the page's own does what a reader would do, by the events that a
//! browser would send, and leaves what it has seen in an attribute. Without Chromium the
//! tests say so and pass.

mod dumps;
#[path = "dumps/flat.rs"]
mod flat;

use dumps::{dump, file};
use flat::{LOOP, dump_flat};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Milliseconds until a page with 20,000 blocks must have something to show.
const OPEN_MS: u64 = 2000;

/// Blocks of the large page.
const MANY: usize = 20_000;

/// Leaves `seen` where a test finds it, and takes out of the page what nobody needs.
const LEAVE: &str = "
  document.documentElement.dataset.seen = JSON.stringify(seen);
  for (const id of ['index', 'table', 'details']) $(id).remove();
";

fn chromium() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let works = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    let found = names.iter().find(works).copied();
    if found.is_none() {
        eprintln!("skipped: there is no Chromium");
    }
    found
}

/// Opens a page at an address within, runs `script` behind its own, and returns `seen`.
fn browse(test: &str, page: &Path, fragment: &str, script: &str) -> Option<Value> {
    let chromium = chromium()?;
    let text = fs::read_to_string(page).expect("the page");
    let script = format!("<script>{{ const seen = {{}}; {script} {LEAVE} }}</script></body>");
    let driven = file(test, "driven.html");
    fs::write(&driven, text.replace("</body>", &script)).expect("a page to drive");
    let profile = file(test, "profile");
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg("--window-size=1400,900")
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file:{}{fragment}", driven.display()))
        .output()
        .expect("Chromium");
    let shown = String::from_utf8_lossy(&output.stdout);
    let (_, seen) = shown
        .split_once("data-seen=\"")
        .expect("a page that has run");
    let (seen, _) = seen.split_once('"').expect("the attribute's end");
    Some(serde_json::from_str(&seen.replace("&quot;", "\"")).expect("what was seen"))
}

fn default_guest(test: &str, more: &[&str]) -> std::path::PathBuf {
    let page = file(test, "page.html");
    let output = page.to_str().expect("UTF-8");
    dump(&[&["--format", "html", "--output", output], more].concat());
    page
}

#[test]
fn a_reader_filters_sorts_and_walks() {
    let page = default_guest("walk", &[]);
    let script = "
      seen.all = shown.length;
      seen.rows = document.querySelectorAll('.row').length;
      $('sort').value = 'host'; $('sort').dispatchEvent(new Event('change'));
      seen.sorted = index.host[shown[0]] === Math.max(...index.host);
      const key = (key) => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
      key('j'); follow(); const first = chosen; key('j'); follow();
      seen.walked = shown.indexOf(chosen) - shown.indexOf(first);
      key('/'); seen.focus = document.activeElement.id;
      $('filter').value = 'RING 3 branch'; $('filter').dispatchEvent(new Event('input'));
      seen.filtered = shown.length;
      seen.fitting = shown.every((b) => text(index.mode[b]).includes('ring 3') && text(index.end[b]) === 'branch');
      $('filter').dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}));
      seen.again = shown.length;
    ";
    let Some(seen) = browse("walk", &page, "", script) else {
        return;
    };
    let number = |name: &str| seen[name].as_u64().expect(name);
    assert!(number("all") > 300 && number("rows") < 60, "{seen}");
    assert!(
        0 < number("filtered") && number("filtered") < number("all"),
        "{seen}"
    );
    assert_eq!(number("again"), number("all"), "{seen}");
    assert_eq!(seen["sorted"], true, "{seen}");
    assert_eq!(seen["fitting"], true, "{seen}");
    assert_eq!(seen["focus"], "filter", "{seen}");
    assert_eq!(seen["walked"], 1, "{seen}");
}

/// The parts lit in each pane, as a script finds them.
const LIT: &str = "
  const lit = (name) => [...document.querySelectorAll('.pane')].map((pane) =>
    new Set([...pane.querySelectorAll('.' + name)].map((line) => +line.dataset.part)));
";

#[test]
fn panes_light_up_together_and_addresses_lead_into_blocks() {
    let page = file("light", "page.html");
    let output = page.to_str().expect("UTF-8");
    let html = [
        "--format",
        "html",
        "--code",
        "cranelift",
        "--output",
        output,
    ];
    dump_flat("light", LOOP, &html);
    let script = LIT.to_owned()
        + "
      seen.title = document.title;
      seen.jump = [...document.querySelectorAll('.l')].find((line) => line.textContent.includes('je short')).textContent;
      seen.pinnedAlone = [...document.querySelectorAll('.pin')].map((row) => +row.dataset.part);
      $('layout').click();
      seen.panes = lit('pin').map((set) => [...set]);
      const line = document.querySelector('.pane:last-child [data-part=\"0\"]');
      line.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));
      seen.hot = lit('hot').map((set) => [...set]);
      line.dispatchEvent(new MouseEvent('click', {bubbles: true}));
      seen.clicked = lit('pin').map((set) => [...set]);
      seen.address = location.hash;
      seen.stages = document.querySelectorAll('.pane').length;
      document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '2', bubbles: true}));
      seen.more = document.querySelectorAll('.pane').length;
      location.hash = '#8014'; follow(); seen.moved = document.title;
    ";
    let Some(seen) = browse("light", &page, "#0000800d", &script) else {
        return;
    };
    assert_eq!(seen["jump"], "00008010  je short 00008014h", "{seen}");
    // Of two blocks with that instruction, the loop's is the hotter.
    assert_eq!(seen["title"], "0000800a – ring1 dump", "{seen}");
    assert_eq!(seen["pinnedAlone"], serde_json::json!([1]), "{seen}");
    assert_eq!(seen["panes"], serde_json::json!([[1], [1], [1]]), "{seen}");
    assert_eq!(seen["hot"], serde_json::json!([[0], [0], [0]]), "{seen}");
    assert_eq!(
        seen["clicked"],
        serde_json::json!([[0], [0], [0]]),
        "{seen}"
    );
    assert_eq!(seen["address"], "#0000800a", "{seen}");
    assert_eq!(
        (&seen["stages"], &seen["more"]),
        (&3.into(), &4.into()),
        "{seen}"
    );
    assert_eq!(seen["moved"], "00008014 – ring1 dump", "{seen}");
}

/// MOV EAX, n; ADD [EBX], EAX; JMP to what follows, so many times; OUT F4h, AL.
fn many_blocks() -> Vec<u8> {
    let mut code = vec![0xbb, 0x00, 0x00, 0x70, 0x00];
    for n in 0..MANY as u32 {
        code.push(0xb8);
        code.extend(n.wrapping_mul(0x9e37_79b9).to_le_bytes());
        code.extend([0x01, 0x03, 0xeb, 0x00]);
    }
    code.extend([0xe6, 0xf4]);
    code
}

#[test]
fn twenty_thousand_blocks_open_at_once() {
    let page = file("many", "page.html");
    let output = page.to_str().expect("UTF-8");
    let html = ["--tier", "interp", "--format", "html", "--output", output];
    dump_flat("many", &many_blocks(), &html);
    let script = "
      seen.ms = +document.documentElement.dataset.ready;
      seen.blocks = count;
      seen.title = document.title;
      const start = performance.now();
      $('filter').value = '0001f'; $('filter').dispatchEvent(new Event('input'));
      seen.filterMs = Math.round(performance.now() - start);
      seen.filtered = shown.length;
    ";
    let Some(seen) = browse("many", &page, "#00010000", script) else {
        return;
    };
    eprintln!(
        "{} bytes: {seen}",
        fs::metadata(&page).expect("the page").len()
    );
    assert!(
        seen["blocks"].as_u64().expect("a count") >= MANY as u64,
        "{seen}"
    );
    assert!(seen["ms"].as_u64().expect("a time") < OPEN_MS, "{seen}");
    assert!(
        seen["filterMs"].as_u64().expect("a time") < OPEN_MS / 4,
        "{seen}"
    );
}
