//! Sequences on a CPU with flat segments and no paging, against known values.

mod random;
mod xsave;

use super::dispatch;
use crate::clock::FakeClock;
use crate::console::BufferConsole;
use crate::cpu_model::{CpuModel, Processor};
use crate::devices::pc::{Pc, PcConfig};
use crate::vcpu::{Cpu, cr0, cr4};
use iced_x86::code_asm::*;
use shadow_mmu::{GuestRam, PhysAddr, ShadowMmu};
use std::sync::Arc;
use translator::decode::decode_block;
use translator::exception::Exception;
use translator::insn::SegReg;
use translator::mode::Mode;
use translator::state::Segment;

/// Where tests keep their data.
const DATA: u32 = 0x2000;

fn cpu() -> Cpu {
    cpu_of(Processor::Max)
}

fn cpu_of(processor: Processor) -> Cpu {
    let ram_bytes = 1 << 20;
    let pc = Pc::new(PcConfig {
        ram_bytes,
        console: Box::new(BufferConsole::new(&[]).0),
        debug_output: Box::new(std::io::sink()),
        clock: Arc::new(FakeClock::new(0)),
    });
    let mmu = ShadowMmu::new(GuestRam::new(ram_bytes).unwrap()).unwrap();
    let mut cpu = Cpu::new(CpuModel::new(processor), mmu, pc);
    cpu.sys.cr0 = cr0::PE | cr0::ET | cr0::NE | cr0::MP;
    cpu.sys.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT;
    for seg in SegReg::ALL {
        cpu.state.seg[seg as usize] = Segment::flat(8, seg == SegReg::Cs, 0);
    }
    cpu.paging_changed();
    cpu.mode_changed();
    cpu
}

fn assemble(write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let mut a = CodeAssembler::new(32).unwrap();
    write(&mut a).unwrap();
    a.assemble(0x1000).unwrap()
}

/// Runs instructions of the FPU until one raises.
fn run(
    cpu: &mut Cpu,
    write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), Exception> {
    let code = assemble(write);
    let block = decode_block(&code, 0x1000, Mode::flat32(), 1000).unwrap();
    for insn in &block.insns {
        dispatch(cpu, insn).unwrap_or(Err(Exception::InvalidOpcode))?;
    }
    Ok(())
}

fn poke(cpu: &Cpu, at: u32, bytes: &[u8]) {
    cpu.mmu
        .ram()
        .write_slice(PhysAddr(u64::from(DATA + at)), bytes)
        .unwrap();
}

fn peek<const N: usize>(cpu: &Cpu, at: u32) -> [u8; N] {
    let mut bytes = [0; N];
    cpu.mmu
        .ram()
        .read_slice(PhysAddr(u64::from(DATA + at)), &mut bytes)
        .unwrap();
    bytes
}

#[test]
fn boot_checks_find_a_working_fpu() {
    let mut cpu = cpu();
    poke(&cpu, 0, &[0x5a; 16]);
    run(&mut cpu, |a| {
        a.fninit()?;
        a.fnstsw(word_ptr(DATA))?;
        a.fnstcw(word_ptr(DATA + 2))?;
        a.fnstsw(ax)
    })
    .unwrap();
    assert_eq!(peek::<2>(&cpu, 0), 0u16.to_le_bytes());
    assert_eq!(peek::<2>(&cpu, 2), 0x037fu16.to_le_bytes());
    assert_eq!(cpu.state.gpr[0] & 0xffff, 0);
}

#[test]
fn divides_without_the_pentium_bug() {
    let mut cpu = cpu();
    poke(&cpu, 0, &4195835f64.to_le_bytes());
    poke(&cpu, 8, &3145727f64.to_le_bytes());
    poke(&cpu, 16, &[0xff; 4]);
    run(&mut cpu, |a| {
        a.fninit()?;
        a.fld(qword_ptr(DATA))?;
        a.fdiv(qword_ptr(DATA + 8))?;
        a.fmul(qword_ptr(DATA + 8))?;
        a.fld(qword_ptr(DATA))?;
        a.fsubp(st1, st0)?;
        a.fistp(dword_ptr(DATA + 16))?;
        a.wait()?;
        a.fninit()
    })
    .unwrap();
    assert_eq!(peek::<4>(&cpu, 16), [0; 4]);
}

#[test]
fn fxsave_shows_and_fxrstor_restores_everything() {
    let mut cpu = cpu();
    poke(&cpu, 0, &2.5f64.to_le_bytes());
    poke(&cpu, 0x80, &[0xaa; 512]);
    run(&mut cpu, |a| {
        a.fninit()?;
        a.fld(qword_ptr(DATA))?;
        a.movsd_2(xmm3, qword_ptr(DATA))?;
        a.fxsave(xmmword_ptr(DATA + 0x80))
    })
    .unwrap();
    let image = peek::<512>(&cpu, 0x80);
    assert_eq!(image[..2], 0x37fu16.to_le_bytes());
    assert_eq!(image[3] >> 3 & 7, 7, "TOP");
    assert_eq!(image[4], 0x80, "one tag");
    assert_eq!(image[6..8], [0x05, 0x05], "FOP: FLD m64");
    assert_eq!(image[8..16], [0x02, 0x10, 0, 0, 8, 0, 0, 0], "FIP, FCS");
    assert_eq!(image[16..24], [0, 0x20, 0, 0, 8, 0, 0, 0], "FDP, FDS");
    assert_eq!(image[24..28], 0x1f80u32.to_le_bytes());
    assert_eq!(image[32..42], [0, 0, 0, 0, 0, 0, 0, 0xa0, 0x00, 0x40]);
    assert_eq!(image[208..216], 2.5f64.to_le_bytes());
    assert_eq!(image[288..], [0xaa; 224], "32-bit code saves no more");
    run(&mut cpu, |a| {
        a.fninit()?;
        a.xorps(xmm3, xmm3)?;
        a.fxrstor(xmmword_ptr(DATA + 0x80))?;
        a.fstp(qword_ptr(DATA + 8))?;
        a.movlpd(qword_ptr(DATA + 16), xmm3)
    })
    .unwrap();
    assert_eq!(peek::<8>(&cpu, 8), 2.5f64.to_le_bytes());
    assert_eq!(peek::<8>(&cpu, 16), 2.5f64.to_le_bytes());
}

#[test]
fn fxsave_images_are_aligned_and_mxcsr_has_reserved_bits() {
    let mut cpu = cpu();
    let gp = Err(Exception::GeneralProtection(0));
    assert_eq!(run(&mut cpu, |a| a.fxsave(xmmword_ptr(DATA + 8))), gp);
    assert_eq!(run(&mut cpu, |a| a.movaps(xmm0, xmmword_ptr(DATA + 8))), gp);
    assert_eq!(run(&mut cpu, |a| a.paddb(xmm0, xmmword_ptr(DATA + 8))), gp);
    assert_eq!(
        run(&mut cpu, |a| a.movups(xmm0, xmmword_ptr(DATA + 8))),
        Ok(())
    );
    poke(&cpu, 0, &0x1_1f80u32.to_le_bytes());
    assert_eq!(run(&mut cpu, |a| a.ldmxcsr(dword_ptr(DATA))), gp);
}

#[test]
fn a_pentium_iii_has_no_denormals_are_zeros() {
    let mut cpu = cpu_of(Processor::Pentium3);
    poke(&cpu, 0, &0x1fc0u32.to_le_bytes());
    let load = run(&mut cpu, |a| a.ldmxcsr(dword_ptr(DATA)));
    assert_eq!(load, Err(Exception::GeneralProtection(0)));
    run(&mut cpu, |a| a.fxsave(xmmword_ptr(DATA + 0x80))).unwrap();
    assert_eq!(peek::<4>(&cpu, 0x80 + 28), [0; 4], "MXCSR_MASK");
}

#[test]
fn fnsave_and_frstor_move_the_stack() {
    let mut cpu = cpu();
    poke(&cpu, 0, &1.0f64.to_le_bytes());
    run(&mut cpu, |a| {
        a.fninit()?;
        a.fldpi()?;
        a.fld(qword_ptr(DATA))?;
        a.fnsave(ptr(DATA + 0x80))?;
        a.fnstsw(ax)
    })
    .unwrap();
    assert_eq!(cpu.state.gpr[0] & 0xffff, 0, "FNSAVE initialises");
    let image = peek::<108>(&cpu, 0x80);
    assert_eq!(image[..2], 0x37fu16.to_le_bytes());
    assert_eq!(image[5] >> 3 & 7, 6, "TOP");
    assert_eq!(image[8..10], 0x0fffu16.to_le_bytes(), "tags");
    assert_eq!(image[12..20], [4, 0x10, 0, 0, 8, 0, 5, 5], "FIP, FCS, FOP");
    assert_eq!(image[20..26], [0, 0x20, 0, 0, 8, 0], "FDP, FDS");
    run(&mut cpu, |a| {
        a.frstor(ptr(DATA + 0x80))?;
        a.fstp(dword_ptr(DATA))?;
        a.fstp(qword_ptr(DATA + 8))
    })
    .unwrap();
    assert_eq!(peek::<4>(&cpu, 0), 1f32.to_le_bytes());
    assert_eq!(peek::<8>(&cpu, 8), std::f64::consts::PI.to_le_bytes());
}

#[test]
fn an_unmasked_division_by_zero_waits_for_the_next_instruction() {
    let mut cpu = cpu();
    poke(&cpu, 0, &0x37bu16.to_le_bytes());
    run(&mut cpu, |a| {
        a.fninit()?;
        a.fldcw(word_ptr(DATA))?;
        a.fld1()?;
        a.fldz()?;
        a.fdivp(st1, st0)?;
        a.fnstsw(ax)
    })
    .unwrap();
    assert_eq!(cpu.state.gpr[0] & 0xffff, 0xb084, "ES, B, ZE, TOP 6");
    let mf = Err(Exception::X87Error);
    assert_eq!(run(&mut cpu, |a| a.fld1()), mf);
    assert_eq!(run(&mut cpu, |a| a.wait()), mf);
    assert_eq!(run(&mut cpu, |a| a.emms()), mf);
    run(&mut cpu, |a| {
        a.fnclex()?;
        a.fstp(dword_ptr(DATA))?;
        a.fstp(dword_ptr(DATA + 4))
    })
    .unwrap();
    assert_eq!(peek::<4>(&cpu, 0), 0f32.to_le_bytes());
    assert_eq!(peek::<4>(&cpu, 4), 1f32.to_le_bytes());
}

#[test]
fn an_unmasked_invalid_store_stores_nothing() {
    let mut cpu = cpu();
    poke(&cpu, 0, &0x37eu16.to_le_bytes());
    poke(&cpu, 4, &[0x77; 4]);
    run(&mut cpu, |a| {
        a.fninit()?;
        a.fldcw(word_ptr(DATA))?;
        a.fstp(dword_ptr(DATA + 4))
    })
    .unwrap();
    assert_eq!(peek::<4>(&cpu, 4), [0x77; 4]);
    assert_eq!(run(&mut cpu, |a| a.wait()), Err(Exception::X87Error));
}

#[test]
fn without_ne_the_board_hears_of_exceptions() {
    let mut cpu = cpu();
    cpu.sys.cr0 &= !cr0::NE;
    // Both controllers, with nothing masked.
    let controllers = [
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0),
        (0xa0, 0x11),
        (0xa1, 0x38),
        (0xa1, 2),
        (0xa1, 1),
        (0xa1, 0),
    ];
    for (port, value) in controllers {
        cpu.pc.port_write(port, 1, value);
    }
    poke(&cpu, 0, &0x37bu16.to_le_bytes());
    run(&mut cpu, |a| {
        a.fninit()?;
        a.fldcw(word_ptr(DATA))?;
        a.fld1()?;
        a.fldz()?;
        a.fdivp(st1, st0)
    })
    .unwrap();
    assert!(cpu.pc.interrupt_pending());
    cpu.state.eip = 0;
    let status = cpu.fpu.x87_status();
    run(&mut cpu, |a| a.fld1()).unwrap();
    assert_eq!(cpu.state.eip, 0x1000, "it stands before the instruction");
    assert_eq!(cpu.fpu.x87_status(), status);
    assert_eq!(cpu.pc.acknowledge(), 0x38 + 5);
    cpu.pc.port_write(0xf0, 1, 0);
    cpu.state.eip = 0;
    run(&mut cpu, |a| a.fld1()).unwrap();
    assert_eq!(cpu.state.eip, 0, "the instruction was run");
    assert_ne!(cpu.fpu.x87_status(), status);
    run(&mut cpu, |a| a.fnclex()).unwrap();
    assert!(!cpu.pc.ignne());
}

#[test]
fn unmasked_simd_exceptions_fault_and_change_nothing_else() {
    let mut cpu = cpu();
    poke(&cpu, 0, &0x1d80u32.to_le_bytes());
    poke(&cpu, 8, &1f64.to_le_bytes());
    run(&mut cpu, |a| {
        a.ldmxcsr(dword_ptr(DATA))?;
        a.movsd_2(xmm1, qword_ptr(DATA + 8))?;
        a.xorpd(xmm2, xmm2)
    })
    .unwrap();
    let divide = |a: &mut CodeAssembler| a.divsd(xmm1, xmm2);
    assert_eq!(run(&mut cpu, divide), Err(Exception::SimdError));
    run(&mut cpu, |a| {
        a.stmxcsr(dword_ptr(DATA))?;
        a.movsd_2(qword_ptr(DATA + 8), xmm1)
    })
    .unwrap();
    assert_eq!(peek::<4>(&cpu, 0), 0x1d84u32.to_le_bytes());
    assert_eq!(peek::<8>(&cpu, 8), 1f64.to_le_bytes());
    cpu.sys.cr4 &= !cr4::OSXMMEXCPT;
    assert_eq!(run(&mut cpu, divide), Err(Exception::InvalidOpcode));
}

#[test]
fn registers_and_flags_go_in_and_out() {
    let mut cpu = cpu();
    cpu.state.gpr = [0, -7i32 as u32, 0, 0, 0, 0, 0, 0, 0];
    run(&mut cpu, |a| {
        a.cvtsi2sd(xmm0, ecx)?;
        a.cvttsd2si(edx, xmm0)?;
        a.movmskpd(ebx, xmm0)?;
        a.movd(mm2, ecx)?;
        a.pinsrw(mm2, ecx, 3)?;
        a.pextrw(esi, mm2, 3)?;
        a.xorpd(xmm1, xmm1)?;
        a.comisd(xmm0, xmm1)
    })
    .unwrap();
    assert_eq!(cpu.state.gpr[2], -7i32 as u32);
    assert_eq!(cpu.state.gpr[3], 1);
    assert_eq!(cpu.state.gpr[6], 0xfff9);
    assert_eq!(cpu.state.eflags_image() & 0x8d5, 1, "below: CF");
    run(&mut cpu, |a| {
        a.fninit()?;
        a.fldz()?;
        a.fld1()?;
        a.fcmovb(st0, st1)?;
        a.fucomi(st0, st1)
    })
    .unwrap();
    assert_eq!(cpu.state.eflags_image() & 0x8d5, 0x40, "equal: ZF");
}

#[test]
fn units_are_refused_in_the_manuals_order() {
    let mut cpu = cpu();
    let (ud, nm) = (
        Err(Exception::InvalidOpcode),
        Err(Exception::DeviceNotAvailable),
    );
    cpu.sys.cr0 |= cr0::TS;
    assert_eq!(run(&mut cpu, |a| a.fld1()), nm);
    assert_eq!(run(&mut cpu, |a| a.emms()), nm);
    assert_eq!(run(&mut cpu, |a| a.pxor(xmm0, xmm0)), nm);
    assert_eq!(run(&mut cpu, |a| a.wait()), nm);
    cpu.sys.cr0 |= cr0::EM;
    assert_eq!(run(&mut cpu, |a| a.fld1()), nm);
    assert_eq!(run(&mut cpu, |a| a.emms()), ud);
    assert_eq!(run(&mut cpu, |a| a.pxor(xmm0, xmm0)), ud);
    cpu.sys.cr0 &= !(cr0::EM | cr0::TS);
    cpu.sys.cr4 = 0;
    assert_eq!(run(&mut cpu, |a| a.pxor(xmm0, xmm0)), ud);
    assert_eq!(run(&mut cpu, |a| a.pxor(mm0, mm0)), Ok(()));
    assert_eq!(run(&mut cpu, |a| a.vpxor(xmm0, xmm0, xmm0)), ud);
    assert_eq!(run(&mut cpu, |a| a.haddps(xmm0, xmm0)), ud, "SSE3");
}

#[test]
fn a_faulting_store_does_not_pop() {
    let mut cpu = cpu();
    let data = &mut cpu.state.seg[SegReg::Ds as usize];
    (data.hi, data.limit) = (DATA + 0xfff, DATA + 0xfff);
    cpu.mode_changed();
    let store = |a: &mut CodeAssembler| a.fstp(qword_ptr(DATA + 0xffc));
    run(&mut cpu, |a| {
        a.fninit()?;
        a.fld1()
    })
    .unwrap();
    assert_eq!(run(&mut cpu, store), Err(Exception::GeneralProtection(0)));
    run(&mut cpu, |a| a.fstp(qword_ptr(DATA))).unwrap();
    assert_eq!(peek::<8>(&cpu, 0), 1f64.to_le_bytes());
}

#[test]
fn masked_bytes_are_not_stored() {
    let mut cpu = cpu();
    poke(&cpu, 0, &[0x80, 0, 0xff, 0x7f, 0x80, 0x80, 0, 0]);
    poke(&cpu, 8, &[1, 2, 3, 4, 5, 6, 7, 8]);
    poke(&cpu, 16, &[9; 8]);
    cpu.state.gpr[7] = DATA + 16;
    run(&mut cpu, |a| {
        a.movq(mm0, qword_ptr(DATA))?;
        a.movq(mm1, qword_ptr(DATA + 8))?;
        a.maskmovq(mm1, mm0)?;
        a.emms()
    })
    .unwrap();
    assert_eq!(peek::<8>(&cpu, 16), [1, 9, 3, 9, 5, 6, 9, 9]);
}

#[test]
fn two_cpus_on_one_thread_keep_their_own_registers() {
    let mut cpus = [cpu(), cpu()];
    for cpu in &mut cpus {
        run(cpu, |a| a.fninit()).unwrap();
    }
    run(&mut cpus[0], |a| a.fld1()).unwrap();
    run(&mut cpus[1], |a| a.fldz()).unwrap();
    run(&mut cpus[0], |a| a.fldpi()).unwrap();
    for cpu in &mut cpus {
        run(cpu, |a| a.fstp(qword_ptr(DATA))).unwrap();
    }
    assert_eq!(peek::<8>(&cpus[0], 0), std::f64::consts::PI.to_le_bytes());
    assert_eq!(peek::<8>(&cpus[1], 0), 0f64.to_le_bytes());
    run(&mut cpus[0], |a| a.fstp(qword_ptr(DATA))).unwrap();
    assert_eq!(peek::<8>(&cpus[0], 0), 1f64.to_le_bytes());
}
