//! The helper process of the self-test: makes the cases and has them judged.

use crate::native::direct_supported;
use crate::selftest::case::{Case, Family};
use crate::selftest::generate::Generator;
use crate::selftest::guest::Guest;
use crate::selftest::helper::{self, Found, Work};
use crate::selftest::judge::{Judge, Side, Verdict};
use crate::selftest::options::{HelperArgs, SelftestArgs, tier_name};
use anyhow::{Context, ensure};

/// The judge, the tiers and the cases.
pub struct Worker {
    options: SelftestArgs,
    generator: Generator,
    judge: Judge,
    guests: Vec<(&'static str, Guest)>,
}

/// Runs the part of the self-test that `args` name.
///
/// # Errors
/// What the host refuses.
pub fn serve(args: &HelperArgs) -> anyhow::Result<()> {
    let options = args.options.clone().complete();
    let range = args.from..options.count;
    let mut worker = Worker::new(options)?;
    helper::serve(&mut worker, range).context("the results go nowhere")
}

impl Worker {
    /// The worker for `options`, which must be complete.
    ///
    /// # Errors
    /// What the host refuses.
    pub fn new(options: SelftestArgs) -> anyhow::Result<Worker> {
        let by_host = if options.without_host {
            None
        } else {
            Judge::new()
        };
        let judge = match by_host {
            Some(judge) => judge,
            None => Judge::interpreter()?,
        };
        let mut guests = Vec::new();
        for &tier in &options.tier {
            let name = tier_name(tier);
            ensure!(
                !tier.pins_direct_code() || direct_supported(),
                "the direct tier needs an x86-64 host with BMI2"
            );
            if name != judge.name {
                guests.push((name, Guest::new(tier)?));
            }
        }
        Ok(Worker {
            generator: Generator::new(&Family::ALL),
            options,
            judge,
            guests,
        })
    }

    /// Case number `index`.
    pub fn make(&self, index: u64) -> Case {
        let (family, seed) = self.options.case(index);
        self.generator.case_of(family, seed)
    }
}

impl Work for Worker {
    fn case(&mut self, index: u64) -> Found {
        let case = self.make(index);
        let group = case.family.name();
        let guests = self.guests.iter_mut();
        let mut sides: Vec<Side> = guests
            .map(|(name, subject)| Side { name, subject })
            .collect();
        match self.judge.check(&case, &mut sides) {
            Verdict::Agree => Found::Agree(group),
            Verdict::Skipped => Found::Skipped(group),
            Verdict::Differ(difference) => Found::Differs {
                group,
                kind: kind(&difference.case),
                text: difference.to_string(),
            },
        }
    }
}

/// Differences of the same instructions are probably one fault.
fn kind(case: &Case) -> String {
    let instructions = case.instructions();
    let names: Vec<_> = instructions
        .iter()
        .map(|insn| format!("{:?}", insn.mnemonic()))
        .collect();
    names.join("-")
}
