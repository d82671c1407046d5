//! Random programs that patch themselves, in every tier, against a machine that
//! remembers nothing.
//!
//! A program is a loop over *slots*, instructions of eight bytes that are valid
//! whatever is stored to most of their bytes, and over stores to slots: before and
//! behind the one that stores, of any width, by strings and by the stack, in every
//! round or for a while, by another linear address, and to data among the slots. What it leaves is
//! a hash of its results and of its own code. The machine it is judged by forgets
//! all blocks after each one it has interpreted.
//!
//! `RING1_SEED=N` begins with another seed, `RING1_PROGRAMS=N` runs so many.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use runtime::config::Tier;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use runtime::selftest::rng::Rng;
use runtime::vcpu::{cr0, cr4};
use runtime::vm::Vm;
use shadow_mmu::PhysAddr;
use tests::machine::{Setup, TIERS};

/// Where the program is loaded and entered; its slots lie behind it.
const START: u32 = 0x10_0000;
/// Where the slots are: in the program's page, and near the end of the next.
const PLACES: [u32; 2] = [START + 0x800, START + 0x1f70];
const SLOTS: u32 = 16;
/// From slot to slot: there is a jump or nothing between.
const STRIDE: u32 = 10;
/// Where the result is left.
const RESULT: u32 = 0x20_0000;
const STACK: u32 = 0x30_0000;
/// Linear address of a second mapping of memory.
const ALIAS: u32 = 0x4000_0000;
/// Page directory where there is one.
const DIRECTORY: u32 = 0x5000;
const ROUNDS: i32 = 700;
const PROGRAMS: u64 = 12;

type Written = Result<(), IcedError>;

/// ADD EBX, imm32 and two bytes that may be any of [`SHORT`]: the ModRM byte may be
/// that of the seven other operations.
const SLOT: [u8; 8] = [0x81, 0xc3, 1, 2, 3, 4, 0x90, 0x90];
/// NOP, CLC, STC, CMC, INC EBX, DEC EBX.
const SHORT: [u8; 6] = [0x90, 0xf8, 0xf9, 0xf5, 0x43, 0x4b];

/// Writes a program.
struct Maker {
    rng: Rng,
    slots: u32,
    /// All of memory is mapped at [`ALIAS`], too.
    paging: bool,
}

impl Maker {
    fn below(&mut self, n: u32) -> u32 {
        self.rng.below(n as usize) as u32
    }

    fn slot(&mut self) -> u32 {
        let alias = match self.paging && self.rng.chance(30) {
            true => ALIAS,
            false => 0,
        };
        alias + self.slots + STRIDE * self.below(SLOTS)
    }

    /// A store to some slot, of what ECX and EBX make of it.
    fn store(&mut self, a: &mut CodeAssembler) -> Written {
        let slot = self.slot();
        let imm = slot + 2;
        match self.below(9) {
            0 => a.mov(dword_ptr(imm), ecx),
            1 => a.mov(byte_ptr(imm + self.below(4)), bl),
            2 => a.mov(word_ptr(imm + self.below(3)), cx),
            3 => a.add(dword_ptr(imm), ebx),
            4 => {
                a.mov(edx, ecx)?;
                a.and(edx, 0x38)?;
                a.or(dl, 0xc3u32 as i32)?;
                a.mov(byte_ptr(slot + 1), dl)
            }
            5 => {
                let short = SHORT[self.rng.below(SHORT.len())];
                a.mov(byte_ptr(slot + 6 + self.below(2)), i32::from(short))
            }
            6 => {
                a.mov(edi, imm)?;
                a.mov(edx, ecx)?;
                a.mov(ecx, 1 + self.below(4))?;
                a.mov(eax, ebx)?;
                a.rep().stosb()?;
                a.mov(ecx, edx)
            }
            7 => {
                a.mov(esp, imm + 4)?;
                a.push(ebx)?;
                a.mov(esp, STACK)
            }
            _ => {
                // One slot becomes what another is.
                a.mov(esi, self.slot())?;
                a.mov(edi, slot)?;
                a.movsd()?;
                a.movsd()
            }
        }
    }

    /// An item of the loop beside the slots.
    fn item(&mut self, a: &mut CodeAssembler) -> Written {
        match self.below(5) {
            // Data in the page, next to the slots, and elsewhere.
            0 => a.inc(dword_ptr(self.slots - 4)),
            1 => a.add(dword_ptr(START + 0xf00), ebx),
            2 => a.adc(dword_ptr(RESULT + 64), ecx),
            // For a while.
            3 => {
                let mut over = a.create_label();
                a.cmp(ecx, 1 + self.below(ROUNDS as u32) as i32)?;
                a.jb(over)?;
                self.store(a)?;
                a.set_label(&mut over)
            }
            _ => self.store(a),
        }
    }

    fn program(&mut self, a: &mut CodeAssembler) -> Written {
        let (mut round, mut hash) = (a.create_label(), a.create_label());
        a.mov(esp, STACK)?;
        a.cld()?;
        a.xor(ebx, ebx)?;
        a.mov(ecx, ROUNDS)?;
        a.set_label(&mut round)?;
        for _ in 0..2 + self.below(6) {
            self.item(a)?;
        }
        a.call(u64::from(self.slots))?;
        for _ in 0..self.below(4) {
            self.item(a)?;
        }
        a.dec(ecx)?;
        a.jne(round)?;
        a.mov(ecx, 0x2000 / 4)?;
        a.set_label(&mut hash)?;
        a.rol(ebx, 1)?;
        a.xor(ebx, dword_ptr(ecx * 4 + (START - 4)))?;
        a.dec(ecx)?;
        a.jne(hash)?;
        a.mov(dword_ptr(RESULT), ebx)?;
        a.mov(al, i32::from(samples::PASSED))?;
        a.out(0xf4, al)
    }

    /// The slots, with jumps over some of them.
    fn slots(&mut self) -> Vec<u8> {
        let mut code = Vec::new();
        for n in 0..SLOTS {
            code.extend(SLOT);
            match self.below(6) {
                0 if n + 1 < SLOTS => code.extend([0x72, STRIDE as u8]), // JC
                _ => code.extend([0x90, 0x90]),
            }
        }
        code.push(0xc3);
        code
    }
}

fn image(seed: u64) -> Vec<u8> {
    let mut maker = Maker {
        rng: Rng::new(seed),
        slots: PLACES[seed as usize % PLACES.len()],
        paging: paging(seed),
    };
    let mut a = CodeAssembler::new(32).expect("32 bits are supported");
    maker.program(&mut a).expect("the instructions exist");
    let mut image = a.assemble(START.into()).expect("the jumps reach");
    assert!(image.len() < 0x700, "the program runs into its slots");
    image.resize((maker.slots - START) as usize, 0x90);
    image.extend(maker.slots());
    image
}

fn paging(seed: u64) -> bool {
    seed.is_multiple_of(3)
}

/// Maps memory in pages of 4 MiB, twice.
fn prepare(vm: &mut Vm, seed: u64) {
    if !paging(seed) {
        return;
    }
    for linear in [0, ALIAS] {
        let at = PhysAddr((DIRECTORY + 4 * (linear >> 22)).into());
        vm.cpu.write_phys(at, &0xe3u32.to_le_bytes());
    }
    let sys = &mut vm.cpu.sys;
    sys.cr3 = DIRECTORY;
    sys.cr4 |= cr4::PSE;
    sys.cr0 |= cr0::PG;
    vm.cpu.paging_changed();
}

fn result(vm: &Vm) -> u32 {
    let word = vm.cpu.mmu.ram().read_u32(PhysAddr(RESULT.into()));
    word.expect("the result is in RAM")
}

/// Runs a program in the interpreter, which forgets its blocks all the time.
fn expected(image: &[u8], seed: u64) -> u32 {
    let setup = Setup::flat(image, START, FlatMode::Protected32, Tier::Interp);
    let ended = setup.run_after(|vm| {
        prepare(vm, seed);
        while vm.step_block().is_none() {
            for frame in vm.cache.clear(&mut vm.cpu.code) {
                vm.cpu.mmu.unprotect_code(frame);
            }
        }
    });
    result(&ended.vm)
}

#[test]
fn random_programs_that_patch_themselves_agree() {
    let number = |variable| std::env::var(variable).ok()?.parse().ok();
    let first = number("RING1_SEED").unwrap_or(0);
    let programs = number("RING1_PROGRAMS").unwrap_or(PROGRAMS);
    for seed in first..first + programs {
        let image = image(seed);
        let expected = expected(&image, seed);
        for (name, tier) in TIERS {
            let setup = Setup::flat(&image, START, FlatMode::Protected32, tier);
            let ended = setup.run_after(|vm| prepare(vm, seed));
            assert_eq!(ended.exit, Exit::DebugExit(0x10), "seed {seed}, {name}");
            assert_eq!(result(&ended.vm), expected, "seed {seed}, {name}");
        }
    }
}
