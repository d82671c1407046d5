//! What differs from one processor to the next, and what RDTSCP, RDRAND and the
//! performance counters return.

use super::*;
use crate::vcpu::cr4;
use translator::flags::{AC, CF, ID, VM, ZF};

const UD: Exception = Exception::InvalidOpcode;
const GP0: Result<(), Exception> = Err(Exception::GeneralProtection(0));

const CPUID: &[u8] = &[0x0f, 0xa2];
const RDMSR: &[u8] = &[0x0f, 0x32];
const WRMSR: &[u8] = &[0x0f, 0x30];
const RDPMC: &[u8] = &[0x0f, 0x33];
const POPFD: &[u8] = &[0x9d];
const RDTSCP: &[u8] = &[0x0f, 0x01, 0xf9];

/// Which of AC and ID a POPFD can set.
fn settable_flags(processor: Processor) -> u32 {
    let mut b = Bench::on(processor);
    b.push_all(&[AC | ID]);
    b.ok(POPFD);
    b.cpu.state.eflags_image() & (AC | ID)
}

#[test]
fn programs_tell_processors_apart_by_eflags() {
    assert_eq!(settable_flags(Processor::I486), AC);
    assert_eq!(settable_flags(Processor::Pentium), AC | ID);
    assert_eq!(settable_flags(Processor::Max), AC | ID);
}

#[test]
fn a_486_has_no_later_instructions() {
    let mut b = Bench::on(Processor::I486);
    for bytes in [
        CPUID,
        RDMSR,
        RDPMC,
        &[0x0f, 0x31],       // RDTSC
        &[0x0f, 0xc7, 0x0b], // CMPXCHG8B [EBX]
        &[0x0f, 0x20, 0xe0], // MOV EAX, CR4
        &[0x0f, 0x44, 0xc1], // CMOVE
        &[0x0f, 0x1f, 0xc0], // NOP r/m
        &[0x0f, 0x77],       // EMMS
        &[0x0f, 0x58, 0xc1], // ADDPS
        &[0x0f, 0xae, 0x03], // FXSAVE
        &[0xdb, 0xf1],       // FCOMI: iced-x86 files it under the FPU and CMOV.
    ] {
        b.faults(bytes, UD);
    }
    b.ok(&[0x0f, 0x08]); // INVD
}

#[test]
fn newer_instructions_belong_to_newer_processors() {
    let (mut three, mut four) = (
        Bench::on(Processor::Pentium3),
        Bench::on(Processor::Pentium4),
    );
    for b in [&mut three, &mut four] {
        b.cpu.sys.cr4 |= cr4::OSFXSR;
        b.faults(&[0xf2, 0x0f, 0x7c, 0xc1], UD); // HADDPS
        b.faults(&[0xf3, 0x0f, 0xb8, 0xc1], UD); // POPCNT
        b.faults(RDTSCP, UD);
    }
    if cfg!(target_arch = "x86_64") {
        three.ok(&[0x0f, 0x58, 0xc1]); // ADDPS
        three.faults(&[0x66, 0x0f, 0x58, 0xc1], UD); // ADDPD
        four.ok(&[0x66, 0x0f, 0x58, 0xc1]);
    }
}

#[test]
fn registers_of_features_exist_with_them() {
    let read = |processor, number: u32| {
        let mut b = Bench::on(processor);
        b.cpu.state.gpr[1] = number;
        b.run(RDMSR)
    };
    const SYSENTER_CS: u32 = 0x174;
    const EFER: u32 = 0xc000_0080;
    assert_eq!(read(Processor::Pentium, SYSENTER_CS), GP0);
    assert_eq!(read(Processor::Pentium3, SYSENTER_CS), Ok(()));
    assert_eq!(read(Processor::Pentium3, EFER), GP0);
    assert_eq!(read(Processor::Max, EFER), Ok(()));
}

#[test]
fn registers_of_branches_are_each_processors_own() {
    // DEBUGCTL; records of the P6, of NetBurst and of the Atom; the latter's top.
    let numbers = [0x1d9, 0x1dc, 0x1dd, 0x1da, 0x1d7, 0x47, 0x60, 0x1c9];
    let there = |processor, instruction| {
        let mut b = Bench::on(processor);
        numbers.map(|number| {
            (b.cpu.state.gpr[1], b.cpu.state.gpr[2]) = (number, 0);
            b.run(instruction).is_ok()
        })
    };
    use Processor as P;
    let [yes, no] = [true, false];
    for old in [P::I486, P::Pentium] {
        assert_eq!(there(old, RDMSR), [false; 8]);
    }
    let p6 = [yes, yes, yes, no, no, no, no, no];
    let net_burst = [yes, yes, yes, yes, yes, no, no, no];
    let atom = [yes, no, yes, no, no, yes, yes, yes];
    assert_eq!(there(P::Pentium3, RDMSR), p6);
    assert_eq!(there(P::Pentium4, RDMSR), net_burst);
    assert_eq!(there(P::Max, RDMSR), atom);
    let control = [yes, no, no, no, no, no, no, no];
    assert_eq!(there(P::Pentium3, WRMSR), control);
    assert_eq!(there(P::Pentium4, WRMSR), control);
    assert_eq!(
        there(P::Max, WRMSR),
        [yes, no, no, no, no, yes, yes, yes],
        "the Atom's stack can be written"
    );
}

#[test]
fn cpuid_shows_that_xsave_is_enabled() {
    let mut b = Bench::new();
    let ecx = |b: &mut Bench| {
        (b.cpu.state.gpr[0], b.cpu.state.gpr[1]) = (1, 0);
        b.ok(CPUID);
        b.cpu.state.gpr[1]
    };
    assert_eq!(ecx(&mut b) >> 27 & 1, 0);
    b.cpu.sys.cr4 |= cr4::OSXSAVE;
    assert_eq!(ecx(&mut b) >> 27 & 1, 1);
}

#[test]
fn instructions_about_descriptors_need_protected_mode() {
    let instructions: [&[u8]; 8] = [
        &[0x63, 0xc8],       // ARPL
        &[0x0f, 0x00, 0xc0], // SLDT
        &[0x0f, 0x00, 0xc8], // STR
        &[0x0f, 0x00, 0xd0], // LLDT
        &[0x0f, 0x00, 0xd8], // LTR
        &[0x0f, 0x00, 0xe0], // VERR
        &[0x0f, 0x02, 0xc1], // LAR
        &[0x0f, 0x03, 0xc1], // LSL
    ];
    let mut real = Bench::new();
    real.cpu.sys.cr0 &= !cr0::PE;
    real.cpu.mode_changed();
    let mut v86 = Bench::new();
    v86.cpu.state.eflags |= VM;
    v86.cpu.sys.cpl = 3;
    v86.cpu.mode_changed();
    for bytes in instructions {
        real.faults(bytes, UD);
        v86.faults(bytes, UD);
    }
}

#[test]
fn rdtscp_returns_what_the_system_put_there() {
    let mut b = Bench::new();
    (b.cpu.state.gpr[0], b.cpu.state.gpr[1], b.cpu.state.gpr[2]) = (5, 0xc000_0103, 0);
    b.ok(WRMSR);
    b.ok(RDTSCP);
    assert_eq!(b.cpu.state.gpr[1], 5);
    (b.cpu.state.gpr[1], b.cpu.state.gpr[2]) = (0xc000_0103, 1);
    assert_eq!(b.run(WRMSR), GP0, "the upper half");
    b.cpu.sys.cr4 |= cr4::TSD;
    b.enter_ring3();
    assert_eq!(b.run(RDTSCP), GP0);
}

#[test]
fn random_numbers_come_with_carry() {
    let mut b = Bench::new();
    b.cpu.state.set_eflags_image(ZF);
    b.cpu.state.gpr[0] = 0x1234_5678;
    b.ok(&[0x66, 0x0f, 0xc7, 0xf0]); // RDRAND AX
    assert_eq!(b.cpu.state.gpr[0] >> 16, 0x1234);
    assert_eq!(b.cpu.state.eflags_image() & (CF | ZF), CF);
    let numbers: std::collections::BTreeSet<u32> = (0..100)
        .map(|_| {
            b.ok(&[0x0f, 0xc7, 0xf8]); // RDSEED EAX
            b.cpu.state.gpr[0]
        })
        .collect();
    assert!(numbers.len() > 90);
    b.faults(&[0x0f, 0xc7, 0x33], UD); // VMPTRLD: no RDRAND to memory.
}

#[test]
fn performance_counters_hold_what_is_written() {
    let mut b = Bench::on(Processor::Pentium3);
    (b.cpu.state.gpr[0], b.cpu.state.gpr[1], b.cpu.state.gpr[2]) = (u32::MAX - 4, 0xc2, 0);
    b.ok(WRMSR);
    b.cpu.state.gpr[1] = 1;
    b.ok(RDPMC);
    assert_eq!(
        (b.cpu.state.gpr[0], b.cpu.state.gpr[2]),
        (u32::MAX - 4, 0xff)
    );
    b.cpu.state.gpr[1] = 2;
    assert_eq!(b.run(RDPMC), GP0);
    b.enter_ring3();
    b.cpu.state.gpr[1] = 1;
    assert_eq!(b.run(RDPMC), GP0);
    b.cpu.sys.cr4 |= cr4::PCE;
    assert_eq!(b.run(RDPMC), Ok(()));
}
