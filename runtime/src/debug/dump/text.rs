//! Blocks as text, for reading: what there is to say of a block, then its columns.

use super::{Code, DumpedBlock, Edge, Origin, Runs, Sink, titled};
use std::io::{self, Write};
use translator::dump::text::{Column, rows};

/// Most ways in that are listed.
const MOST_WAYS: usize = 8;

/// Writes text.
pub struct Text<W> {
    pub out: W,
    pub columns: Vec<Column>,
}

impl<W: Write> Sink for Text<W> {
    fn block(&mut self, block: &DumpedBlock) -> io::Result<()> {
        let out = &mut self.out;
        let (insns, guest) = (block.instructions(), block.guest_bytes);
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let (some, bytes) = (plural(insns), plural(guest as usize));
        let (title, end) = (block.title(), block.end());
        writeln!(
            out,
            "block {title}: {insns} instruction{some}, {guest} guest byte{bytes}, ends with {end}"
        )?;
        let modes = block.mode_words().join(", ");
        writeln!(out, "  at       {:08x} physical, {modes}", block.physical)?;
        writeln!(out, "  runs     {}", runs(&block.runs))?;
        writeln!(out, "  code     {}", code(&block.code, block.expansion()))?;
        ways(out, "goes to", &block.out)?;
        ways(out, "from", &block.into)?;
        out.write_all(rows(&block.listing, &self.columns).as_bytes())?;
        writeln!(out)
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// How often, and what is not known of it.
pub fn runs(runs: &Runs) -> String {
    let times = |n: u32| match n {
        1 => "once".to_owned(),
        n => format!("{n} times"),
    };
    let mut text = match runs.entered {
        _ if runs.kept => "uncounted: known at another address or from an earlier run".to_owned(),
        0 => "never entered".to_owned(),
        n => format!("entered {}", times(n)),
    };
    if !runs.exact && !runs.kept {
        text += " by the interpreter, then in compiled code, uncounted";
    }
    if runs.samples > 0 {
        text += &format!("; {} samples", runs.samples);
    }
    if runs.side_exits > 0 {
        text += &format!("; left in the middle {}", times(runs.side_exits));
    }
    text
}

fn code(code: &Code, expansion: f64) -> String {
    let Some(form) = code.form else {
        let Origin::None(reason) = &code.origin else {
            return "none".into();
        };
        return format!("none: {reason}");
    };
    let origin = match code.origin {
        Origin::Listing => "; compiled for this listing, the block was interpreted so far",
        Origin::Another => "; compiled for this listing, the guest ran other code",
        Origin::Ran | Origin::None(_) => "",
    };
    let (name, bytes, us) = (form.name(), code.bytes, code.translation_ns as f64 / 1e3);
    format!("{name}, {bytes} bytes, {expansion:.1} to 1, made in {us:.1} µs{origin}")
}

fn ways(out: &mut impl Write, what: &str, ways: &[Edge]) -> io::Result<()> {
    for way in ways.iter().take(MOST_WAYS) {
        let title = titled(way.eip, way.symbol.as_deref());
        let how = match (way.linked, way.known) {
            (true, _) => "linked",
            (false, true) => "no link",
            (false, false) => "never run",
        };
        writeln!(out, "  {what:<8} {title}, {how}")?;
    }
    match ways.len().saturating_sub(MOST_WAYS) {
        0 => Ok(()),
        more => writeln!(out, "  {what:<8} … and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_are_not_all_say_so() {
        let mut known = Runs {
            entered: 1,
            exact: true,
            ..Runs::default()
        };
        assert_eq!(runs(&known), "entered once");
        known = Runs {
            entered: 8,
            exact: false,
            samples: 3,
            side_exits: 2,
            kept: false,
        };
        assert_eq!(
            runs(&known),
            "entered 8 times by the interpreter, then in compiled code, uncounted; 3 samples; left in the middle 2 times"
        );
    }
}
