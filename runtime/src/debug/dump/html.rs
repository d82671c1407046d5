//! Blocks as a page to browse in: one file, no network.
//!
//! A boot has tens of thousands of blocks, and the page must be there at once. So it
//! holds three things. The *index* is what the list shows, by columns. The *details* are
//! a line of JSON for each block, parsed when that is looked at. Lines of code are
//! numbers there, into a *table* of all different ones, of which there are far fewer.

use super::{About, DumpedBlock, Edge, Origin, Sink, json};
use crate::json::{object, string};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use translator::dump::{Line, Listing};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPTS: [&str; 3] = [
    include_str!("page/data.js"),
    include_str!("page/list.js"),
    include_str!("page/block.js"),
];

/// The index: for each column its values, with commas between.
#[derive(Default)]
struct Index(Vec<(&'static str, String)>);

impl Index {
    fn push(&mut self, name: &'static str, value: impl std::fmt::Display) {
        let column = match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, column)) => {
                column.push(',');
                column
            }
            None => {
                self.0.push((name, String::new()));
                let last = self.0.len() - 1;
                &mut self.0[last].1
            }
        };
        // Writing to a `String` cannot fail.
        let _ = write!(column, "{value}");
    }
}

/// Different strings, by number.
#[derive(Default)]
struct Table {
    numbers: HashMap<String, usize>,
    strings: Vec<String>,
}

impl Table {
    fn number(&mut self, text: &str) -> usize {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        self.numbers.insert(text.to_owned(), self.strings.len());
        self.strings.push(string(text));
        self.strings.len() - 1
    }
}

/// Writes the page, at the end.
pub struct Html<W> {
    out: W,
    about: String,
    index: Index,
    details: String,
    table: Table,
}

impl<W: Write> Html<W> {
    /// Begins.
    pub fn new(out: W, about: &About) -> Self {
        Self {
            out,
            about: object(json::about(about)),
            index: Index::default(),
            details: String::new(),
            table: Table::default(),
        }
    }

    fn detail(&mut self, block: &DumpedBlock) {
        let listing = &block.listing;
        let parts = self.parts(listing);
        let clif = self.lines(&listing.clif);
        let optimised = match listing.optimised == listing.clif {
            true => "0".into(),
            false => self.lines(&listing.optimised),
        };
        let host = self.host(listing);
        let reason = match &block.code.origin {
            Origin::None(reason) => string(reason),
            _ => "0".into(),
        };
        let (out, into) = (edges(&block.out), edges(&block.into));
        let _ = writeln!(
            self.details,
            "[[{parts}],{clif},{optimised},{host},{out},{into},{reason}]"
        );
    }

    fn parts(&mut self, listing: &Listing) -> String {
        let parts: Vec<String> = listing
            .parts
            .iter()
            .map(|part| {
                let kind = self.table.number(json::kind(part.kind));
                let text = self.table.number(&part.text);
                let bytes: String = part.bytes.iter().map(|b| format!("{b:02x}")).collect();
                let callout = u8::from(part.callout);
                format!("[{kind},{},{text},\"{bytes}\",{callout}]", part.eip)
            })
            .collect();
        parts.join(",")
    }

    fn lines(&mut self, lines: &[Line]) -> String {
        let numbered: Vec<(usize, usize)> = lines
            .iter()
            .map(|line| (line.part, self.table.number(&line.text)))
            .collect();
        runs(&numbered)
    }

    fn host(&mut self, listing: &Listing) -> String {
        let numbered: Vec<(usize, usize)> = listing
            .host
            .iter()
            .map(|line| {
                let text = format!("{} {}", line.len, line.text);
                (line.part, self.table.number(&text))
            })
            .collect();
        runs(&numbered)
    }
}

/// Numbers of lines; before those of part `n` stands `-1 - n`.
fn runs(lines: &[(usize, usize)]) -> String {
    let mut text = String::from("[");
    let mut current = None;
    for &(part, line) in lines {
        if current != Some(part) {
            current = Some(part);
            let _ = write!(text, "-{},", part + 1);
        }
        let _ = write!(text, "{line},");
    }
    if text.ends_with(',') {
        text.pop();
    }
    text + "]"
}

/// Addresses, whether linked and known, and names of those that the index lacks.
fn edges(edges: &[Edge]) -> String {
    let one = |edge: &Edge| {
        let bits = u8::from(edge.linked) | u8::from(edge.known) << 1;
        match &edge.symbol {
            Some(symbol) if !edge.known => format!("[{},{bits},{}]", edge.eip, string(symbol)),
            _ => format!("[{},{bits}]", edge.eip),
        }
    };
    let all: Vec<String> = edges.iter().map(one).collect();
    format!("[{}]", all.join(","))
}

impl<W: Write> Sink for Html<W> {
    fn block(&mut self, block: &DumpedBlock) -> io::Result<()> {
        let (code, runs) = (&block.code, &block.runs);
        let symbol = block.symbol.as_deref();
        let mode = self.table.number(&block.mode_words().join(", "));
        let end = self.table.number(block.end());
        let form = self
            .table
            .number(code.form.map_or("none", |form| form.name()));
        let origin = self.table.number(code.origin.name());
        let index = &mut self.index;
        index.push("eip", block.eip);
        index.push("physical", block.physical);
        index.push("symbol", symbol.map_or("0".into(), string));
        index.push("mode", mode);
        index.push("end", end);
        index.push("form", form);
        index.push("origin", origin);
        index.push("instructions", block.instructions());
        index.push("guest", block.guest_bytes);
        index.push("host", code.bytes);
        index.push("ns", code.translation_ns);
        index.push("entered", runs.entered);
        index.push("exact", u8::from(runs.exact) | u8::from(runs.kept) << 1);
        index.push("samples", runs.samples);
        index.push("exits", runs.side_exits);
        self.detail(block);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let columns = self.index.0.iter();
        let columns = columns.map(|(name, values)| ((*name).to_owned(), format!("[{values}]")));
        let about = [("about".to_owned(), self.about.clone())];
        let index = object(about.into_iter().chain(columns));
        let table = format!("[{}]", self.table.strings.join(","));
        let scripts = SCRIPTS.concat();
        let parts = [
            ("{{style}}", STYLE),
            ("{{index}}", &index),
            ("{{table}}", &table),
            ("{{details}}", self.details.trim_end()),
            ("{{script}}", &scripts),
        ];
        let mut rest = PAGE;
        for (mark, text) in parts {
            let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
            self.out.write_all(before.as_bytes())?;
            self.out.write_all(text.as_bytes())?;
            rest = after;
        }
        self.out.write_all(rest.as_bytes())?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_named_once_for_its_lines() {
        assert_eq!(runs(&[]), "[]");
        assert_eq!(runs(&[(0, 7), (0, 8), (2, 7)]), "[-1,7,8,-3,7]");
    }

    #[test]
    fn every_mark_of_the_page_is_there_in_order() {
        let marks = [
            "{{style}}",
            "{{index}}",
            "{{table}}",
            "{{details}}",
            "{{script}}",
        ];
        let places: Vec<usize> = marks.iter().map(|m| PAGE.find(m).expect(m)).collect();
        assert!(places.is_sorted());
    }
}
