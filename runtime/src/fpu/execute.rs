//! Running a thunk: operands in, the instruction, results out, and exceptions
//! that the guest has unmasked.
//!
//! The order is the architecture's: availability, then the memory operand's
//! checks, then the operation. A store is probed before the operation and
//! written after it, so a fault leaves the x87 stack as it was.

use super::check;
use super::host::{Place, SCRATCH_BYTES};
use super::plan::{Memory, Plan, Transfer, Unit};
use crate::system::operand::{effective_address, gpr, set_gpr};
use crate::vcpu::{Cpu, cr0, cr4};
use iced_x86::Mnemonic;
use shadow_mmu::{Access, LinearAddr};
use translator::exception::Exception;
use translator::flags;
use translator::insn::{Gpr, Insn, Operand, Width};

/// x87 flags whose unmasked response suppresses a store: all but P.
const STORE_FAULTS: u16 = 0x1f;
/// All x87 exception flags.
const EXCEPTIONS: u16 = 0x3f;

/// MXCSR: mask bits of all exceptions, and where they start.
const MXCSR_MASKS: u32 = 0x1f80;
const MXCSR_MASK_SHIFT: u32 = 7;
const MXCSR_FLAGS: u32 = 0x3f;
/// Invalid, denormal, divide-by-zero: found before computing.
const MXCSR_BEFORE: u32 = 0x07;
const MXCSR_FTZ: u32 = 1 << 15;
const MXCSR_UM: u32 = 1 << 11;

/// The memory operand: where the thunk finds it, and where the scratch goes.
#[derive(Clone, Copy)]
struct Target {
    place: Place,
    write_back: Option<LinearAddr>,
}

/// Runs the instruction that `p` was made for.
#[inline]
pub fn execute(cpu: &mut Cpu, i: &Insn, p: &Plan) -> Result<(), Exception> {
    check::check(cpu, p)?;
    let target = match target(cpu, i, p) {
        Ok(target) => target,
        Err(e) => return Err(after_fault(cpu, i, p, e)),
    };
    let input = match p.input {
        Transfer::None => 0,
        Transfer::Gpr(n) => match i.ops[usize::from(n & 1)] {
            Operand::Gpr(r, w) => u64::from(gpr(cpu, r, w)),
            _ => 0,
        },
        Transfer::Flags => u64::from(cpu.state.eflags_image() & flags::ARITHMETIC | flags::FIXED),
    };
    let (output, stored) = match p.unit {
        Unit::Sse => (sse(cpu, p, target.place, input)?, true),
        Unit::SseMmx => (sse_mmx(cpu, p, target.place, input)?, true),
        Unit::Mmx | Unit::X87 => x87(cpu, i, p, target.place, input),
    };
    if let (Some(addr), true) = (target.write_back, stored) {
        let scratch = cpu.fpu.state.scratch;
        cpu.write_bytes(addr, &scratch[..usize::from(p.bytes)], cpu.sys.cpl == 3)?;
    }
    match p.output {
        Transfer::None => {}
        Transfer::Gpr(n) => {
            if let Operand::Gpr(r, w) = i.ops[usize::from(n & 1)] {
                set_gpr(cpu, r, w, output as u32);
            }
        }
        Transfer::Flags => {
            (cpu.state.flag_result, cpu.state.flag_carries) = flags::from_eflags(output as u32);
        }
    }
    Ok(())
}

/// See [`super::enter_native`].
pub fn enter_native(cpu: &mut Cpu) -> bool {
    let usable = cpu.sys.cr0 & (cr0::EM | cr0::TS) == 0 && cpu.sys.cr4 & cr4::OSFXSR != 0;
    let masked = cpu.fpu.x87_masked() && cpu.fpu.state.mxcsr & MXCSR_MASKS == MXCSR_MASKS;
    if usable && masked {
        cpu.fpu.x87.enter();
    }
    usable && masked
}

/// MASKMOVQ has changed from x87 to MMX state when its store faults; all other
/// instructions change nothing.
#[cold]
fn after_fault(cpu: &mut Cpu, i: &Insn, p: &Plan, e: Exception) -> Exception {
    if p.memory == Memory::Merge && p.unit == Unit::Mmx {
        let place = Place::scratch(&mut cpu.fpu.state);
        x87(cpu, i, p, place, 0);
    }
    e
}

/// Finds the memory operand, and loads it into the scratch if the thunk cannot
/// have it where it is.
#[inline(always)]
fn target(cpu: &mut Cpu, i: &Insn, p: &Plan) -> Result<Target, Exception> {
    if p.memory == Memory::None {
        let place = Place::scratch(&mut cpu.fpu.state);
        return Ok(Target {
            place,
            write_back: None,
        });
    }
    let offset = match p.memory {
        Memory::Merge if i.mem.addr16 => cpu.state.gpr[Gpr::EDI.0 as usize] & 0xffff,
        Memory::Merge => cpu.state.gpr[Gpr::EDI.0 as usize],
        _ => effective_address(cpu, &i.mem),
    };
    let (access, table) = match p.memory {
        Memory::Read => (Access::Read, cpu.state.read_table),
        _ => (Access::Write, cpu.state.write_table),
    };
    let bytes = u32::from(p.bytes);
    let addr = cpu.linear(i.mem.seg, offset, bytes, access)?;
    if p.aligned && addr.0 & 15 != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    if !p.control
        && let Some(place) = Place::direct(table, addr.0, bytes)
    {
        return Ok(Target {
            place,
            write_back: None,
        });
    }
    through_scratch(cpu, p, addr)
}

fn through_scratch(cpu: &mut Cpu, p: &Plan, addr: LinearAddr) -> Result<Target, Exception> {
    let user = cpu.sys.cpl == 3;
    let bytes = usize::from(p.bytes).min(SCRATCH_BYTES);
    if p.memory != Memory::Read {
        cpu.probe_write(addr, bytes as u32, user)?;
    }
    if p.memory == Memory::Read && bytes == 2 {
        // FLDCW is frequent: compilers change the rounding with it.
        let word = cpu.read_linear(addr, Width::W, user)? as u16;
        cpu.fpu.state.scratch[..2].copy_from_slice(&word.to_le_bytes());
    } else if p.memory != Memory::Write {
        let mut buffer = [0; SCRATCH_BYTES];
        cpu.read_bytes(addr, &mut buffer[..bytes], user)?;
        cpu.fpu.state.scratch = buffer;
        if p.control {
            clear_pointers(&mut cpu.fpu.state.scratch, p.bytes);
        }
    }
    Ok(Target {
        place: Place::scratch(&mut cpu.fpu.state),
        write_back: (p.memory != Memory::Read).then_some(addr),
    })
}

/// Clears the addresses and the opcode in an environment or state image of
/// `bytes` bytes.
fn clear_pointers(image: &mut [u8; SCRATCH_BYTES], bytes: u16) {
    match bytes {
        14 | 94 => image[6..14].fill(0),
        28 | 108 => image[12..26].fill(0),
        _ => {}
    }
}

/// Runs an instruction of the XMM registers.
#[inline(always)]
fn sse(cpu: &mut Cpu, p: &Plan, place: Place, input: u64) -> Result<u64, Exception> {
    let state = &mut cpu.fpu.state;
    if !p.mxcsr || state.mxcsr & MXCSR_MASKS == MXCSR_MASKS {
        return Ok(p.entry.call(place, state, input));
    }
    sse_unmasked(cpu, p, place, input)
}

/// Runs it with all exceptions masked; if one occurs that the guest has
/// unmasked, undoes what it did and raises #XM.
///
/// QUIRK: an exact denormal result does not raise an unmasked underflow.
#[cold]
fn sse_unmasked(cpu: &mut Cpu, p: &Plan, place: Place, input: u64) -> Result<u64, Exception> {
    let state = &mut cpu.fpu.state;
    let (xmm, mxcsr) = (state.xmm, state.mxcsr);
    state.mxcsr = (mxcsr | MXCSR_MASKS) & !MXCSR_FLAGS;
    if mxcsr & MXCSR_UM == 0 {
        // Flushing to zero is a masked response.
        state.mxcsr &= !MXCSR_FTZ;
    }
    let output = p.entry.call(place, state, input);
    let raised = state.mxcsr & MXCSR_FLAGS;
    let unmasked = raised & !(mxcsr >> MXCSR_MASK_SHIFT);
    if unmasked == 0 {
        state.mxcsr = mxcsr | raised;
        return Ok(output);
    }
    let reported = if unmasked & MXCSR_BEFORE != 0 {
        raised & MXCSR_BEFORE
    } else {
        raised
    };
    state.mxcsr = mxcsr | reported;
    state.xmm = xmm;
    if cpu.sys.cr4 & cr4::OSXMMEXCPT == 0 {
        return Err(Exception::InvalidOpcode);
    }
    Err(Exception::SimdError)
}

/// Runs an instruction that moves between XMM and MMX registers.
fn sse_mmx(cpu: &mut Cpu, p: &Plan, place: Place, input: u64) -> Result<u64, Exception> {
    let resident = cpu.fpu.x87_masked();
    if p.mxcsr && cpu.fpu.state.mxcsr & MXCSR_MASKS != MXCSR_MASKS {
        // What is in memory now is what to return to.
        cpu.fpu.x87.leave();
    }
    let control = mask_x87(cpu, resident);
    cpu.fpu.x87.enter();
    let result = sse(cpu, p, place, input);
    if result.is_err() {
        cpu.fpu.x87.abandon();
    }
    unmask_x87(cpu, resident, control);
    result
}

/// Runs an x87 or MMX instruction; also says whether its memory operand is to
/// be written.
#[inline(always)]
fn x87(cpu: &mut Cpu, i: &Insn, p: &Plan, place: Place, input: u64) -> (u64, bool) {
    let fpu = &mut *cpu.fpu;
    if !p.control && fpu.x87_masked() {
        fpu.x87.enter();
        return (p.entry.call(place, &mut fpu.state, input), true);
    }
    x87_careful(cpu, i, p, place, input)
}

/// The instruction changes what is masked, or something is unmasked: the state
/// goes back to memory at once. The host leaves an exception pending, which is
/// then in the saved status word.
#[cold]
fn x87_careful(cpu: &mut Cpu, i: &Insn, p: &Plan, place: Place, input: u64) -> (u64, bool) {
    if i.mnemonic == Mnemonic::Fldcw && stays_masked(cpu) {
        cpu.fpu.x87.enter();
        return (p.entry.call(place, &mut cpu.fpu.state, input), true);
    }
    // Only with CR0.NE clear does a waiting instruction get here with an
    // exception pending: then the host must not see it.
    let ignored = p.waiting && cpu.fpu.x87_pending();
    let control = mask_x87(cpu, !ignored);
    cpu.fpu.x87.enter();
    let output = p.entry.call(place, &mut cpu.fpu.state, input);
    cpu.fpu.x87.leave();
    if !p.control {
        unmask_x87(cpu, !ignored, control);
    }
    cpu.fpu.summarise();
    if p.control && p.memory == Memory::Write {
        clear_pointers(&mut cpu.fpu.state.scratch, p.bytes);
    }
    let raised = cpu.fpu.x87_status() & !cpu.fpu.x87_control() & STORE_FAULTS;
    let suppressed = p.memory == Memory::Write && p.waiting && raised != 0;
    (output, !suppressed || ignored)
}

/// FLDCW's operand, in the scratch, masks everything, and so does the word it replaces.
fn stays_masked(cpu: &mut Cpu) -> bool {
    let word = u16::from(cpu.fpu.state.scratch[0]);
    word & EXCEPTIONS == EXCEPTIONS && cpu.fpu.x87_masked()
}

/// Masks all exceptions unless `keep`; returns the control word.
fn mask_x87(cpu: &mut Cpu, keep: bool) -> u16 {
    if keep {
        return 0;
    }
    let control = cpu.fpu.x87_control();
    cpu.fpu.set_x87_control(control | EXCEPTIONS);
    cpu.fpu.summarise();
    control
}

/// Undoes [`mask_x87`].
fn unmask_x87(cpu: &mut Cpu, kept: bool, control: u16) {
    if !kept {
        cpu.fpu.set_x87_control(control);
        cpu.fpu.summarise();
    }
}
