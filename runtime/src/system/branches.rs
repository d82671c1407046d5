//! Last-branch records and steps from branch to branch (SDM vol. 3B, "Debug, Branch
//! Profile, TSC …", the sections on P6, NetBurst and Atom processors; vol. 4 for the
//! registers).
//!
//! The processor that records, because IA32_DEBUGCTL.LBR is set, is one that steps: the
//! mode bit `SINGLE` makes each instruction a block of its own, after which
//! [`finish`](super::debug::finish) knows where it came from, where it led, and whether
//! it was a taken branch, [`Cpu::branched`]. So compiled code knows nothing of it and
//! pays nothing. Steps, which IA32_DEBUGCTL.BTF restricts to taken branches, go this way
//! anyhow.
//!
//! Recorded are taken branches, far transfers, interrupts and exceptions, but #DB: this
//! clears LBR and BTF before it is delivered. An interrupt or exception also keeps the
//! record before its own, the *last exception record*.

use crate::cpu_model::CpuModel;
use crate::vcpu::Cpu;
use translator::exception::Exception;
use translator::insn::SegReg;

/// IA32_DEBUGCTL, DebugCtlMSR of the P6, MSR_DEBUGCTLA of NetBurst.
const DEBUGCTL: u32 = 0x1d9;

/// LBR: branches are recorded.
const LBR: u32 = 1 << 0;
/// BTF: EFLAGS.TF asks for a trap after taken branches alone.
const BTF: u32 = 1 << 1;

/// Records that the largest stack has.
const MOST: usize = 8;

/// A branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Record {
    from: u32,
    to: u32,
}

/// The state behind the registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Branches {
    control: u32,
    records: [Record; MOST],
    /// Index of the latest.
    top: usize,
    /// The last exception record.
    before_event: Record,
}

/// Which registers a processor has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// One record, of offsets in the code segment.
    P6,
    /// A stack of four, both addresses in one register.
    NetBurst,
    /// A stack of eight, each address in a register.
    Atom,
}

/// What a register is.
#[derive(Clone, Copy)]
enum Register {
    Control,
    /// Index of the latest record.
    Top,
    From(usize),
    To(usize),
    /// To in the upper half, from in the lower.
    Both(usize),
    EventFrom,
    EventTo,
}

impl Layout {
    /// That of a model; the processors before the P6 record nothing.
    fn of(model: &CpuModel) -> Option<Self> {
        match (model.family(), model.signature() >> 16 & 0xf) {
            (6, 0) => Some(Self::P6),
            (6, _) => Some(Self::Atom),
            (15, _) => Some(Self::NetBurst),
            _ => None,
        }
    }

    /// The register of this number.
    fn register(self, number: u32) -> Option<Register> {
        use Register as R;
        let index = (number & 7) as usize;
        Some(match (self, number) {
            (_, DEBUGCTL) => R::Control,
            (Self::P6, 0x1db) => R::From(0),
            (Self::P6, 0x1dc) => R::To(0),
            (Self::P6 | Self::Atom, 0x1dd) => R::EventFrom,
            (Self::P6 | Self::Atom, 0x1de) => R::EventTo,
            (Self::NetBurst, 0x1d7) => R::EventFrom,
            (Self::NetBurst, 0x1d8) => R::EventTo,
            (Self::NetBurst, 0x1da) | (Self::Atom, 0x1c9) => R::Top,
            (Self::NetBurst, 0x1db..=0x1de) => R::Both((number - 0x1db) as usize),
            (Self::Atom, 0x40..=0x47) => R::From(index),
            (Self::Atom, 0x60..=0x67) => R::To(index),
            _ => return None,
        })
    }

    /// Records in the stack, a power of two.
    fn depth(self) -> usize {
        match self {
            Self::P6 => 1,
            Self::NetBurst => 4,
            Self::Atom => MOST,
        }
    }

    /// Bits of the control register that can be set: LBR, BTF, and those of trace
    /// messages and breakpoint pins on a bus, where nobody listens. There is no debug
    /// store, so no branch trace store either.
    fn control_bits(self) -> u32 {
        match self {
            Self::P6 => 0x7f,
            Self::NetBurst => LBR | BTF | 1 << 2,
            Self::Atom => LBR | BTF | 1 << 6,
        }
    }
}

impl Branches {
    /// Whether branches are recorded.
    #[inline]
    pub fn recording(&self) -> bool {
        self.control & LBR != 0
    }

    /// Whether single steps are steps from branch to branch.
    pub fn stepping(&self) -> bool {
        self.control & BTF != 0
    }
}

fn register(cpu: &Cpu, number: u32) -> Option<Register> {
    Layout::of(&cpu.model)?.register(number)
}

/// Whether the processor has the register, and it is one of this file's.
pub fn exists(cpu: &Cpu, number: u32) -> bool {
    register(cpu, number).is_some()
}

/// Reads a register.
///
/// # Errors
/// #GP(0) if it does not exist.
pub fn read(cpu: &Cpu, number: u32) -> Result<u64, Exception> {
    let branches = &cpu.sys.branches;
    let record = |n: usize| branches.records[n % MOST];
    let value = match register(cpu, number).ok_or(Exception::GeneralProtection(0))? {
        Register::Control => branches.control,
        Register::Top => branches.top as u32,
        Register::From(n) => record(n).from,
        Register::To(n) => record(n).to,
        Register::Both(n) => {
            let Record { from, to } = record(n);
            return Ok(u64::from(to) << 32 | u64::from(from));
        }
        Register::EventFrom => branches.before_event.from,
        Register::EventTo => branches.before_event.to,
    };
    Ok(value.into())
}

/// Writes a register.
///
/// # Errors
/// #GP(0) if it does not exist, is read-only, or lacks a bit that is set.
pub fn write(cpu: &mut Cpu, number: u32, value: u64) -> Result<(), Exception> {
    let denied = Exception::GeneralProtection(0);
    let layout = Layout::of(&cpu.model).ok_or(denied)?;
    let register = layout.register(number).ok_or(denied)?;
    let branches = &mut cpu.sys.branches;
    match register {
        Register::Control if value & !u64::from(layout.control_bits()) != 0 => return Err(denied),
        Register::Control => {
            branches.control = value as u32;
            cpu.mode_changed();
        }
        // Of the records, only the Atom's can be written.
        Register::Top if layout == Layout::Atom => branches.top = value as usize % MOST,
        Register::From(n) if layout == Layout::Atom => {
            branches.records[n % MOST].from = value as u32
        }
        Register::To(n) if layout == Layout::Atom => branches.records[n % MOST].to = value as u32,
        _ => return Err(denied),
    }
    Ok(())
}

/// A place in the code as records of this processor have it.
pub fn place(cpu: &Cpu) -> u32 {
    let base = match Layout::of(&cpu.model) {
        Some(Layout::P6) => 0,
        _ => cpu.state.segment(SegReg::Cs).base,
    };
    base.wrapping_add(cpu.state.eip)
}

/// Records a branch from there to where CS:EIP is now.
pub fn record(cpu: &mut Cpu, from: u32) {
    let (Some(layout), to) = (Layout::of(&cpu.model), place(cpu)) else {
        return;
    };
    let branches = &mut cpu.sys.branches;
    branches.top = (branches.top + 1) % layout.depth();
    branches.records[branches.top] = Record { from, to };
}

/// An interrupt or exception has been entered, and has yet to be recorded.
pub fn entered_handler(cpu: &mut Cpu) {
    let branches = &mut cpu.sys.branches;
    if branches.recording() {
        branches.before_event = branches.records[branches.top % MOST];
    }
}

/// #DB is raised: its handler is not recorded, nor stepped.
pub fn debug_exception(cpu: &mut Cpu) {
    let was_recording = cpu.sys.branches.recording();
    cpu.sys.branches.control &= !(LBR | BTF);
    if was_recording {
        cpu.mode_changed();
    }
}
