//! What `ring1 selftest` can be asked for.
//!
//! A case follows from its family and its seed alone. Case number n of a run with
//! seed S has seed S + n and takes its turn among the families, so one that
//! differed is run again by its own family and seed, with a count of 1.

use crate::config::Tier;
use crate::native::direct_supported;
use crate::selftest::case::Family;
use clap::Args;
use std::time::{SystemTime, UNIX_EPOCH};

/// Sequences unless asked otherwise.
const COUNT: u64 = 20_000;

/// The options of `ring1 selftest`.
#[derive(Clone, Debug, Args)]
pub struct SelftestArgs {
    /// Sequences to run
    #[arg(long, value_name = "N", default_value_t = COUNT)]
    pub count: u64,
    /// Seed of the first sequence; the next has the next [default: from the clock]
    #[arg(long, value_name = "S", value_parser = seed)]
    pub seed: Option<u64>,
    /// Families that sequences are made around [default: all, in turn]
    #[arg(long, value_name = "F", value_delimiter = ',', value_parser = family)]
    pub family: Vec<Family>,
    /// Tiers to judge [default: all that the host has]
    #[arg(long, value_enum, value_name = "T", value_delimiter = ',')]
    pub tier: Vec<Tier>,
    /// Do not ask the host CPU, compare the tiers with each other
    #[arg(long)]
    pub without_host: bool,
}

/// What the helper process is told: the options, completed, and its part.
#[derive(Clone, Debug, Args)]
pub struct HelperArgs {
    /// The options.
    #[command(flatten)]
    pub options: SelftestArgs,
    /// Number of the first sequence to run.
    #[arg(long, default_value_t = 0)]
    pub from: u64,
}

impl SelftestArgs {
    /// The options with nothing left open.
    pub fn complete(mut self) -> SelftestArgs {
        self.seed.get_or_insert_with(seed_of_the_clock);
        if self.family.is_empty() {
            self.family = Family::ALL.to_vec();
        }
        if self.tier.is_empty() {
            let all = [Tier::Interp, Tier::Direct, Tier::Mirror, Tier::Cranelift];
            let here = |tier: &Tier| !tier.pins_direct_code() || direct_supported();
            self.tier = all.into_iter().filter(here).collect();
        }
        self
    }

    /// Family and seed of case number `index`.
    pub fn case(&self, index: u64) -> (Family, u64) {
        let turn = index % self.family.len().max(1) as u64;
        let family = self.family.get(turn as usize).copied();
        let seed = self.seed.unwrap_or(0).wrapping_add(index);
        (family.unwrap_or(Family::Arith), seed)
    }

    /// The options as the words of a command line.
    pub fn words(&self) -> Vec<String> {
        let families = self.family.iter().map(Family::name);
        let mut words = vec![
            format!("--count={}", self.count),
            format!("--family={}", families.collect::<Vec<_>>().join(",")),
        ];
        words.extend(self.seed.map(|seed| format!("--seed={seed:#x}")));
        let tiers = self.tier.iter().map(|&tier| tier_name(tier));
        words.push(format!("--tier={}", tiers.collect::<Vec<_>>().join(",")));
        words.extend(self.without_host.then(|| "--without-host".into()));
        words
    }
}

/// The name of a tier on the command line and in reports.
pub fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Interp => "interp",
        Tier::Cranelift => "cranelift",
        Tier::Direct => "direct",
        Tier::Mirror => "mirror",
        Tier::Auto => "auto",
    }
}

/// A new seed each time, short enough to be typed.
fn seed_of_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros() as u64) << 16 >> 16
}

fn seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| String::from("not a 64-bit number such as 7 or 0x7c00"))
}

fn family(name: &str) -> Result<Family, String> {
    Family::named(name).ok_or_else(|| {
        let all = Family::ALL.iter().map(Family::name).collect::<Vec<_>>();
        format!("one of {}", all.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    fn parse(words: &[String]) -> SelftestArgs {
        let command = SelftestArgs::augment_args(Command::new("selftest").no_binary_name(true));
        let matches = command.try_get_matches_from(words).unwrap();
        SelftestArgs::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn words_say_the_same_again() {
        let words = [
            "--count=7",
            "--seed=0x10",
            "--family=x87,sse2",
            "--without-host",
        ];
        let options = parse(&words.map(String::from)).complete();
        assert_eq!(parse(&options.words()).words(), options.words());
        assert_eq!(options.case(1), (Family::Sse2, 0x11));
    }

    #[test]
    fn a_case_is_found_again_by_family_and_seed() {
        let options = parse(&["--seed=1000".into()]).complete();
        let (family, seed) = options.case(12_345);
        let again = parse(&[
            format!("--seed={seed}"),
            format!("--family={}", family.name()),
        ]);
        assert_eq!(again.complete().case(0), (family, seed));
    }
}
