//! Why a machine stopped running.

/// The reason [`crate::vm::Vm::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest powered the machine off through ACPI.
    PowerOff,
    /// The guest asked for a reset (keyboard controller, port 0x92 or 0xcf9).
    Reset,
    /// A fault while delivering a double fault: the CPU shut down.
    TripleFault,
    /// The guest wrote this value to the debug-exit port.
    DebugExit(u32),
    /// The configured time is over.
    Timeout,
    /// The configured number of guest instructions has retired.
    Limit,
    /// The user asked to quit, or a signal did.
    Quit,
    /// HLT with interrupts disabled: nothing can ever happen again.
    Halted,
}
