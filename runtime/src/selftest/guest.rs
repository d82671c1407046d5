//! A tier of ring1 as the subject of a case.
//!
//! The machine is the smallest that can run ring 3 code and take its exceptions:
//! descriptor tables, a task state segment for the ring 0 stack, and PAE page
//! tables that map the three arenas where the host has them, not writable or not
//! executable as there. Every gate leads to a `HLT` of its own with interrupts
//! disabled, which stops the machine: which one it was, and the frame on the ring
//! 0 stack, are the result. Nothing of it is set up by guest code, so a case costs
//! no more instructions than it has.
//!
//! The kernel's pages lie high, where no case goes, so that every address a case
//! may touch by mistake is as absent as on the host.

use crate::config::{Tier, VmConfig};
use crate::exit::Exit;
use crate::launch::{machine, silent_console};
use crate::selftest::case::{Case, Oracle, Subject};
use crate::selftest::state::{
    CODE_BASE, CODE_BYTES, CODE_FILL, CODE_SELECTOR, DATA_BASE, DATA_BYTES, DATA_SELECTOR, Outcome,
    Run, SENTINEL, STACK_BASE, STACK_BYTES, State,
};
use crate::vcpu::{TableReg, cr0, cr4};
use crate::vm::Vm;
use shadow_mmu::{LinearAddr, PhysAddr};
use std::ops::Range;
use translator::flags;
use translator::insn::SegReg;
use translator::state::Segment;

/// Instructions after which a case counts as hung.
const LIMIT: u64 = 100_000;
/// What hold the selector of data at the start of a case.
const DATA_SEGMENTS: [SegReg; 3] = [SegReg::Es, SegReg::Ss, SegReg::Ds];
/// Linear address of the kernel's pages.
const KERNEL: u32 = 0xe5a3_4000;
const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x18;
const TASK: u16 = 0x30;
/// Offsets in the kernel's pages.
const GDT: u32 = 0;
const TSS: u32 = 0x100;
const IDT: u32 = 0x1000;
const HANDLERS: u32 = 0x1800;
const STACK_TOP: u32 = 0x3000;
/// Physical pages.
const PDPT: u64 = 0x10_0000;
const LOW_DIRECTORY: u64 = 0x10_1000;
const HIGH_DIRECTORY: u64 = 0x10_2000;
const LOW_TABLE: u64 = 0x10_3000;
const HIGH_TABLE: u64 = 0x10_4000;
const KERNEL_PHYS: u64 = 0x10_5000;
const CODE_PHYS: u64 = 0x10_8000;
const DATA_PHYS: u64 = 0x10_a000;
const STACK_PHYS: u64 = 0x10_c000;
/// Page-table entry bits (SDM vol. 3A, "PAE Paging").
const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const EXECUTE_DISABLE: u64 = 1 << 63;
/// IA32_EFER.NXE.
const NXE: u64 = 1 << 11;

/// A machine that runs cases in one tier.
pub struct Guest {
    vm: Vm,
    dirty: Range<usize>,
    read_only_page: Option<usize>,
    /// Instructions interpreted, and run in compiled code, in all cases.
    retired: [u64; 2],
}

impl Guest {
    /// Builds the machine.
    ///
    /// # Errors
    /// What the host refuses.
    pub fn new(tier: Tier) -> anyhow::Result<Guest> {
        let config = VmConfig {
            memory_mib: 4,
            tier,
            limit: Some(LIMIT),
            ..VmConfig::default()
        };
        let vm = machine(&config, |_| Ok(silent_console()))?;
        let mut guest = Guest {
            vm,
            dirty: 0..0,
            read_only_page: None,
            retired: [0; 2],
        };
        guest.write_tables();
        guest.write_page_tables();
        guest.write(CODE_PHYS, &[CODE_FILL; CODE_BYTES]);
        guest.load_system_registers();
        Ok(guest)
    }

    /// The share of the cases' instructions that ran in compiled code.
    pub fn share_compiled(&self) -> f64 {
        let [interpreted, compiled] = self.retired;
        compiled as f64 / (interpreted + compiled).max(1) as f64
    }

    fn write(&mut self, phys: u64, bytes: &[u8]) {
        self.vm.cpu.write_phys(PhysAddr(phys), bytes);
    }

    /// GDT, TSS, IDT and the handlers.
    fn write_tables(&mut self) {
        let gdt: [u64; 8] = [
            0,
            0x00cf_9b00_0000_ffff,
            0x00cf_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_fb00_0000_ffff,
            0x00cf_f300_0000_ffff,
            task_descriptor(KERNEL + TSS),
            0,
        ];
        let gdt: Vec<u8> = gdt.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        self.write(KERNEL_PHYS + u64::from(GDT), &gdt);
        let mut tss = [0; 0x68];
        tss[4..8].copy_from_slice(&(KERNEL + STACK_TOP).to_le_bytes());
        tss[8..10].copy_from_slice(&KERNEL_DATA.to_le_bytes());
        // The I/O permission map lies beyond the limit: no port is allowed.
        tss[0x66..0x68].copy_from_slice(&0x68u16.to_le_bytes());
        self.write(KERNEL_PHYS + u64::from(TSS), &tss);
        for vector in 0..=255u32 {
            let handler = KERNEL + HANDLERS + vector;
            // Ring 3 may use those of INT3 and INTO.
            let gate = interrupt_gate(KERNEL_CODE, handler, matches!(vector, 3 | 4));
            let at = KERNEL_PHYS + u64::from(IDT + vector * 8);
            self.write(at, &gate.to_le_bytes());
        }
        self.write(KERNEL_PHYS + u64::from(HANDLERS), &[0xf4; 256]);
    }

    fn write_page_tables(&mut self) {
        let user = PRESENT | USER;
        let mut entries = vec![
            (PDPT, LOW_DIRECTORY | PRESENT),
            (PDPT + 24, HIGH_DIRECTORY | PRESENT),
            (
                LOW_DIRECTORY + 8 * u64::from(CODE_BASE >> 21),
                LOW_TABLE | user | WRITABLE,
            ),
            (
                HIGH_DIRECTORY + 8 * u64::from(KERNEL >> 21 & 0x1ff),
                HIGH_TABLE | PRESENT | WRITABLE,
            ),
        ];
        let mut map = |linear: u32, phys: u64, bytes: usize, rights: u64, table: u64| {
            for page in 0..bytes as u64 / 0x1000 {
                let index = u64::from(linear >> 12 & 0x1ff) + page;
                entries.push((table + 8 * index, (phys + 0x1000 * page) | rights));
            }
        };
        let data = user | WRITABLE | EXECUTE_DISABLE;
        map(CODE_BASE, CODE_PHYS, CODE_BYTES, user, LOW_TABLE);
        map(DATA_BASE, DATA_PHYS, DATA_BYTES, data, LOW_TABLE);
        map(STACK_BASE, STACK_PHYS, STACK_BYTES, data, LOW_TABLE);
        map(KERNEL, KERNEL_PHYS, 0x3000, PRESENT | WRITABLE, HIGH_TABLE);
        for (at, entry) in entries {
            self.write(at, &entry.to_le_bytes());
        }
    }

    fn load_system_registers(&mut self) {
        let cpu = &mut self.vm.cpu;
        let sys = &mut cpu.sys;
        sys.gdtr = TableReg {
            base: KERNEL + GDT,
            limit: 0x3f,
        };
        sys.idtr = TableReg {
            base: KERNEL + IDT,
            limit: 0x7ff,
        };
        sys.tr = Segment {
            base: KERNEL + TSS,
            hi: 0x67,
            limit: 0x67,
            selector: TASK,
            attributes: 0x8b,
            ..Segment::default()
        };
        sys.ldtr = Segment {
            lo: 1,
            hi: 0,
            ..Segment::default()
        };
        sys.efer = NXE;
        sys.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT;
        sys.cr3 = PDPT as u32;
        sys.pdptes = [LOW_DIRECTORY | PRESENT, 0, 0, HIGH_DIRECTORY | PRESENT];
        sys.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG;
        cpu.paging_changed();
    }

    /// Makes one page of the data arena read-only, all others writable.
    fn protect(&mut self, page: Option<usize>) {
        let changes = [(self.read_only_page, WRITABLE), (page, 0)];
        for (page, writable) in changes {
            let Some(page) = page else { continue };
            let linear = DATA_BASE + 0x1000 * page as u32;
            let entry = (DATA_PHYS + 0x1000 * page as u64) | PRESENT | USER | EXECUTE_DISABLE;
            let at = LOW_TABLE + 8 * u64::from(linear >> 12 & 0x1ff);
            self.write(at, &(entry | writable).to_le_bytes());
            self.vm.cpu.mmu.invlpg(LinearAddr(linear));
        }
        self.read_only_page = page;
    }

    /// Puts code and memory of `case` in place.
    fn load(&mut self, case: &Case) {
        let entry = &case.entry;
        let old = self.dirty.clone();
        self.write(CODE_PHYS + old.start as u64, &vec![CODE_FILL; old.len()]);
        let start = entry.eip.wrapping_sub(CODE_BASE) as usize;
        let mut code = case.code.clone();
        code.push(SENTINEL);
        code.truncate(CODE_BYTES - start);
        self.write(CODE_PHYS + start as u64, &code);
        self.dirty = start..start + code.len();
        let (mut data, mut stack) = (vec![0; DATA_BYTES], vec![0; STACK_BYTES]);
        case.fill(&mut data, &mut stack);
        // Neither is ever executed or a page table, so no trace need see it.
        let ram = self.vm.cpu.mmu.ram();
        let _ = ram.write_slice(PhysAddr(DATA_PHYS), &data);
        let _ = ram.write_slice(PhysAddr(STACK_PHYS), &stack);
        if case.read_only_page != self.read_only_page {
            self.protect(case.read_only_page);
        }
    }

    /// Puts registers in place, for ring 3, among them the given segment registers.
    fn enter(&mut self, entry: &State, loaded: &[SegReg]) {
        let cpu = &mut self.vm.cpu;
        cpu.state.gpr[..8].copy_from_slice(&entry.gpr);
        cpu.state.eip = entry.eip;
        cpu.state.set_eflags_image(entry.eflags);
        let data_segment = Segment::flat(DATA_SELECTOR, false, 3);
        for &seg in loaded {
            cpu.state.seg[seg as usize] = data_segment;
        }
        cpu.state.seg[SegReg::Cs as usize] = Segment::flat(CODE_SELECTOR, true, 3);
        for seg in [SegReg::Fs, SegReg::Gs] {
            cpu.state.seg[seg as usize] = Segment {
                lo: 1,
                hi: 0,
                ..Segment::default()
            };
        }
        cpu.fpu.set_image(&entry.fxsave);
        cpu.sys.cpl = 3;
        cpu.halted = false;
        cpu.shutdown = false;
        cpu.mode_changed();
        // The instruction limit is the case's.
        self.vm.counters = Default::default();
    }

    /// The exception by the handler that was reached, and the state it interrupted.
    fn caught(&mut self) -> Option<(State, Outcome)> {
        let cpu = &mut self.vm.cpu;
        let vector = cpu.state.eip.checked_sub(KERNEL + HANDLERS + 1)?;
        let vector = u8::try_from(vector).ok()?;
        let with_error = matches!(vector, 8 | 10..=14 | 17);
        let used = (KERNEL + STACK_TOP).checked_sub(cpu.state.gpr[4])?;
        if used != if with_error { 24 } else { 20 } {
            return None;
        }
        let at = KERNEL_PHYS + u64::from(STACK_TOP - used);
        let mut frame = [0; 24];
        cpu.mmu
            .ram()
            .read_slice(PhysAddr(at), &mut frame[24 - used as usize..])?;
        let word = |i: usize| u32::from_le_bytes([0, 1, 2, 3].map(|k| frame[4 * i + k]));
        let mut state = State {
            fxsave: cpu.fpu.image(),
            gpr: [0, 1, 2, 3, 4, 5, 6, 7].map(|r| cpu.state.gpr[r]),
            eip: word(1),
            eflags: word(3),
        };
        state.gpr[4] = word(4);
        let outcome = Outcome::Trap {
            vector,
            error: word(0),
            addr: if vector == 14 { cpu.sys.cr2 } else { 0 },
        };
        Some((state, outcome))
    }
}

/// The descriptor of a busy 32-bit TSS of the least size.
fn task_descriptor(base: u32) -> u64 {
    let base = u64::from(base);
    0x8b00_0000_0067 | (base & 0xff_ffff) << 16 | base >> 24 << 56
}

impl Guest {
    /// Runs from `entry` to the next exception.
    fn run_from(&mut self, entry: &State, loaded: &[SegReg]) -> (State, Outcome) {
        self.enter(entry, loaded);
        let exit = self.vm.run();
        self.retired[0] += self.vm.counters.interpreted_insns;
        self.retired[1] += self.vm.counters.compiled_insns;
        let caught = match exit {
            Exit::Halted => self.caught(),
            _ => None,
        };
        caught.unwrap_or_else(|| {
            let outcome = match exit {
                Exit::Limit => Outcome::Hung,
                _ => Outcome::Stopped,
            };
            (State::new(), outcome)
        })
    }
}

impl Subject for Guest {
    fn run(&mut self, case: &Case) -> Run {
        self.load(case);
        let (state, outcome) = self.run_from(&case.entry, &DATA_SEGMENTS);
        let (mut data, mut stack) = (vec![0; DATA_BYTES], vec![0; STACK_BYTES]);
        let ram = self.vm.cpu.mmu.ram();
        let _ = ram.read_slice(PhysAddr(DATA_PHYS), &mut data);
        let _ = ram.read_slice(PhysAddr(STACK_PHYS), &mut stack);
        Run {
            state,
            outcome,
            data,
            stack,
        }
    }
}

impl Oracle for Guest {
    fn trace(&mut self, case: &Case, limit: usize) -> Vec<State> {
        self.load(case);
        let mut states = vec![case.entry];
        let mut stepping = case.entry;
        let mut loaded = &DATA_SEGMENTS[..];
        for _ in 0..=limit {
            stepping.eflags |= flags::TF;
            let (state, outcome) = self.run_from(&stepping, loaded);
            // Of the others a trap leaves what the sequence has made.
            loaded = &[SegReg::Ss];
            stepping = state;
            states.push(State {
                eflags: state.eflags & !flags::TF,
                ..state
            });
            if !matches!(outcome, Outcome::Trap { vector: 1, .. }) {
                break;
            }
        }
        states
    }
}

/// A 32-bit interrupt gate, present, which ring 3 may use if `user` (SDM vol. 3A,
/// "IDT Descriptors").
pub fn interrupt_gate(code: u16, handler: u32, user: bool) -> u64 {
    let rights: u64 = if user { 0xee00 } else { 0x8e00 };
    let (low, high) = (u64::from(handler & 0xffff), u64::from(handler >> 16));
    low | u64::from(code) << 16 | rights << 32 | high << 48
}
