//! The least of a BIOS: a test that runs in real mode under QEMU finds one that
//! has set up interrupts, and waits for a tick of its timer.

use runtime::vm::Vm;
use shadow_mmu::PhysAddr;

/// Where the handler goes: where the first PC's BIOS had its dummy handler.
const HANDLER: u32 = 0xF_FF53;

/// `push ax; mov al, 20h; out 0a0h, al; out 20h, al; pop ax; iret`.
const END_INTERRUPT: [u8; 9] = [0x50, 0xB0, 0x20, 0xE6, 0xA0, 0xE6, 0x20, 0x58, 0xCF];

/// Vectors that an external interrupt may have: those of the two 8259As.
const VECTORS: [std::ops::Range<u64>; 2] = [0x08..0x10, 0x70..0x78];

/// Initialises the 8259As (vectors 08h and 70h, only the timer let through) and
/// the timer (18.2 Hz), and fills the interrupt vector table with a handler that
/// does nothing.
pub fn install(vm: &mut Vm) {
    let ram = vm.cpu.mmu.ram();
    let handler = u64::from(HANDLER);
    // Memory that is too small for the BIOS area has no need for it.
    let _ = ram.write_slice(PhysAddr(handler), &END_INTERRUPT);
    for vector in VECTORS.into_iter().flatten() {
        let _ = ram.write_u32(PhysAddr(4 * vector), 0xF000 << 16 | (HANDLER & 0xFFFF));
    }
    for (port, value) in [
        (0x20, 0x11),
        (0x21, 0x08),
        (0x21, 0x04),
        (0x21, 0x01),
        (0xA0, 0x11),
        (0xA1, 0x70),
        (0xA1, 0x02),
        (0xA1, 0x01),
        (0x21, 0xFE),
        (0xA1, 0xFF),
        (0x43, 0x34),
        (0x40, 0x00),
        (0x40, 0x00),
    ] {
        vm.cpu.pc.port_write(port, 1, value);
    }
}
