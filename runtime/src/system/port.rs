//! Port I/O: IN, OUT, INS, OUTS (SDM vol. 1, "Input/Output"; vol. 2).
//!
//! A repeated INS or OUTS runs in a loop here, one element at a time, with its
//! registers advanced after each: a fault or an interrupt finds the instruction
//! resumable at its own EIP. The element is committed in an order that loses no
//! data: the memory access is known to succeed before the device is touched.

use super::{debug, operand, tss};
use crate::ledger::Account;
use crate::vcpu::{Cpu, cr0};
use shadow_mmu::Access;
use translator::exception::Exception;
use translator::flags::{DF, IF, RF};
use translator::insn::{Gpr, Insn, Operand, Rep, SegReg, Width};

/// IN.
///
/// # Errors
/// #GP(0) by IOPL and the I/O permission bitmap.
pub fn input(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let port = port_number(cpu, i, 1);
    let w = i.op_width(0);
    require_port(cpu, port, w)?;
    let v = read_port(cpu, port, w);
    operand::set_gpr(cpu, Gpr::EAX, w, v);
    Ok(())
}

/// OUT.
///
/// # Errors
/// #GP(0) by IOPL and the I/O permission bitmap.
pub fn output(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let port = port_number(cpu, i, 0);
    let w = i.op_width(1);
    require_port(cpu, port, w)?;
    let v = operand::gpr(cpu, Gpr::EAX, w);
    write_port(cpu, port, w, v);
    Ok(())
}

/// INS, with or without REP.
///
/// # Errors
/// #GP(0) by IOPL and the I/O permission bitmap; what the store raises.
pub fn ins(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let port = operand::gpr(cpu, Gpr::EDX, Width::W) as u16;
    let w = i.width;
    require_port(cpu, port, w)?;
    repeat(cpu, i, Gpr::EDI, |cpu, offset| {
        let at = cpu.linear(SegReg::Es, offset, w.bytes(), Access::Write)?;
        let user = cpu.sys.cpl == 3;
        cpu.probe_write(at, w.bytes(), user)?;
        let v = read_port(cpu, port, w);
        cpu.write_linear(at, w, v, user)
    })
}

/// OUTS, with or without REP.
///
/// # Errors
/// #GP(0) by IOPL and the I/O permission bitmap; what the load raises.
pub fn outs(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    let port = operand::gpr(cpu, Gpr::EDX, Width::W) as u16;
    let w = i.width;
    require_port(cpu, port, w)?;
    repeat(cpu, i, Gpr::ESI, |cpu, offset| {
        let v = cpu.read_mem(i.mem.seg, offset, w)?;
        write_port(cpu, port, w, v);
        Ok(())
    })
}

/// Iterations before the run loop gets to see to time and timers. Each may touch a
/// device, and a slice has thousands of instructions.
const QUANTUM: u32 = 64;

/// Runs `element` once, or (E)CX times with a repeat prefix, advancing `index`.
fn repeat(
    cpu: &mut Cpu,
    i: &Insn,
    index: Gpr,
    mut element: impl FnMut(&mut Cpu, u32) -> Result<(), Exception>,
) -> Result<(), Exception> {
    let address = if i.mem.addr16 { Width::W } else { Width::D };
    let step = match cpu.state.eflags & DF {
        0 => i.width.bytes(),
        _ => i.width.bytes().wrapping_neg(),
    };
    for done in 1.. {
        let count = operand::gpr(cpu, Gpr::ECX, address);
        if i.rep != Rep::None && count == 0 {
            cpu.state.eflags &= !RF;
            return Ok(());
        }
        let offset = operand::gpr(cpu, index, address);
        element(cpu, offset)?;
        operand::set_gpr(cpu, index, address, offset.wrapping_add(step));
        if i.rep == Rep::None {
            return Ok(());
        }
        operand::set_gpr(cpu, Gpr::ECX, address, count.wrapping_sub(1));
        if count > 1 && (done >= QUANTUM || must_pause(cpu)) {
            // Not finished: come back to the same instruction.
            cpu.state.eip = i.eip;
            cpu.state.eflags |= RF;
            cpu.request_attention();
            return Ok(());
        }
    }
    Ok(())
}

/// Something has to be looked at between two iterations: an interrupt, a trap,
/// an event of the machine, or code that an iteration overwrote.
fn must_pause(cpu: &Cpu) -> bool {
    let interrupt = cpu.state.eflags & IF != 0 && cpu.pc.interrupt_pending();
    interrupt
        || cpu.nmi_due()
        || cpu.mode().single()
        || cpu.pc.has_event()
        || !cpu.code_writes.is_empty()
}

/// The port operand: an immediate byte or DX.
fn port_number(cpu: &Cpu, i: &Insn, n: usize) -> u16 {
    match i.ops[n] {
        Operand::Imm(_) => i.imm as u16 & 0xff,
        _ => operand::gpr(cpu, Gpr::EDX, Width::W) as u16,
    }
}

/// The account of the device at a port.
fn account(cpu: &Cpu, port: u16) -> Account {
    let device = cpu.pc.device_at(port);
    device.map_or(Account::UNCLAIMED, Account::device)
}

fn read_port(cpu: &mut Cpu, port: u16, w: Width) -> u32 {
    debug::note_port(cpu, port, w.bytes());
    let v = match cpu.ledger.is_open() {
        false => cpu.pc.port_read(port, w.bytes() as u8),
        true => cpu.on_account(account(cpu, port), |cpu| {
            cpu.pc.port_read(port, w.bytes() as u8)
        }),
    };
    if cpu.log.is_some() {
        cpu.log_port(port, w.bytes(), v & w.mask(), false);
    }
    accessed(cpu);
    v & w.mask()
}

fn write_port(cpu: &mut Cpu, port: u16, w: Width, v: u32) {
    debug::note_port(cpu, port, w.bytes());
    match cpu.ledger.is_open() {
        false => cpu.pc.port_write(port, w.bytes() as u8, v & w.mask()),
        true => cpu.on_account(account(cpu, port), |cpu| {
            cpu.pc.port_write(port, w.bytes() as u8, v & w.mask());
        }),
    }
    if cpu.log.is_some() {
        cpu.log_port(port, w.bytes(), v & w.mask(), true);
    }
    accessed(cpu);
}

/// A device was touched: its line may have risen, or the machine may end.
pub fn accessed(cpu: &mut Cpu) {
    let interrupt = cpu.state.eflags & IF != 0 && cpu.pc.interrupt_pending();
    if interrupt || cpu.pc.has_event() || cpu.nmi_due() {
        cpu.request_attention();
    }
}

/// With CPL above IOPL, or in virtual-8086 mode, the TSS must permit the ports,
/// else #GP(0).
fn require_port(cpu: &mut Cpu, port: u16, w: Width) -> Result<(), Exception> {
    let restricted = cpu.sys.cr0 & cr0::PE != 0 && (cpu.v86() || cpu.sys.cpl > cpu.iopl());
    if restricted && !tss::permits_port(cpu, port, w)? {
        return Err(Exception::GeneralProtection(0));
    }
    Ok(())
}
