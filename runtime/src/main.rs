//! The `ring1` program.

use anyhow::Context;
use runtime::builder::Builder;
use runtime::cli::words::CommandLineError;
use runtime::cli::{self, BootArgs, Command, debug_exit_status, status};
use runtime::config::{CodeCache, SerialPort, VmConfig};
use runtime::console::{StdioConsole, progress, terminal};
use runtime::debug::dump;
use runtime::debug::perf::{Perf, PerfKind};
use runtime::debug::symbols::Symbols;
use runtime::exit::Exit;
use runtime::gdb::options::GdbOptions;
use runtime::log::Log;
use runtime::{bench, compare, embedded, launch, native, selftest, summary};
use std::process::ExitCode;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(CommandLineError::Usage(error)) => error.exit(),
        Err(CommandLineError::Machine(error)) => {
            eprintln!("ring1: {error}");
            return ExitCode::from(status::ERROR);
        }
    };
    let status = match &cli.command {
        None => run_embedded(&VmConfig {
            code_cache: CodeCache::User,
            ..VmConfig::default()
        }),
        Some(Command::Boot(args)) => boot(args),
        Some(Command::Dump(args)) => dump::command::run(args),
        Some(Command::Bench(args)) => bench::command::run(args),
        Some(Command::Compare(args)) => compare::command::run(args),
        Some(Command::Selftest(args)) => selftest::command::run(args),
        Some(Command::Guest(args)) => args.write().map(|()| status::POWERED_OFF),
        Some(Command::Completions(args)) => written(args.write(&mut std::io::stdout())),
        Some(Command::Man(args)) => written(args.write(&mut std::io::stdout())),
        Some(Command::SelftestHelper(args)) => {
            selftest::worker::serve(args).map(|()| status::POWERED_OFF)
        }
    };
    match status {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            progress::finish();
            eprintln!("ring1: {error:#}");
            ExitCode::from(status::ERROR)
        }
    }
}

/// The exit status of a command that only writes something.
fn written(result: std::io::Result<()>) -> anyhow::Result<u8> {
    result.context("cannot write")?;
    Ok(status::POWERED_OFF)
}

fn boot(args: &BootArgs) -> anyhow::Result<u8> {
    let config = args.to_config()?;
    if config.kernel.is_none() && config.rom.is_none() {
        return run_embedded(&config);
    }
    let (exit, vm) = run(&config)?;
    if config.stats {
        write_stats(&config, &vm, &mut std::io::stderr())?;
    }
    let status = report(exit, &vm);
    vm.end_with_process();
    Ok(status)
}

/// Runs the embedded guest and always shows what the VMM did.
fn run_embedded(config: &VmConfig) -> anyhow::Result<u8> {
    let (exit, vm) = run(config)?;
    write_stats(config, &vm, &mut std::io::stdout())?;
    let status = match exit {
        Exit::DebugExit(embedded::SUCCESS) => status::POWERED_OFF,
        other => report(other, &vm),
    };
    vm.end_with_process();
    Ok(status)
}

fn write_stats(
    config: &VmConfig,
    vm: &runtime::vm::Vm,
    out: &mut dyn std::io::Write,
) -> anyhow::Result<()> {
    let written = summary::Summary::of(vm).write(config, out);
    written.context("cannot write the statistics")
}

fn run(config: &VmConfig) -> anyhow::Result<(Exit, runtime::vm::Vm)> {
    let files = launch::Files::read(config)?;
    if config.serial == SerialPort::Stdio {
        progress::start(files.describe(config));
    }
    let symbols = Symbols::of_guest(config.perf.symbols.as_deref(), files.kernel())?;
    let mut builder = Builder::new(config.clone()).files(files);
    if config.serial == SerialPort::Stdio {
        let console = StdioConsole::new(builder.waker(), builder.monitor())
            .context("cannot use standard input")?;
        let quit = console.quit_flag();
        builder = builder.console(console).quit_flag(quit);
    }
    let mut vm = builder.build()?;
    vm.cpu.log = Log::open(&config.log)
        .context("cannot write the log")?
        .map(Box::new);
    if let Some(kind) = config.perf.perf {
        tell_perf(&mut vm, kind, symbols.clone())?;
    }
    if let Some(gdb) = &config.gdb {
        listen_for_debugger(&mut vm, gdb)?;
    }
    if let Some(path) = &config.monitor {
        vm.listen_for_monitor(path)
            .with_context(|| format!("cannot open the monitor's socket {}", path.display()))?;
    }
    let exit = vm.run();
    progress::finish();
    terminal::restore();
    if let Some(path) = &config.perf.dump {
        let all = dump::options::ShowArgs::all_into(path);
        dump::command::write(&mut vm, &all, config, &symbols)?;
    }
    save_code(config, &mut vm);
    Ok((exit, vm))
}

fn save_code(config: &VmConfig, vm: &mut runtime::vm::Vm) {
    match vm.tiers.save() {
        // Nobody has asked for it.
        Err(error) if config.code_cache == CodeCache::User => {
            tracing::debug!(%error, "the code of this run is not kept");
        }
        Err(error) => tracing::warn!("the code of this run is not kept: {error}"),
        Ok(()) => {}
    }
}

fn tell_perf(vm: &mut runtime::vm::Vm, kind: PerfKind, symbols: Symbols) -> anyhow::Result<()> {
    let (perf, path) = Perf::open(kind, symbols).context("cannot write for perf")?;
    vm.cache
        .tell_perf(perf, &native::ROUTINE_NAMES)
        .context("cannot map memory whose code perf can name")?;
    eprintln!("ring1: names of guest code go to {}", path.display());
    Ok(())
}

fn listen_for_debugger(vm: &mut runtime::vm::Vm, gdb: &GdbOptions) -> anyhow::Result<()> {
    let address = vm
        .listen_for_debugger(&gdb.address, gdb.wait)
        .with_context(|| format!("cannot listen for a debugger at {}", gdb.address))?;
    if address.is_public() {
        eprintln!("ring1: warning: whoever reaches {address} can control the guest");
    }
    let waits = if gdb.wait { "; the guest waits" } else { "" };
    eprintln!("ring1: GDB can connect: target remote {address}{waits}");
    Ok(())
}

/// Says on standard error why the guest ended, unless it ended as it should,
/// and returns the exit status.
fn report(exit: Exit, vm: &runtime::vm::Vm) -> u8 {
    match exit {
        Exit::PowerOff => status::POWERED_OFF,
        Exit::Quit => {
            eprintln!("\nring1: quit");
            status::POWERED_OFF
        }
        Exit::DebugExit(value) => debug_exit_status(value as u8),
        Exit::Timeout | Exit::Limit => {
            eprintln!(
                "\nring1: the {} was reached",
                if exit == Exit::Timeout {
                    "timeout"
                } else {
                    "instruction limit"
                }
            );
            status::LIMIT_REACHED
        }
        Exit::Reset => {
            eprintln!("\nring1: the guest asked for a reset");
            status::RESET
        }
        Exit::TripleFault => {
            eprintln!("\nring1: triple fault\n{}", summary::registers(&vm.cpu));
            status::RESET
        }
        Exit::Halted => {
            eprintln!(
                "\nring1: the guest halted for good, with interrupts off\n{}",
                summary::registers(&vm.cpu)
            );
            status::RESET
        }
    }
}
