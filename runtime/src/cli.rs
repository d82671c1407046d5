//! The command line: definitions, and their conversion to a [`VmConfig`]. Nothing here acts.
//!
//! `ring1` alone runs the embedded default guest. `ring1 boot` runs a guest from files, `ring1 dump` shows
//! how a guest's blocks were translated. Both take the same description of the guest.

pub mod guest;
mod help;
pub mod machine;
pub mod manual;
mod nearest;
pub mod qemu;
pub mod words;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::bench::options::BenchArgs;
use crate::compare::options::CompareArgs;
use crate::config::{
    CodeCache, ConfigError, DEFAULT_CODE_MEMORY_MIB, DEFAULT_MEMORY_MIB, SerialPort, StatsFormat,
    Tier, VmConfig,
};
use crate::cpu_model::Processor;
use crate::debug::dump::options::DumpArgs;
use crate::debug::perf::PerfArgs;
use crate::gdb::options::GdbArgs;
use crate::loader::{FlatMode, FlatOptions};
use crate::log::LogArgs;
use crate::selftest::options::{HelperArgs, SelftestArgs};
use words::CommandLineError;

/// The exit statuses of `ring1`; see also [`debug_exit_status`].
pub mod status {
    /// The guest powered itself off.
    pub const POWERED_OFF: u8 = 0;
    /// Something is wrong with a file, an argument's value or the host.
    pub const ERROR: u8 = 1;
    /// The command line makes no sense.
    pub const USAGE: u8 = 2;
    /// The timeout or the instruction limit was reached.
    pub const LIMIT_REACHED: u8 = 3;
    /// The guest ended by a triple fault, a reset, or HLT with interrupts off.
    pub const RESET: u8 = 4;
}

/// The exit status after the guest wrote `value` to the debug-exit port: always odd.
pub fn debug_exit_status(value: u8) -> u8 {
    (value << 1) | 1
}

const EXIT_STATUSES: &str = "\
Exit status:
  0  the guest powered off, or the debugger killed it
  1  a file, a setting or the host is at fault
  2  wrong usage
  3  the timeout or the instruction limit was reached
  4  the guest ended by a triple fault, a reset, or HLT with interrupts off
  An exit by the debug-exit port gives (value << 1) | 1.";

/// Runs unmodified 32-bit x86 guests by binary translation, in an ordinary process.
///
/// Without a command, runs the small guest that is built in.
#[derive(Debug, Parser)]
#[command(name = "ring1", version, after_help = EXIT_STATUSES, after_long_help = format!("{}\n\n{EXIT_STATUSES}\n\n{}", help::PROGRAM, help::ENVIRONMENT))]
pub struct Cli {
    /// What to do; run the default guest if absent.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Parses a command line, the program's name first, in ring1's or QEMU's spelling, with
/// what its machine file adds.
///
/// # Errors
/// What is wrong with it.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, CommandLineError> {
    let translated = words::translate(&Cli::command(), words.into_iter().collect())?;
    Cli::try_parse_from(translated.words).map_err(|error| {
        let line = translated.machine.and_then(|file| file.blame(&error));
        line.map_or_else(|| error.into(), CommandLineError::from)
    })
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a guest, its serial port on this terminal
    #[command(after_help = format!("{}\n\n{EXIT_STATUSES}", help::BOOT))]
    Boot(BootArgs),
    /// Run a guest for a while and show its blocks: as text, JSON, CLIF, graph or page
    #[command(after_help = help::DUMP)]
    Dump(DumpArgs),
    /// Compare this build with the host CPU on random instruction sequences
    #[command(after_help = help::SELFTEST)]
    Selftest(SelftestArgs),
    /// Time boots and programs in guests: on the host CPU, in ring1, in QEMU
    #[command(after_help = help::BENCH)]
    Bench(BenchArgs),
    /// Measure what virtualization costs, operation by operation, in cycles
    #[command(after_help = help::COMPARE)]
    Compare(CompareArgs),
    /// Write the embedded guest into a file, for debuggers and disassemblers
    #[command(after_help = help::GUEST)]
    Guest(guest::GuestFileArgs),
    /// Print completions for a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or write all of them
    #[command(after_help = help::MAN)]
    Man(manual::ManArgs),
    /// What `selftest` starts for the work.
    #[command(name = crate::selftest::command::HELPER, hide = true)]
    SelftestHelper(HelperArgs),
}

/// The guest and how to run it.
#[derive(Clone, Debug, Args)]
pub struct GuestArgs {
    /// Machine file, which settles what the options leave open
    #[arg(value_name = "FILE.toml", value_parser = machine_file, conflicts_with = "machine")]
    pub machine_file: Option<PathBuf>,
    /// The same, whatever the file's name
    #[arg(long, value_name = "FILE")]
    pub machine: Option<PathBuf>,
    /// bzImage, ELF32, Multiboot 1 or flat image [default: the embedded guest]
    #[arg(long, help_heading = "Guest", value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk, or Multiboot module
    #[arg(long, help_heading = "Guest", value_name = "FILE", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// Kernel command line
    #[arg(
        long,
        help_heading = "Guest",
        value_name = "TEXT",
        requires = "kernel",
        allow_hyphen_values = true
    )]
    pub append: Option<String>,
    /// Where the guest's serial port leads
    #[arg(long, help_heading = "Machine", value_enum, default_value_t = SerialPort::Stdio)]
    pub serial: SerialPort,
    /// Guest memory in MiB, 1 to 3072
    #[arg(long, help_heading = "Machine", value_name = "MIB", default_value_t = DEFAULT_MEMORY_MIB)]
    pub memory: u32,
    /// The processor that the guest finds
    #[arg(long, help_heading = "Machine", value_enum, default_value_t = Processor::Max)]
    pub cpu: Processor,
    /// How guest code is run
    #[arg(long, help_heading = "Execution", value_enum, default_value_t = Tier::Auto)]
    pub tier: Tier,
    /// Stop after this many seconds (a fraction is fine), exit status 3
    #[arg(long, help_heading = "Execution", value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Stop after this many guest instructions, exit status 3
    #[arg(long, help_heading = "Execution", value_name = "INSTRUCTIONS")]
    pub limit: Option<u64>,
    /// Print at the end what the VMM did
    #[arg(long, help_heading = "Execution")]
    pub stats: bool,
    /// The same, and how: as tables, or as one JSON object [default: text]
    #[arg(long, help_heading = "Execution", value_name = "FORMAT", value_enum)]
    pub stats_format: Option<StatsFormat>,
    /// The same, into this file instead of standard error
    #[arg(long, help_heading = "Execution", value_name = "FILE")]
    pub stats_file: Option<PathBuf>,
    /// Load the kernel as a flat binary at this physical address and start it at its first byte
    #[arg(long, help_heading = "Guest", value_name = "ADDRESS", requires = "kernel", value_parser = number)]
    pub flat: Option<u32>,
    /// Start the processor from reset in this firmware ROM instead of a kernel
    #[arg(
        long,
        help_heading = "Guest",
        value_name = "FILE",
        conflicts_with = "kernel"
    )]
    pub rom: Option<PathBuf>,
    /// Let the processor have its local APIC. No table tells a system how it is wired, and
    /// there is no I/O APIC
    #[arg(long, help_heading = "Machine")]
    pub local_apic: bool,
    /// Add the device that CPU test suites use, QEMU's pc-testdev
    #[arg(long, help_heading = "Machine")]
    pub test_device: bool,
    /// Keep translated code in this folder for the next run, or "off" to keep none
    /// [default: ring1 in the user's folder for caches]
    #[arg(long, help_heading = "Execution", value_name = "DIR|off")]
    pub code_cache: Option<PathBuf>,
    /// Most memory for translated code, in MiB
    #[arg(long, help_heading = "Execution", value_name = "MIB", default_value_t = DEFAULT_CODE_MEMORY_MIB)]
    pub code_memory: u32,
    /// Mode in which a flat binary starts: 16-bit real or flat 32-bit protected
    #[arg(long, help_heading = "Guest", value_name = "BITS", requires = "flat", value_enum, default_value_t = FlatBits::Real)]
    pub flat_bits: FlatBits,
}

/// The guest, and how to look into it while it runs.
#[derive(Clone, Debug, Args)]
pub struct BootArgs {
    /// The guest to run.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// A debugger for it.
    #[command(flatten)]
    pub gdb: GdbArgs,
    /// Take commands of the monitor at this socket, as text or JSON
    #[arg(long, help_heading = "Debugging", value_name = "PATH")]
    pub monitor: Option<PathBuf>,
    /// A log of what it does.
    #[command(flatten)]
    pub log: LogArgs,
    /// Names of its code, for perf.
    #[command(flatten)]
    pub perf: PerfArgs,
}

/// The values of `--flat-bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlatBits {
    /// Real mode
    #[value(name = "16")]
    Real,
    /// Flat protected mode, paging off
    #[value(name = "32")]
    Protected,
}

impl GuestArgs {
    /// The configuration that these arguments describe.
    ///
    /// # Errors
    /// What [`VmConfig::validate`] finds.
    pub fn to_config(&self) -> Result<VmConfig, ConfigError> {
        let mode = match self.flat_bits {
            FlatBits::Real => FlatMode::Real16,
            FlatBits::Protected => FlatMode::Protected32,
        };
        let config = VmConfig {
            memory_mib: self.memory,
            cpu: self.cpu,
            tier: self.tier,
            timeout: self.timeout,
            limit: self.limit,
            stats: self.stats || self.stats_format.is_some() || self.stats_file.is_some(),
            stats_format: self.stats_format.unwrap_or_default(),
            stats_file: self.stats_file.clone(),
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            append: self.append.clone().unwrap_or_default(),
            serial: self.serial,
            flat: self.flat.map(|address| FlatOptions { address, mode }),
            rom: self.rom.clone(),
            local_apic: self.local_apic,
            test_device: self.test_device,
            code_cache: code_cache(self.code_cache.as_deref()),
            code_memory_mib: self.code_memory,
            ..VmConfig::default()
        };
        config.validate()?;
        Ok(config)
    }
}

impl BootArgs {
    /// The configuration that these arguments describe.
    ///
    /// # Errors
    /// What [`VmConfig::validate`] finds.
    pub fn to_config(&self) -> Result<VmConfig, ConfigError> {
        Ok(VmConfig {
            gdb: self.gdb.to_options(),
            monitor: self.monitor.clone(),
            log: self.log.clone(),
            perf: self.perf.clone(),
            ..self.guest.to_config()?
        })
    }
}

/// The value of `--code-cache`.
fn code_cache(given: Option<&Path>) -> CodeCache {
    match given {
        None => CodeCache::User,
        Some(folder) if folder.as_os_str() == "off" => CodeCache::Off,
        Some(folder) => CodeCache::Folder(folder.to_owned()),
    }
}

/// A 32-bit number, decimal or, after "0x", hexadecimal.
pub(crate) fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| String::from("not a 32-bit number such as 31744 or 0x7c00"))
}

/// A file that says by its name that it describes a machine.
fn machine_file(text: &str) -> Result<PathBuf, String> {
    match words::is_machine_file(text.as_ref()) {
        true => Ok(text.into()),
        false => Err("the name of a machine file ends in .toml; ring1 has no disks".into()),
    }
}

/// A duration in seconds, with or without a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let parsed: f64 = text
        .parse()
        .map_err(|_| String::from("not a number of seconds"))?;
    Duration::try_from_secs_f64(parsed)
        .map_err(|_| String::from("not a possible number of seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debug::perf::PerfKind;
    use crate::gdb::connection::Address;
    use crate::gdb::options::GdbOptions;
    use crate::log::Topic;

    fn boot(arguments: &str) -> Result<VmConfig, String> {
        let words = ["ring1", "boot"]
            .into_iter()
            .chain(arguments.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        match cli.command {
            Some(Command::Boot(boot)) => boot.to_config().map_err(|error| error.to_string()),
            other => Err(format!("parsed as {other:?}")),
        }
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_arguments_mean_the_default_guest() {
        assert!(Cli::try_parse_from(["ring1"]).unwrap().command.is_none());
        let expected = VmConfig {
            code_cache: CodeCache::User,
            ..VmConfig::default()
        };
        assert_eq!(boot(""), Ok(expected));
        assert_eq!(boot("--code-cache off"), Ok(VmConfig::default()));
    }

    #[test]
    fn every_boot_option_reaches_the_configuration() {
        let given = boot(
            "--kernel k --initrd i --append=console=ttyS0 --serial none --memory 64 --cpu pentium3 --tier interp --timeout 1.5 \
             --limit 1000 --stats-format json --stats-file s --local-apic --test-device --code-cache c --code-memory 8 --gdb /run/g --gdb-wait --monitor /run/m --log int,io --log-file l \
             --log-filter 0x10..0x20 --perf jitdump --symbols s --dump d.html --flat 0x8000 --flat-bits 32",
        );
        let expected = VmConfig {
            memory_mib: 64,
            cpu: Processor::Pentium3,
            tier: Tier::Interp,
            timeout: Some(Duration::from_millis(1500)),
            limit: Some(1000),
            stats: true,
            stats_format: StatsFormat::Json,
            stats_file: Some("s".into()),
            kernel: Some("k".into()),
            initrd: Some("i".into()),
            append: "console=ttyS0".into(),
            serial: SerialPort::None,
            flat: Some(FlatOptions {
                address: 0x8000,
                mode: FlatMode::Protected32,
            }),
            rom: None,
            local_apic: true,
            test_device: true,
            code_cache: CodeCache::Folder("c".into()),
            code_memory_mib: 8,
            gdb: Some(GdbOptions {
                address: Address::Unix("/run/g".into()),
                wait: true,
            }),
            monitor: Some("/run/m".into()),
            log: LogArgs {
                log: vec![Topic::Int, Topic::Io],
                log_file: Some("l".into()),
                log_filter: Some(0x10..=0x20),
            },
            perf: PerfArgs {
                perf: Some(PerfKind::Jitdump),
                symbols: Some("s".into()),
                dump: Some("d.html".into()),
            },
        };
        assert_eq!(given, Ok(expected));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (arguments, reason) in [
            ("--memory 0", "guest memory must be 1 to 3072 MiB"),
            (
                "--code-memory 2000",
                "memory for code must be 4 to 1024 MiB",
            ),
            ("--initrd i", "--kernel"),
            ("--kernel k --flat 0x1_0000", "not a 32-bit number"),
            ("--kernel k --flat 0x100000000", "not a 32-bit number"),
            ("--timeout=-1", "not a possible number of seconds"),
            ("--timeout NaN", "not a possible number of seconds"),
            ("--timeout 0", "the timeout must be more than zero"),
            ("--tier jit", "interp"),
        ] {
            let error = boot(arguments).unwrap_err();
            assert!(error.contains(reason), "{arguments}: {error}");
        }
    }

    #[test]
    fn dump_shows_the_hottest_block_unless_told_otherwise() {
        let count = |arguments: &[&str]| match Cli::try_parse_from(arguments).unwrap().command {
            Some(Command::Dump(dump)) => dump.show.hottest_count(),
            other => panic!("parsed as {other:?}"),
        };
        assert_eq!(count(&["ring1", "dump"]), 1);
        assert_eq!(count(&["ring1", "dump", "--at", "0x100000"]), 0);
        assert_eq!(count(&["ring1", "dump", "--hottest", "7"]), 7);
        assert_eq!(count(&["ring1", "dump", "--format", "html"]), 0);
    }

    #[test]
    fn debug_exit_statuses_are_odd() {
        assert_eq!([0, 1, 0x7F, 0xFF].map(debug_exit_status), [1, 3, 255, 255]);
    }
}
