//! A bare machine that runs one small program again and again.
//!
//! The program is 32-bit code at [`CODE`], entered in ring 0 or ring 3 of flat
//! protected mode without paging, with its number of rounds in ECX. It ends in
//! `HLT` with interrupts off, in ring 3 by way of vector [`END`]. Blocks stay
//! translated from run to run, so a second run is all warm.
//!
//! Descriptor tables and the PIC are set from outside rather than by guest code:
//! a run retires what the program has and nothing else.

use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;
use runtime::config::{Tier, VmConfig};
use runtime::exit::Exit;
use runtime::launch::{machine, silent_console};
use runtime::vcpu::{TableReg, cr0};
use runtime::vm::Vm;
use shadow_mmu::PhysAddr;
use translator::flags;
use translator::insn::SegReg;
use translator::state::Segment;

/// Where the program lies.
pub const CODE: u32 = 0x10_0000;
/// Free memory for the program's data, 1 MiB.
pub const DATA: u32 = 0x20_0000;
/// Top of the program's stack.
pub const STACK: u32 = 0x38_0000;
/// Software interrupt that ends a program in ring 3.
pub const END: u8 = 0x81;
/// Vector of the PIC's first interrupt line.
pub const IRQ_BASE: u8 = 0x20;

const KERNEL_STACK: u32 = 0x3c_0000;
const GDT: u32 = 0x1000;
const TSS: u32 = 0x1100;
const IDT: u32 = 0x2000;
/// A handler that only halts.
const HALT: u32 = 0x3000;
const MEMORY_MIB: u32 = 8;

const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;
const USER_CODE: u16 = 0x18 | 3;
const USER_DATA: u16 = 0x20 | 3;
const TASK: u16 = 0x28;

/// Ring a program runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Ring 0.
    Kernel,
    /// Ring 3.
    User,
}

/// Assembles a program for [`CODE`].
///
/// # Panics
/// What the closure writes is no program; it is fixed text, so never after its
/// first run.
pub fn assemble(write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(32).expect("32 bits are supported");
    write(&mut assembler).expect("the program's instructions exist");
    assembler
        .assemble(u64::from(CODE))
        .expect("the program's jumps reach")
}

/// The machine with its program.
pub struct Guest {
    vm: Vm,
    ring: Ring,
}

impl Guest {
    /// A machine with `code` at [`CODE`], every vector halting.
    ///
    /// # Panics
    /// The host refuses a machine of a few MiB.
    pub fn new(tier: Tier, ring: Ring, code: &[u8]) -> Self {
        let config = VmConfig {
            memory_mib: MEMORY_MIB,
            tier,
            ..VmConfig::default()
        };
        let vm = machine(&config, |_| Ok(silent_console())).expect("the host gives a machine");
        let mut guest = Self { vm, ring };
        guest.write(CODE, code);
        guest.write(HALT, &[0xf4]);
        guest.write_tables();
        guest
    }

    /// The machine itself.
    pub fn vm(&mut self) -> &mut Vm {
        &mut self.vm
    }

    /// Copies `bytes` to a physical address.
    pub fn write(&mut self, address: u32, bytes: &[u8]) {
        self.vm.cpu.write_phys(PhysAddr(u64::from(address)), bytes);
    }

    /// Lets an interrupt gate that ring 3 may use lead to `handler` in ring 0.
    pub fn set_vector(&mut self, vector: u8, handler: u32) {
        let gate = u64::from(handler & 0xffff)
            | u64::from(KERNEL_CODE) << 16
            | 0xee00 << 32
            | u64::from(handler >> 16) << 48;
        self.write(IDT + 8 * u32::from(vector), &gate.to_le_bytes());
    }

    /// Sets what SYSENTER loads, with its code at `handler`.
    pub fn set_sysenter(&mut self, handler: u32) {
        self.vm.cpu.sys.sysenter = [u32::from(KERNEL_CODE), KERNEL_STACK, handler];
    }

    /// GDT in the order that SYSENTER and SYSEXIT want, TSS, IDT.
    fn write_tables(&mut self) {
        let tss = u64::from(TSS);
        let gdt: [u64; 6] = [
            0,
            0x00cf_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_fb00_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x0000_8b00_0000_0067 | (tss & 0xff_ffff) << 16,
        ];
        let gdt: Vec<u8> = gdt.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        self.write(GDT, &gdt);
        self.write(TSS + 4, &KERNEL_STACK.to_le_bytes());
        self.write(TSS + 8, &u32::from(KERNEL_DATA).to_le_bytes());
        for vector in 0..=255 {
            self.set_vector(vector, HALT);
        }
        let sys = &mut self.vm.cpu.sys;
        sys.gdtr = TableReg {
            base: GDT,
            limit: gdt.len() as u16 - 1,
        };
        sys.idtr = TableReg {
            base: IDT,
            limit: 0x7ff,
        };
        sys.tr = Segment {
            base: TSS,
            hi: 0x67,
            limit: 0x67,
            selector: TASK,
            attributes: 0x8b,
            ..Segment::default()
        };
        sys.cr0 = cr0::PE | cr0::ET | cr0::NE;
        self.vm.cpu.paging_changed();
    }

    /// Puts the CPU at the start of the program.
    fn enter(&mut self, rounds: u32) {
        let user = self.ring == Ring::User;
        let (code, data, cpl) = match self.ring {
            Ring::Kernel => (KERNEL_CODE, KERNEL_DATA, 0),
            Ring::User => (USER_CODE, USER_DATA, 3),
        };
        let cpu = &mut self.vm.cpu;
        cpu.state.seg = [Segment::flat(data, false, cpl); 6];
        cpu.state.seg[SegReg::Cs as usize] = Segment::flat(code, true, cpl);
        cpu.state.gpr[..8].copy_from_slice(&[0, rounds, 0, 0, STACK, 0, 0, 0]);
        cpu.state.eip = CODE;
        // Ring 3 may touch ports, and begins with interrupts on.
        cpu.state
            .set_eflags_image(if user { 0x3000 | flags::IF } else { 0 });
        cpu.sys.cpl = cpl;
        cpu.halted = false;
        cpu.mode_changed();
    }

    /// Runs the program for `rounds` rounds and returns the instructions retired.
    ///
    /// # Panics
    /// The program does not end as it should.
    pub fn run(&mut self, rounds: u32) -> u64 {
        self.enter(rounds);
        let before = self.vm.counters.retired();
        let exit = self.vm.run();
        assert_eq!(exit, Exit::Halted, "at {:#x}", self.vm.cpu.state.eip);
        self.vm.counters.retired() - before
    }
}
