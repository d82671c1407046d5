//! The mirror of user code, which hosts that permit it find by GS: whose mirror it is
//! when address spaces, machines and threads take turns, and where addresses wrap.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use runtime::config::Tier;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use runtime::native::direct_supported;
use runtime::selftest::guest::interrupt_gate;
use runtime::vcpu::{TableReg, cr0, cr4};
use runtime::vm::Vm;
use shadow_mmu::PhysAddr;
use tests::machine::{Setup, TIERS};
use translator::flags;
use translator::insn::SegReg;
use translator::state::Segment;

/// Two handlers, and what ring 3 begins with.
const CHANGE_SPACE: u32 = 0x10_0000;
const SKIP: u32 = CHANGE_SPACE + 0x40;
const START: u32 = CHANGE_SPACE + 0x80;
const STACK: u32 = 0x17_0000;
const RESULT: u32 = 0x18_0000;
const DIRECTORIES: [u32; 2] = [0x20_0000, 0x20_1000];
const PAGE_TABLES: [u32; 2] = [0x20_2000, 0x20_3000];
const TOP_TABLE: u32 = 0x20_4000;
const TOP_FRAME: u32 = 0x20_5000;
const GDT: u32 = 0x20_6000;
const IDT: u32 = 0x20_7000;
const TSS: u32 = 0x20_8000;
const FRAMES: [u32; 2] = [0x21_0000, 0x22_0000];
/// A page that the spaces have different frames for.
const MAPPED: u32 = 0x80_0000;
const OTHER_SPACE: i32 = 0x30;

/// A guest of ring 3 that runs `body`, stores EBX and ends.
fn guest(body: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let at = |address: u32, body: &dyn Fn(&mut CodeAssembler) -> Result<(), IcedError>| {
        let mut a = CodeAssembler::new(32)?;
        body(&mut a)?;
        a.assemble(address.into())
    };
    let assemble = || {
        let mut image = at(CHANGE_SPACE, &|a| {
            // Nothing here faults in a mirror, after which the run loop looks around.
            a.mov(eax, cr3)?;
            a.xor(eax, (DIRECTORIES[0] ^ DIRECTORIES[1]) as i32)?;
            a.mov(cr3, eax)?;
            a.iretd()
        })?;
        image.resize((SKIP - CHANGE_SPACE) as usize, 0x90);
        // General protection: counts in EBP and goes on two bytes further.
        image.extend(at(SKIP, &|a| {
            a.inc(ebp)?;
            a.add(esp, 4)?;
            a.add(dword_ptr(esp), 2)?;
            a.iretd()
        })?);
        image.resize((START - CHANGE_SPACE) as usize, 0x90);
        image.extend(at(START, &|a| {
            a.xor(ebx, ebx)?;
            body(a)?;
            a.mov(dword_ptr(RESULT), ebx)?;
            a.mov(al, i32::from(samples::PASSED))?;
            a.out(0xf4, al)
        })?);
        Ok::<_, IcedError>(image)
    };
    assemble().expect("the guest can be assembled")
}

/// EBX += twice the byte that the spaces, in turns, have at [`MAPPED`], so many rounds.
fn changing_spaces(a: &mut CodeAssembler, rounds: u32) -> Result<(), IcedError> {
    a.mov(edi, rounds)?;
    a.mov(esi, MAPPED / 8)?;
    let (mut again, mut on) = (a.create_label(), a.create_label());
    a.set_label(&mut again)?;
    a.movzx(eax, byte_ptr(MAPPED))?;
    a.add(ebx, eax)?;
    a.movzx(eax, byte_ptr(esi * 8 + 1))?;
    a.add(ebx, eax)?;
    // A page is not mapped where the rest of the block leaves the space.
    a.jmp(on)?;
    a.set_label(&mut on)?;
    a.int(OTHER_SPACE)?;
    a.dec(edi)?;
    a.jne(again)
}

/// Tables, and a CPU in ring 3 with the right to all ports. The two frames hold
/// `values`.
fn prepare(vm: &mut Vm, values: [u8; 2]) {
    let cpu = &mut vm.cpu;
    let mut put = |at: u32, value: u32| cpu.write_phys(PhysAddr(at.into()), &value.to_le_bytes());
    for n in 0..2 {
        // 4 MiB one to one; one page each at 8 MiB and before 4 GiB.
        put(DIRECTORIES[n], 0x87);
        put(DIRECTORIES[n] + 8, PAGE_TABLES[n] | 7);
        put(DIRECTORIES[n] + 4 * 1023, TOP_TABLE | 7);
        put(PAGE_TABLES[n], FRAMES[n] | 7);
        put(FRAMES[n], u32::from(values[n]) * 0x101);
    }
    put(TOP_TABLE + 4 * 1023, TOP_FRAME | 7);
    let code_and_data = [0x00cf_9b00_u32, 0x00cf_9300, 0x00cf_fb00, 0x00cf_f300];
    for (n, high) in (1..).zip(code_and_data) {
        put(GDT + 8 * n, 0xffff);
        put(GDT + 8 * n + 4, high);
    }
    for (vector, handler) in [(OTHER_SPACE as u32, CHANGE_SPACE), (13, SKIP)] {
        let gate = interrupt_gate(8, handler, true);
        put(IDT + 8 * vector, gate as u32);
        put(IDT + 8 * vector + 4, (gate >> 32) as u32);
    }
    put(TSS + 4, STACK - 0x1000);
    put(TSS + 8, 0x10);
    let limit = 0x7ff;
    cpu.sys.gdtr = TableReg { base: GDT, limit };
    cpu.sys.idtr = TableReg { base: IDT, limit };
    cpu.sys.tr = Segment {
        base: TSS,
        hi: 0x67,
        limit: 0x67,
        selector: 0x28,
        attributes: 0x8b,
        ..Segment::default()
    };
    cpu.sys.cr3 = DIRECTORIES[0];
    cpu.sys.cr4 = cr4::PSE;
    cpu.sys.cr0 |= cr0::PE | cr0::PG | cr0::WP;
    cpu.state.seg = [Segment::flat(0x23, false, 3); 6];
    cpu.state.seg[SegReg::Cs as usize] = Segment::flat(0x1b, true, 3);
    cpu.state.set_eflags_image(2 | flags::IOPL);
    cpu.state.gpr[4] = STACK;
    cpu.state.eip = START;
    cpu.sys.cpl = 3;
    cpu.paging_changed();
    cpu.mode_changed();
}

/// EBX at the end.
fn result(vm: &Vm) -> u32 {
    let value = vm.cpu.mmu.ram().read_u32(PhysAddr(RESULT.into()));
    value.expect("memory is there")
}

fn setup(image: &[u8], tier: Tier) -> Setup<'_> {
    Setup::flat(image, CHANGE_SPACE, FlatMode::Protected32, tier)
}

/// EBX at the end, and how often the host has faulted.
fn run(image: &[u8], tier: Tier, prepare: impl FnOnce(&mut Vm)) -> (u32, u64) {
    let ended = setup(image, tier).run_after(prepare);
    assert_eq!(ended.exit, Exit::DebugExit(samples::PASSED.into()));
    (result(&ended.vm), ended.counters.host_faults)
}

#[test]
fn the_mirror_is_that_of_the_address_space() {
    let image = guest(|a| changing_spaces(a, 2_000));
    for (name, tier) in TIERS {
        let (total, faults) = run(&image, tier, |vm| prepare(vm, [1, 10]));
        assert_eq!(total, 2 * (1_000 + 10_000), "{name}");
        assert!(faults < 20, "{name}: {faults} faults");
    }
}

#[test]
fn without_gs_user_code_does_the_same() {
    if !direct_supported() {
        return;
    }
    let image = guest(|a| changing_spaces(a, 200));
    let (total, faults) = run(&image, Tier::Mirror, |vm| {
        prepare(vm, [1, 10]);
        vm.cpu.gs = None;
    });
    assert_eq!(total, 2 * (100 + 1_000));
    assert!(faults < 20, "{faults} faults");
}

/// Machines that take turns on a thread, on several threads.
#[test]
fn the_mirror_is_that_of_the_machine() {
    if !direct_supported() {
        return;
    }
    let image = guest(|a| changing_spaces(a, 3_000));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let image = &image;
            scope.spawn(move || take_turns(image, 10 * thread));
        }
    });
}

fn take_turns(image: &[u8], first: u8) {
    let mut machines: Vec<Option<Vm>> = (0..3).map(|n| machine(image, first + n)).collect();
    for turn in 0.. {
        if machines.iter().all(Option::is_none) {
            break;
        }
        let n = turn % machines.len();
        let Some(vm) = &mut machines[n] else { continue };
        if let Some(exit) = vm.step_ahead(100) {
            assert_eq!(exit, Exit::DebugExit(samples::PASSED.into()));
            let value = u32::from(first) + n as u32;
            assert_eq!(result(vm), 3_000 * (value + value + 100), "machine {n}");
            let faults = vm.counters.host_faults;
            assert!(faults < 20, "machine {n}: {faults} faults");
            machines[n] = None;
        }
    }
}

/// One of which the spaces hold `value` and 100 more.
fn machine(image: &[u8], value: u8) -> Option<Vm> {
    let setup = setup(image, Tier::Mirror);
    let (mut vm, _) = setup.machine();
    vm.load(&setup.image()).expect("the image loads");
    prepare(&mut vm, [value, value + 100]);
    Some(vm)
}

/// Sums of addresses that pass 4 GiB or 0, and operands that do.
#[test]
fn addresses_wrap() {
    let image = guest(|a| {
        a.xor(ebp, ebp)?;
        a.mov(esi, 0x4000_0000)?;
        a.mov(ecx, 4)?;
        // The last doubleword and the first one.
        a.mov(dword_ptr(ebp - 4), 0x100)?;
        a.mov(dword_ptr(esi * 4), 0x2000)?;
        a.add(ebx, dword_ptr(ecx - 8))?;
        a.add(ebx, dword_ptr(esi * 4 - 4))?;
        a.add(ebx, dword_ptr(esi + esi * 2 + 0x3fff_fffc))?;
        a.add(ebx, dword_ptr(0xffff_fffc_u32))?;
        a.mov(edx, 0xffff_fffc_u32)?;
        a.add(ebx, dword_ptr(edx))?;
        a.add(ebx, dword_ptr(edx + 4))?;
        a.add(ebx, dword_ptr(edx + ecx))?;
        a.add(ebx, dword_ptr(edx + ecx * 2 - 4))?;
        a.add(ebx, dword_ptr(edx - 0x20_0000))?;
        // One byte too far, each a fault of two bytes.
        for _ in 0..3 {
            a.inc(edx)?;
            a.mov(eax, dword_ptr(edx))?;
            a.mov(dword_ptr(edx), eax)?;
        }
        a.shl(ebp, 16)?;
        a.add(ebx, ebp)
    });
    for (name, tier) in TIERS {
        let (total, _) = run(&image, tier, |vm| {
            prepare(vm, [0, 0]);
            // The page that ends 2 MiB before the space does.
            let at = PhysAddr(u64::from(TOP_TABLE + 4 * 0x1ff));
            vm.cpu.write_phys(at, &(TOP_FRAME | 7).to_le_bytes());
        });
        assert_eq!(total, 0x6_0000 + 6 * 0x100 + 3 * 0x2000, "{name}");
    }
}
