//! `info blocks` and `dump`: the translation cache, and what is written to files.

use super::answer::{Answer, Outcome};
use super::commands::{address, split};
use super::memory::{self, Kind};
use crate::cache::Compiled;
use crate::cli::number;
use crate::debug::dump::command;
use crate::debug::dump::options::{ShowArgs, Stage};
use crate::vm::Vm;
use serde_json::json;
use std::fmt::Write;

/// Blocks listed unless a number is given.
const USUAL: usize = 10;
/// Most blocks listed or dumped at once.
const MOST: usize = 1000;
/// Most bytes of memory dumped at once.
const MOST_BYTES: u32 = 1 << 28;

fn count(text: &str) -> Result<usize, String> {
    let wrong = || format!("a number of blocks is 1 to {MOST}, not `{text}`");
    match text.parse().map_err(|_| wrong())? {
        n @ 1..=MOST => Ok(n),
        _ => Err(wrong()),
    }
}

/// `info blocks`.
pub fn list(vm: &Vm, most: &str) -> Outcome {
    let most = match most {
        "" => USUAL,
        most => count(most)?,
    };
    let (mut all, mut compiled, mut insns) = (Vec::new(), 0u64, 0u64);
    for (_, block) in vm.cache.iter() {
        compiled += u64::from(matches!(block.compiled, Compiled::At(_)));
        insns += u64::from(block.insns);
        all.push(block);
    }
    all.sort_by_key(|block| (std::cmp::Reverse(block.heat), block.key.eip));
    let mut text = format!(
        "{} blocks of {insns} instructions, {compiled} compiled\n",
        all.len()
    );
    text += "eip      physical  instructions  bytes  interpreted  side exits  code\n";
    let mut data = Vec::new();
    for block in all.iter().take(most) {
        let form = match block.compiled {
            Compiled::No => "none yet",
            Compiled::Queued => "queued",
            Compiled::Never => "never",
            Compiled::At(_) => "compiled",
        };
        let (eip, phys, heat, exits) =
            (block.key.eip, block.key.phys, block.heat, block.side_exits);
        let (insns, bytes) = (block.insns, block.len_bytes);
        let _ = writeln!(
            text,
            "{eip:08x} {phys:08x} {insns:>13} {bytes:>6} {heat:>12} {exits:>11}  {form}"
        );
        data.push(json!({
            "eip": eip, "physical": phys, "instructions": insns, "bytes": bytes,
            "interpreted": heat, "side_exits": exits, "code": form,
        }));
    }
    let data = json!({
        "blocks": all.len(), "instructions": insns, "compiled": compiled, "hottest": data,
    });
    Ok(Answer::new(text, data))
}

/// `dump` with what follows.
pub fn dump(vm: &mut Vm, what: &str) -> Outcome {
    let words: Vec<&str> = what.split_whitespace().collect();
    match words[..] {
        ["block", at] => blocks(vm, Some(at), "0", None),
        ["block", at, file] => blocks(vm, Some(at), "0", Some(file)),
        ["hottest", n] => blocks(vm, None, n, None),
        ["hottest", n, file] => blocks(vm, None, n, Some(file)),
        ["memory", at, bytes, file] => copy(vm, at, bytes, file, Kind::Linear),
        ["physical", at, bytes, file] => copy(vm, at, bytes, file, Kind::Physical),
        _ => {
            let (word, _) = split(what);
            Err(format!(
                "`dump {word}` lacks something or is not known; try help dump"
            ))
        }
    }
}

fn blocks(vm: &mut Vm, at: Option<&str>, hottest: &str, file: Option<&str>) -> Outcome {
    let at = at.map(|at| address(vm, at)).transpose()?;
    let args = ShowArgs {
        hottest: at.is_none().then(|| count(hottest)).transpose()?,
        at: at.iter().map(|at| format!("{:#010x}", at.0)).collect(),
        stages: vec![Stage::Host],
        ..ShowArgs::default()
    };
    let tier = vm.tiers.policy();
    let text = command::text(vm, &args, tier).map_err(|error| format!("{error:#}"))?;
    match file {
        Some(file) => written(file, text.as_bytes()),
        None => Ok(Answer::new(text.clone(), json!({"text": text}))),
    }
}

fn copy(vm: &Vm, at: &str, bytes: &str, file: &str, kind: Kind) -> Outcome {
    let start = address(vm, at)?.0;
    let bytes = number(bytes)
        .ok()
        .filter(|bytes| (1..=MOST_BYTES).contains(bytes))
        .ok_or_else(|| format!("a number of bytes is 1 to {MOST_BYTES}, not `{bytes}`"))?;
    written(file, &memory::read(vm, start, bytes as usize, kind)?)
}

fn written(file: &str, bytes: &[u8]) -> Outcome {
    std::fs::write(file, bytes).map_err(|error| format!("cannot write {file}: {error}"))?;
    let text = format!("{} bytes written to {file}", bytes.len());
    Ok(Answer::new(
        text,
        json!({"file": file, "bytes": bytes.len()}),
    ))
}
