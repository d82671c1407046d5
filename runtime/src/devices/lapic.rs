//! The local APIC of the one processor (SDM vol. 3A, "Advanced Programmable
//! Interrupt Controller (APIC)"), in xAPIC mode: a page of registers.
//!
//! It sits between the 8259As and the processor. Its own interrupts (timer, and
//! those that the processor sends to itself) wait in the IRR until their priority
//! exceeds the processor's. The 8259As are on its pin LINT0, which it passes
//! through: *virtual wire mode*, in which a BIOS leaves it and in which systems
//! that know nothing of it never notice it. There is no I/O APIC.
//!
//! Nothing is cached: what is deliverable follows from IRR, ISR and TPR by the
//! manual's rule whenever somebody asks.

mod registers;
pub mod timer;

use std::sync::Arc;

use self::registers::{ESR_RECEIVE_ILLEGAL, Lvt, SVR_ENABLE};
use self::timer::Timer;
use crate::clock::Clock;

/// Where the registers are after reset.
pub const DEFAULT_BASE: u64 = 0xFEE0_0000;

/// IA32_APIC_BASE: this is the bootstrap processor.
const BASE_BSP: u64 = 1 << 8;
/// IA32_APIC_BASE: the APIC is there at all.
const BASE_ENABLE: u64 = 1 << 11;
/// IA32_APIC_BASE: the address, of 36 bits.
const BASE_ADDRESS: u64 = 0xF_FFFF_F000;

/// A set of 256 vectors.
#[derive(Clone, Copy, Default)]
struct Vectors([u32; 8]);

impl Vectors {
    fn insert(&mut self, vector: u8) {
        self.0[usize::from(vector / 32)] |= 1 << (vector % 32);
    }

    fn remove(&mut self, vector: u8) {
        self.0[usize::from(vector / 32)] &= !(1 << (vector % 32));
    }

    /// The vector of highest priority.
    fn highest(&self) -> Option<u8> {
        let word = (0..8u8).rev().find(|&w| self.0[usize::from(w)] != 0)?;
        Some(word * 32 + 31 - self.0[usize::from(word)].leading_zeros() as u8)
    }
}

/// What an interrupt message or a local interrupt does (the delivery mode field).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Fixed,
    Nmi,
    Init,
    ExtInt,
    /// SMI, start-up, and what is reserved: nothing here listens.
    Other,
}

impl Delivery {
    fn of(register: u32) -> Self {
        match register >> 8 & 7 {
            // With one processor, the one of lowest priority is it.
            0 | 1 => Delivery::Fixed,
            4 => Delivery::Nmi,
            5 => Delivery::Init,
            7 => Delivery::ExtInt,
            _ => Delivery::Other,
        }
    }
}

/// The local APIC.
pub struct LocalApic {
    clock: Arc<dyn Clock>,
    /// IA32_APIC_BASE.
    base: u64,
    id: u32,
    tpr: u32,
    ldr: u32,
    dfr: u32,
    svr: u32,
    isr: Vectors,
    tmr: Vectors,
    irr: Vectors,
    /// Errors since the last write of the ESR, and what that write made readable.
    errors: u32,
    esr: u32,
    icr: [u32; 2],
    lvt: [u32; Lvt::COUNT],
    timer: Timer,
    /// Level of LINT0: the output of the 8259As.
    lint0: bool,
    nmi: bool,
    init: bool,
}

impl LocalApic {
    /// An APIC as a BIOS leaves it: virtual wire mode.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let mut apic = Self {
            clock,
            base: DEFAULT_BASE | BASE_ENABLE | BASE_BSP,
            id: 0,
            tpr: 0,
            ldr: 0,
            dfr: 0,
            svr: 0,
            isr: Vectors::default(),
            tmr: Vectors::default(),
            irr: Vectors::default(),
            errors: 0,
            esr: 0,
            icr: [0; 2],
            lvt: [0; Lvt::COUNT],
            timer: Timer::default(),
            lint0: false,
            nmi: false,
            init: false,
        };
        apic.reset();
        apic.svr |= SVR_ENABLE;
        apic.lvt[Lvt::LINT0] = registers::EXTINT;
        apic.lvt[Lvt::LINT1] = registers::NMI;
        apic
    }

    /// The registers after power-up.
    fn reset(&mut self) {
        self.tpr = 0;
        self.ldr = 0;
        self.dfr = u32::MAX;
        self.svr = 0xFF;
        self.isr = Vectors::default();
        self.tmr = Vectors::default();
        self.irr = Vectors::default();
        self.errors = 0;
        self.esr = 0;
        self.icr = [0; 2];
        self.lvt = [registers::MASKED; Lvt::COUNT];
        self.timer = Timer::default();
    }

    /// IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE; false if it holds what this APIC does not have.
    /// Switching the APIC off resets it.
    pub fn set_base(&mut self, value: u64) -> bool {
        if value & !(BASE_ADDRESS | BASE_ENABLE | BASE_BSP) != 0 {
            return false;
        }
        if self.enabled() && value & BASE_ENABLE == 0 {
            self.reset();
        }
        self.base = value;
        true
    }

    /// Whether IA32_APIC_BASE has it enabled. Else the 8259As are on the INTR pin.
    pub fn enabled(&self) -> bool {
        self.base & BASE_ENABLE != 0
    }

    fn software_enabled(&self) -> bool {
        self.enabled() && self.svr & SVR_ENABLE != 0
    }

    /// The offset of a physical address in the register page.
    pub fn offset_of(&self, phys: u64) -> Option<u32> {
        let offset = phys.checked_sub(self.base & BASE_ADDRESS)?;
        (self.enabled() && offset < 0x1000).then_some(offset as u32)
    }

    /// Drives LINT0.
    pub fn drive_lint0(&mut self, level: bool) {
        let rose = level && !self.lint0;
        self.lint0 = level;
        if rose && self.enabled() && Delivery::of(self.lvt[Lvt::LINT0]) != Delivery::ExtInt {
            self.local_interrupt(Lvt::LINT0);
        }
    }

    /// Whether the interrupt on LINT0 reaches the processor as if there were no APIC.
    fn passes_lint0(&self) -> bool {
        let entry = self.lvt[Lvt::LINT0];
        let wired = entry & registers::MASKED == 0 && Delivery::of(entry) == Delivery::ExtInt;
        self.lint0 && (wired || !self.enabled())
    }

    /// Whether INTR is up.
    pub fn output(&self) -> bool {
        self.passes_lint0() || self.deliverable().is_some()
    }

    /// The interrupt acknowledge cycle. `None`: the 8259As have the vector.
    pub fn acknowledge(&mut self) -> Option<u8> {
        if let Some(vector) = self.deliverable() {
            self.irr.remove(vector);
            self.isr.insert(vector);
            return Some(vector);
        }
        (!self.passes_lint0()).then_some(self.svr as u8)
    }

    /// The pending vector that the processor's priority lets through.
    fn deliverable(&self) -> Option<u8> {
        let vector = self.irr.highest()?;
        let higher = u32::from(vector >> 4) > self.ppr() >> 4;
        (higher && self.software_enabled()).then_some(vector)
    }

    /// The processor priority register.
    fn ppr(&self) -> u32 {
        let in_service = u32::from(self.isr.highest().unwrap_or(0));
        if self.tpr >> 4 >= in_service >> 4 {
            self.tpr
        } else {
            in_service & 0xF0
        }
    }

    /// End of interrupt: the one of highest priority in service is done.
    fn end_of_interrupt(&mut self) {
        if let Some(vector) = self.isr.highest() {
            self.isr.remove(vector);
        }
    }

    /// Raises the local interrupt of an entry of the vector table.
    fn local_interrupt(&mut self, entry: usize) {
        let entry = self.lvt[entry];
        if entry & registers::MASKED == 0 {
            self.accept(Delivery::of(entry), entry as u8);
        }
    }

    /// An interrupt has arrived.
    fn accept(&mut self, delivery: Delivery, vector: u8) {
        match delivery {
            Delivery::Fixed if vector < 16 => self.error(ESR_RECEIVE_ILLEGAL),
            Delivery::Fixed if self.software_enabled() => {
                self.irr.insert(vector);
                self.tmr.remove(vector);
            }
            Delivery::Nmi => self.nmi = true,
            Delivery::Init => self.init = true,
            Delivery::Fixed | Delivery::ExtInt | Delivery::Other => {}
        }
    }

    /// Notes an error, and raises its interrupt unless that has an error itself.
    fn error(&mut self, bit: u32) {
        self.errors |= bit;
        if self.lvt[Lvt::ERROR] as u8 >= 16 {
            self.local_interrupt(Lvt::ERROR);
        }
    }

    /// Takes a pending NMI.
    pub fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.nmi)
    }

    /// Takes an INIT that the processor sent to itself.
    pub fn take_init(&mut self) -> bool {
        std::mem::take(&mut self.init)
    }

    /// Brings the timer up to the time `now_ns`.
    pub fn poll(&mut self, now_ns: u64) {
        if self.timer.poll(now_ns) {
            self.local_interrupt(Lvt::TIMER);
        }
    }

    /// When the timer interrupts next.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let masked = self.lvt[Lvt::TIMER] & registers::MASKED != 0;
        self.timer.next_deadline_ns().filter(|_| !masked)
    }
}

#[cfg(test)]
#[path = "lapic_tests.rs"]
mod tests;
