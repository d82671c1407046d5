//! Control, debug, table registers, and the questions about descriptors.

use super::*;
use crate::vcpu::cr4;
use translator::flags::ZF;

fn mov_cr(n: u8) -> [u8; 3] {
    [0x0f, 0x22, 0xc0 | n << 3]
}

fn set_cr(b: &mut Bench, n: u8, v: u32) -> Result<(), Exception> {
    b.cpu.state.gpr[0] = v;
    b.run(&mov_cr(n))
}

const GP0: Result<(), Exception> = Err(Exception::GeneralProtection(0));

#[test]
fn cr0_rules() {
    let mut b = Bench::new();
    assert_eq!(set_cr(&mut b, 0, cr0::PG), GP0, "PG without PE");
    assert_eq!(set_cr(&mut b, 0, cr0::PE | cr0::NW), GP0, "NW without CD");
    assert_eq!(set_cr(&mut b, 0, cr0::PE | 1 << 20), Ok(()));
    assert_eq!(b.cpu.sys.cr0, cr0::PE | cr0::ET);
    assert_eq!(set_cr(&mut b, 0, 0), Ok(()));
    assert!(!b.cpu.protected());
}

#[test]
fn cr4_takes_only_announced_features() {
    let mut b = Bench::new();
    for bit in [1 << 13, 1 << 17, 1 << 22, 1 << 31] {
        assert_eq!(set_cr(&mut b, 4, bit), GP0, "{bit:#x}");
    }
    assert_eq!(set_cr(&mut b, 4, cr4::PSE | cr4::PGE | cr4::OSFXSR), Ok(()));
}

#[test]
fn control_registers_need_ring_0_and_exist() {
    let mut b = Bench::new();
    assert_eq!(b.run(&mov_cr(5)), Err(Exception::InvalidOpcode));
    b.enter_ring3();
    for n in [0, 2, 3, 4] {
        assert_eq!(b.run(&mov_cr(n)), GP0);
        assert_eq!(b.run(&[0x0f, 0x20, 0xc0 | n << 3]), GP0);
    }
}

#[test]
fn pae_loads_pdptes_and_rejects_reserved_bits() {
    let mut b = Bench::new();
    b.poke(0x1_0000, 0x1_1001);
    b.poke(0x1_1000, 0x83); // A 2 MiB page.
    assert_eq!(set_cr(&mut b, 3, 0x1_0000), Ok(()));
    assert_eq!(set_cr(&mut b, 4, cr4::PAE), Ok(()));
    let paged = b.cpu.sys.cr0 | cr0::PG;
    assert_eq!(set_cr(&mut b, 0, paged), Ok(()));
    assert_eq!(b.cpu.sys.pdptes[0], 0x1_1001);
    b.poke(0x1_2000, 0x1_1003);
    assert_eq!(set_cr(&mut b, 3, 0x1_2000), GP0);
    assert_eq!(b.cpu.sys.cr3, 0x1_0000);
}

#[test]
fn lmsw_sets_pe_but_cannot_clear_it() {
    let mut b = Bench::new();
    b.cpu.state.gpr[0] = cr0::TS | cr0::MP;
    b.ok(&[0x0f, 0x01, 0xf0]); // LMSW AX
    assert_eq!(b.cpu.sys.cr0 & 0xf, cr0::TS | cr0::MP | cr0::PE);
    b.ok(&[0x0f, 0x06]); // CLTS
    assert_eq!(b.cpu.sys.cr0 & cr0::TS, 0);
    b.ok(&[0x0f, 0x01, 0xe1]); // SMSW ECX
    assert_eq!(b.cpu.state.gpr[1], b.cpu.sys.cr0);
}

#[test]
fn debug_registers() {
    let mut b = Bench::new();
    let mov_to = |n: u8| [0x0f, 0x23, 0xc0 | n << 3];
    b.cpu.state.gpr[0] = u32::MAX;
    b.ok(&mov_to(6));
    assert_eq!(b.cpu.sys.dr[6], 0xffff_efff);
    b.cpu.state.gpr[0] = 0;
    b.ok(&mov_to(4));
    assert_eq!(b.cpu.sys.dr[6], 0xffff_0ff0, "DR4 is DR6");
    b.cpu.sys.cr4 = cr4::DE;
    b.faults(&mov_to(5), Exception::InvalidOpcode);
    b.cpu.state.gpr[0] = 1 << 13;
    b.ok(&mov_to(7));
    assert_eq!(b.run(&mov_to(0)), Err(Exception::Debug));
    assert_ne!(b.cpu.sys.dr[6] & 1 << 13, 0);
    b.raise(Exception::Debug);
    assert_eq!(b.cpu.sys.dr[7], 0x400, "the handler may use the registers");
}

#[test]
fn table_registers_go_both_ways() {
    let mut b = Bench::new();
    b.poke16(DATA, 0x1ff);
    b.poke(DATA + 2, 0x8123_4567);
    b.cpu.state.gpr[3] = DATA;
    b.ok(&[0x0f, 0x01, 0x1b]); // LIDT [EBX]
    assert_eq!(
        (b.cpu.sys.idtr.limit, b.cpu.sys.idtr.base),
        (0x1ff, 0x8123_4567)
    );
    b.ok(&[0x0f, 0x01, 0x4b, 16]); // SIDT [EBX+16]
    assert_eq!(b.peek(DATA + 16), 0x4567_01ff);
    assert_eq!(b.peek(DATA + 20), 0x8123);
    b.ok(&[0x66, 0x0f, 0x01, 0x1b]); // LIDT with 16-bit operand size
    assert_eq!(b.cpu.sys.idtr.base, 0x23_4567);
    b.enter_ring3();
    b.faults(&[0x0f, 0x01, 0x1b], Exception::GeneralProtection(0));
}

#[test]
fn ltr_marks_the_task_busy() {
    let mut b = Bench::new();
    assert_eq!(b.descriptor(TASK).high >> 8 & 0xf, 0xb);
    b.cpu.state.gpr[0] = u32::from(TASK);
    b.faults(&[0x0f, 0x00, 0xd8], Exception::GeneralProtection(TASK));
    b.ok(&[0x0f, 0x00, 0xc9]); // STR ECX
    assert_eq!(b.cpu.state.gpr[1], u32::from(TASK));
}

#[test]
fn questions_answer_in_zf() {
    let mut b = Bench::new();
    let mut ask = |bytes: &[u8], selector: u16| {
        b.cpu.state.gpr[0] = u32::from(selector);
        b.cpu.state.gpr[1] = 0x5555;
        b.ok(bytes);
        (b.cpu.state.eflags_image() & ZF != 0).then_some(b.cpu.state.gpr[1])
    };
    let (lar, lsl) = ([0x0f, 0x02, 0xc8], [0x0f, 0x03, 0xc8]); // LAR/LSL ECX, EAX
    assert_eq!(ask(&lar, CODE0), Some(0x00cf_9b00));
    assert_eq!(ask(&lsl, CODE0), Some(u32::MAX));
    assert_eq!(ask(&lsl, TASK2), Some(0x67));
    assert_eq!(ask(&lar, CALL_GATE), Some(0x0000_ec00));
    assert_eq!(ask(&lsl, CALL_GATE), None);
    assert_eq!(ask(&lar, 0), None);
    assert_eq!(ask(&lar, DATA0 | 3), None);
    let (verr, verw) = ([0x0f, 0x00, 0xe0], [0x0f, 0x00, 0xe8]);
    assert!(ask(&verr, READ_ONLY).is_some());
    assert!(ask(&verw, READ_ONLY).is_none());
    assert!(ask(&verw, DATA3).is_some());
    assert!(ask(&verr, TASK).is_none());
}

#[test]
fn arpl_raises_only() {
    let mut b = Bench::new();
    b.cpu.state.gpr[0] = 0xffff_0010;
    b.cpu.state.gpr[1] = 3;
    b.ok(&[0x63, 0xc8]); // ARPL AX, CX
    assert_eq!(b.cpu.state.gpr[0], 0xffff_0013);
    b.cpu.state.gpr[1] = 1;
    b.ok(&[0x63, 0xc8]);
    assert_eq!(b.cpu.state.gpr[0], 0xffff_0013);
    assert_eq!(b.cpu.state.eflags_image() & ZF, 0);
}
