//! XSAVE and its relatives.

use super::*;

const AREA: u32 = DATA + 0x400;

/// A CPU that has enabled both components, asking for `components`.
fn ready(components: u32) -> Cpu {
    let mut cpu = cpu();
    cpu.sys.cr4 |= cr4::OSXSAVE;
    cpu.sys.xcr0 = 3;
    (cpu.state.gpr[0], cpu.state.gpr[2]) = (components, 0);
    cpu
}

fn save(cpu: &mut Cpu) -> Result<(), Exception> {
    run(cpu, |a| a.xsave(ptr(AREA)))
}

fn restore(cpu: &mut Cpu) -> Result<(), Exception> {
    run(cpu, |a| a.xrstor(ptr(AREA)))
}

/// ST0 ← π, XMM1 ← ones.
fn fill(cpu: &mut Cpu) {
    run(cpu, |a| {
        a.fldpi()?;
        a.pcmpeqd(xmm1, xmm1)
    })
    .unwrap();
}

#[test]
fn they_do_not_exist_before_cr4_enables_them() {
    let mut cpu = ready(3);
    cpu.sys.cr4 &= !cr4::OSXSAVE;
    assert_eq!(save(&mut cpu), Err(Exception::InvalidOpcode));
    assert_eq!(run(&mut cpu, |a| a.xgetbv()), Err(Exception::InvalidOpcode));
    cpu.sys.cr4 |= cr4::OSXSAVE;
    cpu.sys.cr0 |= cr0::TS;
    assert_eq!(save(&mut cpu), Err(Exception::DeviceNotAvailable));
    assert_eq!(run(&mut cpu, |a| a.xgetbv()), Ok(()));
}

#[test]
fn only_what_was_asked_for_is_saved() {
    let mut cpu = ready(2);
    fill(&mut cpu);
    poke(&cpu, 0x400, &[0xaa; 576]);
    poke(&cpu, 0x600, &[0; 64]);
    save(&mut cpu).unwrap();
    let area = peek::<576>(&cpu, 0x400);
    assert!(area[..24].iter().all(|&b| b == 0xaa), "x87");
    assert_eq!(area[24..28], 0x1f80u32.to_le_bytes());
    assert_eq!(area[176..192], [0xff; 16], "XMM1");
    assert_eq!(area[512], 2, "XSTATE_BV");
    cpu.state.gpr[0] = 1;
    save(&mut cpu).unwrap();
    assert_eq!(peek::<2>(&cpu, 0x400), 0x37fu16.to_le_bytes());
    assert_eq!(peek::<1>(&cpu, 0x600), [3], "joined to what was there");
}

#[test]
fn what_was_not_saved_is_initialised() {
    let mut cpu = ready(3);
    fill(&mut cpu);
    poke(&cpu, 0x400, &[0; 576]);
    poke(&cpu, 0x418, &0x1f80u32.to_le_bytes());
    restore(&mut cpu).unwrap();
    assert_eq!(cpu.fpu.x87_control(), 0x37f);
    let image = cpu.fpu.image();
    assert_eq!(image[4], 0, "all registers are empty");
    assert_eq!(image[176..192], [0; 16]);
}

#[test]
fn saved_state_comes_back() {
    let mut cpu = ready(3);
    fill(&mut cpu);
    poke(&cpu, 0x600, &[0; 64]);
    save(&mut cpu).unwrap();
    let before = cpu.fpu.image();
    run(&mut cpu, |a| {
        a.fninit()?;
        a.xorps(xmm1, xmm1)
    })
    .unwrap();
    restore(&mut cpu).unwrap();
    assert_eq!(cpu.fpu.image(), before);
}

#[test]
fn areas_have_rules() {
    let gp = Err(Exception::GeneralProtection(0));
    let mut cpu = ready(3);
    assert_eq!(run(&mut cpu, |a| a.xsave(ptr(AREA + 32))), gp, "alignment");
    for at in [512, 513, 520, 527, 528] {
        poke(&cpu, 0x400, &[0; 576]);
        poke(&cpu, 0x400 + at, &[4]);
        assert_eq!(restore(&mut cpu), gp, "byte {at}");
    }
    poke(&cpu, 0x400, &[0; 576]);
    poke(&cpu, 0x418, &[0, 0, 1, 0]);
    assert_eq!(restore(&mut cpu), gp, "MXCSR");
    cpu.state.gpr[0] = 1;
    assert_eq!(restore(&mut cpu), Ok(()), "which is not looked at");
}

#[test]
fn xcr0_takes_only_what_there_is() {
    let gp = Err(Exception::GeneralProtection(0));
    let cases = [
        (1, 0, Ok(())),
        (3, 0, Ok(())),
        (2, 0, gp),
        (7, 0, gp),
        (3, 1, gp),
    ];
    for (value, number, end) in cases {
        let mut cpu = ready(value);
        cpu.state.gpr[1] = number;
        assert_eq!(run(&mut cpu, |a| a.xsetbv()), end, "{value} {number}");
    }
    let mut cpu = ready(3);
    cpu.sys.cpl = 3;
    assert_eq!(run(&mut cpu, |a| a.xsetbv()), gp);
    run(&mut cpu, |a| a.xgetbv()).unwrap();
    assert_eq!((cpu.state.gpr[0], cpu.state.gpr[2]), (3, 0));
}
