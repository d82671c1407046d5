//! A listing as text: the columns that were asked for, side by side, by part.

use super::{Listing, PartKind, PartLine};
use std::fmt::Write;

/// Columns of a listing beside the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// CLIF as it was emitted.
    Clif,
    /// CLIF as it was compiled.
    Optimised,
    /// Host code.
    Host,
}

/// Width of the guest column.
const GUEST_WIDTH: usize = 34;
/// Width of a column of CLIF.
const CLIF_WIDTH: usize = 62;

/// The rows of a listing. A column that is empty throughout is left out.
pub fn rows(listing: &Listing, columns: &[Column]) -> String {
    let is_empty = |column: &Column| match column {
        Column::Clif => listing.clif.is_empty(),
        Column::Optimised => listing.optimised.is_empty(),
        Column::Host => listing.host.is_empty(),
    };
    let columns: Vec<Column> = columns.iter().copied().filter(|c| !is_empty(c)).collect();
    let mut out = String::new();
    for (n, part) in listing.parts.iter().enumerate() {
        let guest = heading(part);
        let cells: Vec<Vec<String>> = columns.iter().map(|c| cell(listing, *c, n)).collect();
        let height = cells.iter().map(Vec::len).fold(guest.len(), usize::max);
        for row in 0..height {
            let at = |lines: &[String]| lines.get(row).cloned().unwrap_or_default();
            let mut line = format!("{:GUEST_WIDTH$}", at(&guest));
            for (column, lines) in columns.iter().zip(&cells) {
                let width = if *column == Column::Host {
                    0
                } else {
                    CLIF_WIDTH
                };
                // Writing to a `String` cannot fail.
                let _ = write!(line, " | {:width$}", at(lines));
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    out
}

/// The guest column of a part.
fn heading(part: &PartLine) -> Vec<String> {
    let (eip, text) = (part.eip, &part.text);
    match part.kind {
        PartKind::Insn => {
            let mut lines = vec![format!("{eip:08x}  {text}")];
            if part.callout {
                let mnemonic = text.split(' ').next().unwrap_or_default();
                lines.push(format!("  callout: {mnemonic}"));
            }
            lines
        }
        PartKind::Exit(_) => vec![text.clone(), format!("  from {eip:08x}")],
        PartKind::Stones => vec![text.clone()],
    }
}

/// The lines of one column that belong to part `n`.
fn cell(listing: &Listing, column: Column, n: usize) -> Vec<String> {
    let clif = match column {
        Column::Clif => &listing.clif,
        Column::Optimised => &listing.optimised,
        Column::Host => {
            let here = listing.host.iter().filter(|line| line.part == n);
            return here.map(|l| format!("{:4x}  {}", l.at, l.text)).collect();
        }
    };
    let here = clif.iter().filter(|line| line.part == n);
    here.map(|line| line.text.clone()).collect()
}
