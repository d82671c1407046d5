//! A small protected-mode world to run single system instructions in.
//!
//! Paging is off unless a test turns it on, so linear addresses are RAM
//! addresses. The CPU starts in ring 0 with flat segments; interrupt vectors
//! lead to `HANDLERS + 16 × vector` in ring 0.

mod control;
mod events;
mod far;
mod mode;
mod model;
mod port;
mod random;
mod segment;
mod string;
mod task;

use super::descriptor::Descriptor;
use super::interrupt::{Event, deliver};
use crate::clock::FakeClock;
use crate::console::BufferConsole;
use crate::cpu_model::{CpuModel, Processor};
use crate::devices::pc::{Pc, PcConfig};
use crate::vcpu::{Cpu, TableReg, cr0};
use shadow_mmu::{GuestRam, PhysAddr, ShadowMmu};
use std::sync::Arc;
use translator::decode::decode_block_for;
use translator::exception::Exception;
use translator::insn::SegReg;
use translator::state::Segment;

const GDT: u32 = 0x1000;
const IDT: u32 = 0x2000;
const TSS: u32 = 0x3000;
const TSS2: u32 = 0x3400;
const LDT: u32 = 0x3800;
const KERNEL_STACK: u32 = 0x8000;
const STACK: u32 = 0x7000;
const HANDLERS: u32 = 0x9000;
const CODE_AT: u32 = 0xa000;
const DATA: u32 = 0xb000;

const CODE0: u16 = 0x08;
const DATA0: u16 = 0x10;
const CODE3: u16 = 0x1b;
const DATA3: u16 = 0x23;
const TASK: u16 = 0x28;
const CONFORMING: u16 = 0x30;
const CODE16: u16 = 0x38;
const EXPAND_DOWN: u16 = 0x40;
const ABSENT: u16 = 0x48;
const CALL_GATE: u16 = 0x50;
const TASK_GATE: u16 = 0x58;
const TASK2: u16 = 0x60;
const LDT_SELECTOR: u16 = 0x68;
const READ_ONLY: u16 = 0x70;
const SMALL_STACK: u16 = 0x78;
const GDT_ENTRIES: u16 = 16;

/// A segment descriptor.
fn describe(base: u32, limit: u32, access: u8, flags: u8) -> Descriptor {
    Descriptor {
        low: base << 16 | limit & 0xffff,
        high: base & 0xff00_0000
            | u32::from(flags) << 20
            | limit & 0xf_0000
            | u32::from(access) << 8
            | base >> 16 & 0xff,
    }
}

/// A gate descriptor.
fn gate(selector: u16, offset: u32, access: u8, params: u8) -> Descriptor {
    Descriptor {
        low: u32::from(selector) << 16 | offset & 0xffff,
        high: offset & 0xffff_0000 | u32::from(access) << 8 | u32::from(params),
    }
}

/// See the module's essay.
struct Bench {
    cpu: Cpu,
}

impl Bench {
    fn new() -> Self {
        Self::on(Processor::Max)
    }

    fn on(processor: Processor) -> Self {
        let ram = GuestRam::new(1 << 20).expect("guest memory");
        let (console, _) = BufferConsole::new(b"");
        let pc = Pc::new(PcConfig {
            ram_bytes: 1 << 20,
            console: Box::new(console),
            debug_output: Box::new(std::io::sink()),
            clock: Arc::new(FakeClock::new(0)),
        });
        let cpu = Cpu::new(
            CpuModel::new(processor),
            ShadowMmu::new(ram).expect("shadow MMU"),
            pc,
        );
        let mut bench = Self { cpu };
        bench.fill_tables();
        bench.enter_ring0();
        bench
    }

    fn fill_tables(&mut self) {
        let entries = [
            (CODE0, describe(0, 0xf_ffff, 0x9b, 0xc)),
            (DATA0, describe(0, 0xf_ffff, 0x93, 0xc)),
            (CODE3, describe(0, 0xf_ffff, 0xfb, 0xc)),
            (DATA3, describe(0, 0xf_ffff, 0xf3, 0xc)),
            (TASK, describe(TSS, 0x80, 0x89, 0)),
            (CONFORMING, describe(0, 0xf_ffff, 0x9f, 0xc)),
            (CODE16, describe(0, 0xffff, 0x9b, 0)),
            (EXPAND_DOWN, describe(0, 0xfff, 0x97, 4)),
            (ABSENT, describe(0, 0xfff, 0x13, 4)),
            (CALL_GATE, gate(CODE0, 0x5000, 0xec, 2)),
            (TASK_GATE, gate(TASK2, 0, 0xe5, 0)),
            (TASK2, describe(TSS2, 0x67, 0x89, 0)),
            (LDT_SELECTOR, describe(LDT, 0xf, 0x82, 0)),
            (READ_ONLY, describe(0, 0xfff, 0xf0, 4)),
            (SMALL_STACK, describe(0, 0xfff, 0x93, 4)),
        ];
        for (selector, descriptor) in entries {
            self.set_descriptor(selector, descriptor);
        }
        for vector in 0..=0x80 {
            self.set_gate(vector, gate(CODE0, HANDLERS + 16 * vector, 0x8e, 0));
        }
        self.set_gate(0x80, gate(CODE0, HANDLERS + 0x800, 0xef, 0));
        self.poke(TSS + 4, KERNEL_STACK);
        self.poke(TSS + 8, u32::from(DATA0));
        self.poke(TSS + 102, 0x68);
        let sys = &mut self.cpu.sys;
        sys.gdtr = TableReg {
            base: GDT,
            limit: GDT_ENTRIES * 8 - 1,
        };
        sys.idtr = TableReg {
            base: IDT,
            limit: 0x81 * 8 - 1,
        };
    }

    fn enter_ring0(&mut self) {
        self.cpu.sys.cr0 |= cr0::PE;
        self.cpu.state.seg = [Segment::flat(DATA0, false, 0); 6];
        self.cpu.state.seg[SegReg::Cs as usize] = Segment::flat(CODE0, true, 0);
        self.cpu.state.gpr[4] = STACK;
        self.cpu.state.eip = CODE_AT;
        self.cpu.mode_changed();
        // LTR AX.
        self.cpu.state.gpr[0] = u32::from(TASK);
        self.ok(&[0x0f, 0x00, 0xd8]);
        self.cpu.state.gpr[0] = 0;
        self.cpu.state.eip = CODE_AT;
    }

    /// Flat ring 3.
    fn enter_ring3(&mut self) {
        for seg in SegReg::ALL {
            self.cpu.state.seg[seg as usize] = Segment::flat(DATA3, false, 3);
        }
        self.cpu.state.seg[SegReg::Cs as usize] = Segment::flat(CODE3, true, 3);
        self.cpu.sys.cpl = 3;
        self.cpu.mode_changed();
    }

    /// Runs one instruction as the run loop would.
    fn run(&mut self, bytes: &[u8]) -> Result<(), Exception> {
        let eip = self.cpu.state.eip;
        let (known, mode) = (self.cpu.model.decodable(), self.cpu.mode());
        let block = decode_block_for(known, bytes, eip, mode, 1).expect("a whole instruction");
        let insn = block.insns[0];
        self.cpu.state.eip = insn.next_eip;
        let result = super::dispatch(&mut self.cpu, &insn);
        if result.is_err() {
            self.cpu.state.eip = eip;
        }
        result
    }

    /// Runs one instruction that must not fault.
    #[track_caller]
    fn ok(&mut self, bytes: &[u8]) {
        assert_eq!(self.run(bytes), Ok(()), "{bytes:x?}");
    }

    /// Runs one instruction that must fault and change no register.
    #[track_caller]
    fn faults(&mut self, bytes: &[u8], e: Exception) {
        let before = (self.cpu.state.clone(), self.cpu.sys.clone());
        assert_eq!(self.run(bytes), Err(e), "{bytes:x?}");
        assert_eq!(
            format!("{before:?}"),
            format!("{:?}", (&self.cpu.state, &self.cpu.sys))
        );
    }

    fn raise(&mut self, e: Exception) {
        deliver(&mut self.cpu, Event::Exception(e));
    }

    fn set_descriptor(&mut self, selector: u16, descriptor: Descriptor) {
        let at = GDT + u32::from(selector & !7);
        self.poke(at, descriptor.low);
        self.poke(at + 4, descriptor.high);
    }

    fn descriptor(&self, selector: u16) -> Descriptor {
        let at = GDT + u32::from(selector & !7);
        Descriptor {
            low: self.peek(at),
            high: self.peek(at + 4),
        }
    }

    fn set_gate(&mut self, vector: u32, descriptor: Descriptor) {
        self.poke(IDT + vector * 8, descriptor.low);
        self.poke(IDT + vector * 8 + 4, descriptor.high);
    }

    fn poke(&mut self, at: u32, value: u32) {
        let at = PhysAddr(u64::from(at));
        self.cpu.write_phys(at, &value.to_le_bytes());
    }

    fn poke16(&mut self, at: u32, value: u16) {
        let at = PhysAddr(u64::from(at));
        self.cpu.write_phys(at, &value.to_le_bytes());
    }

    fn peek(&self, at: u32) -> u32 {
        let at = PhysAddr(u64::from(at));
        self.cpu.mmu.ram().read_u32(at).expect("an address in RAM")
    }

    /// The doublewords on top of the stack.
    fn stack<const N: usize>(&self) -> [u32; N] {
        let top = self.cpu.state.gpr[4];
        std::array::from_fn(|n| self.peek(top + 4 * n as u32))
    }

    /// Puts doublewords on the stack, the first on top.
    fn push_all(&mut self, values: &[u32]) {
        for &v in values.iter().rev() {
            self.cpu.state.gpr[4] -= 4;
            self.poke(self.cpu.state.gpr[4], v);
        }
    }

    fn selector(&self, seg: SegReg) -> u16 {
        self.cpu.state.segment(seg).selector
    }
}
