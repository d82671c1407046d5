//! Blocks of programs that lie at several addresses: code that is moved must be what
//! would have been made there, also after it has been overwritten.
//!
//! A program of ring 3 whose memory is mapped three times calls the same functions by
//! each of their addresses, and changes them now and then by any. The functions add up
//! where they run. In a build with debug assertions all code that is moved is also held
//! to what would have been made.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use runtime::config::Tier;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use runtime::vcpu::{cr0, cr4};
use runtime::vm::Vm;
use shadow_mmu::PhysAddr;
use tests::machine::{Setup, TIERS};
use translator::flags;
use translator::insn::SegReg;
use translator::state::Segment;

/// Where the program is loaded and entered, and where its functions are: across a page
/// boundary.
const START: u32 = 0x10_0000;
const FUNCTIONS: u32 = START + 0xfc0;
/// The second function, and its offset.
const SECOND: u32 = 0x70;
const RESULT: u32 = 0x20_0000;
const STACK: u32 = 0x30_0000;
/// Where memory is mapped.
const BASES: [u32; 3] = [0, 0x4000_0000, 0xb7c0_0000];
/// Page directory.
const DIRECTORY: u32 = 0x5000;
const ROUNDS: i32 = 200;

/// Calls the functions at each base; every 64th round changes the first by one base.
fn program(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut round, mut same) = (a.create_label(), a.create_label());
    a.mov(esp, STACK)?;
    a.xor(ebx, ebx)?;
    a.mov(ecx, ROUNDS)?;
    a.set_label(&mut round)?;
    for base in BASES {
        a.mov(eax, base + FUNCTIONS)?;
        a.call(eax)?;
        a.mov(eax, base + FUNCTIONS + SECOND)?;
        a.call(eax)?;
    }
    a.test(ecx, 63)?;
    a.jne(same)?;
    for base in BASES {
        // The immediate of the first function's first instruction.
        a.add(dword_ptr(base + FUNCTIONS + 2), 3)?;
        a.mov(eax, base + FUNCTIONS)?;
        a.call(eax)?;
    }
    a.set_label(&mut same)?;
    a.dec(ecx)?;
    a.jne(round)?;
    a.mov(dword_ptr(RESULT), ebx)?;
    a.mov(al, i32::from(samples::PASSED))?;
    a.out(0xf4, al)
}

/// A loop, a call within the page, its own EIP, and a jump into the next page.
fn functions(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut again, mut here, mut second) = (a.create_label(), a.create_label(), a.create_label());
    a.add(ebx, 0x0123_4567)?;
    a.mov(edx, 3)?;
    a.set_label(&mut again)?;
    a.rol(ebx, 5)?;
    a.dec(edx)?;
    a.jne(again)?;
    a.call(here)?;
    a.set_label(&mut here)?;
    a.pop(eax)?;
    a.add(ebx, eax)?;
    a.test(ebx, 4)?;
    a.je(second)?;
    a.jmp(second)?;
    // Up to the second one, which lies in the next page.
    let length = a.assemble(FUNCTIONS.into())?.len();
    a.nops_with_size(SECOND as usize - length)?;
    a.set_label(&mut second)?;
    a.xor(ebx, 0x55)?;
    a.fld1()?;
    a.fstp(st0)?;
    a.ret()
}

fn image() -> Vec<u8> {
    let make = |write: fn(&mut CodeAssembler) -> Result<(), IcedError>, at: u32| {
        let mut a = CodeAssembler::new(32).expect("32 bits are supported");
        write(&mut a).expect("the instructions exist");
        a.assemble(at.into()).expect("the jumps reach")
    };
    let mut image = make(program, START);
    image.resize((FUNCTIONS - START) as usize, 0x90);
    image.extend(make(functions, FUNCTIONS));
    image
}

/// Maps memory at each base for ring 3, which is entered.
fn prepare(vm: &mut Vm) {
    for base in BASES {
        let at = PhysAddr((DIRECTORY + 4 * (base >> 22)).into());
        vm.cpu.write_phys(at, &0xe7u32.to_le_bytes());
    }
    let cpu = &mut vm.cpu;
    cpu.sys.cr3 = DIRECTORY;
    cpu.sys.cr4 |= cr4::PSE;
    cpu.sys.cr0 |= cr0::PG;
    cpu.paging_changed();
    cpu.state.eflags |= flags::IOPL;
    for seg in SegReg::ALL {
        cpu.state.seg[seg as usize] = Segment::flat(0x23, seg == SegReg::Cs, 3);
    }
    cpu.sys.cpl = 3;
    cpu.mode_changed();
}

fn result(vm: &Vm) -> u32 {
    let word = vm.cpu.mmu.ram().read_u32(PhysAddr(RESULT.into()));
    word.expect("the result is in RAM")
}

/// What the interpreter makes of it if it forgets its blocks all the time.
fn expected(image: &[u8]) -> u32 {
    let setup = Setup::flat(image, START, FlatMode::Protected32, Tier::Interp);
    let ended = setup.run_after(|vm| {
        prepare(vm);
        while vm.step_block().is_none() {
            for frame in vm.cache.clear(&mut vm.cpu.code) {
                vm.cpu.mmu.unprotect_code(frame);
            }
        }
        assert_eq!(vm.cache.counters.moved, 0);
    });
    result(&ended.vm)
}

#[test]
fn the_same_code_runs_at_all_its_addresses() {
    let image = image();
    let expected = expected(&image);
    for (name, tier) in TIERS {
        let setup = Setup::flat(&image, START, FlatMode::Protected32, tier);
        let ended = setup.run_after(prepare);
        assert_eq!(ended.exit, Exit::DebugExit(0x10), "{name}");
        assert_eq!(result(&ended.vm), expected, "{name}");
        let moved = ended.vm.cache.counters.moved;
        assert!(moved >= 16, "{name}: {moved} blocks were moved");
    }
}

#[test]
fn blocks_may_forget_their_instructions_at_any_time() {
    let image = image();
    let expected = expected(&image);
    for (name, tier) in TIERS {
        let setup = Setup::flat(&image, START, FlatMode::Protected32, tier);
        let ended = setup.run_after(|vm| {
            prepare(vm);
            while vm.step_block().is_none() {
                vm.cache.rest();
                vm.cpu.mmu.rest();
            }
        });
        assert_eq!(result(&ended.vm), expected, "{name}");
        let moved = ended.vm.cache.counters.moved;
        assert!(moved >= 16, "{name}: {moved} blocks were moved");
    }
}
