//! Control registers and what belongs to them: MOV CRn, LMSW, SMSW, CLTS,
//! INVLPG, INVD, WBINVD (SDM vol. 3A, "Control Registers"; vol. 2, MOV).
//!
//! Bits of CR4 that stand for features the model lacks are reserved.
//! What paging depends on goes to the MMU in one call of
//! [`Cpu::paging_changed`], and only if it has changed: kernels flip CR0.TS far
//! more often than CR0.PG.

use super::{debug, operand, require_cpl0, require_umip, segment, shown};
use crate::vcpu::{Cpu, cr0, cr4};
use shadow_mmu::{LinearAddr, load_pdptes};
use translator::exception::Exception;
use translator::insn::{Insn, Operand, Width};

/// CR0 bits that software can change; ET reads as 1, the rest as 0.
const CR0_WRITABLE: u32 = cr0::PE
    | cr0::MP
    | cr0::EM
    | cr0::TS
    | cr0::NE
    | cr0::WP
    | cr0::AM
    | cr0::NW
    | cr0::CD
    | cr0::PG;

/// CR4 bits that change how linear addresses are translated.
const CR4_PAGING: u32 = cr4::PSE | cr4::PAE | cr4::PGE | cr4::SMEP | cr4::SMAP;

/// MOV in its system forms: segment, control and debug registers.
///
/// # Errors
/// #UD for a register that does not exist, #GP(0) by privilege and value, and
/// what a segment load raises.
pub fn mov(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    match (i.ops[0], i.ops[1]) {
        (Operand::Seg(seg), _) => segment::mov_to(cpu, i, seg),
        (_, Operand::Seg(seg)) => segment::mov_from(cpu, i, seg),
        (Operand::Cr(n), Operand::Gpr(r, _)) => {
            let v = operand::gpr(cpu, r, Width::D);
            write_control(cpu, n, v)
        }
        (Operand::Gpr(r, _), Operand::Cr(n)) => {
            let v = read_control(cpu, n)?;
            operand::set_gpr(cpu, r, Width::D, v);
            Ok(())
        }
        (Operand::Dr(n), Operand::Gpr(r, _)) => {
            let v = operand::gpr(cpu, r, Width::D);
            debug::write(cpu, n, v)
        }
        (Operand::Gpr(r, _), Operand::Dr(n)) => {
            let v = debug::read(cpu, n)?;
            operand::set_gpr(cpu, r, Width::D, v);
            Ok(())
        }
        _ => Err(Exception::InvalidOpcode),
    }
}

fn read_control(cpu: &Cpu, n: u8) -> Result<u32, Exception> {
    require_exists(cpu, n)?;
    require_cpl0(cpu)?;
    Ok(match n {
        0 => cpu.sys.cr0,
        2 => cpu.sys.cr2,
        3 => cpu.sys.cr3,
        _ => cpu.sys.cr4,
    })
}

/// CR1 and CR5–CR7 do not exist, and not every CPU has CR4: #UD.
fn require_exists(cpu: &Cpu, n: u8) -> Result<(), Exception> {
    match n {
        0 | 2 | 3 => Ok(()),
        4 if cpu.model.has_cpuid() => Ok(()),
        _ => Err(Exception::InvalidOpcode),
    }
}

fn write_control(cpu: &mut Cpu, n: u8, v: u32) -> Result<(), Exception> {
    require_exists(cpu, n)?;
    require_cpl0(cpu)?;
    match n {
        0 => set_cr0(cpu, v),
        2 => {
            cpu.sys.cr2 = v;
            Ok(())
        }
        3 => set_cr3(cpu, v),
        _ => set_cr4(cpu, v),
    }
}

/// Sets CR0, with all that follows from it.
///
/// # Errors
/// #GP(0) for PG without PE, NW without CD, or bad PDPTEs.
pub fn set_cr0(cpu: &mut Cpu, v: u32) -> Result<(), Exception> {
    let new = v & CR0_WRITABLE | cr0::ET;
    // PG needs PE and NW needs CD, else #GP(0).
    if new & (cr0::PG | cr0::PE) == cr0::PG || new & (cr0::NW | cr0::CD) == cr0::NW {
        return Err(Exception::GeneralProtection(0));
    }
    let changed = cpu.sys.cr0 ^ new;
    if new & cr0::PG != 0
        && changed & (cr0::PG | cr0::CD | cr0::NW) != 0
        && cpu.sys.cr4 & cr4::PAE != 0
    {
        reload_pdptes(cpu, cpu.sys.cr3)?;
    }
    cpu.sys.cr0 = new;
    if changed & (cr0::PG | cr0::WP) != 0 {
        cpu.paging_changed();
    }
    if changed & (cr0::PE | cr0::AM) != 0 {
        cpu.mode_changed();
    }
    Ok(())
}

/// Sets CR3: selects the address space.
///
/// # Errors
/// #GP(0) for reserved bits in PDPTEs with PAE paging on.
pub fn set_cr3(cpu: &mut Cpu, v: u32) -> Result<(), Exception> {
    if cpu.sys.cr0 & cr0::PG != 0 && cpu.sys.cr4 & cr4::PAE != 0 {
        reload_pdptes(cpu, v)?;
    }
    cpu.sys.cr3 = v;
    cpu.paging_changed();
    Ok(())
}

fn set_cr4(cpu: &mut Cpu, v: u32) -> Result<(), Exception> {
    // Reserved bits, among them those of features not announced, else #GP(0).
    if v & !cpu.model.cr4_writable() != 0 {
        return Err(Exception::GeneralProtection(0));
    }
    let changed = cpu.sys.cr4 ^ v;
    let paging = changed & CR4_PAGING != 0;
    if paging && cpu.sys.cr0 & cr0::PG != 0 && v & cr4::PAE != 0 {
        reload_pdptes(cpu, cpu.sys.cr3)?;
    }
    cpu.sys.cr4 = v;
    if changed & cr4::TSD != 0 {
        shown::forget(cpu);
    }
    if paging {
        cpu.paging_changed();
    }
    if changed & (cr4::TSD | cr4::SMAP) != 0 {
        cpu.mode_changed();
    }
    Ok(())
}

/// Loads the PDPTE registers from the table at `cr3`; reserved bits are #GP(0).
fn reload_pdptes(cpu: &mut Cpu, cr3: u32) -> Result<(), Exception> {
    let Ok(pdptes) = load_pdptes(cpu.mmu.ram(), cr3) else {
        return Err(Exception::GeneralProtection(0));
    };
    cpu.sys.pdptes = pdptes;
    Ok(())
}

/// LMSW: the low four bits of CR0, PE only to set.
///
/// # Errors
/// #GP(0) if CPL is not 0; what the memory access raises.
pub fn lmsw(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    require_cpl0(cpu)?;
    let word = u32::from(operand::read_word(cpu, i, 0)?);
    let sticky = cpu.sys.cr0 & cr0::PE;
    set_cr0(cpu, cpu.sys.cr0 & !0xf | word & 0xf | sticky)
}

/// SMSW: CR0 to a register of any width, its low half to memory.
///
/// # Errors
/// #GP(0) by CR4.UMIP; what the memory access raises.
pub fn smsw(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    require_umip(cpu)?;
    operand::write_word(cpu, i, 0, cpu.sys.cr0)
}

/// CLTS.
///
/// # Errors
/// #GP(0) if CPL is not 0.
pub fn clts(cpu: &mut Cpu) -> Result<(), Exception> {
    require_cpl0(cpu)?;
    cpu.sys.cr0 &= !cr0::TS;
    Ok(())
}

/// INVLPG. The address is neither read nor checked against a limit.
///
/// # Errors
/// #GP(0) if CPL is not 0.
pub fn invlpg(cpu: &mut Cpu, i: &Insn) -> Result<(), Exception> {
    require_cpl0(cpu)?;
    let ea = operand::effective_address(cpu, &i.mem);
    let base = cpu.state.segment(i.mem.seg).base;
    cpu.mmu.invlpg(LinearAddr(base.wrapping_add(ea)));
    Ok(())
}

/// INVD, WBINVD: there is no cache to write back.
///
/// # Errors
/// #GP(0) if CPL is not 0.
pub fn invd(cpu: &mut Cpu) -> Result<(), Exception> {
    require_cpl0(cpu)
}
