//! `ring1 selftest`: has helpers judge the tiers, and says what came of it.

use crate::cli::status;
use crate::selftest::case::{Case, Family};
use crate::selftest::generate::Generator;
use crate::selftest::helper::{self, Report, Tally};
use crate::selftest::judge::Judge;
use crate::selftest::options::{SelftestArgs, tier_name};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

/// Kinds of differences shown before the run is given up.
const SHOWN: usize = 12;
/// Time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// The hidden command by which the program runs itself as its helper.
pub const HELPER: &str = "selftest-helper";

/// What one family's cases did.
#[derive(Clone, Copy, Default)]
struct Counts {
    agree: u64,
    skipped: u64,
    failed: u64,
}

/// A run of the self-test.
struct Selftest {
    options: SelftestArgs,
    counts: BTreeMap<String, Counts>,
    kinds: BTreeMap<String, u64>,
    started: Instant,
    shown: Instant,
}

/// Runs the self-test and returns the exit status: 0 if nothing differed.
///
/// # Errors
/// No helper can be started.
pub fn run(args: &SelftestArgs) -> anyhow::Result<u8> {
    let options = args.clone().complete();
    let program = std::env::current_exe()?;
    let command = |part: Range<u64>| {
        let mut command = Command::new(&program);
        command.arg(HELPER);
        let options = SelftestArgs {
            count: part.end,
            ..options.clone()
        };
        command.args(options.words());
        command.arg(format!("--from={}", part.start));
        command
    };
    let tiers: Vec<_> = options.tier.iter().map(|&tier| tier_name(tier)).collect();
    let oracle = match options.without_host {
        true => "by each other, as asked",
        false if Judge::new().is_some() => "by the host CPU",
        false => "by each other, as this host cannot run i386 code",
    };
    println!("judged {oracle}: {}", tiers.join(", "));
    println!("seed {:#x}", options.seed.unwrap_or(0));
    let mut selftest = Selftest {
        options: options.clone(),
        counts: BTreeMap::new(),
        kinds: BTreeMap::new(),
        started: Instant::now(),
        shown: Instant::now(),
    };
    helper::oversee(0..options.count, &command, &mut |report| {
        selftest.take(report)
    })?;
    selftest.clear_progress();
    print!("{}", selftest.table());
    Ok(match selftest.kinds.is_empty() {
        true => status::POWERED_OFF,
        false => status::ERROR,
    })
}

impl Selftest {
    /// Takes a report in; false to give up.
    fn take(&mut self, report: Report) -> bool {
        match report {
            Report::Tally(tallies) => {
                for (group, Tally { agree, skipped }) in tallies {
                    let counts = self.counts.entry(group).or_default();
                    counts.agree += agree;
                    counts.skipped += skipped;
                }
                self.show_progress();
                true
            }
            Report::Differs {
                index, kind, text, ..
            } => self.failure(index, kind, &text),
            Report::Died { index, how } => {
                let text = format!("{}  the helper was {how}\n", self.make(index));
                self.failure(index, how, &text)
            }
        }
    }

    fn failure(&mut self, index: u64, kind: String, text: &str) -> bool {
        let (family, seed) = self.options.case(index);
        self.counts.entry(family.name()).or_default().failed += 1;
        let seen = self.kinds.entry(kind).or_default();
        *seen += 1;
        if *seen == 1 {
            self.clear_progress();
            print!("\n{text}");
            println!(
                "  again: ring1 selftest --family {} --seed {seed:#x} --count 1\n",
                family.name()
            );
        }
        self.kinds.len() < SHOWN
    }

    /// The case again, which the helper can no longer show.
    fn make(&self, index: u64) -> Case {
        let (family, seed) = self.options.case(index);
        Generator::new(&Family::ALL).case_of(family, seed)
    }

    fn total(&self) -> Counts {
        let sum = |a: Counts, b: &Counts| Counts {
            agree: a.agree + b.agree,
            skipped: a.skipped + b.skipped,
            failed: a.failed + b.failed,
        };
        self.counts.values().fold(Counts::default(), sum)
    }

    fn show_progress(&mut self) {
        if !std::io::stderr().is_terminal() || self.shown.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.shown = Instant::now();
        eprint!("\r{} of {}", self.total().sum(), self.options.count);
        let _ = std::io::stderr().flush();
    }

    fn clear_progress(&self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }

    /// The counts of each family, and their sums.
    fn table(&self) -> String {
        let mut text = format!(
            "{:<10} {:>10} {:>10} {:>10} {:>10}\n",
            "family", "sequences", "agree", "undefined", "differ"
        );
        let mut line = |name: &str, c: &Counts| {
            let (sum, agree, skipped, failed) = (c.sum(), c.agree, c.skipped, c.failed);
            let _ = writeln!(
                text,
                "{name:<10} {sum:>10} {agree:>10} {skipped:>10} {failed:>10}"
            );
        };
        for family in &self.options.family {
            if let Some(counts) = self.counts.get(&family.name()) {
                line(&family.name(), counts);
            }
        }
        let total = self.total();
        line("all", &total);
        let seconds = self.started.elapsed().as_secs_f64();
        let _ = writeln!(
            text,
            "{seconds:.1} s, {:.0} sequences a second",
            total.sum() as f64 / seconds
        );
        text
    }
}

impl Counts {
    fn sum(&self) -> u64 {
        self.agree + self.skipped + self.failed
    }
}
