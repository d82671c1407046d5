//! The command line's options for debugging.

use super::connection::Address;
use clap::Args;

/// Where QEMU's `-s` listens.
const QEMU_PORT: &str = ":1234";

/// A debugger for the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Debugging")]
pub struct GdbArgs {
    /// Let GDB connect here: HOST:PORT, :PORT on this host, or a path with a slash
    #[arg(long, value_name = "ADDRESS", value_parser = Address::parse)]
    pub gdb: Option<Address>,
    /// Do not run the guest before GDB says so
    #[arg(long, requires = "gdb")]
    pub gdb_wait: bool,
    /// Short for --gdb :1234, as in QEMU
    #[arg(short = 's', conflicts_with = "gdb")]
    pub short: bool,
    /// Short for --gdb-wait, as in QEMU
    #[arg(short = 'S')]
    pub short_wait: bool,
}

/// A port for debuggers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GdbOptions {
    /// Where.
    pub address: Address,
    /// The guest waits for one.
    pub wait: bool,
}

impl GdbArgs {
    /// What these arguments ask for.
    pub fn to_options(&self) -> Option<GdbOptions> {
        let wait = self.gdb_wait || self.short_wait;
        // -S alone must wait for somebody, too.
        let short = (self.short || wait)
            .then(|| Address::parse(QEMU_PORT).ok())
            .flatten();
        let address = self.gdb.clone().or(short)?;
        Some(GdbOptions { address, wait })
    }
}
