//! Debug registers, breakpoints and debug traps (SDM vol. 3B, "Debug, Branch
//! Profile, TSC …").
//!
//! While DR7 enables a breakpoint, TF is set, or branches are recorded
//! ([`super::branches`]), the mode bit `SINGLE` makes every block one interpreted
//! instruction, and the run loop looks here before and after each. Data breakpoints are found by the accesses themselves, which
//! then all take the careful path. What is found collects in
//! [`Cpu::pending_debug`]; the run loop delivers it as one #DB trap at the next
//! boundary that no load of SS shadows.
//!
//! RF is kept only while a breakpoint can read it; see [`super::iret`].

use super::interrupt::{Event, deliver};
use super::{branches, require_cpl0};
use crate::vcpu::{Cpu, Shadow, cr4};
use shadow_mmu::{Access, LinearAddr};
use translator::exception::Exception;
use translator::flags;
use translator::insn::SegReg;

/// DR6.B0–B3: the conditions met.
const DR6_HITS: u32 = 0xf;
/// DR6.BD: a debug register was accessed with DR7.GD set.
pub const DR6_BD: u32 = 1 << 13;
/// DR6.BS: single step.
pub const DR6_BS: u32 = 1 << 14;
/// DR6.BT: a task switch to a TSS with T set.
pub const DR6_BT: u32 = 1 << 15;
/// DR7.GD: general detect.
pub const DR7_GD: u32 = 1 << 13;

/// DR7.L0–L3 and LE: breakpoints of the current task only.
pub const DR7_LOCAL: u32 = 0x155;
/// DR7.L0–L3 and G0–G3.
const DR7_ENABLED: u32 = 0xff;

/// DR6 bits that can change; of the others 12 is 0 and the rest 1.
const DR6_WRITABLE: u32 = 0xe00f;
const DR6_ONES: u32 = 0xffff_0ff0;
/// DR7 bits that can change; bit 10 reads as 1, the rest as 0.
const DR7_WRITABLE: u32 = 0xffff_23ff;
const DR7_ONES: u32 = 1 << 10;

/// What a breakpoint waits for: its R/W field in DR7.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Execute,
    Write,
    /// With CR4.DE; without it undefined, and here nothing.
    Port,
    ReadWrite,
}

/// Breakpoint `n` as DR7 has it, if it is enabled.
fn enabled(dr7: u32, n: usize) -> Option<Kind> {
    let kind = match dr7 >> (16 + 4 * n) & 3 {
        0 => Kind::Execute,
        1 => Kind::Write,
        2 => Kind::Port,
        _ => Kind::ReadWrite,
    };
    (dr7 >> (2 * n) & 3 != 0).then_some(kind)
}

/// Bytes that breakpoint `n` covers, a power of two.
fn covered_bytes(dr7: u32, n: usize) -> u32 {
    match dr7 >> (18 + 4 * n) & 3 {
        0 => 1,
        1 => 2,
        // Undefined on 32-bit processors; what the 64-bit ones made of it.
        2 => 8,
        _ => 4,
    }
}

/// Whether any breakpoint is enabled.
#[inline]
pub fn armed(dr7: u32) -> bool {
    dr7 & DR7_ENABLED != 0
}

/// Whether any breakpoint waits for a memory access.
#[inline]
pub fn watches_data(dr7: u32) -> bool {
    armed(dr7) && (0..4).any(|n| matches!(enabled(dr7, n), Some(Kind::Write | Kind::ReadWrite)))
}

/// B bits of the enabled breakpoints that are of an `accepted` kind and cover
/// any of `bytes` bytes at `at`.
fn hits(cpu: &Cpu, at: u32, bytes: u32, accepted: impl Fn(Kind) -> bool) -> u32 {
    let dr7 = cpu.sys.dr[7];
    let hit = |n: usize| {
        let size = covered_bytes(dr7, n);
        let start = cpu.sys.dr[n] & !(size - 1);
        // The distance is modulo 2^32, like addresses.
        let overlaps = at.wrapping_sub(start) < size || start.wrapping_sub(at) < bytes;
        overlaps && enabled(dr7, n).is_some_and(&accepted)
    };
    (0..4).filter(|&n| hit(n)).map(|n| 1 << n).sum()
}

/// B bits of the data breakpoints that an access meets.
pub fn data_hits(cpu: &Cpu, at: LinearAddr, bytes: u32, access: Access) -> u32 {
    hits(cpu, at.0, bytes, |kind| match kind {
        Kind::Write => access == Access::Write,
        Kind::ReadWrite => true,
        Kind::Execute | Kind::Port => false,
    })
}

/// Notes the I/O breakpoints that an access to `bytes` ports from `port` on meets.
#[inline]
pub fn note_port(cpu: &mut Cpu, port: u16, bytes: u32) {
    if armed(cpu.sys.dr[7]) && cpu.sys.cr4 & cr4::DE != 0 {
        cpu.pending_debug |= hits(cpu, u32::from(port), bytes, |kind| kind == Kind::Port);
    }
}

/// The instruction at CS:EIP must not have a breakpoint, unless RF or a load of
/// SS before it suppresses that.
///
/// # Errors
/// #DB, before the instruction is even fetched; DR6 tells which breakpoint.
pub fn require_no_code_breakpoint(cpu: &mut Cpu) -> Result<(), Exception> {
    if !armed(cpu.sys.dr[7]) || cpu.state.eflags & flags::RF != 0 || cpu.in_ss_shadow {
        return Ok(());
    }
    let base = cpu.state.segment(SegReg::Cs).base;
    let at = base.wrapping_add(cpu.state.eip);
    let met = hits(cpu, at, 1, |kind| kind == Kind::Execute);
    if met == 0 {
        return Ok(());
    }
    report(cpu, met);
    Err(Exception::Debug)
}

/// Shows in DR6 why #DB is raised: B0–B3 anew, the others on top.
fn report(cpu: &mut Cpu, bits: u32) {
    branches::debug_exception(cpu);
    cpu.sys.dr[6] = cpu.sys.dr[6] & !DR6_HITS | bits;
}

/// Delivers the #DB trap that is pending.
pub fn deliver_pending(cpu: &mut Cpu) {
    let bits = std::mem::take(&mut cpu.pending_debug);
    report(cpu, bits);
    deliver(cpu, Event::Exception(Exception::Debug));
}

/// What [`begin`] found, for [`finish`] and [`undo`].
pub struct Before {
    eflags: u32,
    pending: u32,
    /// Where the instruction is.
    place: u32,
}

/// Prepares for an instruction between debug events. RF goes here rather than
/// when the instruction completes: those that load it then have the last word.
pub fn begin(cpu: &mut Cpu) -> Before {
    let before = Before {
        eflags: cpu.state.eflags,
        pending: cpu.pending_debug,
        place: branches::place(cpu),
    };
    cpu.state.eflags &= !flags::RF;
    (cpu.diverted, cpu.branched) = (false, false);
    before
}

/// After an instruction that has completed: TF before it counts, not what it
/// made of TF, but with BTF, only if it has branched.
pub fn finish(cpu: &mut Cpu, before: &Before) {
    if cpu.branched && cpu.sys.branches.recording() {
        branches::record(cpu, before.place);
    }
    let steps = before.eflags & flags::TF != 0 && (cpu.branched || !cpu.sys.branches.stepping());
    if steps && !cpu.diverted && cpu.shadow != Shadow::Ss {
        cpu.pending_debug |= DR6_BS;
    }
}

/// After an instruction that faulted, so has met no breakpoint.
pub fn undo(cpu: &mut Cpu, before: &Before) {
    cpu.state.eflags |= before.eflags & flags::RF;
    cpu.pending_debug = before.pending;
}

/// A #DB handler has been entered: general detect is off so that it can work.
pub fn entered_handler(cpu: &mut Cpu) {
    cpu.sys.dr[7] &= !DR7_GD;
}

/// MOV r32, DRn.
///
/// # Errors
/// #UD, #GP(0), #DB: see [`require_access`].
pub fn read(cpu: &mut Cpu, n: u8) -> Result<u32, Exception> {
    let n = require_access(cpu, n)?;
    Ok(cpu.sys.dr[n])
}

/// MOV DRn, r32.
///
/// # Errors
/// #UD, #GP(0), #DB: see [`require_access`].
pub fn write(cpu: &mut Cpu, n: u8, v: u32) -> Result<(), Exception> {
    let n = require_access(cpu, n)?;
    cpu.sys.dr[n] = match n {
        6 => v & DR6_WRITABLE | DR6_ONES,
        7 => v & DR7_WRITABLE | DR7_ONES,
        _ => v,
    };
    cpu.mode_changed();
    Ok(())
}

/// Checks an access and resolves the alias; the index is at most 7.
fn require_access(cpu: &mut Cpu, n: u8) -> Result<usize, Exception> {
    // DR4 and DR5 are DR6 and DR7, or with CR4.DE set #UD.
    let n = match n & 7 {
        4 | 5 if cpu.sys.cr4 & cr4::DE != 0 => return Err(Exception::InvalidOpcode),
        n @ (4 | 5) => n + 2,
        n => n,
    };
    require_cpl0(cpu)?;
    // General detect: #DB before the access, a fault, hence RF.
    if cpu.sys.dr[7] & DR7_GD != 0 {
        report(cpu, DR6_BD);
        cpu.state.eflags |= flags::RF;
        return Err(Exception::Debug);
    }
    Ok(usize::from(n))
}
