//! A machine with a device of one's own, in 40 lines: a card that adds up what the guest
//! writes and raises interrupt line 5 when it is done.
//!
//! Run it with `cargo run -p samples --example embed`.

use runtime::bus::Device;
use runtime::devices::card::{Card, Slot};
use runtime::irq::IrqPin;
use runtime::loader::FlatMode;
use runtime::vm::Vm;
use shadow_mmu::LinearAddr;
use translator::insn::Gpr;

/// Offset 0: a number to add, or the sum. Offset 4: the interrupt output.
#[derive(Default)]
struct Adder(u32, IrqPin);

impl Device for Adder {
    fn read(&mut self, _offset: u16, _size: u8) -> u32 {
        self.0
    }

    fn write(&mut self, offset: u16, _size: u8, value: u32) {
        match offset {
            0 => self.0 = self.0.wrapping_add(value),
            _ => self.1.set(value != 0),
        }
    }
}

impl Card for Adder {
    fn pin(&mut self) -> Option<&mut IrqPin> {
        Some(&mut self.1)
    }
}

fn main() -> anyhow::Result<()> {
    let mut vm = Vm::builder()
        .memory_mib(1)
        .flat(GUEST, 0x1000, FlatMode::Protected32)
        .card(Slot::new("adder", Adder::default()).ports(0x300, 8).irq(5))
        .build()?;
    vm.set_register(Gpr::ECX, 10);
    let exit = vm.run();
    let mut sum = [0; 4];
    vm.read_memory(LinearAddr(0x2000), &mut sum)?;
    let (sum, requests) = (u32::from_le_bytes(sum), vm.register(Gpr::EAX));
    println!("{exit:?}: 1 + 2 + … + 10 = {sum}; requests {requests:#x}");
    assert_eq!((sum, requests & 0x20), (55, 0x20));
    Ok(())
}

/// Adds the numbers from ECX down to 1 and asks the 8259A for its requests.
const GUEST: [u8; 36] = [
    0xba, 0x00, 0x03, 0x00, 0x00, // mov edx, 300h
    0x89, 0xc8, // next: mov eax, ecx
    0xef, // out dx, eax
    0xe2, 0xfb, // loop next
    0xed, // in eax, dx
    0xa3, 0x00, 0x20, 0x00, 0x00, // mov [2000h], eax
    0xb0, 0x01, // mov al, 1
    0xb2, 0x04, // mov dl, 4
    0xee, // out dx, al: raises the line
    0xb0, 0x0a, // mov al, 0ah
    0xe6, 0x20, // out 20h, al: OCW3, read IRR next
    0x31, 0xc0, // xor eax, eax
    0xe4, 0x20, // in al, 20h
    0xe6, 0xf4, // out 0f4h, al
    0xf4, 0xf4, 0xf4, 0xf4, 0xf4, // hlt
];

#[test]
fn the_guest_adds_and_the_line_rises() {
    main().expect("the machine runs");
}
