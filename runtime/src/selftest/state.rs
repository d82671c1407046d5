//! What a sequence starts from and what it ends in, the same for the host CPU
//! and for every tier.
//!
//! All addresses are linear addresses below 3 GiB, so that a guest whose page
//! tables map them can run the very same bytes on the very same pointers:
//!
//! ```text
//! CODE_BASE   CODE_BYTES   readable, executable, not writable
//! DATA_BASE   DATA_BYTES   readable, writable
//! STACK_BASE  STACK_BYTES  readable, writable
//! ```
//!
//! The page before and the page after each arena are not present. A sequence
//! runs at CPL 3 with IOPL 0 and IF set, on flat segments: CS 0x23,
//! DS = ES = SS = 0x2b, FS = GS = 0. It ends with the first exception; one that
//! runs to its end meets the `HLT` placed after it.

/// First linear address of the code pages.
pub const CODE_BASE: u32 = 0x1000_0000;
/// Size of the code pages.
pub const CODE_BYTES: usize = 0x2000;
/// First linear address of the data arena.
pub const DATA_BASE: u32 = 0x1001_0000;
/// Size of the data arena.
pub const DATA_BYTES: usize = 0x2000;
/// First linear address of the stack arena.
pub const STACK_BASE: u32 = 0x1002_0000;
/// Size of the stack arena.
pub const STACK_BYTES: usize = 0x1000;

/// CS while a sequence runs.
pub const CODE_SELECTOR: u16 = 0x23;
/// DS, ES and SS while a sequence runs.
pub const DATA_SELECTOR: u16 = 0x2b;

/// `HLT`, the instruction after the last one of every sequence. Not `UD2`: many
/// hypervisors intercept it, which makes a run three times as long.
pub const SENTINEL: u8 = 0xf4;
/// What fills the code pages outside the sequence: `INT3`.
pub const CODE_FILL: u8 = 0xcc;

/// The registers of an unprivileged program.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct State {
    /// x87, MMX and SSE state in the 32-bit FXSAVE format (SDM vol. 1, "FXSAVE Area").
    pub fxsave: [u8; 512],
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub gpr: [u32; 8],
    /// The instruction pointer.
    pub eip: u32,
    /// The flags register.
    pub eflags: u32,
}

/// Byte offsets in an FXSAVE image (SDM vol. 1, "Layout of the FXSAVE Area").
pub mod fxsave {
    /// x87 control word.
    pub const FCW: usize = 0;
    /// x87 status word.
    pub const FSW: usize = 2;
    /// Abridged x87 tag word, one bit a register, set when not empty.
    pub const FTW: usize = 4;
    /// Last x87 opcode; with the instruction and data pointers, bytes 6–23.
    pub const FOP: usize = 6;
    /// SSE control and status.
    pub const MXCSR: usize = 24;
    /// ST0/MM0, then every 16 bytes the next.
    pub const ST: usize = 32;
    /// XMM0, then every 16 bytes the next.
    pub const XMM: usize = 160;
    /// End of what 32-bit code can see.
    pub const END: usize = 288;
}

impl State {
    /// Zero registers, the stack pointer in the middle of its arena, IF set,
    /// x87 and SSE as after `FNINIT` and reset.
    pub fn new() -> State {
        let mut state = State {
            fxsave: [0; 512],
            gpr: [0; 8],
            eip: CODE_BASE,
            eflags: 0x202,
        };
        state.gpr[4] = STACK_BASE + STACK_BYTES as u32 / 2;
        state.fxsave[fxsave::FCW..fxsave::FCW + 2].copy_from_slice(&0x037fu16.to_le_bytes());
        state.fxsave[fxsave::MXCSR..fxsave::MXCSR + 4].copy_from_slice(&0x1f80u32.to_le_bytes());
        state
    }

    /// MXCSR of the FXSAVE image.
    pub fn mxcsr(&self) -> u32 {
        let b = &self.fxsave[fxsave::MXCSR..];
        u32::from_le_bytes([b[0], b[1], b[2], b[3]])
    }
}

impl Default for State {
    fn default() -> State {
        State::new()
    }
}

/// How a sequence ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An exception.
    Trap {
        /// Vector number as in the SDM, vol. 3, "Exception and Interrupt Reference".
        vector: u8,
        /// Error code, 0 for exceptions without one.
        error: u32,
        /// CR2 for a page fault, otherwise 0.
        addr: u32,
    },
    /// No exception came within the time limit.
    Hung,
    /// The machine stopped otherwise, as by a triple fault.
    Stopped,
}

impl Outcome {
    /// The outcome of a sequence that ran to its end, where `HLT` is privileged.
    pub const END: Outcome = Outcome::Trap {
        vector: 13,
        error: 0,
        addr: 0,
    };
}

/// Everything a run leaves behind.
#[derive(Clone)]
pub struct Run {
    /// The registers at the exception.
    pub state: State,
    /// The exception.
    pub outcome: Outcome,
    /// The data arena, [`DATA_BYTES`] long.
    pub data: Vec<u8>,
    /// The stack arena, [`STACK_BYTES`] long.
    pub stack: Vec<u8>,
}
