//! `ring1 dump`: runs a guest, then writes its blocks.

use super::clif::Clif;
use super::collect::Collector;
use super::dot::Dot;
use super::html::Html;
use super::json::Json;
use super::options::{DumpArgs, Format, ShowArgs};
use super::select::select;
use super::text::Text;
use super::{About, Sink};
use crate::cli::status;
use crate::config::{CodeCache, Tier, VmConfig};
use crate::console::progress;
use crate::debug::symbols::Symbols;
use crate::launch;
use crate::vm::Vm;
use anyhow::Context;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

/// Runs the command and returns the exit status.
///
/// # Errors
/// The guest cannot be loaded, a block not be found, or a file not be written.
pub fn run(args: &DumpArgs) -> anyhow::Result<u8> {
    let mut config = args.guest.to_config()?;
    let image_alone = args.run_for == Duration::ZERO;
    config.timeout = Some(args.run_for).filter(|_| !image_alone);
    if args.guest.code_cache.is_none() {
        // What comes from an earlier run has not been interpreted in this one.
        config.code_cache = CodeCache::Off;
    }
    let files = launch::Files::read(&config)?;
    let symbols = Symbols::of_guest(args.symbols.as_deref(), files.kernel())?;
    let mut vm = launch::machine(&config, |_| Ok(launch::silent_console()))?;
    files.load(&config, &mut vm)?;
    if !image_alone {
        vm.run();
    }
    match write(&mut vm, &args.show, &config, &symbols) {
        // Whoever read the rest, `head` perhaps, has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(status::POWERED_OFF),
        other => other.map(|()| status::POWERED_OFF),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes what the arguments ask for of a machine that has stopped.
///
/// # Errors
/// A block cannot be found, or a file not be written.
pub fn write(
    vm: &mut Vm,
    args: &ShowArgs,
    config: &VmConfig,
    symbols: &Symbols,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let chosen = select(vm, args, symbols)?;
    let mut collector = Collector::new(vm, config.tier, symbols, args.code_choice(), args.opt)?;
    let mut sink = sink(args, &about(vm, config))?;
    for id in &chosen {
        if let Some(block) = collector.block(*id) {
            sink.block(&block)?;
        }
    }
    sink.end()?;
    if let Some(path) = &args.output {
        let (count, path, seconds) = (chosen.len(), path.display(), start.elapsed());
        let seconds = seconds.as_secs_f64();
        eprintln!("ring1: {count} blocks in {path}, in {seconds:.1} s");
    }
    Ok(())
}

/// The same as text, for whoever has asked a machine that stands. `tier` is what it was
/// made for.
///
/// # Errors
/// A block cannot be found.
pub fn text(vm: &mut Vm, args: &ShowArgs, tier: Tier) -> anyhow::Result<String> {
    let symbols = Symbols::default();
    let chosen = select(vm, args, &symbols)?;
    let mut collector = Collector::new(vm, tier, &symbols, args.code_choice(), args.opt)?;
    let mut text = Text {
        out: Vec::new(),
        columns: args.columns(),
    };
    for id in chosen {
        if let Some(block) = collector.block(id) {
            text.block(&block)?;
        }
    }
    Ok(String::from_utf8_lossy(&text.out).into_owned())
}

fn about(vm: &Vm, config: &VmConfig) -> About {
    let name = |path: &Option<std::path::PathBuf>| {
        let name = path.as_ref()?.file_name()?;
        Some(name.to_string_lossy().into_owned())
    };
    let image = name(&config.kernel).or(name(&config.rom));
    let image = image.unwrap_or_else(|| "the default guest".into());
    let memory = progress::size(config.memory_bytes());
    About {
        guest: format!("{image}, {memory}"),
        tier: format!("{:?}", config.tier).to_lowercase(),
        retired: vm.counters.retired(),
        slices: vm.counters.slices,
    }
}

/// The sink for the format that was asked for, which writes to where it was asked to.
fn sink(args: &ShowArgs, about: &About) -> anyhow::Result<Box<dyn Sink>> {
    if let (Format::Clif, Some(folder)) = (args.format, &args.output)
        && folder
            .extension()
            .is_none_or(|extension| extension != "clif")
    {
        let clif = Clif::apart(folder);
        return Ok(Box::new(clif.with_context(|| cannot_write(folder))?));
    }
    let out: Box<dyn Write> = match &args.output {
        None => Box::new(BufWriter::new(io::stdout().lock())),
        Some(path) => {
            let file = File::create(path).with_context(|| cannot_write(path))?;
            Box::new(BufWriter::new(file))
        }
    };
    Ok(match args.format {
        Format::Text => Box::new(Text {
            out,
            columns: args.columns(),
        }),
        Format::Json => Box::new(Json::new(out, about)?),
        Format::Clif => Box::new(Clif::together(out)?),
        Format::Dot => Box::new(Dot::new(out)?),
        Format::Html => Box::new(Html::new(out, about)),
    })
}

fn cannot_write(path: &std::path::Path) -> String {
    format!("cannot write {}", path.display())
}
