//! What a virtual machine is made of: the settings that the command line, a test or an embedder gives.
//!
//! A [`VmConfig`] is plain data. [`VmConfig::validate`] is the one place that says which combinations make
//! sense, so whatever is built from a validated configuration need not ask again.

use std::path::PathBuf;
use std::time::Duration;

use crate::cpu_model::Processor;
use crate::debug::perf::PerfArgs;
use crate::gdb::options::GdbOptions;
use crate::loader::FlatOptions;
use crate::log::LogArgs;

/// Least and most guest memory, in MiB. Above 3 GiB a PC has its devices.
pub const MEMORY_MIB: std::ops::RangeInclusive<u32> = 1..=3072;
/// Guest memory unless asked otherwise, in MiB.
pub const DEFAULT_MEMORY_MIB: u32 = 128;

/// Least and most memory for compiled code, in MiB. A jump of code reaches 2 GiB.
pub const CODE_MEMORY_MIB: std::ops::RangeInclusive<u32> = 4..=1024;
/// Memory for compiled code unless asked otherwise, in MiB.
pub const DEFAULT_CODE_MEMORY_MIB: u32 = 256;

/// How guest code is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Tier {
    /// Interpret everything
    Interp,
    /// Compile every block before its first run
    Cranelift,
    /// Re-encode every block before its first run (x86-64 hosts with BMI2)
    Direct,
    /// The same, with all guest addresses translated by the host's MMU
    Mirror,
    /// Interpret cold code, translate warm code
    #[default]
    Auto,
}

impl Tier {
    /// Whether all code is direct code.
    pub fn pins_direct_code(self) -> bool {
        matches!(self, Tier::Direct | Tier::Mirror)
    }
}

/// How statistics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum StatsFormat {
    /// Tables
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// Where the guest's serial port leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SerialPort {
    /// To standard input and output
    #[default]
    Stdio,
    /// Nowhere: output is dropped, and nothing comes in
    None,
}

/// Where translated code is kept from run to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CodeCache {
    /// Nowhere.
    #[default]
    Off,
    /// In the user's folder for caches, if there is one.
    User,
    /// In this folder.
    Folder(PathBuf),
}

/// The settings of one virtual machine.
#[derive(Clone, Debug, PartialEq)]
pub struct VmConfig {
    /// Guest RAM in MiB, within [`MEMORY_MIB`].
    pub memory_mib: u32,
    /// The processor.
    pub cpu: Processor,
    /// How guest code is run.
    pub tier: Tier,
    /// Stop the guest after this much host time.
    pub timeout: Option<Duration>,
    /// Stop the guest after this many guest instructions.
    pub limit: Option<u64>,
    /// Keep account of the time, and print what the VMM did when the guest ends.
    pub stats: bool,
    /// How to print it.
    pub stats_format: StatsFormat,
    /// Where to, instead of standard error.
    pub stats_file: Option<PathBuf>,
    /// The kernel's file; the embedded default guest if there is none.
    pub kernel: Option<PathBuf>,
    /// The initial RAM disk's file.
    pub initrd: Option<PathBuf>,
    /// The kernel command line.
    pub append: String,
    /// Where the guest's serial port leads.
    pub serial: SerialPort,
    /// Take the kernel as a flat binary, whatever it looks like.
    pub flat: Option<FlatOptions>,
    /// A firmware ROM's file, to start in instead of a kernel.
    pub rom: Option<PathBuf>,
    /// Whether a processor that has a local APIC may use it.
    pub local_apic: bool,
    /// Whether the board has the device that CPU test suites use.
    pub test_device: bool,
    /// Where translated code is kept. The `ring1` program does so unless told otherwise.
    pub code_cache: CodeCache,
    /// Most memory for compiled code in MiB, within [`CODE_MEMORY_MIB`]; what is known of
    /// blocks grows in proportion. Beyond, the oldest eighth is dropped.
    pub code_memory_mib: u32,
    /// A port for debuggers.
    pub gdb: Option<GdbOptions>,
    /// The monitor's socket.
    pub monitor: Option<PathBuf>,
    /// What to log of the guest.
    pub log: LogArgs,
    /// What to tell perf.
    pub perf: PerfArgs,
}

impl Default for VmConfig {
    fn default() -> Self {
        VmConfig {
            memory_mib: DEFAULT_MEMORY_MIB,
            cpu: Processor::Max,
            tier: Tier::Auto,
            timeout: None,
            limit: None,
            stats: false,
            stats_format: StatsFormat::Text,
            stats_file: None,
            kernel: None,
            initrd: None,
            append: String::new(),
            serial: SerialPort::Stdio,
            flat: None,
            rom: None,
            local_apic: false,
            test_device: false,
            code_cache: CodeCache::Off,
            code_memory_mib: DEFAULT_CODE_MEMORY_MIB,
            gdb: None,
            monitor: None,
            log: LogArgs::default(),
            perf: PerfArgs::default(),
        }
    }
}

/// Settings that make no virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Too little or too much memory.
    #[error("guest memory must be {least} to {most} MiB, not {0}", least = MEMORY_MIB.start(), most = MEMORY_MIB.end())]
    Memory(u32),
    /// Too little or too much memory for code.
    #[error("memory for code must be {least} to {most} MiB, not {0}", least = CODE_MEMORY_MIB.start(), most = CODE_MEMORY_MIB.end())]
    CodeMemory(u32),
    /// A timeout or limit that would stop the guest before its first instruction.
    #[error("the {0} must be more than zero")]
    Zero(&'static str),
    /// A setting that goes with a kernel, without one.
    #[error("{0} needs a kernel; the default guest takes none")]
    NeedsKernel(&'static str),
    /// A flat binary's address beyond RAM.
    #[error(
        "the flat binary's address {address:#x} is beyond the guest's {memory_mib} MiB of memory"
    )]
    FlatAddress {
        /// The address asked for.
        address: u32,
        /// Guest RAM in MiB.
        memory_mib: u32,
    },
    /// A ROM starts instead of a kernel, not before it.
    #[error("a ROM and a kernel cannot both be started")]
    RomAndKernel,
    /// A zero byte would end the command line early.
    #[error("the kernel command line holds a zero byte")]
    ZeroByteInAppend,
}

impl VmConfig {
    /// Checks that the settings make sense, each alone and together.
    ///
    /// # Errors
    /// The first setting that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !MEMORY_MIB.contains(&self.memory_mib) {
            return Err(ConfigError::Memory(self.memory_mib));
        }
        if !CODE_MEMORY_MIB.contains(&self.code_memory_mib) {
            return Err(ConfigError::CodeMemory(self.code_memory_mib));
        }
        if self.timeout == Some(Duration::ZERO) {
            return Err(ConfigError::Zero("timeout"));
        }
        if self.limit == Some(0) {
            return Err(ConfigError::Zero("instruction limit"));
        }
        if self.append.contains('\0') {
            return Err(ConfigError::ZeroByteInAppend);
        }
        if self.rom.is_some() && self.kernel.is_some() {
            return Err(ConfigError::RomAndKernel);
        }
        self.validate_guest()
    }

    fn validate_guest(&self) -> Result<(), ConfigError> {
        if self.kernel.is_none() {
            let extras = [
                ("an initrd", self.initrd.is_some()),
                ("a kernel command line", !self.append.is_empty()),
                ("a flat load address", self.flat.is_some()),
            ];
            if let Some((what, _)) = extras.into_iter().find(|(_, given)| *given) {
                return Err(ConfigError::NeedsKernel(what));
            }
        }
        match self.flat {
            Some(flat) if u64::from(flat.address) >= self.memory_bytes() => {
                Err(ConfigError::FlatAddress {
                    address: flat.address,
                    memory_mib: self.memory_mib,
                })
            }
            _ => Ok(()),
        }
    }

    /// Memory for compiled code in bytes.
    pub fn code_bytes(&self) -> usize {
        (self.code_memory_mib as usize) << 20
    }

    /// Guest RAM in bytes.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_mib) << 20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_kernel() -> VmConfig {
        VmConfig {
            kernel: Some("vmlinuz".into()),
            ..VmConfig::default()
        }
    }

    #[test]
    fn the_default_is_valid() {
        assert_eq!(VmConfig::default().validate(), Ok(()));
    }

    #[test]
    fn memory_is_bounded_on_both_sides() {
        for (memory_mib, valid) in [(0, false), (1, true), (3072, true), (3073, false)] {
            let config = VmConfig {
                memory_mib,
                ..VmConfig::default()
            };
            assert_eq!(config.validate().is_ok(), valid, "{memory_mib} MiB");
        }
        assert_eq!(
            ConfigError::Memory(0).to_string(),
            "guest memory must be 1 to 3072 MiB, not 0"
        );
    }

    #[test]
    fn memory_for_code_is_bounded_too() {
        for (code_memory_mib, valid) in [(3, false), (4, true), (1024, true), (1025, false)] {
            let config = VmConfig {
                code_memory_mib,
                ..VmConfig::default()
            };
            assert_eq!(config.validate().is_ok(), valid, "{code_memory_mib} MiB");
        }
    }

    #[test]
    fn what_goes_with_a_kernel_needs_one() {
        let initrd = VmConfig {
            initrd: Some("initrd.gz".into()),
            ..VmConfig::default()
        };
        assert_eq!(
            initrd.validate(),
            Err(ConfigError::NeedsKernel("an initrd"))
        );
        let append = VmConfig {
            append: "quiet".into(),
            ..VmConfig::default()
        };
        assert_eq!(
            append.validate(),
            Err(ConfigError::NeedsKernel("a kernel command line"))
        );
        let both = VmConfig {
            initrd: Some("initrd.gz".into()),
            append: "quiet".into(),
            ..with_kernel()
        };
        assert_eq!(both.validate(), Ok(()));
    }

    #[test]
    fn a_guest_that_could_not_run_one_instruction_is_refused() {
        let timeout = VmConfig {
            timeout: Some(Duration::ZERO),
            ..VmConfig::default()
        };
        assert_eq!(timeout.validate(), Err(ConfigError::Zero("timeout")));
        let limit = VmConfig {
            limit: Some(0),
            ..VmConfig::default()
        };
        assert_eq!(
            limit.validate(),
            Err(ConfigError::Zero("instruction limit"))
        );
    }

    #[test]
    fn a_flat_address_lies_in_memory() {
        let flat = FlatOptions {
            address: 1 << 20,
            ..FlatOptions::default()
        };
        let config = VmConfig {
            memory_mib: 1,
            flat: Some(flat),
            ..with_kernel()
        };
        assert_eq!(
            config.validate(),
            Err(ConfigError::FlatAddress {
                address: 1 << 20,
                memory_mib: 1
            })
        );
    }

    #[test]
    fn a_zero_byte_in_the_command_line_is_refused() {
        let config = VmConfig {
            append: "a\0b".into(),
            ..with_kernel()
        };
        assert_eq!(config.validate(), Err(ConfigError::ZeroByteInAppend));
    }
}
