//! What the VMM counted while a machine ran.

/// Counts of the run loop.
#[derive(Clone, Debug, Default)]
pub struct RunCounters {
    /// Instructions that retired in the interpreter.
    pub interpreted_insns: u64,
    /// Blocks entered in the interpreter.
    pub interpreted_blocks: u64,
    /// Instructions that retired in compiled code.
    pub compiled_insns: u64,
    /// Entries from the run loop into compiled code.
    pub compiled_entries: u64,
    /// Exits from the middle of a compiled block.
    pub side_exits: u64,
    /// Faults of the host in mirrors, a kind of side exit.
    pub host_faults: u64,
    /// Instructions decoded.
    pub decoded_insns: u64,
    /// External interrupts delivered.
    pub interrupts: u64,
    /// Exceptions delivered, by vector.
    pub exceptions: [u64; 32],
    /// Time slices.
    pub slices: u64,
    /// Nanoseconds asleep in HLT.
    pub idle_ns: u64,
}

impl RunCounters {
    /// Guest instructions retired.
    pub fn retired(&self) -> u64 {
        self.interpreted_insns + self.compiled_insns
    }

    /// Share of instructions that retired in compiled code, 0 to 1.
    pub fn compiled_share(&self) -> f64 {
        self.compiled_insns as f64 / self.retired().max(1) as f64
    }
}
