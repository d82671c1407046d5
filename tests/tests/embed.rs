//! The machine as an embedder uses it: cards in memory and on interrupt lines, wiring
//! that is not possible, memory from outside, runs in pieces, resets.

use runtime::access::NoMemory;
use runtime::bus::Device;
use runtime::console::BufferConsole;
use runtime::devices::card::{Card, Slot, SlotError};
use runtime::devices::pc::PcEvent;
use runtime::exit::Exit;
use runtime::irq::IrqPin;
use runtime::loader::FlatMode;
use runtime::vm::Vm;
use shadow_mmu::{LinearAddr, PhysAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tests::machine::TIERS;
use translator::insn::Gpr;

/// Where the guests are loaded and entered.
const START: u32 = 0x1000;

/// Keeps what was written last, ends the machine at offset 8, counts its resets.
#[derive(Default)]
struct Register {
    value: u32,
    resets: Arc<AtomicU32>,
    ends: bool,
}

impl Device for Register {
    fn read(&mut self, offset: u16, size: u8) -> u32 {
        self.value + u32::from(offset) + 0x100 * u32::from(size)
    }

    fn write(&mut self, offset: u16, _size: u8, value: u32) {
        self.ends = offset == 8;
        self.value = value;
    }
}

impl Card for Register {
    fn take_event(&mut self) -> Option<PcEvent> {
        std::mem::take(&mut self.ends).then_some(PcEvent::DebugExit(7))
    }

    fn reset(&mut self) {
        self.value = 0;
        self.resets.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_card_answers_at_its_addresses_in_memory() {
    let code = [
        0xb8, 0x00, 0x00, 0x00, 0xf0, // mov eax, f0000000h
        0xc7, 0x00, 0x01, 0x00, 0x00, 0x00, // mov dword [eax], 1
        0x8b, 0x48, 0x04, // mov ecx, [eax+4]
        0x0f, 0xb6, 0x15, 0x10, 0x00, 0x0a, 0x00, // movzx edx, byte [a0010h]
        0xc6, 0x40, 0x08, 0x00, // mov byte [eax+8], 0
        0xeb, 0xfe, // jmp $
    ];
    for (name, tier) in TIERS {
        let slot = Slot::new("register", Register::default())
            .memory(0xf000_0000, 16)
            .memory(0xa_0000, 32);
        let built = Vm::builder().tier(tier).card(slot);
        let mut vm = built
            .flat(code, START, FlatMode::Protected32)
            .build()
            .expect("a machine");
        assert_eq!(vm.run(), Exit::DebugExit(7), "{name}");
        assert_eq!(vm.register(Gpr::ECX), 0x405, "{name}");
        assert_eq!(vm.register(Gpr::EDX), (0x101 + 0x20) & 0xff, "{name}");
        let card = vm.cpu.pc.counters().find(|(name, _)| *name == "register");
        let (_, accesses) = card.expect("the card is in the ledger");
        assert_eq!((accesses.reads, accesses.writes), (2, 2), "{name}");
    }
}

/// Interrupts when its time has come, once.
struct Alarm(u64, IrqPin);

impl Device for Alarm {
    fn read(&mut self, _offset: u16, _size: u8) -> u32 {
        0
    }
    fn write(&mut self, _offset: u16, _size: u8, _value: u32) {}
}

impl Card for Alarm {
    fn pin(&mut self) -> Option<&mut IrqPin> {
        Some(&mut self.1)
    }

    fn poll(&mut self, now_ns: u64) {
        if now_ns >= self.0 {
            self.0 = u64::MAX;
            self.1.set(true);
        }
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        (self.0 != u64::MAX).then_some(self.0)
    }
}

#[test]
fn a_card_interrupts_when_its_time_has_come() {
    // Waits until the master 8259A has a request at input 5.
    let code = [
        0xb0, 0x0a, 0xe6, 0x20, // mov al, 0ah; out 20h, al
        0xe4, 0x20, // again: in al, 20h
        0xa8, 0x20, // test al, 20h
        0x74, 0xfa, // jz again
        0xe6, 0xf4, // out 0f4h, al
    ];
    let alarm = Alarm(2_000_000, IrqPin::default());
    let mut vm = Vm::builder()
        .card(Slot::new("alarm", alarm).irq(5))
        .flat(code, START, FlatMode::Protected32)
        .build()
        .expect("a machine");
    assert!(matches!(vm.run(), Exit::DebugExit(requests) if requests & 0x20 != 0));
}

#[test]
fn wiring_that_is_not_possible_is_refused() {
    let refused = |wire: fn(Slot) -> Slot| {
        let first = Slot::new("first", Register::default()).memory(0xe000_0000, 16);
        let second = wire(Slot::new("second", Register::default()));
        let built = Vm::builder().card(first).card(second).build();
        let error = built.err().expect("this is no machine");
        error.downcast::<SlotError>().expect("because of the card")
    };
    let name = || String::from("second");
    assert_eq!(
        refused(|slot| slot.ports(0x3f0, 16)),
        SlotError::Ports(name(), 0x3f0, 0x3ff)
    );
    assert_eq!(
        refused(|slot| slot.memory(0x10_0000, 16)),
        SlotError::Memory(name(), 0x10_0000, 0x10_0010)
    );
    assert!(matches!(
        refused(|slot| slot.memory(0xe000_000f, 2)),
        SlotError::Memory(..)
    ));
    assert!(matches!(
        refused(|slot| slot.memory(u64::MAX, 2)),
        SlotError::Memory(..)
    ));
    assert_eq!(refused(|slot| slot.irq(4)), SlotError::Irq(name(), 4));
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    let built = Vm::builder().memory_mib(1).build_empty();
    let mut vm = built.expect("a machine");
    let beyond = PhysAddr(1 << 20);
    assert_eq!(
        vm.write_physical(PhysAddr(beyond.0 - 2), &[1; 4]),
        Err(NoMemory::Physical(beyond))
    );
    assert_eq!(
        vm.read_physical(beyond, &mut [0; 4]),
        Err(NoMemory::Physical(beyond))
    );
    assert_eq!(
        vm.write_memory(LinearAddr(beyond.0 as u32 - 2), &[1; 4]),
        Err(NoMemory::Linear(LinearAddr(beyond.0 as u32)))
    );
    let mut last = [9; 2];
    vm.read_physical(PhysAddr(beyond.0 - 2), &mut last)
        .expect("RAM");
    assert_eq!(last, [0, 0], "nothing has been written");
}

#[test]
fn a_reset_machine_is_as_it_was_built() {
    // Counts at 2000h, says so at 300h and on the console, and ends.
    let code = [
        0xff, 0x05, 0x00, 0x20, 0x00, 0x00, // inc dword [2000h]
        0x66, 0xba, 0x00, 0x03, // mov dx, 300h
        0xec, // in al, dx
        0x88, 0xc3, // mov bl, al
        0xb0, 0x05, 0xee, // mov al, 5; out dx, al
        0xb0, b'!', 0x66, 0xba, 0xf8, 0x03, 0xee, // mov al, '!'; mov dx, 3f8h; out dx, al
        0xe6, 0xf4, // out 0f4h, al
    ];
    for (name, tier) in TIERS {
        let card = Register::default();
        let resets = Arc::clone(&card.resets);
        let (console, written) = BufferConsole::new(&[]);
        let mut vm = Vm::builder()
            .tier(tier)
            .console(console)
            .card(Slot::new("register", card).ports(0x300, 1))
            .flat(code, START, FlatMode::Protected32)
            .build()
            .expect("a machine");
        for round in 1..=3 {
            assert_eq!(vm.run(), Exit::DebugExit(u32::from(b'!')), "{name}");
            let mut count = [0; 1];
            vm.read_memory(LinearAddr(0x2000), &mut count).expect("RAM");
            assert_eq!(count, [1], "{name}, round {round}");
            assert_eq!(vm.register(Gpr::EBX) & 0xff, 0, "{name}, round {round}");
            assert_eq!(written.text().len(), round, "{name}");
            vm.reset().expect("a machine again");
            assert_eq!(resets.load(Ordering::Relaxed), round as u32, "{name}");
        }
        assert!(vm.counters.retired() >= 30, "counts go on");
    }
}

#[test]
fn the_default_guest_boots_again_after_a_reset() {
    let mut vm = Vm::builder().build().expect("a machine");
    assert_eq!(vm.run_for(3_000_000), Exit::Limit);
    vm.reset().expect("a machine again");
    assert_eq!(vm.run(), Exit::DebugExit(runtime::embedded::SUCCESS));
}
