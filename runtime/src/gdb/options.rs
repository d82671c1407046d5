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
    /// Do not run the guest before GDB says so, at port 1234 unless --gdb names another
    #[arg(long)]
    pub gdb_wait: bool,
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
        let wait = self.gdb_wait;
        // Who waits without a port must wait for somebody, too.
        let usual = wait.then(|| Address::parse(QEMU_PORT).ok()).flatten();
        let address = self.gdb.clone().or(usual)?;
        Some(GdbOptions { address, wait })
    }
}
