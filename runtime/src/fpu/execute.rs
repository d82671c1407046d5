//! Running a thunk: operands in, the instruction, results out, and exceptions
//! that the guest has unmasked.
//!
//! The order is the architecture's: availability, then the memory operand's
//! checks, then the operation. A store is probed before the operation and
//! written after it, so a fault leaves the x87 stack as it was.

use super::check;
use super::host::{Place, SCRATCH_BYTES};
use super::plan::{Memory, Plan, Transfer, Unit};
use super::pointers::{Layout, Pointers};
use super::unmasked;
use crate::system::operand::{effective_address, gpr, set_gpr};
use crate::vcpu::{Cpu, cr0, cr4};
use iced_x86::Mnemonic;
use shadow_mmu::{Access, LinearAddr};
use translator::exception::Exception;
use translator::flags;
use translator::insn::{Gpr, Insn, Operand, Width};
use translator::state::NO_INSN;

/// x87 flags whose unmasked response suppresses a store: all but P.
const STORE_FAULTS: u16 = 0x1f;
/// All x87 exception flags.
const EXCEPTIONS: u16 = 0x3f;

/// The memory operand: where the thunk finds it, and where the scratch goes.
#[derive(Clone, Copy)]
struct Target {
    place: Place,
    /// Its offset in the segment.
    offset: u32,
    write_back: Option<LinearAddr>,
}

/// Runs the instruction that `p` was made for.
#[inline]
pub fn execute(cpu: &mut Cpu, i: &Insn, p: &Plan) -> Result<(), Exception> {
    if check::check(cpu, i, p)? == check::Ready::Stopped {
        return Ok(());
    }
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
        Transfer::Lengths | Transfer::FlagsAndIndex => {
            let (eax, edx) = (cpu.state.gpr[0], cpu.state.gpr[2]);
            u64::from(edx) << 32 | u64::from(eax)
        }
    };
    let (output, stored) = match p.unit {
        Unit::Sse => (sse(cpu, i, p, target.place, input)?, true),
        Unit::SseMmx => (sse_mmx(cpu, i, p, target.place, input)?, true),
        Unit::Mmx => x87(cpu, i, p, target.place, input),
        Unit::X87 => {
            record(cpu, i, p, target.offset);
            x87(cpu, i, p, target.place, input)
        }
    };
    if let (Some(addr), true) = (target.write_back, stored) {
        let scratch = cpu.fpu.state.scratch;
        cpu.write_bytes(addr, &scratch[..usize::from(p.bytes)], cpu.sys.cpl == 3)?;
    }
    match p.output {
        Transfer::None | Transfer::Lengths => {}
        Transfer::Gpr(n) => {
            if let Operand::Gpr(r, w) = i.ops[usize::from(n & 1)] {
                set_gpr(cpu, r, w, output as u32);
            }
        }
        Transfer::Flags => set_flags(cpu, output),
        Transfer::FlagsAndIndex => {
            cpu.state.gpr[1] = (output >> 32) as u32;
            set_flags(cpu, output);
        }
    }
    Ok(())
}

fn set_flags(cpu: &mut Cpu, image: u64) {
    (cpu.state.flag_result, cpu.state.flag_carries) = flags::from_eflags(image as u32);
}

/// See [`super::enter_native`].
pub fn enter_native(cpu: &mut Cpu) -> bool {
    let usable = cpu.sys.cr0 & (cr0::EM | cr0::TS) == 0 && cpu.sys.cr4 & cr4::OSFXSR != 0;
    let masked = cpu.fpu.x87_masked() && cpu.fpu.state.mxcsr & unmasked::MASKS == unmasked::MASKS;
    if usable && masked {
        cpu.fpu.x87.enter();
    }
    usable && masked
}

/// Remembers the last x87 instruction that direct code has run, by the numbers it
/// left (see [`translator::state::CpuState::last_x87`]).
#[cold]
pub fn remember(cpu: &mut Cpu) {
    let number = std::mem::replace(&mut cpu.state.last_x87, NO_INSN);
    let operand = std::mem::replace(&mut cpu.state.last_x87_operand, NO_INSN);
    let (last, segments) = (&mut cpu.fpu.last, &cpu.state.seg);
    if let Some(op) = cpu.callouts.get(number as usize) {
        last.record(op.insn(), segments);
    }
    if let Some(op) = cpu.callouts.get(operand as usize) {
        let offset = cpu.state.last_x87_offset;
        last.record_operand(&op.insn().mem, offset, segments);
    }
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
            offset: 0,
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
    // CPUs look at the alignment of a linear address before the segment's limit.
    let unchecked = cpu.state.segment(i.mem.seg).base.wrapping_add(offset);
    if p.aligned && unchecked & 15 != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    let addr = cpu.linear(i.mem.seg, offset, bytes, access)?;
    if !p.control
        && let Some(place) = Place::direct(table, addr.0, bytes)
    {
        return Ok(Target {
            place,
            offset,
            write_back: None,
        });
    }
    let write_back = through_scratch(cpu, p, addr)?;
    Ok(Target {
        place: Place::scratch(&mut cpu.fpu.state),
        offset,
        write_back,
    })
}

/// The memory operand once more, after the instruction has run; it is not a
/// destination.
pub fn memory_operand(cpu: &mut Cpu, i: &Insn, p: &Plan) -> [u8; 16] {
    let mut bytes = [0; 16];
    let wanted = usize::from(p.bytes).min(16);
    let base = cpu.state.segment(i.mem.seg).base;
    let addr = LinearAddr(base.wrapping_add(effective_address(cpu, &i.mem)));
    // It was readable a moment ago.
    let _ = cpu.read_bytes(addr, &mut bytes[..wanted], cpu.sys.cpl == 3);
    bytes
}

/// Loads the operand into the scratch; says where the scratch goes afterwards.
fn through_scratch(
    cpu: &mut Cpu,
    p: &Plan,
    addr: LinearAddr,
) -> Result<Option<LinearAddr>, Exception> {
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
    }
    Ok((p.memory != Memory::Read).then_some(addr))
}

/// The form of the environment that the instruction moves, if it does.
fn environment(cpu: &Cpu, p: &Plan) -> Option<Layout> {
    let wide = match p.bytes {
        28 | 108 => true,
        14 | 94 => false,
        _ => return None,
    };
    let real = !cpu.protected();
    Some(Layout { wide, real })
}

/// Runs an instruction of the XMM registers.
#[inline(always)]
fn sse(cpu: &mut Cpu, i: &Insn, p: &Plan, place: Place, input: u64) -> Result<u64, Exception> {
    let state = &mut cpu.fpu.state;
    if !p.mxcsr || state.mxcsr & unmasked::MASKS == unmasked::MASKS {
        return Ok(p.entry.call(place, state, input));
    }
    unmasked::run(cpu, i, p, place, input)
}

/// Runs an instruction that moves between XMM and MMX registers.
fn sse_mmx(cpu: &mut Cpu, i: &Insn, p: &Plan, place: Place, input: u64) -> Result<u64, Exception> {
    let resident = cpu.fpu.x87_masked();
    if p.mxcsr && cpu.fpu.state.mxcsr & unmasked::MASKS != unmasked::MASKS {
        // What is in memory now is what to return to.
        cpu.fpu.x87.leave();
    }
    let control = mask_x87(cpu, resident);
    cpu.fpu.x87.enter();
    let result = sse(cpu, i, p, place, input);
    if result.is_err() {
        cpu.fpu.x87.abandon();
        if i.ops.iter().any(|op| matches!(op, Operand::Mm(_))) {
            // The change from x87 to MMX comes before the exception.
            cpu.fpu.change_to_mmx();
        }
    }
    unmask_x87(cpu, resident, control);
    result
}

/// Remembers the instruction as the last one.
#[inline(always)]
fn record(cpu: &mut Cpu, i: &Insn, p: &Plan, offset: u32) {
    if !p.remembered {
        return;
    }
    let (last, segments) = (&mut cpu.fpu.last, &cpu.state.seg);
    last.record(i, segments);
    if p.memory != Memory::None {
        last.record_operand(&i.mem, offset, segments);
    }
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
    let layout = environment(cpu, p);
    if let (Some(layout), Memory::Read) = (layout, p.memory) {
        let scratch = &mut cpu.fpu.state.scratch;
        cpu.fpu.last = Pointers::take_from_environment(scratch, layout);
    }
    // Only with IGNNE# asserted does a waiting instruction get here with an
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
    if let (Some(layout), Memory::Write) = (layout, p.memory) {
        let last = cpu.fpu.last;
        last.to_environment(&mut cpu.fpu.state.scratch, layout);
    }
    if matches!(i.mnemonic, Mnemonic::Fninit | Mnemonic::Fnsave) {
        cpu.fpu.last = Pointers::default();
    }
    check::drive_ferr(cpu);
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
