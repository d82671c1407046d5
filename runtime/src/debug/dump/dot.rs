//! The graph of blocks, for Graphviz: links are solid, other fixed jumps dashed.

use super::{DumpedBlock, Form, Sink};
use std::collections::HashSet;
use std::io::{self, Write};

/// Writes DOT.
pub struct Dot<W> {
    out: W,
    seen: HashSet<u32>,
}

impl<W: Write> Dot<W> {
    /// Begins.
    pub fn new(mut out: W) -> io::Result<Self> {
        writeln!(out, "digraph blocks {{")?;
        writeln!(out, "  node [shape=box, fontname=monospace, fontsize=10];")?;
        Ok(Self {
            out,
            seen: HashSet::new(),
        })
    }
}

impl<W: Write> Sink for Dot<W> {
    fn block(&mut self, block: &DumpedBlock) -> io::Result<()> {
        let eip = block.eip;
        // One node for an address: an edge does not know more of where it leads.
        if !self.seen.insert(eip) {
            return Ok(());
        }
        let colour = match block.code.form {
            Some(Form::Mirrored) => ", style=filled, fillcolor=lightyellow",
            Some(_) => "",
            None => ", style=dotted",
        };
        let symbol = block.symbol.as_deref().map(quoted);
        let symbol = symbol.map_or_else(String::new, |symbol| format!("\\n{symbol}"));
        let (insns, samples) = (block.instructions(), block.runs.samples);
        writeln!(
            self.out,
            "  b{eip:08x} [label=\"{eip:08x}{symbol}\\n{insns} instructions, {samples} samples\"{colour}];"
        )?;
        for way in &block.out {
            let style = if way.linked { "solid" } else { "dashed" };
            writeln!(
                self.out,
                "  b{eip:08x} -> b{:08x} [style={style}];",
                way.eip
            )?;
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        writeln!(self.out, "}}")?;
        self.out.flush()
    }
}

/// A string's inside.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
