//! Blocks as JSON, one to a line. `docs/dump.md` has the schema.

use super::{About, DumpedBlock, Edge, Origin, Sink};
use crate::json::{array, number, object, string};
use std::io::{self, Write};
use translator::compile::ExitKind;
use translator::dump::{Line, PartKind, PartLine};

/// Version of the schema.
const VERSION: u32 = 1;

/// Writes JSON.
pub struct Json<W> {
    out: W,
    blocks: usize,
}

/// A name and a value.
type Field = (String, String);

fn field(name: &str, value: impl ToString) -> Field {
    (name.into(), value.to_string())
}

fn text(name: &str, value: &str) -> Field {
    (name.into(), string(value))
}

fn hex(value: impl Into<u64>) -> String {
    format!("\"{:08x}\"", value.into())
}

fn symbol(symbol: Option<&str>) -> Field {
    field("symbol", symbol.map_or("null".into(), string))
}

/// What is true of the whole dump, as fields.
pub fn about(about: &About) -> Vec<Field> {
    vec![
        text("guest", &about.guest),
        text("tier", &about.tier),
        field("retired", about.retired),
        field("slices", about.slices),
    ]
}

impl<W: Write> Json<W> {
    /// Begins.
    pub fn new(mut out: W, about_guest: &About) -> io::Result<Self> {
        let mut fields = vec![field("ring1_dump", VERSION)];
        fields.extend(about(about_guest));
        let head = object(fields);
        write!(out, "{}, \"blocks\": [", head.trim_end_matches('}'))?;
        Ok(Self { out, blocks: 0 })
    }
}

impl<W: Write> Sink for Json<W> {
    fn block(&mut self, block: &DumpedBlock) -> io::Result<()> {
        let comma = if self.blocks == 0 { "" } else { "," };
        self.blocks += 1;
        write!(self.out, "{comma}\n{}", of_block(block))
    }

    fn end(&mut self) -> io::Result<()> {
        writeln!(self.out, "\n]}}")?;
        self.out.flush()
    }
}

fn of_block(block: &DumpedBlock) -> String {
    let (code, runs) = (&block.code, &block.runs);
    let form = code.form.map_or("null".into(), |form| string(form.name()));
    let reason = match &code.origin {
        Origin::None(reason) => string(reason),
        _ => "null".into(),
    };
    let listing = &block.listing;
    let host = listing.host.iter();
    let host = host.map(|l| format!("[{},{},{}]", l.part, l.at, string(&l.text)));
    object([
        field("eip", hex(block.eip)),
        field("physical", hex(block.physical)),
        symbol(block.symbol.as_deref()),
        field("mode", array(block.mode_words().into_iter().map(string))),
        field("instructions", block.instructions()),
        field("guest_bytes", block.guest_bytes),
        text("ends_with", block.end()),
        field("code", form),
        text("origin", code.origin.name()),
        field("reason", reason),
        field("host_bytes", code.bytes),
        field(
            "expansion",
            number(Some((block.expansion() * 100.0).round() / 100.0)),
        ),
        field("translation_ns", code.translation_ns),
        field("entered", runs.entered),
        field("exact", runs.exact),
        field("kept", runs.kept),
        field("samples", runs.samples),
        field("side_exits", runs.side_exits),
        field("out", array(block.out.iter().map(edge))),
        field("in", array(block.into.iter().map(edge))),
        field("parts", array(listing.parts.iter().map(part))),
        field("clif", array(listing.clif.iter().map(line))),
        field("optimised", array(listing.optimised.iter().map(line))),
        field("host", array(host)),
    ])
}

fn edge(edge: &Edge) -> String {
    object([
        field("eip", hex(edge.eip)),
        symbol(edge.symbol.as_deref()),
        field("known", edge.known),
        field("linked", edge.linked),
    ])
}

fn part(part: &PartLine) -> String {
    let bytes: String = part
        .bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    object([
        text("kind", kind(part.kind)),
        field("eip", hex(part.eip)),
        text("text", &part.text),
        text("bytes", &bytes),
        field("callout", part.callout),
    ])
}

/// What a part is, in a word.
pub fn kind(kind: PartKind) -> &'static str {
    match kind {
        PartKind::Insn => "instruction",
        PartKind::Exit(ExitKind::Next) => "exit-next",
        PartKind::Exit(ExitKind::Interpret) => "exit-interpret",
        PartKind::Exit(ExitKind::Unlinked) => "exit-unlinked",
        PartKind::Exit(ExitKind::Gate) => "exit-gate",
        PartKind::Exit(ExitKind::Budget) => "exit-budget",
        PartKind::Exit(ExitKind::Leave) => "exit-leave",
        PartKind::Stones => "stones",
    }
}

fn line(line: &Line) -> String {
    format!("[{},{}]", line.part, string(&line.text))
}
