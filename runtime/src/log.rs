//! The execution log: what the guest does, line by line, in the spirit of QEMU's `-d`.
//!
//! Off, it costs a look at an empty word at the few places that are slow anyway: the
//! delivery of an event, a hidden fault, a device, the decoding of a block. Block
//! entries are on no such path; blocks whose entries are logged *ask* (see
//! [`crate::gdb::points`]), so they stay interpreted and unlinked, and each of their
//! runs leads through the run loop.
//!
//! The filter is one range of addresses: of EIP for `exec`, `block` and `int`, of the
//! linear address for `mmu`, and of the port or the physical address for `io`.

use crate::ledger::Account;
use crate::system::Event;
use crate::vcpu::Cpu;
use clap::{Args, ValueEnum};
use shadow_mmu::{Access, LinearAddr};
use std::fmt::Arguments;
use std::io::{BufWriter, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use translator::block::Block;
use translator::exception::Exception;

/// What can be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Topic {
    /// Block entries; what is logged stays interpreted
    Exec,
    /// Interrupts and exceptions delivered
    Int,
    /// Hidden and true page faults
    Mmu,
    /// Accesses to ports and to memory of devices
    Io,
    /// Blocks decoded, and re-encoded or compiled at once
    Block,
}

impl Topic {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The command line's options for logging.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Debugging")]
pub struct LogArgs {
    /// Log these, to standard error unless --log-file names a file
    #[arg(long, value_name = "TOPIC,…", value_enum, value_delimiter = ',')]
    pub log: Vec<Topic>,
    /// Log to this file
    #[arg(long, value_name = "FILE", requires = "log")]
    pub log_file: Option<PathBuf>,
    /// Log only what happens at these addresses, such as 0xc0000000..0xc0ffffff
    #[arg(long, value_name = "LOW..HIGH", requires = "log", value_parser = range)]
    pub log_filter: Option<RangeInclusive<u32>>,
}

/// Two addresses, both in the range, in hexadecimal or decimal.
fn range(text: &str) -> Result<RangeInclusive<u32>, String> {
    let (low, high) = text.split_once("..").ok_or("not of the form LOW..HIGH")?;
    let range = crate::cli::number(low)?..=crate::cli::number(high)?;
    match range.is_empty() {
        false => Ok(range),
        true => Err("the low address is above the high one".into()),
    }
}

/// A log that is being written.
pub struct Log {
    topics: u8,
    filter: RangeInclusive<u32>,
    out: Box<dyn Write>,
}

impl Log {
    /// The log that the command line asks for, if any.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(args: &LogArgs) -> std::io::Result<Option<Self>> {
        if args.log.is_empty() {
            return Ok(None);
        }
        let out: Box<dyn Write> = match &args.log_file {
            Some(path) => Box::new(BufWriter::new(std::fs::File::create(path)?)),
            None => Box::new(std::io::stderr()),
        };
        let filter = args.log_filter.clone().unwrap_or(0..=u32::MAX);
        Ok(Some(Self::new(&args.log, filter, out)))
    }

    /// A log of some topics at some addresses.
    pub fn new(topics: &[Topic], filter: RangeInclusive<u32>, out: Box<dyn Write>) -> Self {
        let topics = topics.iter().fold(0, |bits, topic| bits | topic.bit());
        Self {
            topics,
            filter,
            out,
        }
    }

    fn wants(&self, topic: Topic, at: u32) -> bool {
        self.topics & topic.bit() != 0 && self.filter.contains(&at)
    }

    fn line(&mut self, line: Arguments<'_>) {
        // Who cannot read the log any more goes without.
        let _ = self
            .out
            .write_fmt(line)
            .and_then(|()| self.out.write_all(b"\n"));
    }
}

impl Cpu {
    /// Whether a block at `eip` must ask, so that its entry is logged.
    pub fn logs_entry(&self, eip: u32) -> bool {
        self.log
            .as_ref()
            .is_some_and(|log| log.wants(Topic::Exec, eip))
    }

    /// Writes a line, if the log wants it.
    #[cold]
    fn log(&mut self, topic: Topic, at: u32, line: Arguments<'_>) {
        if let Some(log) = &mut self.log
            && log.wants(topic, at)
        {
            log.line(line);
        }
    }

    /// A block is about to run.
    #[cold]
    pub fn log_entry(&mut self) {
        let (eip, cpl) = (self.state.eip, self.sys.cpl);
        self.log(Topic::Exec, eip, format_args!("exec  {eip:08x} cpl {cpl}"));
    }

    /// A block has been decoded.
    #[cold]
    pub fn log_block(&mut self, block: &Block, phys: u64) {
        let (eip, insns, bytes) = (block.eip, block.insns.len(), block.len_bytes);
        let line =
            format_args!("block {eip:08x} at {phys:08x}: {insns} instructions, {bytes} bytes");
        self.log(Topic::Block, eip, line);
    }

    /// A block has been re-encoded or compiled.
    #[cold]
    pub fn log_code(&mut self, eip: u32, host_bytes: usize) {
        self.log(
            Topic::Block,
            eip,
            format_args!("block {eip:08x} code: {host_bytes} bytes"),
        );
    }

    /// An event is about to be delivered.
    #[cold]
    pub fn log_event(&mut self, event: Event) {
        let (eip, cpl) = (self.state.eip, self.sys.cpl);
        let error = event
            .error_code()
            .map_or_else(String::new, |e| format!(" error {e:04x}"));
        let what = match event {
            Event::Exception(Exception::PageFault { addr, .. }) => {
                format!("exception 0e{error} address {addr:08x}")
            }
            Event::Exception(e) => format!("exception {:02x}{error}", e.vector()),
            Event::External(vector) => format!("interrupt {vector:02x}"),
            Event::Software(vector) => format!("software {vector:02x}"),
        };
        self.log(
            Topic::Int,
            eip,
            format_args!("int   {eip:08x} cpl {cpl} {what}"),
        );
    }

    /// An access has been translated, beyond the shadow tables if `hidden`.
    #[cold]
    pub fn log_translation(
        &mut self,
        at: LinearAddr,
        access: Access,
        user: bool,
        outcome: Result<Option<u64>, u16>,
    ) {
        let what = match outcome {
            Ok(None) => return,
            Ok(Some(phys)) => format!("hidden, at {phys:08x}"),
            Err(error) => format!("true, error {error:04x}"),
        };
        let access = match access {
            Access::Read => "read",
            Access::Write => "write",
            Access::Fetch => "fetch",
        };
        let who = if user { "user" } else { "supervisor" };
        let at = at.0;
        self.log(
            Topic::Mmu,
            at,
            format_args!("mmu   {at:08x} {who} {access}: {what}"),
        );
    }

    /// A port has been read.
    #[cold]
    pub fn log_port(&mut self, port: u16, bytes: u32, value: u32, write: bool) {
        let (name, digits) = (if write { "out" } else { "in " }, 2 * bytes as usize);
        let line = format_args!("io    {name} {port:04x}: {value:0digits$x}");
        self.log(Topic::Io, port.into(), line);
    }

    /// Reads the memory of a device.
    pub(crate) fn mmio_read(&mut self, phys: u64, size: u8) -> u32 {
        match self.log.is_some() || self.ledger.is_open() {
            false => self.pc.mmio_read(phys, size),
            true => self.mmio_read_observed(phys, size),
        }
    }

    #[cold]
    fn mmio_read_observed(&mut self, phys: u64, size: u8) -> u32 {
        let value = self.on_account(Account::MEMORY_MAPPED, |cpu| cpu.pc.mmio_read(phys, size));
        self.log_mmio("read", phys, size, value);
        value
    }

    /// Writes the memory of a device.
    pub(crate) fn mmio_write(&mut self, phys: u64, size: u8, value: u32) {
        self.on_account(Account::MEMORY_MAPPED, |cpu| {
            cpu.pc.mmio_write(phys, size, value);
        });
        self.log_mmio("write", phys, size, value);
    }

    fn log_mmio(&mut self, what: &str, phys: u64, size: u8, value: u32) {
        if self.log.is_some() {
            let digits = 2 * usize::from(size);
            let line = format_args!("io    {what} {phys:08x}: {value:0digits$x}");
            self.log(Topic::Io, phys as u32, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_both_ends() {
        assert_eq!(range("0x10..0x1f"), Ok(0x10..=0x1f));
        assert_eq!(range("16..16"), Ok(16..=16));
        for wrong in ["0x10", "2..1", "0..0x100000000"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_log_wants_its_topics_at_its_addresses() {
        let log = Log::new(
            &[Topic::Int, Topic::Io],
            0x10..=0x1f,
            Box::new(std::io::sink()),
        );
        assert!(log.wants(Topic::Io, 0x1f) && log.wants(Topic::Int, 0x10));
        assert!(!log.wants(Topic::Io, 0x20) && !log.wants(Topic::Mmu, 0x10));
    }
}
